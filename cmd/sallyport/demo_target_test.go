package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/crypto/ssh"
)

// newSigner makes an ed25519 key and, with a folder, keeps it there for ssh -i.
func newSigner(t *testing.T, dir string) (signer ssh.Signer, file string) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err = ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if dir == "" {
		return signer, ""
	}
	block, err := ssh.MarshalPrivateKey(key, "test")
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(dir, "id_ed25519")
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return signer, file
}

// runningTarget is a demo target and what is needed to reach it.
type runningTarget struct {
	*demoTarget
	addr, keyFile, files string
	signer               ssh.Signer
}

func startTarget(t *testing.T) *runningTarget {
	t.Helper()
	dir := t.TempDir()
	r := &runningTarget{files: filepath.Join(dir, "files")}
	if err := os.Mkdir(r.files, 0o700); err != nil {
		t.Fatal(err)
	}
	r.signer, r.keyFile = newSigner(t, dir)
	host, _ := newSigner(t, "")
	p := whoStarted()
	p.Shell = "/bin/bash"
	r.demoTarget = newDemoTarget(p, []string{p.Name, "default"}, host, r.signer.PublicKey(), r.files)
	l, err := listenLoopback(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r.addr = l.Addr().String()
	served := make(chan error, 1)
	go func() { served <- r.Serve(l) }()
	t.Cleanup(func() {
		r.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return r
}

// options are those of ssh and sftp that reach the target with its key and nothing else.
func (r *runningTarget) options() []string {
	_, port, _ := net.SplitHostPort(r.addr)
	return []string{
		"-F", "none", "-i", r.keyFile, "-o", "Port=" + port, "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
	}
}

// ssh runs the real client and gives what it printed and its exit status.
func (r *runningTarget) ssh(t *testing.T, stdin string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	all := append(r.options(), r.person.Name+"@127.0.0.1")
	cmd := exec.CommandContext(ctx, "ssh", append(all, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if ctx.Err() != nil {
		t.Fatalf("ssh %v did not end; printed %q and %q", args, out.String(), errs.String())
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// dial connects with the library.
func (r *runningTarget) dial(t *testing.T, user string, auth ...ssh.AuthMethod) (*ssh.Client, error) {
	t.Helper()
	return ssh.Dial("tcp", r.addr, &ssh.ClientConfig{
		User: user, Auth: auth, Timeout: time.Minute,
		HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	})
}

func (r *runningTarget) session(t *testing.T) *ssh.Session {
	t.Helper()
	c, err := r.dial(t, r.person.Name, ssh.PublicKeys(r.signer))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTargetExec(t *testing.T) {
	t.Parallel()
	r := startTarget(t)
	tests := []struct {
		name, stdin, command string
		stdout, stderr       string
		status               int
	}{
		{"success", "", "echo out; echo err >&2", "out\n", "err\n", 0},
		{"failure", "", "exit 1", "", "", 1},
		{"no such program", "", "sallyport-no-such-program 2>/dev/null", "", "", 127},
		{"255", "", "exit 255", "", "", 255},
		{"stdin to its end", "hello\nworld\n", "cat; echo end", "hello\nworld\nend\n", "", 0},
		{"login environment", "", `cd; echo "$HOME $USER $LOGNAME $SHELL"`,
			fmt.Sprintf("%s %s %[2]s /bin/bash\n", r.person.Home, r.person.Name), "", 0},
		{"no terminal", "", "test -t 1; echo $?", "1\n", "", 0},
		{"quoting is the shell's", "", `printf '%s|' "a b" 'c  d'`, "a b|c  d|", "", 0},
		{"large output", "", "head -c 3000000 /dev/zero | tr '\\0' x", strings.Repeat("x", 3000000), "", 0},
		{"signal", "", "kill -TERM $$", "", "", 255}, // ssh says 255 for a signal
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			stdout, stderr, status := r.ssh(t, tt.stdin, tt.command)
			if stdout != tt.stdout || status != tt.status || !strings.Contains(stderr, tt.stderr) {
				t.Errorf("printed %.80q and %.80q, status %d; want %.80q and %.80q, status %d",
					stdout, stderr, status, tt.stdout, tt.stderr, tt.status)
			}
		})
	}
}

func TestTargetExitSignal(t *testing.T) {
	t.Parallel()
	r := startTarget(t)
	err := r.session(t).Run("kill -TERM $$")
	var exit *ssh.ExitError
	if !errors.As(err, &exit) || exit.Signal() != "TERM" {
		t.Errorf("error = %v, want signal TERM", err)
	}
}

func TestTargetSignal(t *testing.T) {
	t.Parallel()
	r := startTarget(t)
	s := r.session(t)
	stdout, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(`trap 'echo caught; exit 7' INT; echo ready; while :; do sleep 0.05; done`); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 6)
	if _, err := io.ReadFull(stdout, buf); err != nil {
		t.Fatal(err)
	}
	if err := s.Signal(ssh.SIGINT); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(stdout)
	if err != nil || string(rest) != "caught\n" {
		t.Errorf("printed %q, %v", rest, err)
	}
	var exit *ssh.ExitError
	if err := s.Wait(); !errors.As(err, &exit) || exit.ExitStatus() != 7 {
		t.Errorf("ended with %v, want status 7", err)
	}
}

func TestTargetEnvironment(t *testing.T) {
	t.Parallel()
	r := startTarget(t)
	s := r.session(t)
	for _, v := range []struct {
		name string
		ok   bool
	}{{"LC_TEST", true}, {"LANG", true}, {"LD_PRELOAD", false}, {"PATH", false}, {"BASH_ENV", false}, {"LC_A=B", false}} {
		if err := s.Setenv(v.name, "val"); (err == nil) != v.ok {
			t.Errorf("setting %s: %v, want ok %t", v.name, err, v.ok)
		}
	}
	for i := range maxTargetEnv {
		if err := s.Setenv("LC_"+strconv.Itoa(i), "x"); err != nil {
			break
		}
	}
	if err := s.Setenv("LC_LAST", "x"); err == nil {
		t.Error("one variable too many was accepted")
	}
	out, err := s.Output(`echo "$LC_TEST $LANG"; echo "$SSH_CONNECTION"`)
	lines := strings.Split(string(out), "\n")
	if err != nil || lines[0] != "val val" || !strings.HasPrefix(lines[1], "127.0.0.1 ") {
		t.Errorf("printed %q, %v", out, err)
	}
}

// The shell on a real terminal on both sides: what is typed, a change of size, and the status at the end.
func TestTargetShell(t *testing.T) {
	t.Parallel()
	r := startTarget(t)
	cmd := exec.Command("ssh", append(r.options(), "-tt", r.person.Name+"@127.0.0.1")...)
	cmd.Env = append(os.Environ(), "TERM=xterm-256color")
	term, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: 80})
	if err != nil {
		t.Fatal(err)
	}
	defer term.Close()
	watchdog := time.AfterFunc(2*time.Minute, func() { term.Close() }) // ends a wait in vain
	defer watchdog.Stop()
	screen := &screenReader{from: term}
	say := func(text string) {
		t.Helper()
		if _, err := io.WriteString(term, text); err != nil {
			t.Fatal(err)
		}
	}
	say("stty size; echo $TERM; tty -s && echo is-a-'terminal'; echo $0\r")
	for _, want := range []string{"24 80", "xterm-256color", "is-a-terminal", "-bash"} {
		screen.await(t, want)
	}
	if err := pty.Setsize(term, &pty.Winsize{Rows: 50, Cols: 132}); err != nil {
		t.Fatal(err)
	}
	say("until stty size | grep '50 132'; do sleep 0.05; done; echo resi'zed'\r")
	screen.await(t, "resized")
	say("exit 3\r")
	screen.drain()
	_ = cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != 3 {
		t.Errorf("status %d, want 3; screen:\n%s", got, screen.text.String())
	}
}

// screenReader waits for text on a terminal.
type screenReader struct {
	from io.Reader
	text bytes.Buffer
	seen int // what await has passed
}

func (r *screenReader) await(t *testing.T, want string) {
	t.Helper()
	buf := make([]byte, 4096)
	for {
		if i := strings.Index(r.text.String()[r.seen:], want); i >= 0 {
			r.seen += i + len(want)
			return
		}
		n, err := r.from.Read(buf)
		r.text.Write(buf[:n])
		if err != nil {
			t.Fatalf("waiting for %q: %v; screen:\n%s", want, err, r.text.String())
		}
	}
}

func (r *screenReader) drain() { _, _ = io.Copy(&r.text, r.from) }

// A client that vanishes leaves no process behind, with a terminal or without.
func TestTargetHangUp(t *testing.T) {
	t.Parallel()
	r := startTarget(t)
	for _, terminal := range []bool{true, false} {
		t.Run(fmt.Sprintf("terminal %t", terminal), func(t *testing.T) {
			t.Parallel()
			c, err := r.dial(t, r.person.Name, ssh.PublicKeys(r.signer))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			s, err := c.NewSession()
			if err != nil {
				t.Fatal(err)
			}
			if terminal {
				if err := s.RequestPty("xterm", 24, 80, nil); err != nil {
					t.Fatal(err)
				}
			}
			stdout, err := s.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Start("echo pid $$ .; sleep 600 & wait"); err != nil {
				t.Fatal(err)
			}
			var pid int
			if _, err := fmt.Fscanf(stdout, "pid %d .", &pid); err != nil {
				t.Fatal(err)
			}
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			awaitTrue(t, "process group to be gone", func() bool {
				return !groupExists(pid)
			})
		})
	}
}

// groupExists tells whether any process of the group is more than a zombie.
func groupExists(pgid int) bool {
	out, _ := exec.Command("ps", "-eo", "pgid=,stat=").Output()
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) == 2 && f[0] == strconv.Itoa(pgid) && !strings.HasPrefix(f[1], "Z") {
			return true
		}
	}
	return false
}

// awaitTrue polls a condition that another process brings about.
func awaitTrue(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		select {
		case <-t.Context().Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func TestTargetLetsInTheBastionOnly(t *testing.T) {
	t.Parallel()
	r := startTarget(t)
	other, _ := newSigner(t, "")
	me := r.person.Name
	tests := []struct {
		name, user string
		auth       []ssh.AuthMethod
		ok         bool
	}{
		{"its key", me, []ssh.AuthMethod{ssh.PublicKeys(r.signer)}, true},
		{"its key, account default", "default", []ssh.AuthMethod{ssh.PublicKeys(r.signer)}, true},
		{"another account", "somebody", []ssh.AuthMethod{ssh.PublicKeys(r.signer)}, false},
		{"no credentials", me, nil, false},
		{"another key", me, []ssh.AuthMethod{ssh.PublicKeys(other)}, false},
		{"password", me, []ssh.AuthMethod{ssh.Password("")}, false},
		{"keyboard-interactive", me, []ssh.AuthMethod{ssh.KeyboardInteractive(
			func(string, string, []string, []bool) ([]string, error) { return nil, nil })}, false},
		{"key offered with another's signature", me, []ssh.AuthMethod{ssh.PublicKeys(lyingSigner{other, r.signer.PublicKey()})}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, err := r.dial(t, tt.user, tt.auth...)
			if (err == nil) != tt.ok {
				t.Errorf("error = %v, want in %t", err, tt.ok)
			}
			if err == nil {
				c.Close()
			}
		})
	}
}

// lyingSigner offers one key and signs with another.
type lyingSigner struct {
	ssh.Signer
	offers ssh.PublicKey
}

func (l lyingSigner) PublicKey() ssh.PublicKey { return l.offers }

func TestTargetRefusesStrangers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		peer string
		ok   bool
	}{{"127.0.0.1:5", true}, {"[::1]:5", true}, {"[::ffff:127.0.0.1]:5", true}, {"192.0.2.1:5", false}, {"[2001:db8::1]:5", false}} {
		got := loopbackOnly(nil, peerConn{peer: tt.peer}) != nil
		if got != tt.ok {
			t.Errorf("%s accepted = %t, want %t", tt.peer, got, tt.ok)
		}
	}
}

type peerConn struct {
	net.Conn
	peer string
}

func (c peerConn) RemoteAddr() net.Addr {
	a, err := net.ResolveTCPAddr("tcp", c.peer)
	if err != nil {
		panic(err)
	}
	return a
}

func TestTargetRefusesOtherChannels(t *testing.T) {
	t.Parallel()
	r := startTarget(t)
	c, err := r.dial(t, r.person.Name, ssh.PublicKeys(r.signer))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Dial("tcp", r.addr); err == nil {
		t.Error("forwarding was accepted")
	}
	if _, err := c.Listen("tcp", "127.0.0.1:0"); err == nil {
		t.Error("remote forwarding was accepted")
	}
	for range maxTargetSessions {
		if _, err := c.NewSession(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.NewSession(); err == nil {
		t.Error("one session too many was accepted")
	}
}
