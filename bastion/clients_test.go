package bastion_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"sallyport/internal/testenv"
	"sallyport/store"
)

// trustHere is a rule that asks nobody on this machine for a code: for programs that cannot ask for one, with a key.
const trustHere = `version: 1
networks: {here: [127.0.0.1/32]}
rules:
  - {name: robots, users: ["*"], targets: ["*"], from: [here], code: none}
`

// withKey is the OpenSSH client of alice with a key and no answers: whatever it asks, it fails.
func (s *system) withKey() *testenv.OpenSSH {
	return &testenv.OpenSSH{Addr: s.Addr, Login: "alice@web1", KeyFile: s.userKey("alice")}
}

// succeed runs cmd and wants exit status 0.
func succeed(t *testing.T, cmd *exec.Cmd) (stdout string) {
	t.Helper()
	out, errs, status := testenv.Finish(t, cmd)
	if status != 0 {
		t.Fatalf("%s: status %d\n%s%s", cmd, status, out, errs)
	}
	return out
}

// kinds are those of the channels of all sessions, in order of their start.
func (s *system) kinds() []string {
	s.t.Helper()
	testenv.WaitFor(s.t, "the end of all sessions", func() bool { return len(s.Sessions.Live()) == 0 })
	list, err := s.Store.Sessions.List(context.Background(), store.SessionFilter{})
	check(s.t, err)
	var kinds []string
	for _, row := range slices.Backward(list) {
		for _, c := range row.Channels {
			kinds = append(kinds, c.Kind)
		}
	}
	return kinds
}

// PuTTY's plink and Dropbear's dbclient come through as they are (C1), each with its own way of asking.
func TestOtherClients(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	host, port, err := net.SplitHostPort(s.Addr)
	check(t, err)
	home := t.TempDir()
	for name, args := range map[string][]string{
		"plink":    {"plink", "-ssh", "-no-antispoof", "-P", port, "-l", "alice@web1", host, "echo out-$((40+2)); exit 5"},
		"dbclient": {"dbclient", "-y", "-y", "-p", port, "-l", "alice@web1", host, "echo out-$((40+2)); exit 5"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code := s.code("alice")
			cmd := exec.Command(args[0], args[1:]...)
			cmd.Env = append(os.Environ(), "HOME="+home, "TERM=xterm")
			term := testenv.StartTerminal(t, cmd, 100, 30)
			if name == "plink" {
				term.Expect("Store key in cache?")
				term.Type("n\n")
			}
			term.Expect("Password: ")
			term.Type(alicePassword + "\n")
			term.Expect("Code: ")
			term.Type(code + "\n")
			term.Expect("out-42")
			if status := term.Wait(); status != 5 {
				t.Errorf("exit status %d, want 5; screen:\n%s", status, strings.TrimSpace(term.Screen()))
			}
		})
	}
}
