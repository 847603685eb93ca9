package auth

import (
	"syscall"
	"time"
)

// sleepExactly sleeps until end, which is a few milliseconds away at most. The runtime's own timers wake up at whole
// milliseconds after the sleep began, and so tell when that was.
func sleepExactly(end time.Time) {
	for { // signals, by which the runtime interrupts threads, end a sleep early
		d := time.Until(end)
		if d <= 0 {
			return
		}
		t := syscall.NsecToTimespec(int64(d))
		_ = syscall.Nanosleep(&t, nil)
	}
}
