package notify

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// When a sender rests, unless the configuration says otherwise.
const (
	breakerFailures = 3
	breakerPause    = time.Minute
)

// Chain is several senders of one channel, tried in order. One that has failed a number of times in a row
// rests for a while; then one message tries whether it works again. It is safe for concurrent use.
type Chain struct {
	failures int
	pause    time.Duration
	now      func() time.Time
	links    []*link
}

// link is a sender with its circuit breaker.
type link struct {
	sender Sender

	mu     sync.Mutex // guards the fields below
	failed int        // in a row
	rests  time.Time  // zero: it works; else nobody uses it before
	probed bool       // the rest is over, and one message is trying
}

// NewChain returns a Chain. A sender rests for pause (zero: a minute) after failures (zero: three) in a row.
func NewChain(failures int, pause time.Duration, senders ...Sender) *Chain {
	if failures <= 0 {
		failures = breakerFailures
	}
	if pause <= 0 {
		pause = breakerPause
	}
	c := &Chain{failures: failures, pause: pause, now: time.Now}
	for _, s := range senders {
		c.links = append(c.links, &link{sender: s})
	}
	return c
}

// Name lists the senders.
func (c *Chain) Name() string {
	names := make([]string, len(c.links))
	for i, l := range c.links {
		names[i] = l.sender.Name()
	}
	return strings.Join(names, ", ")
}

// Send hands m to the first sender that takes it. A recipient that one refuses is not offered to the next.
func (c *Chain) Send(ctx context.Context, m Message) error {
	var errs []error
	for _, l := range c.links {
		if !c.enter(l) {
			errs = append(errs, fmt.Errorf("%s: rests after it has failed", l.sender.Name()))
			continue
		}
		err := l.sender.Send(ctx, m)
		// What the sender said of one recipient is no fault of it.
		c.leave(l, err == nil || errors.Is(err, ErrRejected))
		if err == nil {
			return nil
		}
		err = fmt.Errorf("%s: %w", l.sender.Name(), err)
		if errors.Is(err, ErrRejected) {
			return err
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

// enter tells whether l may be used now.
func (c *Chain) enter(l *link) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.rests.IsZero():
		return true
	case l.probed || c.now().Before(l.rests):
		return false
	}
	l.probed = true
	return true
}

func (c *Chain) leave(l *link, works bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.probed = false
	if works {
		l.failed, l.rests = 0, time.Time{}
		return
	}
	if l.failed++; l.failed >= c.failures {
		l.rests = c.now().Add(c.pause)
	}
}
