package session

import "golang.org/x/crypto/ssh"

// originalVariable is where a forced command finds what was asked for, as under OpenSSH's sshd. It
// arrives if the target's AcceptEnv lets it.
const originalVariable = "SSH_ORIGINAL_COMMAND"

// maxOriginal bounds its value in bytes; a longer one is not told.
const maxOriginal = maxEnvSize

// force turns r into the request for the command that the session is held to, if it is, and returns what was
// asked for: "" for a shell.
func (c *channel) force(r *ssh.Request) (original string) {
	if c.s.p.Only.Command == "" {
		return ""
	}
	var p struct{ Text string }
	if r.Type != "shell" && ssh.Unmarshal(r.Payload, &p) == nil {
		original = p.Text
	}
	if r.Type == "subsystem" && original == "sftp" {
		original = "internal-sftp" // what sshd calls it there
	}
	r.Type, r.Payload = "exec", ssh.Marshal(struct{ Text string }{c.s.p.Only.Command})
	return original
}

// tellOriginal lets the target know what was asked for in the place of a forced command.
func (c *channel) tellOriginal(original string) {
	if original == "" || len(original) > maxOriginal {
		return
	}
	_, _ = c.up.SendRequest("env", false, ssh.Marshal(struct{ Name, Value string }{originalVariable, original}))
}

// startDetail is what the event of a channel says about it.
func startDetail(kind, command, original string) map[string]string {
	detail := map[string]string{"kind": kind, "command": command}
	if original != "" {
		detail["asked-for"] = original
	}
	return detail
}
