package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"sallyport/store"
)

// Whatever nodes do at once, all of them have the same keys, each step is taken once, and what is activated is what was
// made.
func TestHostAuthority(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		nodes, ctx := e.nodes(), t.Context()
		_, err := nodes[0].HostAuthority.Keys(ctx)
		wantError(t, "no keys yet", err, store.ErrNotFound)
		wantError(t, "nothing to activate", nodes[0].HostAuthority.Activate(ctx, nil), store.ErrNotFound)
		hosts := func(b byte) []byte { return bytes.Repeat([]byte{b}, store.HostSecretSize) }
		parallel(20, func(i int) {
			err := nodes[i%2].HostAuthority.Begin(ctx, func() ([]byte, error) { return fmt.Append(nil, "first ", i), nil }, func() ([]byte, error) { return hosts(byte(i)), nil })
			if err != nil {
				t.Error(err)
			}
		})
		keys := func() store.HostAuthorityKeys {
			t.Helper()
			a, b := must[store.HostAuthorityKeys](t)(nodes[0].HostAuthority.Keys(ctx)), must[store.HostAuthorityKeys](t)(nodes[1].HostAuthority.Keys(ctx))
			if !bytes.Equal(a.Active, b.Active) || !bytes.Equal(a.Next, b.Next) || !bytes.Equal(a.Hosts, b.Hosts) {
				t.Error("nodes have different keys")
			}
			return a
		}
		first := keys()
		if !bytes.HasPrefix(first.Active, []byte("first ")) || first.Next != nil || len(first.Hosts) != store.HostSecretSize {
			t.Errorf("first keys: %q, %q, %d", []byte(first.Active), []byte(first.Next), len(first.Hosts))
		}
		once := func(what string, refusal error, do func(s *store.Store, i int) error) {
			t.Helper()
			var done atomic.Int32
			parallel(20, func(i int) {
				if err := do(nodes[i%2], i); err == nil {
					done.Add(1)
				} else {
					wantError(t, what, err, refusal)
				}
			})
			if done.Load() != 1 {
				t.Errorf("%s was done %d times", what, done.Load())
			}
		}
		once("rotate", store.ErrExists, func(s *store.Store, i int) error { return s.HostAuthority.Rotate(ctx, fmt.Append(nil, "second ", i)) })
		second := keys()
		if !bytes.Equal(second.Active, first.Active) || !bytes.HasPrefix(second.Next, []byte("second ")) {
			t.Errorf("after rotate: %q, %q", []byte(second.Active), []byte(second.Next))
		}
		if err := nodes[0].HostAuthority.Activate(ctx, []byte("short")); err == nil {
			t.Error("a short secret is taken")
		}
		if active, next, err := nodes[1].HostAuthority.Since(ctx); err != nil || !active.Equal(second.ActiveSince) || !next.Equal(second.NextSince) || next.IsZero() {
			t.Errorf("since %v, %v, %v; want %v, %v", active, next, err, second.ActiveSince, second.NextSince)
		}
		once("activate", store.ErrNotFound, func(s *store.Store, _ int) error { return s.HostAuthority.Activate(ctx, nil) })
		if got := keys(); !bytes.Equal(got.Active, second.Next) || got.Next != nil || !bytes.Equal(got.Hosts, first.Hosts) {
			t.Errorf("after activate: %q, %q", []byte(got.Active), []byte(got.Next))
		}
		if got := keys(); got.ActiveSince.IsZero() || !got.NextSince.IsZero() || second.NextSince.IsZero() {
			t.Errorf("since %v, %v; %v", got.ActiveSince, got.NextSince, second.NextSince)
		}
		no := errors.New("that one stays")
		any := func(store.CredentialSecret) error { return nil }
		wantError(t, "nothing to drop", nodes[0].HostAuthority.Drop(ctx, any), store.ErrNotFound)
		check(t, nodes[0].HostAuthority.Rotate(ctx, []byte("dropped")))
		wantError(t, "refused", nodes[1].HostAuthority.Drop(ctx, func(next store.CredentialSecret) error {
			if string(next) != "dropped" {
				t.Errorf("asked about %q", []byte(next))
			}
			return no
		}), no)
		if got := keys(); string(got.Next) != "dropped" {
			t.Errorf("after a refusal: %q", []byte(got.Next))
		}
		once("drop", store.ErrNotFound, func(s *store.Store, _ int) error { return s.HostAuthority.Drop(ctx, any) })
		if got := keys(); got.Next != nil || !bytes.Equal(got.Active, second.Next) {
			t.Errorf("after drop: %q, %q", []byte(got.Active), []byte(got.Next))
		}
		if err := nodes[0].HostAuthority.Rotate(ctx, []byte("third")); err != nil {
			t.Fatal(err)
		}
		if err := nodes[1].HostAuthority.Activate(ctx, hosts(200)); err != nil {
			t.Fatal(err)
		}
		if got := keys(); string(got.Active) != "third" || !bytes.Equal(got.Hosts, hosts(200)) {
			t.Errorf("with other host keys: %q, %x", []byte(got.Active), []byte(got.Hosts))
		}
		if text := fmt.Sprintf("%v %+v %#v %s", first, first, first, first); bytes.Contains([]byte(text), []byte("first")) {
			t.Errorf("the keys print themselves: %s", text)
		}
	})
}
