package session

import (
	"testing"

	"golang.org/x/crypto/ssh"
)

// OpenSSH's sshd takes a NUL at the end of a name as the end of a C string. "sftp\x00" was a subsystem that is not sftp to the
// rules, and sftp to the target: past the rules, paths and ledger of files.
func TestNamesOfSubsystems(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"sftp": kindSFTP, "netconf": kindSubsystem, "x@example.com": kindSubsystem, "sftp ": kindSubsystem, "echo up; cat": kindSubsystem, "\xff": kindSubsystem,
		"sftp\x00": "", "\x00": "", "\x00sftp": "", "net\nconf": "", "sftp\x7f": "", "sftp\u0085": "",
	} {
		kind, command, err := parseStart(&ssh.Request{Type: "subsystem", Payload: ssh.Marshal(struct{ Text string }{name})})
		if kind != want || (err == nil) != (want != "") || want == kindSubsystem && command != name {
			t.Errorf("%q: %q, %q, %v, want %q", name, kind, command, err, want)
		}
	}
}
