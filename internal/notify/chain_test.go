package notify

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

// scripted is a sender that fails as it is told.
type scripted struct {
	name string

	mu   sync.Mutex
	err  error
	sent int
	hold chan struct{} // not nil: Send waits for it
}

func (s *scripted) Name() string { return s.name }
func (s *scripted) Send(context.Context, Message) error {
	s.mu.Lock()
	s.sent++
	err, hold := s.err, s.hold
	s.mu.Unlock()
	if hold != nil {
		<-hold
	}
	return err
}

func (s *scripted) tries() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sent
}

// A sender that fails is followed by the next; after some failures it rests, then one message tries it, and
// when that one gets through it works again.
func TestChain(t *testing.T) {
	t.Parallel()
	a, b := &scripted{name: "a", err: errors.New("away")}, &scripted{name: "b"}
	c := NewChain(2, time.Minute, a, b)
	now := time.Now()
	c.now = func() time.Time { return now }
	send := func() error { return c.Send(t.Context(), hello) }
	for range 5 {
		check(t, send())
	}
	if a.tries() != 2 || b.tries() != 5 {
		t.Errorf("a was tried %d times, want 2 and then rest; b %d", a.tries(), b.tries())
	}
	now = now.Add(time.Minute)
	check(t, send())
	check(t, send())
	if a.tries() != 3 {
		t.Errorf("a was tried %d times, want one more after the rest", a.tries())
	}
	now = now.Add(time.Minute)
	a.hold, a.err = make(chan struct{}), nil
	var running sync.WaitGroup
	for range 5 {
		running.Go(func() { send() })
	}
	for b.tries() < 7+4 {
		time.Sleep(time.Millisecond)
	}
	close(a.hold)
	running.Wait()
	if a.tries() != 4 {
		t.Errorf("a was probed by %d messages at once, want 1", a.tries()-3)
	}
	check(t, send())
	if a.tries() != 5 {
		t.Error("a works again and is not used")
	}
	a.err, a.hold = fmt.Errorf("no such mailbox: %w", ErrRejected), nil
	for range 5 {
		if err := send(); !errors.Is(err, ErrRejected) {
			t.Errorf("a refused recipient: %v", err)
		}
	}
	if a.tries() != 10 || b.tries() != 11 {
		t.Errorf("a %d, b %d: a refused recipient is no fault of the sender, and not for the next", a.tries(), b.tries())
	}
	a.err, b.err = errors.New("away"), errors.New("away too")
	for range 3 {
		if err := send(); err == nil || errors.Is(err, ErrRejected) {
			t.Errorf("all away: %v", err)
		}
	}
}
