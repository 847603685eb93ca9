package testenv

import (
	"os/exec"
	"runtime"
	"syscall"
)

// startChild starts cmd so that it is killed when this process dies, however that happens. The
// channel is closed when the child has ended. The signal comes with the end of the thread that
// started the child, not of the process (prctl(2), PR_SET_PDEATHSIG), so that thread is held until then.
func startChild(cmd *exec.Cmd) (exited chan struct{}, err error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	started := make(chan error, 1)
	exited = make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended does not matter: killing it is its usual end
		}
		close(exited)
	}()
	return exited, <-started
}
