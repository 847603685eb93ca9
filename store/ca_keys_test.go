package store_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"sallyport/store"
)

func caStates(t *testing.T, s *store.Store) string {
	t.Helper()
	var states []string
	for _, k := range must[[]store.CAKey](t)(s.CAKeys.List(t.Context())) {
		states = append(states, k.State+" "+k.PublicKey)
	}
	return strings.Join(states, ", ")
}

// Whatever nodes do at once, one key signs, and each step is taken once.
func TestCAKeys(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		nodes, ctx := e.nodes(), t.Context()
		_, err := nodes[0].CAKeys.Active(ctx)
		wantError(t, "no key yet", err, store.ErrNotFound)
		_, err = nodes[0].CAKeys.Activate(ctx)
		wantError(t, "nothing to activate", err, store.ErrNotFound)

		parallel(20, func(i int) {
			if err := nodes[i%2].CAKeys.Begin(ctx, "one", fmt.Append(nil, "secret ", i)); err != nil {
				t.Error(err)
			}
		})
		first := string(must[store.CredentialSecret](t)(nodes[0].CAKeys.Active(ctx)))
		if got := string(must[store.CredentialSecret](t)(nodes[1].CAKeys.Active(ctx))); got != first || !strings.HasPrefix(first, "secret ") {
			t.Errorf("nodes sign with %q and %q", first, got)
		}

		once := func(what string, refusal error, do func(s *store.Store) error) {
			t.Helper()
			var done atomic.Int32
			parallel(20, func(i int) {
				switch err := do(nodes[i%2]); {
				case err == nil:
					done.Add(1)
				default:
					wantError(t, what, err, refusal)
				}
			})
			if done.Load() != 1 {
				t.Errorf("%s was done %d times", what, done.Load())
			}
		}
		rotate := func(s *store.Store) error {
			_, err := s.CAKeys.Rotate(ctx, "two", []byte("second"))
			return err
		}
		once("rotate", store.ErrExists, rotate)
		if got := string(must[store.CredentialSecret](t)(nodes[1].CAKeys.Active(ctx))); got != first {
			t.Errorf("the next key signs already")
		}
		no := errors.New("that one stays")
		_, err = nodes[1].CAKeys.Drop(ctx, func(next store.CAKey) error {
			if next.PublicKey != "two" {
				t.Errorf("asked about %+v", next)
			}
			return no
		})
		wantError(t, "drop, refused", err, no)
		once("drop", store.ErrNotFound, func(s *store.Store) error {
			_, err := s.CAKeys.Drop(ctx, func(store.CAKey) error { return nil })
			return err
		})
		if got := caStates(t, nodes[0]); got != "active one" {
			t.Errorf("after drop: %s", got)
		}
		once("rotate", store.ErrExists, rotate)
		var activated atomic.Int32
		parallel(20, func(i int) {
			if _, err := nodes[i%2].CAKeys.Activate(ctx); err == nil {
				activated.Add(1)
			}
		})
		if activated.Load() != 1 || caStates(t, nodes[0]) != "active two, old one" {
			t.Errorf("activated %d times: %s", activated.Load(), caStates(t, nodes[0]))
		}
		if got := string(must[store.CredentialSecret](t)(nodes[1].CAKeys.Active(ctx))); got != "second" {
			t.Errorf("%q signs", got)
		}
		wantError(t, "rotate with an old key", rotate(nodes[0]), store.ErrConflict)
		check(t, nodes[0].Secrets.Put(ctx, store.FirstCAKey, []byte(first)))
		once("retire", store.ErrNotFound, func(s *store.Store) error { _, err := s.CAKeys.Retire(ctx); return err })
		_, err = nodes[0].Secrets.Get(ctx, store.FirstCAKey)
		wantError(t, "the key that was retired, where it was kept first", err, store.ErrNotFound)
		if got := caStates(t, nodes[1]); got != "active two" {
			t.Errorf("after all: %s", got)
		}
	})
}
