package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is a server that this program started.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{}
}

// start starts cmd so that it dies with this program, however that ends. The signal comes with the end
// of the thread that started it (prctl(2), PR_SET_PDEATHSIG), so that thread is held until then.
func start(cmd *exec.Cmd) (*process, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	p := &process{cmd: cmd, exited: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.exited)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is in its log
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting %s: %w", cmd.Path, err)
	}
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// stop asks the process to end, waits, and then ends it. What it has started is left to killDescendants.
func (p *process) stop(grace time.Duration) {
	if p == nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(grace):
	}
	_ = p.cmd.Process.Kill()
	<-p.exited
}

// adoptOrphans makes processes whose parents died children of this one (prctl(2),
// PR_SET_CHILD_SUBREAPER), so that killDescendants finds them.
func adoptOrphans() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("becoming the parent of orphans: %w", err)
	}
	return nil
}

// killDescendants ends whatever came from this program and still runs.
func killDescendants() error {
	return poll("the processes of this run to end", 5*time.Second, func() (bool, error) {
		all, err := processes()
		if err != nil {
			return false, err
		}
		left := 0
		for _, u := range below(all, os.Getpid()) {
			if u.state != 'Z' {
				left++
				_ = syscall.Kill(u.pid, syscall.SIGKILL)
			}
		}
		return left == 0, nil
	})
}

// poll waits until ok says so, in short steps.
func poll(what string, limit time.Duration, ok func() (bool, error)) error {
	deadline := time.Now().Add(limit)
	for {
		done, err := ok()
		if err != nil || done {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("waited %s in vain for %s", limit, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
