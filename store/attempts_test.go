package store_test

import (
	"strings"
	"testing"
	"time"

	"sallyport/store"
)

// counters as the engine uses them: by user and source, by source, by user.
func counters(user, source string) []store.Counter {
	return []store.Counter{
		{Kind: "user+source", Key: user + " " + source, Limit: 5, Window: 5 * time.Minute, Lock: 15 * time.Minute},
		{Kind: "source", Key: source, Limit: 10, Window: 5 * time.Minute, Lock: 30 * time.Minute},
		{Kind: "user", Key: user, Limit: 100},
	}
}

func five(key string) []store.Counter {
	return []store.Counter{{Kind: "source", Key: key, Limit: 5, Window: 5 * time.Minute, Lock: 30 * time.Minute}}
}

// reserve fails the test unless the outcome is want.
func reserve(t *testing.T, s *store.Store, c []store.Counter, want store.Outcome) (store.Reservation, store.Lock) {
	t.Helper()
	r, outcome, lock, err := s.Attempts.Reserve(t.Context(), c)
	check(t, err)
	if outcome != want {
		t.Fatalf("outcome: got %v, want %v", outcome, want)
	}
	return r, lock
}

// fail makes a failed attempt and returns the locks it set.
func fail(t *testing.T, s *store.Store, c []store.Counter) []store.Lock {
	t.Helper()
	r, _ := reserve(t, s, c, store.Reserved)
	return must[[]store.Lock](t)(s.Attempts.Fail(t.Context(), r))
}

// wantFailures fails the test unless a counter that is not locked has n failures and nothing in
// flight: then a limit of n+1 lets an attempt in, and a limit of n does not.
func wantFailures(t *testing.T, s *store.Store, kind, key string, n int) {
	t.Helper()
	r, _ := reserve(t, s, []store.Counter{{Kind: kind, Key: key, Limit: n + 1}}, store.Reserved)
	check(t, s.Attempts.Cancel(t.Context(), r))
	if n > 0 {
		_, lock := reserve(t, s, []store.Counter{{Kind: kind, Key: key, Limit: n}}, store.Locked)
		if lock.Failures != n {
			t.Errorf("%s:%s has %d failures, want %d", kind, key, lock.Failures, n)
		}
	}
}

func TestLockout(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		c := counters("alice", "192.0.2.7")
		for i := range 4 {
			if locks := fail(t, s, c); len(locks) != 0 {
				t.Fatalf("failure %d sets %v", i+1, locks)
			}
		}
		locks := fail(t, s, c)
		want := store.Lock{
			ID: "user+source:alice 192.0.2.7", Kind: "user+source", Key: "alice 192.0.2.7", Failures: 5,
			Since: start, Until: start.Add(15 * time.Minute),
		}
		if len(locks) != 1 || locks[0] != want {
			t.Fatalf("the fifth failure sets %+v, want %+v", locks, want)
		}
		if _, lock := reserve(t, s, c, store.Locked); lock != want {
			t.Errorf("got lock %+v, want %+v", lock, want)
		}
		if got := must[[]store.Lock](t)(s.Attempts.Locks(ctx)); len(got) != 1 || got[0] != want {
			t.Errorf("locks: got %+v", got)
		}

		// Others are not affected until the source has ten failures.
		other := counters("bob", "192.0.2.7")
		for range 4 {
			fail(t, s, other)
		}
		e.clock.Move(time.Minute)
		locks = fail(t, s, other)
		if len(locks) != 2 || locks[0].Kind != "source" || locks[1].Kind != "user+source" {
			t.Fatalf("the tenth failure of the source sets %+v", locks)
		}
		if _, lock := reserve(t, s, counters("carol", "192.0.2.7"), store.Locked); lock.ID != "source:192.0.2.7" {
			t.Errorf("carol is locked by %+v, want the source", lock)
		}
		r, _ := reserve(t, s, counters("alice", "198.51.100.1"), store.Reserved) // from elsewhere
		check(t, s.Attempts.Succeed(ctx, r, "user+source"))
		if got := must[[]store.Lock](t)(s.Attempts.Locks(ctx)); len(got) != 3 || got[2].Key != "alice 192.0.2.7" {
			t.Errorf("locks, newest first: got %+v", got)
		}

		// The longest lock is the one that is told, and it ends.
		if _, lock := reserve(t, s, other, store.Locked); lock.Kind != "source" {
			t.Errorf("bob is locked by %+v, want the source, which holds longer", lock)
		}
		e.clock.Move(30*time.Minute - time.Millisecond)
		reserve(t, s, c, store.Locked)
		e.clock.Move(time.Millisecond)
		for i := range 5 {
			if locks := fail(t, s, c); (len(locks) == 1) != (i == 4) {
				t.Fatalf("after the lock: failure %d sets %v", i+1, locks)
			}
		}
	})
}

