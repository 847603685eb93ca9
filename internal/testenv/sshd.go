package testenv

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// SSHD is a real OpenSSH server on a free loopback port, which lets in whoever it was told to.
type SSHD struct {
	Addr    string // 127.0.0.1:port
	HostKey string // line of authorized_keys form
	Account string // the account it opens: whoever runs the tests
	Dir     string // home of its files

	t    testing.TB
	cmd  *exec.Cmd
	done chan struct{}
}

// StartSSHD starts an SSHD. extra are lines of sshd_config; they stand first, since the first value of a keyword holds.
func StartSSHD(t testing.TB, extra ...string) *SSHD {
	t.Helper()
	const program = "/usr/sbin/sshd"
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("sshd is needed: apt-get install openssh-server (%v)", err)
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil && os.Geteuid() == 0 {
		t.Fatal(err)
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	s := &SSHD{t: t, Dir: t.TempDir(), Addr: FreeAddr(t), Account: me.Username}
	key := filepath.Join(s.Dir, "host")
	Run(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key)
	pub, err := os.ReadFile(key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	s.HostKey = strings.TrimSpace(string(pub))
	s.Authorize("")
	_, port, _ := net.SplitHostPort(s.Addr)
	// A home of its own, so that start-up files of whoever runs the tests neither speak nor take time.
	home := filepath.Join(s.Dir, "home")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf(`%s
Port %s
ListenAddress 127.0.0.1
HostKey %s
AuthorizedKeysFile %s
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
PermitUserEnvironment no
SetEnv HOME=%s
AcceptEnv LANG LC_* TERM SECRET_*
Subsystem sftp internal-sftp
MaxStartups 500
MaxSessions 10
PrintMotd no
PrintLastLog no
LogLevel VERBOSE
`, strings.Join(extra, "\n"), port, key, filepath.Join(s.Dir, "authorized_keys"), home)
	if err := os.WriteFile(filepath.Join(s.Dir, "config"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(s.Stop)
	return s
}

// Start starts the server again after Stop.
func (s *SSHD) Start() {
	s.t.Helper()
	s.cmd = exec.Command("/usr/sbin/sshd", "-D", "-f", filepath.Join(s.Dir, "config"), "-E", filepath.Join(s.Dir, "log"))
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	done, err := startChild(s.cmd)
	if err != nil {
		s.t.Fatal(err)
	}
	s.done = done
	WaitFor(s.t, "sshd", func() bool {
		select {
		case <-done:
			s.t.Fatalf("sshd ended at once:\n%s", s.Log())
		default:
		}
		c, err := net.Dial("tcp", s.Addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// Stop stops the listener; connections that are open go on.
func (s *SSHD) Stop() {
	// With those that serve new connections: each opens the log first, and would make it anew in a folder that is
	// being removed.
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
	<-s.done
}

// Authorize makes line the whole authorized_keys file.
func (s *SSHD) Authorize(line string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.Dir, "authorized_keys"), []byte(line+"\n"), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// Log is what the server has logged so far.
func (s *SSHD) Log() string {
	b, _ := os.ReadFile(filepath.Join(s.Dir, "log"))
	return string(b)
}

// Run runs a program to its end and returns what it printed; it fails the test if the program fails.
func Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// WaitFor polls until ok says so, for at most a minute: it takes that long only where it fails.
func WaitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for pause := time.Millisecond; !ok(); pause = min(2*pause, 50*time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited a minute in vain for %s", what)
		}
		time.Sleep(pause)
	}
}
