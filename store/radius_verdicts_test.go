package store_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"sallyport/store"
)

// Of many nodes that are asked the same at once one works on it; the others get its verdict, for ten seconds.
func TestRadiusVerdicts(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		nodes := []*store.Store{s, e.open()}
		claims := func(digest string) (owner string) {
			var mu sync.Mutex
			var won atomic.Int64
			parallel(40, func(i int) {
				got, verdict, err := nodes[i%2].RadiusVerdicts.Claim(ctx, digest)
				if err != nil || verdict != nil {
					t.Errorf("claiming gave %q, %v", verdict, err)
				}
				if got != "" {
					won.Add(1)
					mu.Lock()
					owner = got
					mu.Unlock()
				}
			})
			if won.Load() != 1 {
				t.Fatalf("%d of 40 work on it", won.Load())
			}
			return owner
		}
		owner := claims("d")
		check(t, nodes[1].RadiusVerdicts.Settle(ctx, "d", "another", []byte("forged")))
		check(t, s.RadiusVerdicts.Settle(ctx, "d", owner, []byte("accept")))
		other, verdict, err := nodes[1].RadiusVerdicts.Claim(ctx, "d")
		if other != "" || string(verdict) != "accept" || err != nil {
			t.Errorf("asked again: %q, %q, %v", other, verdict, err)
		}
		if got := must[[]byte](t)(s.RadiusVerdicts.Find(ctx, "e")); got != nil {
			t.Errorf("another request has the verdict %q", got)
		}
		e.clock.Move(store.RadiusVerdictLife)
		if got := must[[]byte](t)(s.RadiusVerdicts.Find(ctx, "d")); got != nil {
			t.Errorf("after its time there is %q", got)
		}
		owner = claims("d")
		check(t, s.RadiusVerdicts.Release(ctx, "d", "another"))
		if again, _, err := s.RadiusVerdicts.Claim(ctx, "d"); again != "" || err != nil {
			t.Errorf("released by somebody else: %q, %v", again, err)
		}
		check(t, s.RadiusVerdicts.Release(ctx, "d", owner))
		claims("d")
		e.clock.Move(store.RadiusClaimLife) // the node is dead
		claims("d")
		e.clock.Move(store.RadiusClaimLife)
		check(t, s.Purge(ctx))
		if n := count(t, e, "radius_verdicts"); n != 0 {
			t.Errorf("%d are kept after their time", n)
		}
	})
}

// One node that lives needs to tell nobody what it has answered.
func TestSeveralNodes(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		for i, node := range []string{"n1", "n1", "n2"} {
			check(t, s.Sessions.Alive(ctx, node))
			if got := must[bool](t)(s.Sessions.Several(ctx)); got != (i == 2) {
				t.Errorf("after %d signs of life: %v", i+1, got)
			}
		}
		if e.name == "memory" {
			return // cannot be opened beside the store
		}
		_, err := raw(t, e.dsn).Exec("UPDATE nodes SET seen = seen - 60001 WHERE name = 'n2'")
		check(t, err)
		if must[bool](t)(s.Sessions.Several(ctx)) {
			t.Error("a node that says nothing any more counts")
		}
	})
}

// A code for somebody whose address nobody knows counts under every limit but that of addresses.
func TestSentCodeFromNowhere(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		limits := wide
		limits.Source = 1
		for i, login := range []string{"alice", "bob"} {
			u := addUser(t, s, login)
			c := sent(u, "a", "123456", limits)
			c.Source, c.Network = addr("::"), ""
			check(t, s.SentCodes.Issue(ctx, c))
			wantError(t, "at once again", s.SentCodes.Issue(ctx, c), store.ErrSendLimit)
			if !must[bool](t)(s.SentCodes.Take(ctx, u.ID, "a", addr("::"), "123456")) {
				t.Errorf("code %d is not accepted", i+1)
			}
		}
	})
}
