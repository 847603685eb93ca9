package upstream

import (
	"context"
	"sync"
	"time"
)

// limit is how long a connection may take to come about. It stands still while a person is asked.
type limit struct {
	ctx    context.Context // over when the time is up, with the cause context.DeadlineExceeded
	cancel context.CancelCauseFunc

	mu    sync.Mutex // guards the fields below
	timer *time.Timer
	left  time.Duration
	since time.Time // when it began to run; zero: it stands still
}

// newLimit starts a limit of d. Whoever has it calls stop.
func newLimit(parent context.Context, d time.Duration) *limit {
	l := &limit{}
	l.ctx, l.cancel = context.WithCancelCause(parent)
	l.timer = time.AfterFunc(d, func() { l.cancel(context.DeadlineExceeded) })
	l.left, l.since = d, time.Now()
	return l
}

func (l *limit) stop() {
	l.timer.Stop()
	l.cancel(context.Canceled)
}

// pause has the time stand still.
func (l *limit) pause() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timer.Stop()
	l.left, l.since = l.remainingLocked(), time.Time{}
}

// run has the time go on, with at least d left.
func (l *limit) run(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.left = max(l.remainingLocked(), d)
	l.since = time.Now()
	l.timer.Reset(l.left)
}

// remaining is the time that is left.
func (l *limit) remaining() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.remainingLocked()
}

func (l *limit) remainingLocked() time.Duration {
	if l.since.IsZero() {
		return l.left
	}
	return max(0, l.left-time.Since(l.since))
}

// err says why the connection has to be given up; nil if it has not.
func (l *limit) err() error { return context.Cause(l.ctx) }
