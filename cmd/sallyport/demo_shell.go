package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

const (
	maxTargetEnv = 64                     // variables that a client may set
	lastWords    = 200 * time.Millisecond // for what a terminal still holds after its shell has gone
)

// targetSession is one session channel of the demo target, with the process behind it.
type targetSession struct {
	target *demoTarget
	conn   ssh.ConnMetadata
	ch     ssh.Channel

	env     []string
	term    *terminalRequest // nil: none was asked for
	started bool             // one of shell, exec and subsystem has succeeded
	work    sync.WaitGroup   // what was started and has not ended

	mu   sync.Mutex // guards the fields below
	pid  int        // leader of a process group that runs; 0: none does
	gone bool       // the client has hung up
	ours []*os.File // our ends of pipes and terminal
}

// terminalRequest is the payload of pty-req (RFC 4254, section 6.2).
type terminalRequest struct {
	Term          string
	Columns, Rows uint32
	Width, Height uint32
	Modes         string
}

// windowChange is the payload of window-change (RFC 4254, section 6.7).
type windowChange struct {
	Columns, Rows uint32
	Width, Height uint32
}

// size gives a terminal's size; dimensions beyond what a terminal can have are cut.
func (w windowChange) size() *pty.Winsize {
	const most = 1<<16 - 1
	return &pty.Winsize{
		Cols: uint16(min(w.Columns, most)), Rows: uint16(min(w.Rows, most)),
		X: uint16(min(w.Width, most)), Y: uint16(min(w.Height, most)),
	}
}

// serve answers the requests of the channel until it is closed, then ends what still runs.
func (s *targetSession) serve(requests <-chan *ssh.Request) {
	for r := range requests {
		begin, err := s.request(r)
		if r.WantReply {
			_ = r.Reply(err == nil, nil) // if the connection is gone, requests will end
		}
		if err != nil && (r.Type == "shell" || r.Type == "exec") {
			fmt.Fprintf(s.ch.Stderr(), "demo: %v\r\n", err)
		}
		if begin != nil { // output must not overtake the reply
			s.work.Go(begin)
		}
	}
	s.hangUp()
	s.work.Wait()
}

var errTargetRequest = errors.New("not possible here")

// request obeys one channel request. What it returns beside an error begins after the reply.
func (s *targetSession) request(r *ssh.Request) (begin func(), err error) {
	switch r.Type {
	case "pty-req":
		var term terminalRequest
		if err := ssh.Unmarshal(r.Payload, &term); err != nil || s.term != nil || s.started {
			return nil, errTargetRequest
		}
		s.term = &term
		return nil, nil
	case "env":
		return nil, s.setEnv(r.Payload)
	case "window-change":
		return nil, s.resize(r.Payload)
	case "signal":
		return nil, s.signal(r.Payload)
	case "shell", "exec", "subsystem":
		if s.started {
			return nil, errTargetRequest
		}
		begin, err = s.start(r)
		s.started = err == nil
		return begin, err
	default:
		return nil, errTargetRequest
	}
}

func (s *targetSession) start(r *ssh.Request) (begin func(), err error) {
	shell := s.target.person.Shell
	var arg struct{ Text string }
	if r.Type != "shell" {
		if err := ssh.Unmarshal(r.Payload, &arg); err != nil {
			return nil, errTargetRequest
		}
	}
	switch {
	case r.Type == "shell":
		return s.launch(shell, "-"+filepath.Base(shell))
	case r.Type == "exec":
		return s.launch(shell, filepath.Base(shell), "-c", arg.Text)
	case arg.Text == "sftp":
		return s.files, nil
	default:
		return nil, errTargetRequest
	}
}

// setEnv keeps LANG and LC_*; anything else may change what programs do (LD_PRELOAD) and is refused.
func (s *targetSession) setEnv(payload []byte) error {
	var v struct{ Name, Value string }
	if err := ssh.Unmarshal(payload, &v); err != nil {
		return errTargetRequest
	}
	if v.Name != "LANG" && !strings.HasPrefix(v.Name, "LC_") || strings.ContainsAny(v.Name, "=\x00") ||
		strings.Contains(v.Value, "\x00") || len(s.env) >= maxTargetEnv {
		return errTargetRequest
	}
	s.env = append(s.env, v.Name+"="+v.Value)
	return nil
}

func (s *targetSession) resize(payload []byte) error {
	var w windowChange
	if err := ssh.Unmarshal(payload, &w); err != nil || s.term == nil {
		return errTargetRequest
	}
	s.term.Columns, s.term.Rows, s.term.Width, s.term.Height = w.Columns, w.Rows, w.Width, w.Height
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ours) == 0 {
		return nil
	}
	return pty.Setsize(s.ours[0], w.size())
}

// signal delivers a signal to the process group (RFC 4254, section 6.9).
func (s *targetSession) signal(payload []byte) error {
	var name struct{ Text string }
	if err := ssh.Unmarshal(payload, &name); err != nil {
		return errTargetRequest
	}
	switch name.Text {
	case "ABRT", "ALRM", "FPE", "HUP", "ILL", "INT", "KILL", "PIPE", "QUIT", "SEGV", "TERM", "USR1", "USR2":
		return s.deliver(unix.SignalNum("SIG" + name.Text))
	}
	return errTargetRequest
}

