package testenv

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
)

// OpenSSH runs the OpenSSH client programs as one person would, answering prompts through SSH_ASKPASS.
type OpenSSH struct {
	Addr     string // of the bastion
	Login    string // alice@web1
	Password string
	Code     func() string // asked once a login; nil: an empty code
	KeyFile  string        // private key; "": none
	Options  []string      // -o values
}

// Options are the -o flags every client program gets: no files of whoever runs the tests.
func (c *OpenSSH) options() []string {
	o := []string{
		"-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "GlobalKnownHostsFile=/dev/null",
		"-o", "LogLevel=ERROR", "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "NumberOfPasswordPrompts=1",
	}
	if c.KeyFile == "" {
		o = append(o, "-o", "PubkeyAuthentication=no", "-o", "IdentityFile=none")
	} else {
		o = append(o, "-i", c.KeyFile)
	}
	for _, v := range c.Options {
		o = append(o, "-o", v)
	}
	return o
}

func (c *OpenSSH) port() string {
	_, port, _ := net.SplitHostPort(c.Addr)
	return port
}

// Command returns a command whose prompts are answered. program is ssh, scp, sftp or rsync's "ssh".
func (c *OpenSSH) Command(t testing.TB, program string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), c.askpass(t)...)
	return cmd
}

// askpass writes the program that answers prompts, and returns the environment that makes ssh use it.
func (c *OpenSSH) askpass(t testing.TB) []string {
	t.Helper()
	dir := t.TempDir()
	code := ""
	if c.Code != nil {
		code = c.Code()
	}
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("password", c.Password+"\n", 0o600)
	write("code", code+"\n", 0o600)
	script := fmt.Sprintf("#!/bin/sh\ncase \"$1\" in\n*Password:*) exec cat %[1]s/password ;;\n*ode:*) exec cat %[1]s/code ;;\n*) exit 1 ;;\nesac\n", dir)
	return []string{"SSH_ASKPASS=" + write("askpass", script, 0o700), "SSH_ASKPASS_REQUIRE=force", "DISPLAY=none:0", "LC_ALL=C.UTF-8"}
}

// SSH returns the command `ssh … login@host args…`.
func (c *OpenSSH) SSH(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	all := append(c.options(), "-p", c.port(), "-l", c.Login)
	return c.Command(t, "ssh", append(append(all, "127.0.0.1"), args...)...)
}

