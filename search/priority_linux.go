package search

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// lowPriority gives the calling goroutine a thread of its own that runs when nobody else wants to. The thread ends
// with the goroutine. Where the system does not allow it, the work goes on as it is.
func lowPriority() {
	runtime.LockOSThread()
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), 19)
}