func (s *targetSession) deliver(sig unix.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pid == 0 {
		return errTargetRequest
	}
	return unix.Kill(-s.pid, sig)
}

// hangUp tells the process that its client has gone, and lets go of pipes and terminal.
func (s *targetSession) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = true
	if s.pid != 0 {
		_ = unix.Kill(-s.pid, unix.SIGHUP) // the group may be gone already
		_ = unix.Kill(-s.pid, unix.SIGCONT)
	}
	for _, f := range s.ours {
		_ = f.Close() // nothing is written that could be lost
	}
}

// kill ends a process that did not heed hangUp.
func (s *targetSession) kill() { _ = s.deliver(unix.SIGKILL) }

// launch starts a program on a terminal, if one was asked for, or on pipes.
func (s *targetSession) launch(program string, args ...string) (begin func(), err error) {
	cmd := exec.Command(program)
	cmd.Args = args
	cmd.Dir = s.target.person.Home
	cmd.Env = append(s.target.person.loginEnv(s.conn), s.env...)
	if s.term != nil {
		return s.onTerminal(cmd)
	}
	return s.onPipes(cmd)
}

func (s *targetSession) onTerminal(cmd *exec.Cmd) (begin func(), err error) {
	ptmx, tty, err := pty.Open()
	if err != nil {
		return nil, fmt.Errorf("opening a terminal: %w", err)
	}
	defer tty.Close()
	t := s.term
	if err := pty.Setsize(ptmx, windowChange{t.Columns, t.Rows, t.Width, t.Height}.size()); err != nil {
		return nil, errors.Join(fmt.Errorf("sizing the terminal: %w", err), ptmx.Close())
	}
	cmd.Env = append(cmd.Env, "TERM="+t.Term, "SSH_TTY="+tty.Name())
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
	if err := s.run(cmd, ptmx); err != nil {
		return nil, errors.Join(err, ptmx.Close())
	}
	return func() {
		go func() { _, _ = io.Copy(ptmx, s.ch) }() // ends with the channel
		shown := make(chan struct{})
		go func() {
			defer close(shown)
			_, _ = io.Copy(s.ch, ptmx) // ends with an error when the terminal has no user any more
		}()
		status := s.wait(cmd)
		select {
		case <-shown:
		case <-time.After(lastWords): // something in the background keeps the terminal
		}
		_ = ptmx.Close()
		<-shown
		s.finish(status)
	}, nil
}

func (s *targetSession) onPipes(cmd *exec.Cmd) (begin func(), err error) {
	var files []*os.File
	defer func() {
		if err != nil {
			for _, f := range files {
				_ = f.Close()
			}
		}
	}()
	for range 3 {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, fmt.Errorf("making pipes: %w", err)
		}
		files = append(files, r, w)
	}
	stdin, stdout, stderr := files[1], files[2], files[4]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = files[0], files[3], files[5]
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	if err := s.run(cmd, stdin, stdout, stderr); err != nil {
		return nil, err
	}
	for _, f := range []*os.File{files[0], files[3], files[5]} {
		_ = f.Close() // the process has its own
	}
	return func() {
		go func() {
			_, _ = io.Copy(stdin, s.ch)
			_ = stdin.Close()
		}()
		var output sync.WaitGroup
		output.Go(func() {
			_, _ = io.Copy(s.ch, stdout)
			_ = stdout.Close() // the client has gone: who writes on learns it by SIGPIPE
		})
		output.Go(func() {
			_, _ = io.Copy(s.ch.Stderr(), stderr)
			_ = stderr.Close()
		})
		status := s.wait(cmd)
		output.Wait()
		_ = stdin.Close()
		s.finish(status)
	}, nil
}

// run starts cmd as leader of a process group of its own; ours are the ends of its pipes that we keep.
func (s *targetSession) run(cmd *exec.Cmd, ours ...*os.File) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return errTargetRequest
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", cmd.Path, err)
	}
	s.pid, s.ours = cmd.Process.Pid, ours
	return nil
}

// wait waits for the process. Its number is given up before the kernel may use it again.
func (s *targetSession) wait(cmd *exec.Cmd) syscall.WaitStatus {
	for {
		err := unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pid = 0
	_ = cmd.Wait() // a status other than 0 is an error to it, and to us none
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok {
		return 255 << 8
	}
	return status
}

// finish reports how the process ended and closes the channel: end of output, status, close, in that order.
func (s *targetSession) finish(status syscall.WaitStatus) {
	_ = s.ch.CloseWrite()
	if status.Signaled() {
		// RFC 4254, section 6.10: the name is without SIG.
		_, _ = s.ch.SendRequest("exit-signal", false, ssh.Marshal(struct {
			Name      string
			Core      bool
			Text, Tag string
		}{strings.TrimPrefix(unix.SignalName(status.Signal()), "SIG"), status.CoreDump(), "", ""}))
	} else {
		_, _ = s.ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(status.ExitStatus())}))
	}
	_ = s.ch.Close()
}