// Interactive returns the command `ssh -tt … login@host args…` for [StartTerminal]: a person answers
// its prompts on the terminal.
func (c *OpenSSH) Interactive(args ...string) *exec.Cmd {
	// The first value of an option counts. Banners are shown from LogLevel INFO on.
	all := append([]string{"-o", "NumberOfPasswordPrompts=3", "-o", "LogLevel=INFO"}, c.options()...)
	all = append(all, "-tt", "-p", c.port(), "-l", c.Login, "127.0.0.1")
	cmd := exec.Command("ssh", append(all, args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "TERM=xterm")
	return cmd
}

// Output runs `ssh … args…` and gives stdout, stderr and exit status apart.
func (c *OpenSSH) Output(t testing.TB, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	return Finish(t, c.SSH(t, args...))
}

// SCP returns the command `scp … args…`; REMOTE: in args stands for login@host:.
func (c *OpenSSH) SCP(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	return c.transfer(t, "scp", args)
}

// SFTP returns the command `sftp -b batch … login@host`.
func (c *OpenSSH) SFTP(t testing.TB, batch string) *exec.Cmd {
	t.Helper()
	file := filepath.Join(t.TempDir(), "batch")
	if err := os.WriteFile(file, []byte(batch), 0o600); err != nil {
		t.Fatal(err)
	}
	// -b sets BatchMode, which forbids prompts; it is taken back here.
	args := append([]string{"-o", "BatchMode=no", "-b", file}, c.options()...)
	return c.Command(t, "sftp", append(args, "-P", c.port(), c.Login+"@127.0.0.1")...)
}

// Rsync returns the command `rsync -e "ssh …" args…`; REMOTE: in args stands for login@host:.
func (c *OpenSSH) Rsync(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	all := append([]string{"-e", c.Program()}, args...)
	return c.Command(t, "rsync", c.remote(all)...)
}

// Program is the ssh command line without a host, for programs that run ssh themselves. Run those by
// [OpenSSH.Command], so that prompts are answered.
func (c *OpenSSH) Program() string {
	return "ssh " + strings.Join(c.options(), " ") + " -p " + c.port()
}

func (c *OpenSSH) transfer(t testing.TB, program string, args []string) *exec.Cmd {
	all := append(c.options(), "-P", c.port())
	return c.Command(t, program, append(all, c.remote(args)...)...)
}

func (c *OpenSSH) remote(args []string) []string {
	out := make([]string, len(args))
	for i, a := range args {
		out[i] = strings.Replace(a, "REMOTE:", c.Login+"@127.0.0.1:", 1)
	}
	return out
}

// Finish runs cmd to its end. An exit status other than 0 is no failure of the test.
func Finish(t testing.TB, cmd *exec.Cmd) (stdout, stderr string, status int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v", cmd.Path, err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// Terminal is a program on a real pseudo-terminal.
type Terminal struct {
	t    testing.TB
	File *os.File // our side of the terminal
	Cmd  *exec.Cmd

	mu     sync.Mutex // guards the fields below
	screen bytes.Buffer
	read   int // how much of screen Expect has gone past
	closed bool
}

// StartTerminal starts cmd on a new terminal of this size. It is killed at the end of the test.
func StartTerminal(t testing.TB, cmd *exec.Cmd, cols, rows uint16) *Terminal {
	t.Helper()
	f, err := pty.StartWithSize(cmd, &pty.Winsize{Cols: cols, Rows: rows})
	if err != nil {
		t.Fatalf("starting %s on a terminal: %v", cmd.Path, err)
	}
	term := &Terminal{t: t, File: f, Cmd: cmd}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := f.Read(buf)
			term.mu.Lock()
			term.screen.Write(buf[:n])
			term.closed = err != nil
			term.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = f.Close()
	})
	return term
}

// Type sends keys to the program.
func (x *Terminal) Type(keys string) {
	x.t.Helper()
	if _, err := io.WriteString(x.File, keys); err != nil {
		x.t.Fatalf("typing: %v", err)
	}
}

// Expect waits until text comes after what earlier calls have found, and returns what came before it.
func (x *Terminal) Expect(text string) string {
	x.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		x.mu.Lock()
		rest := x.screen.Bytes()[x.read:]
		if i := bytes.Index(rest, []byte(text)); i >= 0 {
			before := string(rest[:i])
			x.read += i + len(text)
			x.mu.Unlock()
			return before
		}
		closed, seen := x.closed, string(rest)
		x.mu.Unlock()
		if closed || time.Now().After(deadline) {
			x.t.Fatalf("the terminal never showed %q (closed %v); since the last find it showed:\n%q", text, closed, seen)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// Screen is all that was shown so far.
func (x *Terminal) Screen() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.screen.String()
}

// Wait waits for the program's end and returns its exit status.
func (x *Terminal) Wait() int {
	_ = x.Cmd.Wait()
	return x.Cmd.ProcessState.ExitCode()
}

// Oathtool computes the code of a secret in base32 with the program of that name, an independent
// witness of RFC 6238.
func Oathtool(t testing.TB, secret string, at time.Time) string {
	t.Helper()
	return strings.TrimSpace(Run(t, "oathtool", "--totp", "--base32", "--now", at.UTC().Format("2006-01-02 15:04:05 UTC"), secret))
}

// Resize changes the size of the terminal, as dragging its window would.
func Resize(t testing.TB, x *Terminal, cols, rows uint16) {
	t.Helper()
	if err := pty.Setsize(x.File, &pty.Winsize{Cols: cols, Rows: rows}); err != nil {
		t.Fatalf("resizing: %v", err)
	}
}
