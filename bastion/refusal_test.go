package bastion_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/testenv"
	"sallyport/store"
)

// A target that is down says so within ten seconds, on stderr, with ssh's own status for failures.
func TestTargetDown(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true})
	c := s.ssh()
	c.Login = "alice@down"
	started := time.Now()
	out, errs, status := c.Output(t, "true")
	if took := time.Since(started); took > time.Minute {
		t.Errorf("took %s", took)
	}
	if want := "cannot reach down (127.0.0.1:1): connection refused"; !strings.Contains(errs, want) || out != "" || status != 255 {
		t.Errorf("stdout %q, stderr %q, status %d; want %q on stderr and 255", out, errs, status, want)
	}
}

// On a terminal the same text comes on the terminal.
func TestTargetDownOnTerminal(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true})
	c := s.ssh()
	c.Login = "alice@down"
	term := s.terminal(c)
	term.Expect("Password: ")
	term.Type(alicePassword + "\n")
	term.Expect("Code: ")
	term.Type(s.code("alice") + "\n")
	term.Expect("cannot reach down (127.0.0.1:1): connection refused")
	if status := term.Wait(); status != 255 {
		t.Errorf("status %d, want 255", status)
	}
}

// Whoever mistypes what stands before the bastion's name once read "Permission denied" after password and code, as if these
// were wrong. A name that nobody can have is told before any prompt; of one that somebody could have, nothing is.
func TestStrangeNames(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true})
	for name, strange := range map[string]bool{
		"@": true, "alice@": true, "@web1": true, "alice@web1@": true, "alice@@web1": true, "alice@corp@root@web1": true, strings.Repeat("@", 5000): true,
		"alice": false, "nobody@web1": false, "alice@nowhere": false, "alice@root@web1": false,
	} {
		var said strings.Builder
		_, err := ssh.Dial("tcp", s.Addr, &ssh.ClientConfig{User: name, HostKeyCallback: ssh.FixedHostKey(s.HostKey), Timeout: time.Minute,
			BannerCallback: func(text string) error { said.WriteString(text); return nil }})
		if err == nil {
			t.Errorf("%.20q is let in", name)
		}
		if got := strings.Contains(said.String(), "is not understood. Before @bastion write user, user@target or user@account@target."); got != strange || said.Len() > 300 {
			t.Errorf("%.20q reads %q", name, said.String())
		}
	}
}

// A target that does not exist, one that no rule speaks of and a malformed name get the same words,
// so that targets cannot be listed by asking; a rule that denies with a message speaks for itself.
func TestRefusalsDoNotTellTargetsApart(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true, rules: `version: 1
rules:
  - {name: closed, deny: true, targets: [vault], message: vault is reached from the office only}
  - {name: some, users: [alice], targets: [elsewhere]}
`})
	for _, name := range []string{"vault", "hidden"} {
		_, err := s.Store.Targets.Add(context.Background(), store.Target{Name: name, Address: "127.0.0.1:1", HostKeyMode: store.TOFU})
		check(t, err)
	}
	said := map[string]string{}
	for _, target := range []string{"hidden", "nowhere", "vault"} {
		c := s.ssh()
		c.Login = "alice@" + target
		_, errs, status := c.Output(t, "true")
		if status != 255 {
			t.Errorf("%s: status %d, want 255", target, status)
		}
		said[target] = strings.ReplaceAll(errs, target, "X")
	}
	if said["hidden"] != said["nowhere"] {
		t.Errorf("a target without rights and one that does not exist are told apart:\n%q\n%q", said["hidden"], said["nowhere"])
	}
	if !strings.Contains(said["vault"], "is reached from the office only") || !strings.Contains(said["vault"], "closed") {
		t.Errorf("the rule's message is not shown: %q", said["vault"])
	}
}

