package auth

import (
	"context"
	"fmt"
	"time"

	"sallyport/audit"
)

const (
	// driftSpan is the time over which tokens that drift are counted.
	driftSpan = 24 * time.Hour
	// clockLook is how often that is done.
	clockLook = time.Minute
	// clockDoubtKey is the setting under which the nodes agree who tells of it.
	clockDoubtKey = "clock-doubted"
)

// doubtClock leaves an event, once a day for all nodes, when so many tokens have moved the same way that
// not their clocks must be wrong but ours.
func (e *Engine) doubtClock(ctx context.Context) error {
	now := e.cfg.Now()
	e.mu.Lock()
	due := now.Sub(e.clockLooked).Abs() >= clockLook
	if due {
		e.clockLooked = now
	}
	e.mu.Unlock()
	if !due {
		return nil
	}
	d, err := e.cfg.Store.Tokens.Drifting(ctx, now.Add(-driftSpan))
	if err != nil || d.Together() == 0 {
		return err
	}
	first, err := e.cfg.Store.Settings.Claim(ctx, clockDoubtKey, d.String(), driftSpan)
	if err != nil || !first {
		return err
	}
	return e.cfg.Audit.Emit(ctx, audit.Event{
		Type: audit.ClockDoubted, Result: audit.Error, Door: audit.DoorNode, Reason: d.String(),
		Detail: map[string]string{"used": fmt.Sprint(d.Used), "ahead": fmt.Sprint(d.Ahead), "behind": fmt.Sprint(d.Behind)},
	})
}
