package session

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/audit"
	"sallyport/internal/auditlog"
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