// Subsystems other than sftp, as network devices have them, once never passed. They do where a rule names them, both ways and with
// their exit status, are recorded as a command is, and give no right to anything else; nor does another right give this one.
func TestSubsystem(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{sshdConfig: []string{"Subsystem netconf /bin/sh -c 'cat; exit 4'"}, rules: `version: 1
rules:
  - {name: devices, users: [alice], targets: [web1], channels: [subsystem]}
  - {name: others, users: [bob], targets: [web1]}
`})
	s.addUser("bob", alicePassword)
	ask := func(login, subsystem string) (string, string, int) {
		t.Helper()
		c := s.ssh()
		c.Login, c.Code = login+"@web1", func() string { return s.code(login) }
		cmd := c.SSH(t, subsystem)
		cmd.Args = slices.Insert(cmd.Args, 1, "-s")
		cmd.Stdin = strings.NewReader("<hello/>\n")
		return testenv.Finish(t, cmd)
	}
	if out, errs, status := ask("alice", "netconf"); out != "<hello/>\n" || errs != "" || status != 4 {
		t.Errorf("netconf: %q %q %d", out, errs, status)
	}
	row := s.session()
	if ch := row.Channels[0]; ch.Kind != "subsystem" || ch.Command != "netconf" || s.recorded(ch.Recording) != "<hello/>\n" {
		t.Errorf("row %+v", ch)
	}
	if out, errs, status := ask("alice", "sftp"); out != "" || status != 255 || !strings.Contains(errs, "sftp is not allowed to web1 here") {
		t.Errorf("sftp: %q %q %d", out, errs, status)
	}
	if out, errs, status := ask("alice", "unheard-of"); out != "" || status != 255 || !strings.Contains(errs, "subsystem request failed") {
		t.Errorf("one that the target does not have: %q %q %d", out, errs, status)
	}
	if out, errs, status := ask("bob", "netconf"); out != "" || status != 255 || !strings.Contains(errs, "subsystem is not allowed to web1 here") {
		t.Errorf("without the right: %q %q %d", out, errs, status)
	}
	c := s.ssh()
	if out, errs, status := c.Output(t, "netconf"); out != "" || status != 255 || !strings.Contains(errs, "exec is not allowed to web1 here") {
		t.Errorf("a command: %q %q %d", out, errs, status)
	}
}

// Kinds of channels that a rule does not name are refused, whichever way they are asked for.
func TestChannelKinds(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{rules: `version: 1
rules:
  - {name: shells, users: ["*"], targets: ["*"], channels: [shell]}
`})
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	check(t, os.WriteFile(file, []byte("x"), 0o600))
	if out, errs, status := s.ssh().Output(t, "echo in"); status != 255 || out != "" || !strings.Contains(errs, "exec is not allowed") {
		t.Errorf("exec: %q %q %d", out, errs, status)
	}
	for name, cmd := range map[string]func() (string, string, int){
		"scp":    func() (string, string, int) { return testenv.Finish(t, s.ssh().SCP(t, file, "REMOTE:"+dir+"/g")) },
		"scp -O": func() (string, string, int) { return testenv.Finish(t, s.ssh().SCP(t, "-O", file, "REMOTE:"+dir+"/g")) },
		"sftp":   func() (string, string, int) { return testenv.Finish(t, s.ssh().SFTP(t, "put "+file+" "+dir+"/g\n")) },
	} {
		if _, errs, status := cmd(); status == 0 {
			t.Errorf("%s passed: %s", name, errs)
		}
	}
	if _, err := os.Stat(dir + "/g"); err == nil {
		t.Error("a file arrived")
	}
	// So are forwards, and it is audited.
	c, err := s.dial("alice@web1", answers(alicePassword, s.code("alice"), nil))
	check(t, err)
	defer c.Close()
	if _, err := c.Dial("tcp", s.SSHD.Addr); err == nil || !strings.Contains(err.Error(), "local-forward to "+s.SSHD.Addr+" is not allowed") {
		t.Errorf("direct-tcpip: %v", err)
	}
	if _, err := c.Listen("tcp", "127.0.0.1:0"); err == nil {
		t.Error("tcpip-forward was accepted")
	}
	testenv.WaitFor(t, "the audit event", func() bool { return len(s.events("channel.refused")) > 0 })
}

// Only language and terminal settings reach the target's environment.
func TestEnvironment(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	c := s.ssh()
	c.Options = []string{"SetEnv=LC_TEST=yes SECRET_TEST=no"}
	out, _, _ := c.Output(t, `printf '%s|%s' "$LC_TEST" "$SECRET_TEST"`)
	if out != "yes|" {
		t.Errorf("got %q, want LC_TEST and nothing else, though the target accepts both", out)
	}
}