func TestWindow(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s := e.open()
		c := five("192.0.2.7")
		for range 4 {
			fail(t, s, c)
			e.clock.Move(time.Minute)
		}
		e.clock.Move(time.Minute) // five minutes after the first failure
		for i := range 4 {
			if locks := fail(t, s, c); len(locks) != 0 {
				t.Fatalf("failure %d of the next window sets %v", i+1, locks)
			}
		}
		// An attempt that began in one window and fails in the next counts there.
		r, _ := reserve(t, s, c, store.Reserved)
		reserve(t, s, c, store.Busy)
		e.clock.Move(5 * time.Minute)
		if locks := must[[]store.Lock](t)(s.Attempts.Fail(t.Context(), r)); len(locks) != 0 {
			t.Fatalf("a failure in the next window sets %v", locks)
		}
		for i := range 4 {
			if locks := fail(t, s, c); (len(locks) == 1) != (i == 3) {
				t.Fatalf("failure %d sets %v", i+2, locks)
			}
		}
	})
}

func TestFailuresInARow(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		c := []store.Counter{{Kind: "user", Key: "alice", Limit: 4}}
		fail(t, s, c)
		fail(t, s, c)
		r, _ := reserve(t, s, c, store.Reserved)
		check(t, s.Attempts.Succeed(ctx, r, "user+source")) // another kind
		fail(t, s, c)
		r, _ = reserve(t, s, c, store.Reserved)
		check(t, s.Attempts.Succeed(ctx, r, "user+source", "user")) // ends the row
		for range 3 {
			e.clock.Move(80 * 24 * time.Hour)
			check(t, s.Purge(ctx))
			fail(t, s, c)
		}
		locks := fail(t, s, c)
		if len(locks) != 1 || !locks[0].Until.Equal(store.Forever) {
			t.Fatalf("the fourth failure in a row sets %+v", locks)
		}
		e.clock.Move(1000 * 24 * time.Hour)
		check(t, s.Purge(ctx))
		reserve(t, s, c, store.Locked)

		// A source that is known is exempt, is counted, and its success does not lift the lock.
		exempt := []store.Counter{{Kind: "user", Key: "alice", Limit: 4, Exempt: true}}
		if locks := fail(t, s, exempt); len(locks) != 0 {
			t.Errorf("a failure under a lock sets %+v", locks)
		}
		r, _ = reserve(t, s, exempt, store.Reserved)
		check(t, s.Attempts.Succeed(ctx, r, "user"))
		if _, lock := reserve(t, s, c, store.Locked); lock.Failures != 5 {
			t.Errorf("got %+v, want 5 failures", lock)
		}
		check(t, s.Attempts.Clear(ctx, "user:alice"))
		wantError(t, "second clearing", s.Attempts.Clear(ctx, "user:alice"), store.ErrNotFound)
		for i := range 4 {
			if locks := fail(t, s, c); (len(locks) == 1) != (i == 3) {
				t.Fatalf("after clearing: failure %d sets %v", i+1, locks)
			}
		}
		if got := must[int](t)(s.Attempts.ClearAll(ctx)); got != 1 {
			t.Errorf("cleared %d locks, want 1", got)
		}
		reserve(t, s, c, store.Reserved)
	})
}

