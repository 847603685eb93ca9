package store_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/store"
)

// atOnce is acceptable without a reservation.
func atOnce(t *testing.T, s *store.Store, login string, step int64, counters []store.Counter) store.Acceptance {
	t.Helper()
	a := acceptable(t, s, login, step)
	check(t, s.Attempts.Cancel(t.Context(), a.Reservation))
	r, err := store.AtOnce(counters)
	check(t, err)
	a.Reservation = r
	return a
}

// What needs no reservation is under the same limits, leaves all traces or none, and ends what a success ends.
func TestAcceptAtOnce(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		all := traces{events: 1, places: 1, step: 7, login: true, key: true}
		accept := func(name string, counters []store.Counter, want error) {
			t.Helper()
			a := atOnce(t, s, name, 7, counters)
			before := tracesOf(t, s, a)
			wantError(t, name, s.Attempts.Accept(ctx, &a), want)
			got := tracesOf(t, s, a)
			if want == nil && got != all || want != nil && (got != before || got.events != 0) {
				t.Errorf("%s: traces before %+v, after %+v", name, before, got)
			}
		}
		nobody := atOnce(t, s, "nobody", 7, nil)
		wantError(t, "under no counter", s.Attempts.Accept(ctx, &nobody), store.ErrNotFound)
		accept("new", five("at new"), nil)
		wantFailures(t, s, "source", "at new", 0)

		for range 4 {
			fail(t, s, five("at clumsy"))
		}
		accept("clumsy", five("at clumsy"), nil)
		wantFailures(t, s, "source", "at clumsy", 0)

		for range 5 {
			fail(t, s, five("at locked"))
		}
		accept("locked", five("at locked"), store.ErrNoPlace)
		reserve(t, s, five("at locked"), store.Locked)
		known := five("at locked")
		known[0].Exempt = true
		accept("locked", known, nil)
		reserve(t, s, five("at locked"), store.Locked) // whom it does not hurt does not end it

		var flying []store.Reservation
		for range 5 {
			r, _ := reserve(t, s, five("at busy"), store.Reserved)
			flying = append(flying, r)
		}
		accept("busy", five("at busy"), store.ErrNoPlace)
		check(t, s.Attempts.Cancel(ctx, flying[0]))
		accept("busy", five("at busy"), nil)

		two := append(five("at two"), store.Counter{Kind: "user", Key: "two", Limit: 2, Lock: 30 * time.Minute})
		fail(t, s, two[:1])
		for range 2 {
			fail(t, s, two[1:])
		}
		accept("two", two, store.ErrNoPlace)
		for range 4 {
			fail(t, s, two[:1])
		}
		reserve(t, s, two[:1], store.Locked) // what the first one forgot was taken back
		e.clock.Move(31 * time.Minute)
		accept("two", two, nil)
		wantFailures(t, s, "source", "at two", 0)
		wantFailures(t, s, "user", "two", 0)
		fail(t, s, two[1:])
		b := atOnce(t, s, "two", 8, two)
		check(t, s.Attempts.Accept(ctx, &b))
		wantFailures(t, s, "user", "two", 1) // Reset does not name it
	})
}

// Of many who show one code at once, on several nodes and without a reservation, one is accepted.
func TestAcceptAtOnceParallel(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		nodes := []*store.Store{e.open(), e.open()}
		tries := make([]store.Acceptance, 5)
		for i := range tries {
			tries[i] = atOnce(t, nodes[0], "alice", 7, five("alice"))
		}
		var accepted atomic.Int64
		parallel(len(tries), func(i int) {
			switch err := nodes[i%2].Attempts.Accept(context.Background(), &tries[i]); {
			case err == nil:
				accepted.Add(1)
			case !errors.Is(err, store.ErrStepUsed):
				t.Error(err)
			}
		})
		if got := tracesOf(t, nodes[0], tries[0]); accepted.Load() != 1 || got.events != 1 {
			t.Errorf("%d accepted, %+v", accepted.Load(), got)
		}
		wantFailures(t, nodes[0], "source", "alice", 0)
	})
}