// A changed host key is refused with both fingerprints; trust on first use holds from then on (B19).
func TestHostKeys(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{rules: "version: 1\nrules:\n  - {name: all, users: ['*'], targets: ['*']}\n"})
	ctx := context.Background()
	other := testenv.StartSSHD(t)
	_, err := s.Store.Targets.Add(ctx, store.Target{Name: "swapped", Address: s.SSHD.Addr, Accounts: []string{s.SSHD.Account},
		HostKeyMode: store.Pinned, HostKeys: []string{other.HostKey}})
	check(t, err)
	_, err = s.Store.Targets.Add(ctx, store.Target{Name: "unpinned", Address: s.SSHD.Addr, Accounts: []string{s.SSHD.Account}, HostKeyMode: store.Pinned})
	check(t, err)
	_, err = s.Store.Targets.Add(ctx, store.Target{Name: "first", Address: s.SSHD.Addr, Accounts: []string{s.SSHD.Account}, HostKeyMode: store.TOFU})
	check(t, err)
	run := func(target string) (string, int) {
		c := s.ssh()
		c.Login = "alice@" + target
		_, errs, status := c.Output(t, "true")
		return errs, status
	}
	errs, status := run("swapped")
	if status != 255 || strings.Count(errs, "SHA256:") != 2 || !strings.Contains(errs, "CHANGED") {
		t.Errorf("a changed key: status %d, %q; want refusal with both fingerprints", status, errs)
	}
	if errs, status := run("unpinned"); status != 255 || !strings.Contains(errs, "is not known") {
		t.Errorf("a pinned target without a key: status %d, %q; want refusal", status, errs)
	}
	if errs, status := run("first"); status != 0 {
		t.Errorf("first use: %d %q", status, errs)
	}
	row, err := s.Store.Targets.ByName(ctx, "first")
	check(t, err)
	if len(row.HostKeys) != 1 {
		t.Errorf("first use kept %q", row.HostKeys)
	}
	if len(s.events("hostkey.refused")) != 2 || len(s.events("hostkey.trusted")) != 1 {
		t.Errorf("audit: %q %q", s.events("hostkey.refused"), s.events("hostkey.trusted"))
	}
}

// A target that does not take the bastion's key says who has to do what.
func TestTargetRefusesKey(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	s.SSHD.Authorize("")
	_, errs, status := s.ssh().Output(t, "true")
	if status != 255 || !strings.Contains(errs, "target onboard web1") {
		t.Errorf("status %d: %q", status, errs)
	}
}

// An operator ends a session: both sides close, and the person reads why.
func TestEndSession(t *testing.T) {
	onBoth(t, func(t *testing.T, o options) {
		s := newSystem(t, o)
		term := s.terminal(s.ssh(), "echo started; sleep 600")
		term.Expect("Password: ")
		term.Type(alicePassword + "\n")
		term.Expect("Code: ")
		term.Type(s.code("alice") + "\n")
		term.Expect("started")
		check(t, s.Sessions.End(context.Background(), s.newest().ID, "carol", "maintenance"))
		term.Expect("session ended: ended by carol: maintenance")
		if status := term.Wait(); status != 255 {
			t.Errorf("status %d, want 255", status)
		}
		if row := s.session(); row.State != store.Ended || !strings.Contains(row.Reason, "maintenance") {
			t.Errorf("row: %+v", row)
		}
	})
}

// Limits of a rule end a session: the longest time, and the time without a byte (B15).
func TestTimeLimits(t *testing.T) {
	t.Parallel()
	for limit, want := range map[string]string{"max: 1s": "maximum of 1s", "idle: 1s": "nothing was typed or shown for 1s"} {
		t.Run(limit, func(t *testing.T) {
			t.Parallel()
			s := newSystem(t, options{rules: "version: 1\nrules:\n  - {name: all, users: ['*'], targets: ['*'], limits: {" + limit + "}}\n"})
			_, errs, status := s.ssh().Output(t, "sleep 600")
			if status != 255 || !strings.Contains(errs, want) {
				t.Errorf("status %d, stderr %q; want %q", status, errs, want)
			}
		})
	}
}
