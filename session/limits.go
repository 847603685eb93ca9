package session

import (
	"cmp"
	"fmt"
	"sync/atomic"
	"time"

	"sallyport/audit"
)

// Limits of one session; zero fields set none.
type Limits struct {
	Idle         time.Duration // nothing typed and nothing shown
	KeyboardIdle time.Duration // nothing typed on any terminal; without a terminal it does not run
	Max          time.Duration
	Channels     int // session channels and forwards that are open at once
}

func (s *Session) touch() { s.active.Store(time.Now().UnixNano()) }

// startTimers arms the rule's limits of time.
func (s *Session) startTimers() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	if d := s.p.Limits.Max; d > 0 {
		s.timers = append(s.timers, time.AfterFunc(d, func() { s.End(fmt.Sprintf("the rule's maximum of %s is over", audit.Short(d))) }))
		for _, left := range warnings(d) {
			text := fmt.Sprintf("this session ends in %s: the rule allows %s.", inWords(left), audit.Short(d))
			s.timers = append(s.timers, time.AfterFunc(d-left, func() { s.warn(text) }))
		}
	}
	if d := s.p.Limits.Idle; d > 0 {
		s.endAfter(d, &s.active, func() bool { return true }, "nothing was typed or shown for "+audit.Short(d))
	}
	if d := s.p.Limits.KeyboardIdle; d > 0 {
		s.endAfter(d, &s.typed, func() bool { return s.terminals.Load() > 0 }, "nothing was typed for "+audit.Short(d))
	}
}

// endAfter ends the session when last (unix nanoseconds) lies d behind and it concerns the session. s.mu is
// held.
func (s *Session) endAfter(d time.Duration, last *atomic.Int64, concerns func() bool, reason string) {
	var t *time.Timer
	t = time.AfterFunc(d, func() {
		again := d
		if concerns() {
			since := time.Since(time.Unix(0, last.Load()))
			if since >= d {
				s.End(reason)
				return
			}
			again = d - since
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.ended {
			t.Reset(again)
		}
	})
	s.timers = append(s.timers, t)
}

// terminalOpen and terminalClosed count the terminals on which something runs. Opening one is typing: the
// person was there.
func (s *Session) terminalOpen() {
	s.typed.Store(time.Now().UnixNano())
	s.terminals.Add(1)
}

func (s *Session) terminalClosed() { s.terminals.Add(-1) }

// warnings are how long before the end of a session of at most d people are told: 5 minutes and 1 minute, or at
// half time if it is no longer than that.
func warnings(d time.Duration) []time.Duration {
	var list []time.Duration
	for _, left := range []time.Duration{5 * time.Minute, time.Minute} {
		if left < d {
			list = append(list, left)
		}
	}
	if list == nil {
		list = []time.Duration{d / 2}
	}
	return list
}

func inWords(d time.Duration) string {
	if d%time.Minute == 0 {
		return audit.Counted(int64(d/time.Minute), "minute", "minutes")
	}
	return audit.Short(d)
}

// warn tells people on every terminal of the session something, and marks it in the recordings. It does not wait
// for clients that read nothing.
func (s *Session) warn(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.channels {
		go c.warn(text)
	}
}

func (c *channel) warn(text string) {
	select {
	case <-c.started:
	default:
		return // nothing runs on it yet
	}
	if c.term == nil {
		return
	}
	if c.rec != nil {
		_ = c.rec.Mark(text)
	}
	say(c.down, true, text)
}

// sessionChannels is how many session channels may be open at once.
func (s *Session) sessionChannels() int { return cmp.Or(s.p.Limits.Channels, maxSessionChannels) }

// full says why there may be no further channel, "" if there may. s.mu is held.
func (s *Session) full() string {
	if limit := s.p.Limits.Channels; limit > 0 && s.taken+len(s.forwards) >= limit {
		return fmt.Sprintf("no more than %d channels at once: limits.channels of rule %s. Close one first", limit, s.row.Rule)
	}
	return ""
}
