package bastion_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/testenv"
)

// PuTTY's pscp and psftp ask for both answers on the terminal, and carry files both ways.
func TestPuTTYTransfers(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	host, port, err := net.SplitHostPort(s.Addr)
	check(t, err)
	dir := t.TempDir()
	src := filepath.Join(dir, "src")
	write(t, src, 1<<20)
	batch := filepath.Join(dir, "batch")
	check(t, os.WriteFile(batch, []byte("put "+src+" "+dir+"/psftp-up\nget "+dir+"/psftp-up "+dir+"/psftp-down\n"), 0o600))
	known := []string{"-hostkey", ssh.FingerprintSHA256(s.HostKey), "-P", port, "-l", "alice@web1"}
	for _, x := range []struct {
		name    string
		program string
		args    []string
		arrived []string
	}{
		{"pscp", "pscp", []string{src, host + ":" + dir + "/pscp-up"}, []string{"pscp-up"}},
		{"pscp back", "pscp", []string{host + ":" + src, dir + "/pscp-down"}, []string{"pscp-down"}},
		{"pscp by scp", "pscp", []string{"-scp", src, host + ":" + dir + "/pscp-scp"}, []string{"pscp-scp"}},
		{"psftp", "psftp", []string{"-b", batch, host}, []string{"psftp-up", "psftp-down"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			code := s.code("alice")
			cmd := exec.Command(x.program, append(known, x.args...)...)
			cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "TERM=xterm")
			term := testenv.StartTerminal(t, cmd, 100, 30)
			term.Expect("Password: ")
			term.Type(alicePassword + "\n")
			term.Expect("Code: ")
			term.Type(code + "\n")
			if status := term.Wait(); status != 0 {
				t.Fatalf("exit status %d; screen:\n%s", status, term.Screen())
			}
			for _, f := range x.arrived {
				same(t, src, filepath.Join(dir, f))
			}
		})
	}
}

// plink through plink, as ssh -J: the outer one is the proxy command of the inner one (-nc) and asks for password and
// code on the terminal; the inner one is asked for nothing.
func TestPuTTYJump(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	host, port, err := net.SplitHostPort(s.Addr)
	check(t, err)
	shown := s.plainKey(s.outer("alice"), "web1:22")
	outer := "plink -ssh -hostkey " + ssh.FingerprintSHA256(s.HostKey) + " -P " + port + " -l alice -nc %host:%port " + host
	cmd := exec.Command("plink", "-ssh", "-no-antispoof", "-hostkey", ssh.FingerprintSHA256(shown), "-proxycmd", outer, "-l", s.SSHD.Account, "web1", "echo out-$((40+2)); exit 5")
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "TERM=xterm")
	term := testenv.StartTerminal(t, cmd, 100, 30)
	term.Expect("Password: ")
	term.Type(alicePassword + "\n")
	term.Expect("Code: ")
	term.Type(s.code("alice") + "\n")
	term.Expect("out-42")
	if status := term.Wait(); status != 5 {
		t.Errorf("exit status %d, want 5; screen:\n%s", status, term.Screen())
	}
}