// Attempts in flight take places, whatever happens to the counter meanwhile.
func TestBusy(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		c := five("192.0.2.7")
		var open []store.Reservation
		for range 5 {
			r, _ := reserve(t, s, c, store.Reserved)
			open = append(open, r)
		}
		reserve(t, s, c, store.Busy)
		wantError(t, "clearing what has no failures", s.Attempts.Clear(ctx, "source:192.0.2.7"), store.ErrNotFound)
		e.clock.Move(time.Hour)
		check(t, s.Purge(ctx))
		reserve(t, s, c, store.Busy)

		check(t, s.Attempts.Cancel(ctx, open[0]))
		check(t, s.Attempts.Cancel(ctx, open[0])) // the second end does nothing
		wantError(t, "success after the end", s.Attempts.Succeed(ctx, open[0], "source"), store.ErrNotFound)
		if locks := must[[]store.Lock](t)(s.Attempts.Fail(ctx, open[0])); len(locks) != 0 {
			t.Errorf("failing an ended attempt sets %v", locks)
		}
		r, _ := reserve(t, s, c, store.Reserved)
		reserve(t, s, c, store.Busy)

		must[[]store.Lock](t)(s.Attempts.Fail(ctx, r))
		reserve(t, s, c, store.Busy) // one failure, four in flight
		check(t, s.Attempts.Clear(ctx, "source:192.0.2.7"))
		extra, _ := reserve(t, s, c, store.Reserved)
		reserve(t, s, c, store.Busy)
		for _, r := range append(open[1:], extra) {
			check(t, s.Attempts.Succeed(ctx, r, "source"))
		}
		for range 5 {
			reserve(t, s, c, store.Reserved)
		}
	})
}

func TestReserveTakesAllOrNothing(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		full := five("full")
		for range 5 {
			fail(t, s, full)
		}
		both := append(five("free"), full...)
		for range 10 {
			reserve(t, s, both, store.Locked)
		}
		var open []store.Reservation
		for range 5 { // had the refused ones left something in flight, this would be Busy
			r, _ := reserve(t, s, five("free"), store.Reserved)
			open = append(open, r)
		}
		for _, r := range open {
			check(t, s.Attempts.Cancel(ctx, r))
		}
		if got := count(t, e, "attempts"); got != 0 {
			t.Errorf("attempts left: %d", got)
		}
	})
}

func TestReserveRefusesNonsense(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s := e.open()
		for name, c := range map[string][]store.Counter{
			"no limit":  {{Kind: "user", Key: "a"}},
			"no kind":   {{Key: "a", Limit: 1}},
			"bad kind":  {{Kind: "a:b", Key: "a", Limit: 1}},
			"twice":     {{Kind: "user", Key: "a", Limit: 1}, {Kind: "user", Key: "a", Limit: 2}},
			"past lock": {{Kind: "user", Key: "a", Limit: 1, Lock: -1}},
		} {
			_, outcome, _, err := s.Attempts.Reserve(t.Context(), c)
			if err == nil || outcome != store.Locked {
				t.Errorf("%s: got outcome %v and error %v", name, outcome, err)
			}
		}
	})
}

// A limit that was lowered counts at once, and its lock is one like others.
func TestLoweredLimit(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s := e.open()
		c := five("192.0.2.7")
		for range 4 {
			fail(t, s, c)
		}
		c[0].Limit = 3
		_, lock := reserve(t, s, c, store.Locked)
		if got := must[[]store.Lock](t)(s.Attempts.Locks(t.Context())); len(got) != 1 || got[0] != lock || !lock.Until.Equal(start.Add(30*time.Minute)) {
			t.Errorf("got lock %+v, and in the list %+v", lock, got)
		}
		e.clock.Move(30 * time.Minute)
		reserve(t, s, c, store.Reserved)
	})
}

// Every key is possible, and no two become one.
func TestHostileKeys(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s := e.open()
		long := strings.Repeat("x", 250_000)
		for _, key := range []string{"", "a\x00", "a\xff", "a\xfe", long, long + "y", "2001:db8::/64", "sha256:00", "'", "a:b"} {
			for i := range 5 {
				if locks := fail(t, s, five(key)); (len(locks) == 1) != (i == 4) {
					t.Fatalf("key %.20q: failure %d sets %v", key, i+1, locks)
				}
			}
			_, lock := reserve(t, s, five(key), store.Locked)
			check(t, s.Attempts.Clear(t.Context(), lock.ID))
			fail(t, s, five(key))
		}
	})
}
