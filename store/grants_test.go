package store_test

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/store"
)

// grantFor gives what is remembered after a code of a user's.
func grantFor(a store.Acceptance, evidence string) store.Grant {
	return store.Grant{
		GrantKey: store.GrantKey{UserID: a.UserID, Door: "ssh", Network: "192.0.2.7", Evidence: evidence, Client: "SSH-2.0-OpenSSH_9.2"},
		Source:   addr("192.0.2.7"), Assurance: store.FromToken, Rule: "ops", RuleHash: "h", Targets: []string{"web1"}, Expires: start.Add(24 * time.Hour),
	}
}

// remember lets a user in with a code and remembers it.
func remember(t *testing.T, s *store.Store, login string, step int64, evidence string) store.Grant {
	t.Helper()
	a := acceptable(t, s, login, step)
	g := grantFor(a, evidence)
	a.Remember = &g
	check(t, s.Attempts.Accept(t.Context(), &a))
	return must[store.Grant](t)(s.Grants.Find(t.Context(), g.GrantKey))
}

func TestGrants(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		g := remember(t, s, "alice", 7, "key")
		if g.Uses != 0 || !g.CodeAt.Equal(start) || !g.LastUsed.Equal(start) || !slices.Equal(g.Targets, []string{"web1"}) || g.Source != addr("192.0.2.7") {
			t.Fatalf("got %+v", g)
		}
		for name, change := range map[string]func(*store.GrantKey){
			"user": func(k *store.GrantKey) { k.UserID = "nobody" }, "door": func(k *store.GrantKey) { k.Door = "web" },
			"network": func(k *store.GrantKey) { k.Network = "192.0.2.8" }, "evidence": func(k *store.GrantKey) { k.Evidence = "password" },
			"client": func(k *store.GrantKey) { k.Client = "SSH-2.0-PuTTY" },
		} {
			k := g.GrantKey
			change(&k)
			_, err := s.Grants.Find(ctx, k)
			wantError(t, "another "+name, err, store.ErrNotFound)
		}

		e.clock.Move(time.Hour)
		use := func(g store.Grant, step int64, target string) error {
			a := acceptable(t, s, "alice", step)
			a.TokenID, a.Step = "", 0
			a.Use = &store.GrantUse{ID: g.ID, Uses: g.Uses, CodeAt: g.CodeAt, Source: addr("192.0.2.7"), Target: target, Known: g.Targets}
			err := s.Attempts.Accept(ctx, &a)
			if err != nil {
				check(t, s.Attempts.Cancel(ctx, a.Reservation))
			}
			return err
		}
		check(t, use(g, 0, "web2"))
		wantError(t, "use of a grant as it was", use(g, 0, "web2"), store.ErrGrantUsed)
		g = must[store.Grant](t)(s.Grants.Find(ctx, g.GrantKey))
		if g.Uses != 1 || !g.CodeAt.Equal(start) || !g.LastUsed.Equal(start.Add(time.Hour)) || !slices.Equal(g.Targets, []string{"web1", "web2"}) {
			t.Errorf("after one use: %+v", g)
		}

		// A new code begins anew, under the same id.
		again := remember(t, s, "alice", 8, "key")
		if again.ID != g.ID || again.Uses != 0 || !again.CodeAt.Equal(start.Add(time.Hour)) || len(again.Targets) != 1 {
			t.Errorf("after another code: %+v", again)
		}
		wantError(t, "use of the grant before", use(g, 0, "web1"), store.ErrGrantUsed)

		e.clock.Move(24 * time.Hour)
		_, err := s.Grants.Find(ctx, g.GrantKey)
		wantError(t, "expired", err, store.ErrNotFound)
		wantError(t, "use of an expired one", use(again, 0, "web1"), store.ErrGrantUsed)
		check(t, s.Purge(ctx))
		if left := must[[]store.Grant](t)(s.Grants.List(ctx, "")); len(left) != 0 {
			t.Errorf("left: %+v", left)
		}
	})
}

