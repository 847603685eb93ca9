package store_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/store"
)

// Each limit is exact, whoever opens at the same moment on whatever node.
func TestQuotaInParallel(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		nodes, ctx := e.nodes(), t.Context()
		for _, tc := range []struct {
			limit string
			quota store.Quota
			of    func(i int) store.Session
		}{
			{"sessions", store.Quota{Sessions: 7}, func(i int) store.Session { return store.Session{UserID: "u1", Rule: "r1", Target: fmt.Sprint(i)} }},
			{"user-sessions", store.Quota{UserSessions: 7}, func(i int) store.Session {
				return store.Session{UserID: "u2", Rule: fmt.Sprint("a", i), Target: fmt.Sprint(i)}
			}},
			{"rule-sessions", store.Quota{RuleSessions: 7}, func(i int) store.Session {
				return store.Session{UserID: fmt.Sprint("b", i), Rule: "r3", Target: fmt.Sprint(i)}
			}},
			{"target-sessions", store.Quota{TargetSessions: 7}, func(i int) store.Session {
				return store.Session{UserID: fmt.Sprint("c", i), Rule: fmt.Sprint("c", i), Target: "t4"}
			}},
			{"sessions", store.Quota{Sessions: 7, UserSessions: 8, RuleSessions: 9, TargetSessions: 10}, func(int) store.Session {
				return store.Session{UserID: "u5", Rule: "r5", Target: "t5"}
			}},
		} {
			var opened, refused atomic.Int64
			var all sync.WaitGroup
			for i := range 40 {
				all.Go(func() {
					x := tc.of(i)
					x.Node = fmt.Sprint("n", i%2)
					_, err := nodes[i%2].Sessions.OpenWithin(ctx, x, tc.quota)
					var q *store.QuotaError
					switch {
					case err == nil:
						opened.Add(1)
					case errors.As(err, &q) && q.Limit == tc.limit && q.Max == 7 && q.Open == 7:
						refused.Add(1)
					default:
						t.Errorf("%s: %v", tc.limit, err)
					}
				})
			}
			all.Wait()
			if opened.Load() != 7 || refused.Load() != 33 {
				t.Errorf("%s, %+v: %d opened and %d refused, want 7 and 33", tc.limit, tc.quota, opened.Load(), refused.Load())
			}
			var q *store.QuotaError
			if err := nodes[1].Sessions.Room(ctx, tc.of(0), tc.quota); !errors.As(err, &q) || q.Limit != tc.limit {
				t.Errorf("%s: room says %v", tc.limit, err)
			}
		}
	})
}

func TestQuotaCountsLiveSessions(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		one := store.Quota{Sessions: 1}
		x := store.Session{UserID: "u", Rule: "r", Target: "t", Node: "n1"}
		first := must[store.Session](t)(s.Sessions.OpenWithin(ctx, x, one))
		full := func(what string, want bool) {
			t.Helper()
			err := s.Sessions.Room(ctx, x, one)
			var q *store.QuotaError
			if errors.As(err, &q) != want || !want && err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		full("a live session", true)
		check(t, s.Sessions.Alive(ctx, "n1"))
		full("on a node that lives", true)
		check(t, s.Sessions.Alive(ctx, "other"))
		if n := must[int](t)(s.Sessions.LiveNodes(ctx, time.Minute)); n != 2 {
			t.Errorf("%d nodes live", n)
		}
		if n := must[int](t)(s.Sessions.LiveNodes(ctx, -time.Minute)); n != 0 {
			t.Errorf("%d nodes will live", n)
		}
		if e.name != "memory" {
			db := raw(t, e.dsn)
			_, err := db.ExecContext(ctx, "UPDATE nodes SET seen = seen - 61000 WHERE name = 'n1'")
			check(t, err)
			full("on a node that was killed", false)
			check(t, s.Sessions.Alive(ctx, "n1"))
			full("on a node that is back", true)
		}
		check(t, s.Sessions.End(ctx, first.ID, "done"))
		full("an ended session", false)
		must[store.Session](t)(s.Sessions.OpenWithin(ctx, x, one))
		must[[]store.Session](t)(s.Sessions.MarkLost(ctx, "n1"))
		full("a lost session", false)
	})
}

// What can take rights away is told to every node, and nothing is that did not happen.
func TestRightsAreAnnounced(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		nodes, ctx := e.nodes(), t.Context()
		s := nodes[0]
		u := must[store.User](t)(s.Users.Add(ctx, store.User{Login: "alice"}, ""))
		d := must[store.User](t)(s.Users.SeenInDirectory(ctx, "id-1", "dora", "", "", []string{"a", "b"}))
		key := must[store.UserKey](t)(s.UserKeys.Add(ctx, store.UserKey{UserID: u.ID, PublicKey: "k", Fingerprint: "f"}))
		target := must[store.Target](t)(s.Targets.Add(ctx, store.Target{Name: "web1", Address: "192.0.2.1:22", HostKeyMode: store.TOFU}))
		here, cancelHere := s.Bus.Subscribe(store.TopicRights)
		defer cancelHere()
		there, cancelThere := nodes[1].Bus.Subscribe(store.TopicRights)
		defer cancelThere()
		for _, tc := range []struct {
			what, user string
			do         func() error
		}{
			{"rules", "", func() error { _, err := s.Rules.Put(ctx, "x", "test", 0); return err }},
			{"groups", u.ID, func() error { return s.Users.SetGroups(ctx, u.ID, []string{"x"}) }},
			{"groups of the directory", d.ID, func() error {
				_, err := s.Users.SeenInDirectory(ctx, "id-1", "dora", "", "", []string{"a"})
				return err
			}},
			{"lock", u.ID, func() error { return s.Users.Lock(ctx, u.ID, "", time.Time{}) }},
			{"key", u.ID, func() error { return s.UserKeys.Delete(ctx, u.ID, key.ID) }},
			{"change of a target", "", func() error {
				_, err := s.Targets.Change(ctx, "web1", func(*store.Target) (store.CredentialSecret, error) { return nil, nil })
				return err
			}},
			{"update of a target", "", func() error { return s.Targets.Update(ctx, target) }},
			{"deletion of a target", "", func() error { return s.Targets.Delete(ctx, "web1") }},
			{"deletion of a user", u.ID, func() error { return s.Users.Delete(ctx, u.ID) }},
		} {
			// Tells nobody.
			if err := s.Targets.Delete(ctx, "nothing"); !errors.Is(err, store.ErrNotFound) {
				t.Fatal(err)
			}
			check(t, tc.do())
			for _, c := range []<-chan store.Message{here, there} {
				if m := receive(t, c); m.Topic != store.TopicRights || m.Payload != tc.user || m.Missed {
					t.Errorf("%s: got %+v, want user %q", tc.what, m, tc.user)
				}
			}
		}
	})
}
