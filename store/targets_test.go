package store_test

import (
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"sallyport/store"
)

func TestTargets(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		want := store.Target{
			Name: "web1", Address: "10.0.0.5:22", Accounts: []string{"root", "www"}, Labels: map[string]string{"env": "prod"},
			HostKeyMode: store.Pinned, HostKeys: []string{"ssh-ed25519 AAAA"}, Lockout: 3, Note: "первый",
		}
		added := must[store.Target](t)(s.Targets.Add(ctx, want))
		_, err := s.Targets.Add(ctx, want)
		wantError(t, "same name", err, store.ErrExists)
		for name, got := range map[string]store.Target{
			"ByName": must[store.Target](t)(s.Targets.ByName(ctx, "web1")),
			"ByID":   must[store.Target](t)(s.Targets.ByID(ctx, added.ID)),
		} {
			if got.ID != added.ID || got.Address != want.Address || !slices.Equal(got.Accounts, want.Accounts) ||
				!maps.Equal(got.Labels, want.Labels) || got.HostKeyMode != want.HostKeyMode ||
				!slices.Equal(got.HostKeys, want.HostKeys) || got.Lockout != 3 || got.Note != want.Note || !got.Created.Equal(start) {
				t.Errorf("%s: got %+v", name, got)
			}
		}
		for _, bad := range []store.Target{{Name: "x"}, {Address: "x:22"}, {Name: "x", Address: "x:22", HostKeyMode: "any"}} {
			if _, err := s.Targets.Add(ctx, bad); err == nil {
				t.Errorf("%+v was taken", bad)
			}
		}
		for _, name := range []string{"web10", "web2", "db", "web02", "web"} {
			must[store.Target](t)(s.Targets.Add(ctx, store.Target{Name: name, Address: "x:22"}))
		}
		var names []string
		for _, x := range must[[]store.Target](t)(s.Targets.List(ctx)) {
			names = append(names, x.Name)
		}
		if got := strings.Join(names, " "); got != "db web web1 web02 web2 web10" {
			t.Errorf("order: %s", got)
		}
		where := must[[]store.Target](t)(s.Targets.Where(ctx))
		if i := slices.IndexFunc(where, func(x store.Target) bool { return x.Name == "web1" }); len(where) != len(names) || i < 0 || where[i].ID != added.ID || where[i].Address != want.Address {
			t.Errorf("where: %+v", where)
		}
		added.Name, added.Accounts = "web1a", nil
		check(t, s.Targets.Update(ctx, added))
		if got := must[store.Target](t)(s.Targets.ByName(ctx, "web1a")); got.ID != added.ID || len(got.Accounts) != 0 {
			t.Errorf("after a change: got %+v", got)
		}
		added.Name = "db"
		wantError(t, "taken name", s.Targets.Update(ctx, added), store.ErrExists)
		added.ID = "nothing"
		added.Name = "new"
		wantError(t, "change of nothing", s.Targets.Update(ctx, added), store.ErrNotFound)
		check(t, s.Targets.Delete(ctx, "db"))
		wantError(t, "second deletion", s.Targets.Delete(ctx, "db"), store.ErrNotFound)
	})
}

func TestTrustHostKey(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		nodes, ctx := e.nodes(), t.Context()
		s := nodes[0]
		pinned := must[store.Target](t)(s.Targets.Add(ctx, store.Target{Name: "pinned", Address: "x:22"}))
		if must[bool](t)(s.Targets.TrustHostKey(ctx, pinned.ID, "ssh-ed25519 AAAA")) {
			t.Error("a target whose key an operator must give trusted one")
		}
		tofu := must[store.Target](t)(s.Targets.Add(ctx, store.Target{Name: "tofu", Address: "x:22", HostKeyMode: store.TOFU}))
		if ok, err := s.Targets.TrustHostKey(ctx, tofu.ID, ""); ok || err == nil {
			t.Error("no key was trusted")
		}
		var trusted atomic.Int32
		parallel(50, func(i int) {
			ok, err := nodes[i%2].Targets.TrustHostKey(ctx, tofu.ID, "ssh-ed25519 "+strings.Repeat("A", i+1))
			if err != nil {
				t.Error(err)
			}
			if ok {
				trusted.Add(1)
			}
		})
		if got := must[store.Target](t)(s.Targets.ByID(ctx, tofu.ID)); trusted.Load() != 1 || len(got.HostKeys) != 1 {
			t.Errorf("%d keys were trusted, known are %v; want one", trusted.Load(), got.HostKeys)
		}
	})
}
