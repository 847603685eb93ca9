package session

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/audit"
	"sallyport/internal/auditlog"
	"sallyport/screen"
	"sallyport/store"
)

type noSink struct{}

func (noSink) Append(context.Context, audit.Event) error { return nil }

// A moderated session went on for as long as the database took to say who watches: behind a look that hung everything
// waited, one turn after the other, and what a late answer said counted from when it came. What was known holds for a
// fixed time from when it was asked for, whatever the database does.
func TestSlowWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
		m := NewManager(Config{Node: "n", Log: quiet, Audit: auditlog.New(auditlog.Config{Sink: noSink{}, Logger: quiet, Node: "n"})})
		s := &Session{m: m, row: store.Session{ID: "s", UserID: "1", User: "alice"}, p: Params{Moderation: &Moderation{
			May: func(string, []string) bool { return true }, Pause: true, Within: time.Hour}}}
		s.waitForModerator()
		defer func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.mod.timer.Stop()
		}()
		moderated := func(asked time.Time, who ...store.Watch) bool {
			s.observed(who, asked)
			return !s.paused.Load()
		}
		carol := store.Watch{UserID: "2", Login: "carol"}
		for _, own := range []store.Watch{{UserID: "1", Login: "alice"}, {UserID: "1", Login: "her other name"}, {Login: "a program"}} {
			if moderated(time.Now(), own) {
				t.Errorf("%+v moderates", own)
			}
		}
		if !moderated(time.Now(), carol) {
			t.Fatal("carol does not moderate")
		}
		m.live["s"] = s
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		m.watching <- struct{}{} // a look that hangs
		go m.doubtWatches(ctx)
		for range 5 {
			begun := time.Now()
			m.lookAtWatches(ctx)
			if took := time.Since(begun); took > lookLimit {
				t.Errorf("a look waited for %s", took)
			}
		}
		if s.paused.Load() {
			t.Error("it stands still at once")
		}
		time.Sleep(believed - 5*lookLimit + 2*time.Second)
		if !s.paused.Load() {
			t.Error("it goes on, and nobody knows who watches")
		}
		if asked := time.Now().Add(-believed + time.Second); !moderated(asked, carol) {
			t.Error("an answer that came late does not count")
		}
		time.Sleep(3 * time.Second)
		if !s.paused.Load() {
			t.Error("an old answer counts from when it came")
		}
	})
}

// A view ended and its last line was lost, or came after the end, when both came between one look of its and the next.
func TestViewEndsWithTheLastLine(t *testing.T) {
	s := screen.New(10, 2)
	ends := func() (*View, chan bool) {
		v, h := newView(t, s)
		v.fresh = false // it has the screen
		done := make(chan bool)
		go func() {
			defer close(done)
			h.show(LiveEvent{"o", "last line"})
			h.end("it has ended")
		}()
		return v, done
	}
	want := []LiveEvent{{"o", "last line"}, {"m", "it has ended"}}
	for n := range 50000 {
		v, done := ends()
		var got []LiveEvent
		for {
			e, err := v.Next(t.Context())
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, e)
		}
		if <-done; !slices.Equal(got, want) {
			t.Fatalf("round %d: %q", n, got)
		}
		v, done = ends() // as it goes from node to node
		got = nil
		for over := false; !over; {
			var some []LiveEvent
			some, over = v.collect(t.Context())
			got = append(got, some...)
		}
		if <-done; !slices.Equal(got, want) {
			t.Fatalf("round %d, from node to node: %q", n, got)
		}
	}
}

// Whoever lost the right to watch went on to see a session that prints without end: the end of their view was looked
// for only when nothing waited for them.
func TestViewThatWasEndedShowsNothing(t *testing.T) {
	v, h := newView(t, screen.New(10, 2))
	for range 2 { // size and screen
		if _, err := v.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	h.show(LiveEvent{"o", "before"})
	v.End("you may not watch any more")
	h.show(LiveEvent{"o", "after"})
	if e, err := v.Next(t.Context()); err != nil || e != (LiveEvent{"m", "you may not watch any more"}) {
		t.Errorf("got %q %v", e, err)
	}
	h.show(LiveEvent{"o", "after that"})
	for range 2 {
		if e, err := v.Next(t.Context()); err != io.EOF {
			t.Errorf("after the end: %q %v", e, err)
		}
	}
}

// newView is a view of a channel that nobody follows.
func newView(t *testing.T, s *screen.Screen) (*View, *hub) {
	v := &View{fresh: true, wake: make(chan struct{}, 1)}
	v.ctx, v.stop = context.WithCancel(t.Context())
	v.hub = &hub{screen: s, cols: 10, rows: 2, ready: true, views: map[*View]bool{v: true}}
	return v, v.hub
}
