package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/internal/seal"
	"sallyport/store"
	"sallyport/store/storetest"
)

// reserveWaiting asks again while the outcome is Busy, or the database has too much to do.
func reserveWaiting(ctx context.Context, s *store.Store, c []store.Counter) (store.Reservation, store.Outcome, error) {
	for {
		r, outcome, _, err := s.Attempts.Reserve(ctx, c)
		if ctx.Err() == nil && (errors.Is(err, store.ErrUnavailable) || err == nil && outcome == store.Busy) {
			time.Sleep(time.Duration(1+rand.IntN(5)) * time.Millisecond) // what a caller does
			continue
		}
		return r, outcome, err
	}
}

// A node that dies between reservation and verdict must not give guesses away.
func TestReap(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		nodes, ctx := e.nodes(), t.Context()
		c := five("192.0.2.7")
		for range 4 {
			fail(t, nodes[0], c)
		}
		late, _ := reserve(t, nodes[0], c, store.Reserved)
		e.clock.Move(59 * time.Second)
		young, _ := reserve(t, nodes[0], five("198.51.100.1"), store.Reserved)
		if got := must[int](t)(nodes[1].Attempts.Reap(ctx, time.Minute)); got != 0 {
			t.Fatalf("reaped %d attempts of 59 s", got)
		}
		reserve(t, nodes[1], c, store.Busy)
		e.clock.Move(time.Second)
		var reaped atomic.Int32
		errs := make([]error, 20)
		parallel(len(errs), func(i int) {
			n, err := nodes[i%2].Attempts.Reap(ctx, time.Minute)
			reaped.Add(int32(n))
			errs[i] = err
		})
		check(t, errors.Join(errs...))
		if reaped.Load() != 1 {
			t.Errorf("reaped %d attempts, want 1", reaped.Load())
		}
		if _, lock := reserve(t, nodes[1], c, store.Locked); lock.Failures != 5 {
			t.Errorf("got %+v, want 5 failures", lock)
		}
		// The node was alive after all.
		wantError(t, "verdict after the reaper", nodes[0].Attempts.Succeed(ctx, late, "source"), store.ErrNotFound)
		check(t, nodes[0].Attempts.Succeed(ctx, young, "source"))
	})
}

func TestThousandParallelGuesses(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		nodes := e.nodes()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		var evaluated, locked atomic.Int32
		began := time.Now()
		parallel(1000, func(i int) {
			r, outcome, err := reserveWaiting(ctx, nodes[i%2], five("192.0.2.7"))
			switch {
			case err != nil:
				t.Errorf("reserving: %v", err)
			case outcome == store.Locked:
				locked.Add(1)
			default:
				evaluated.Add(1)
				_, err := nodes[i%2].Attempts.Fail(ctx, r)
				for errors.Is(err, store.ErrUnavailable) && ctx.Err() == nil {
					_, err = nodes[i%2].Attempts.Fail(ctx, r) // too much to do: counting can be asked for again
				}
				if err != nil {
					t.Errorf("failing: %v", err)
				}
			}
		})
		if evaluated.Load() != 5 || locked.Load() != 995 {
			t.Errorf("%d guesses were evaluated and %d refused, want 5 and 995", evaluated.Load(), locked.Load())
		}
		t.Logf("1000 guesses in %v", time.Since(began).Round(time.Millisecond))
	})
}

// What "ansible -f 20" does must lock nobody out.
func TestParallelRightOnesAllPass(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		nodes := e.nodes()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		c := counters("alice", "192.0.2.7")
		fail(t, nodes[0], c)
		var passed atomic.Int32
		parallel(20, func(i int) {
			r, outcome, err := reserveWaiting(ctx, nodes[i%2], c)
			if err != nil || outcome != store.Reserved {
				t.Errorf("got outcome %v and error %v", outcome, err)
				return
			}
			if err := nodes[i%2].Attempts.Succeed(ctx, r, "user+source", "source", "user"); err != nil {
				t.Errorf("succeeding: %v", err)
				return
			}
			passed.Add(1)
		})
		if passed.Load() != 20 {
			t.Errorf("%d passed, want 20", passed.Load())
		}
		for _, x := range c {
			wantFailures(t, nodes[0], x.Kind, x.Key, 0)
		}
		check(t, nodes[0].Purge(ctx))
		if got := count(t, e, "counters"); got != 0 {
			t.Errorf("%d counters are left after Purge, want 0", got)
		}
	})
}

