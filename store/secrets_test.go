package store_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"sallyport/store"
)

func TestSecrets(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		nodes, ctx := e.nodes(), t.Context()
		_, err := nodes[0].Secrets.Get(ctx, "host-key")
		wantError(t, "nothing yet", err, store.ErrNotFound)
		broken := errors.New("no entropy")
		_, err = nodes[0].Secrets.GetOrCreate(ctx, "host-key", func() ([]byte, error) { return nil, broken })
		wantError(t, "creation fails", err, broken)

		got := make([]string, 50)
		parallel(len(got), func(i int) {
			value, err := nodes[i%2].Secrets.GetOrCreate(ctx, "host-key", func() ([]byte, error) { return fmt.Append(nil, "key ", i), nil })
			if err != nil {
				t.Error(err)
			}
			got[i] = string(value)
		})
		if slices.Sort(got); got[0] != got[len(got)-1] || got[0] == "" {
			t.Errorf("nodes got different secrets: %q", slices.Compact(got))
		}
		check(t, nodes[0].Secrets.Put(ctx, "host-key", []byte("new")))
		if got := must[[]byte](t)(nodes[1].Secrets.Get(ctx, "host-key")); string(got) != "new" {
			t.Errorf("got %q, want %q", got, "new")
		}
		if e.name != "memory" {
			stranger := open(t, store.Config{DSN: e.dsn, Ring: newRing(t)})
			if got, err := stranger.Secrets.Get(ctx, "host-key"); err == nil {
				t.Errorf("another ring opens the secret: %q", got)
			}
		}
	})
}

func TestSettings(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open().Settings, t.Context()
		if value, ok, err := s.Get(ctx, "k"); value != "" || ok || err != nil {
			t.Errorf("never set: got %q, %v, %v", value, ok, err)
		}
		for _, want := range []string{"", "a", "b"} {
			check(t, s.Set(ctx, "k", want))
			if value, ok, err := s.Get(ctx, "k"); value != want || !ok || err != nil {
				t.Errorf("set to %q: got %q, %v, %v", want, value, ok, err)
			}
		}
	})
}
