package testenv

import (
	"sync"
	"time"
)

// Clock is a clock that stands still until a test moves it, while others read it.
type Clock struct {
	mu sync.Mutex // guards at
	at time.Time
}

// NewClock returns a Clock that shows a time.
func NewClock(at time.Time) *Clock { return &Clock{at: at} }

// Now is what the clock shows.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

// Move sets the clock forward, or back if d is negative.
func (c *Clock) Move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}
