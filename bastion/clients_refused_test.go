package bastion_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/internal/testenv"
)

// ssh-copy-id runs a command to install the key; where a rule allows a shell only, it ends with the line that
// says so, and the target's file is as it was.
func TestSSHCopyID(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{rules: "version: 1\nrules:\n  - {name: shells, users: ['*'], targets: ['*'], channels: [shell]}\n"})
	key := filepath.Join(t.TempDir(), "id")
	testenv.Run(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
	c := s.ssh()
	_, port, _ := strings.Cut(s.Addr, ":")
	cmd := c.Command(t, "ssh-copy-id", "-i", key+".pub", "-p", port, "-F", "/dev/null", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
		"-o", "IdentityAgent=none", "-o", "NumberOfPasswordPrompts=1", "alice@web1@127.0.0.1")
	home := t.TempDir()
	check(t, os.Mkdir(filepath.Join(home, ".ssh"), 0o700)) // it wants one for its own files
	cmd.Env = append(cmd.Env, "HOME="+home)
	out, errs, status := testenv.Finish(t, cmd)
	if status == 0 || !strings.Contains(errs, "sallyport: exec is not allowed to web1 here") || strings.Contains(out, "Number of key(s) added") {
		t.Errorf("status %d\n%s\n%s", status, out, errs)
	}
	if _, err := os.Stat(filepath.Join(s.SSHD.Dir, "home", ".ssh")); err == nil {
		t.Error("something was installed on the target")
	}
}

// mosh would start its server on the target and then wait for UDP that does not pass; instead it ends at once
// with a line that says what does.
func TestMosh(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	c := s.ssh()
	cmd := c.Command(t, "mosh", "--ssh="+c.Program(), "alice@web1@127.0.0.1")
	cmd.Env = append(cmd.Env, "TERM=xterm", "LC_ALL=C.UTF-8")
	term := testenv.StartTerminal(t, cmd, 120, 30)
	if status := term.Wait(); status == 0 {
		t.Error("mosh says that all went well")
	}
	testenv.WaitFor(t, "mosh's last words", func() bool {
		return strings.Contains(term.Screen(), "mosh-server") || strings.Contains(term.Screen(), "mosh server")
	})
	if n := strings.Count(term.Screen(), "sallyport: mosh needs UDP"); n != 1 {
		t.Errorf("%d lines about it:\n%s", n, term.Screen())
	}
	if got := s.events("channel.refused"); len(got) != 1 || !strings.Contains(got[0], "mosh") {
		t.Errorf("audit: %q", got)
	}
}