// Whatever takes trust from a person takes their grants, and nobody else's.
func TestGrantsEnd(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		other := remember(t, s, "bob", 1, "key")
		step := int64(1)
		for name, end := range map[string]func(g store.Grant) error{
			"revoke":  func(g store.Grant) error { return s.Grants.Revoke(ctx, g.UserID, g.ID) },
			"forget":  func(g store.Grant) error { _, err := s.Grants.RevokeAll(ctx, g.UserID); return err },
			"lock":    func(g store.Grant) error { return s.Users.Lock(ctx, g.UserID, "", time.Time{}) },
			"disable": func(g store.Grant) error { return s.Tokens.SetState(ctx, tokenOf(t, s, g.UserID), store.TokenDisabled) },
			"add": func(g store.Grant) error {
				added, err := s.Tokens.Add(ctx, store.Token{UserID: g.UserID, Name: "new", Enabled: true}, secret)
				return errors.Join(err, s.Tokens.Delete(ctx, added.ID))
			},
		} {
			step++
			g := remember(t, s, "alice", step, "key")
			wantError(t, name+" by another user", s.Grants.Revoke(ctx, other.UserID, g.ID), store.ErrNotFound)
			check(t, end(g))
			_, err := s.Grants.Find(ctx, g.GrantKey)
			wantError(t, name, err, store.ErrNotFound)
			check(t, s.Users.Unlock(ctx, g.UserID))
			check(t, s.Tokens.SetState(ctx, tokenOf(t, s, g.UserID), store.TokenEnabled))
		}
		must[store.Grant](t)(s.Grants.Find(ctx, other.GrantKey))
		for i := range 120 {
			e.clock.Move(time.Second)
			step++
			remember(t, s, "alice", step, fmt.Sprint("key ", i))
		}
		if list := must[[]store.Grant](t)(s.Grants.List(ctx, "")); len(list) != 101 || list[0].Evidence != "key 119" {
			t.Errorf("%d grants, first %+v", len(list), list[0])
		}
	})
}

func tokenOf(t *testing.T, s *store.Store, userID string) string {
	t.Helper()
	tokens := must[[]store.Token](t)(s.Tokens.List(t.Context(), userID))
	return tokens[len(tokens)-1].ID
}

// Ten uses are ten uses, however many logins at two nodes want the grant at the same moment.
func TestGrantInParallel(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		nodes, ctx := e.nodes(), t.Context()
		g := remember(t, nodes[0], "alice", 7, "key")
		const uses = 10
		var spared, asked atomic.Int32
		errs := make([]error, 40)
		parallel(len(errs), func(i int) {
			s := nodes[i%len(nodes)]
			for {
				found, err := s.Grants.Find(ctx, g.GrantKey)
				if err != nil || found.Uses >= uses {
					asked.Add(1)
					errs[i] = err
					return
				}
				r, outcome, err := reserveWaiting(ctx, s, []store.Counter{{Kind: "pair", Key: fmt.Sprint(i), Limit: 5, Window: time.Minute, Lock: time.Minute}})
				if err != nil || outcome != store.Reserved {
					errs[i] = fmt.Errorf("reserving: %v %w", outcome, err)
					return
				}
				err = s.Attempts.Accept(ctx, &store.Acceptance{Reservation: r, UserID: g.UserID, Source: addr("192.0.2.7"),
					Use: &store.GrantUse{ID: found.ID, Uses: found.Uses, CodeAt: found.CodeAt, Source: addr("192.0.2.7"), Target: "web1", Known: found.Targets}})
				switch {
				case err == nil:
					spared.Add(1)
					return
				case errors.Is(err, store.ErrGrantUsed), errors.Is(err, store.ErrUnavailable):
					errs[i] = s.Attempts.Cancel(ctx, r)
				default:
					errs[i] = err
					return
				}
			}
		})
		check(t, errors.Join(errs...))
		if spared.Load() != uses || int(asked.Load()) != len(errs)-uses {
			t.Errorf("%d codes spared, %d asked for", spared.Load(), asked.Load())
		}
	})
}
