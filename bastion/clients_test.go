package bastion_test

import (
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"sallyport/internal/testenv"
)

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
