package store_test

import (
	"testing"
	"time"

	"sallyport/store"
)

// growing is a counter of one person from one source whose locks grow.
func growing(key string) []store.Counter {
	return []store.Counter{{Kind: "user+source", Key: key, Limit: 2, Window: time.Minute, Lock: 10 * time.Minute, Longest: time.Hour}}
}

// Each lock that follows soon after another one holds twice as long, up to the longest; a success or a quiet
// day begins anew.
func TestLocksGrow(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		lock := func() time.Duration {
			t.Helper()
			fail(t, s, growing("a"))
			r, _ := reserve(t, s, growing("a"), store.Reserved)
			locks := must[[]store.Lock](t)(s.Attempts.Fail(ctx, r))
			if len(locks) != 1 {
				t.Fatalf("%d locks", len(locks))
			}
			_, held := reserve(t, s, growing("a"), store.Locked)
			if !held.Until.Equal(locks[0].Until) {
				t.Errorf("told until %v, holds until %v", locks[0].Until, held.Until)
			}
			return held.Until.Sub(e.clock.Now())
		}
		wait := func(d time.Duration) {
			e.clock.Move(d)
			check(t, s.Purge(ctx)) // must not forget how often somebody was locked
		}
		for i, want := range []time.Duration{10 * time.Minute, 20 * time.Minute, 40 * time.Minute, time.Hour, time.Hour} {
			if got := lock(); got != want {
				t.Errorf("lock %d holds %v, want %v", i+1, got, want)
			}
			wait(want + time.Second)
		}
		wait(24 * time.Hour)
		if got := lock(); got != 10*time.Minute {
			t.Errorf("after a quiet day it holds %v", got)
		}
		wait(11 * time.Minute)
		r, _ := reserve(t, s, growing("a"), store.Reserved)
		check(t, s.Attempts.Succeed(ctx, r, "user+source"))
		if got := lock(); got != 10*time.Minute {
			t.Errorf("after a success it holds %v", got)
		}
		check(t, s.Attempts.Clear(ctx, "user+source:a"))
		if got := lock(); got != 10*time.Minute {
			t.Errorf("after it was cleared it holds %v", got)
		}
	})
}

// A client that sends the same wrong code again and again by itself fails once a minute; anything else counts.
func TestRepeatedGuess(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		counters := []store.Counter{
			{Kind: "source", Key: "192.0.2.7", Limit: 100, Window: time.Hour, Lock: time.Hour},
			{Kind: "user+source", Key: "a|192.0.2.7", Limit: 4, Window: time.Hour, Lock: time.Hour},
		}
		guess := func(hash string) []store.Lock {
			t.Helper()
			r, _ := reserve(t, s, counters, store.Reserved)
			return must[[]store.Lock](t)(s.Attempts.FailGuess(ctx, r, store.Guess{Kind: "user+source", Hash: hash}))
		}
		for range 10 {
			guess("x")
		}
		e.clock.Move(59 * time.Second)
		guess("x")
		e.clock.Move(2 * time.Second)
		guess("x") // the second failure: a minute after the first
		guess("y") // the third
		if locks := guess("x"); len(locks) != 1 || locks[0].Failures != 4 {
			t.Errorf("got %+v, want a lock after four failures", locks)
		}
		check(t, s.Attempts.Clear(ctx, "user+source:a|192.0.2.7"))
		for range 3 {
			guess("")
		}
		if locks := guess(""); len(locks) != 1 {
			t.Error("guesses that are not remembered do not count")
		}
	})
}

// An operator's lock refuses like any other, tells who set it and why, and ends by time or by hand.
func TestLockByHand(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		until := start.Add(time.Hour)
		l := must[store.Lock](t)(s.Attempts.Lock(ctx, "source", "192.0.2.7", "ada", "scans us", until))
		if l.ID != "source:192.0.2.7" || l.Author != "ada" || l.Reason != "scans us" || !l.Until.Equal(until) {
			t.Errorf("got %+v", l)
		}
		if _, held := reserve(t, s, five("192.0.2.7"), store.Locked); held.Author != "ada" {
			t.Errorf("refused by %+v", held)
		}
		if list := must[[]store.Lock](t)(s.Attempts.Locks(ctx)); len(list) != 1 || list[0].Reason != "scans us" {
			t.Errorf("listed: %+v", list)
		}
		check(t, s.Purge(ctx))
		reserve(t, s, five("192.0.2.7"), store.Locked)
		e.clock.Move(time.Hour)
		r, _ := reserve(t, s, five("192.0.2.7"), store.Reserved)
		check(t, s.Attempts.Cancel(ctx, r))

		must[store.Lock](t)(s.Attempts.Lock(ctx, "source", "192.0.2.7", "ada", "", time.Time{}))
		e.clock.Move(365 * 24 * time.Hour)
		check(t, s.Purge(ctx))
		reserve(t, s, five("192.0.2.7"), store.Locked)
		check(t, s.Attempts.Clear(ctx, "source:192.0.2.7"))
		reserve(t, s, five("192.0.2.7"), store.Reserved)

		if _, err := s.Attempts.Lock(ctx, "source", "192.0.2.8", "ada", "", start); err == nil {
			t.Error("a lock that has ended was set")
		}
	})
}