// Logins that share some counters and not others must neither deadlock nor miscount.
func TestMixedCountersDoNotDeadlock(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		nodes := e.nodes()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		const users, sources, rounds = 5, 5, 5
		var byUser [users]atomic.Int32
		began := time.Now()
		parallel(100, func(i int) {
			for range rounds {
				u, a := rand.IntN(users), rand.IntN(sources)
				c := []store.Counter{
					{Kind: "source", Key: fmt.Sprint(a), Limit: 1_000_000},
					{Kind: "user", Key: fmt.Sprint(u), Limit: 1_000_000},
				}
				if rand.IntN(2) == 0 {
					c[0], c[1] = c[1], c[0]
				}
				fails, err := attempt(ctx, nodes[i%2], c)
				if err != nil {
					t.Error(err)
					return
				}
				if fails {
					byUser[u].Add(1)
				}
			}
		})
		t.Logf("%d logins in %v", 100*rounds, time.Since(began).Round(time.Millisecond))
		for u := range byUser {
			wantFailures(t, nodes[0], "user", fmt.Sprint(u), int(byUser[u].Load()))
		}
		if e.name == "postgres" {
			check(t, nodes[0].Close())
			check(t, nodes[1].Close())
			wantNoDeadlock(t, e.dsn)
		}
	})
}

// attempt makes an attempt that fails, succeeds or is cancelled by chance, and sometimes a purge.
func attempt(ctx context.Context, s *store.Store, c []store.Counter) (fails bool, err error) {
	r, outcome, err := reserveWaiting(ctx, s, c)
	if err != nil || outcome != store.Reserved {
		return false, fmt.Errorf("got outcome %v: %w", outcome, err)
	}
	end := func() error { return s.Attempts.Cancel(ctx, r) }
	switch rand.IntN(3) {
	case 0:
		end = func() error { return s.Attempts.Succeed(ctx, r) }
	case 1:
		fails = true
		end = func() error { _, err := s.Attempts.Fail(ctx, r); return err }
	}
	if err := end(); err != nil {
		return false, err
	}
	if rand.IntN(20) == 0 {
		return fails, s.Purge(ctx)
	}
	return fails, nil
}

// wantNoDeadlock looks at PostgreSQL's statistics, which are complete when all connections of the
// stores have ended.
func wantNoDeadlock(t *testing.T, dsn string) {
	t.Helper()
	db := raw(t, dsn)
	poll(t, "the connections have ended", func() bool {
		var others int
		check(t, db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid()`).Scan(&others))
		return others == 0
	})
	var deadlocks int
	check(t, db.QueryRowContext(t.Context(),
		"SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").Scan(&deadlocks))
	if deadlocks != 0 {
		t.Errorf("PostgreSQL has found %d deadlocks", deadlocks)
	}
}

// BenchmarkFailedLogin counts wrong guesses of many users from many sources.
func BenchmarkFailedLogin(b *testing.B) {
	for name, dsn := range map[string]func() string{
		"sqlite":   func() string { return "sqlite:" + filepath.Join(b.TempDir(), "store.db") },
		"postgres": func() string { return storetest.Postgres(b) },
	} {
		b.Run(name, func(b *testing.B) {
			ring, err := seal.NewRing()
			if err != nil {
				b.Fatal(err)
			}
			s, err := store.Open(b.Context(), store.Config{DSN: dsn(), Ring: ring})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			var n atomic.Int64
			b.SetParallelism(10)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					i := n.Add(1)
					r, outcome, _, err := s.Attempts.Reserve(b.Context(), counters(fmt.Sprint("user", i%1000), fmt.Sprint("source", i)))
					if err != nil || outcome != store.Reserved {
						b.Errorf("got outcome %v and error %v", outcome, err)
						return
					}
					if _, err := s.Attempts.Fail(b.Context(), r); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
