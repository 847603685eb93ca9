package session

import (
	"context"
	"fmt"

	"sallyport/audit"
	"sallyport/recorder"
)

// BreakGlass is how a session is recorded whose rule lets it go on without a recording, in the place of the mode.
const BreakGlass = "break-glass"

// breakGlass lets a channel go on although its recording is required and not possible, if its rule says so and
// the event that tells of it is written; operators are told by mail with it. Else it returns cause.
func (c *channel) breakGlass(cause error) error {
	if !c.grant.BreakGlass {
		return cause
	}
	c.glass.Lock() // the write and the background sync fail at once
	defer c.glass.Unlock()
	if c.glassBroken {
		return nil
	}
	err := c.s.m.emit(context.Background(), c.event(audit.BreakGlassUsed, audit.OK, "the session goes on without its recording: "+cause.Error(), map[string]string{"kind": c.row.Kind}))
	if err != nil {
		return fmt.Errorf("%w; and nothing may go on unrecorded of which no event can be written: %w", cause, err)
	}
	c.glassBroken = true
	go func() {
		select {
		case <-c.started:
			say(c.down, c.term != nil, "this session is NOT recorded: its rule says break-glass. The operators are told")
		case <-c.over:
		}
	}()
	return nil
}

// endGap tells of a gap that a recording has ended in.
func (c *channel) endGap(sum recorder.Summary) {
	c.mu.Lock()
	lost := c.lost
	c.lost = 0
	c.mu.Unlock()
	if lost > 0 {
		_ = c.s.m.emit(context.Background(), c.event(audit.RecordFailed, audit.OK, "the recording has ended in a gap",
			map[string]string{"lost": fmt.Sprint(lost), "recording": sum.Path}))
	}
}
