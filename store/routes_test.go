package store_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"sallyport/store"
)

func TestRoutes(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		add := func(name, via, account string, change ...func(*store.Target)) error {
			x := store.Target{Name: name, Address: "10.0.0.5:22", Accounts: []string{"root", "deploy"}, Via: via, ViaAccount: account}
			for _, f := range change {
				f(&x)
			}
			_, err := s.Targets.Add(ctx, x)
			return err
		}
		refused := func(what string, err error, want string) {
			t.Helper()
			var route *store.RouteError
			if !errors.As(err, &route) || !strings.Contains(route.Text, want) {
				t.Errorf("%s: got %v, want %q", what, err, want)
			}
		}
		set := func(name string, change func(*store.Target)) error {
			_, err := s.Targets.Change(ctx, name, func(x *store.Target) (store.CredentialSecret, error) { change(x); return nil, nil })
			return err
		}
		refused("through nobody", add("web1", "jump1", ""), "no target jump1")
		check(t, add("jump1", "", ""))
		refused("an account that is not there", add("web1", "jump1", "admin"), "jump1 has no account admin")
		check(t, add("web1", "jump1", "deploy"))
		refused("through itself", add("self", "self", ""), "self through self goes round in a circle")
		refused("a circle", set("jump1", func(x *store.Target) { x.Via = "web1" }), "goes round in a circle")
		refused("through itself by a change", set("jump1", func(x *store.Target) { x.Via = "jump1" }), "goes round in a circle")
		refused("a jump host that asks", set("jump1", func(x *store.Target) { x.Credential = store.CredentialRelayed }), "cannot be a jump host")
		refused("without the account", set("jump1", func(x *store.Target) { x.Accounts = []string{"root"} }), "jump1 has no account deploy")

		for i := 2; i <= 5; i++ {
			check(t, add(fmt.Sprint("jump", i), fmt.Sprint("jump", i-1), ""))
		}
		refused("too deep", add("far", "jump5", ""), "more than 4 jump hosts")
		check(t, add("outer", "", ""))
		refused("too deep from the front", set("jump1", func(x *store.Target) { x.Via = "outer" }), "more than 4 jump hosts")

		refused("deleting", s.Targets.Delete(ctx, "jump1"), "other targets go through jump1: jump2, web1")
		refused("renaming", set("jump1", func(x *store.Target) { x.Name = "jump0" }), "other targets go through jump1: jump2, web1")
		check(t, set("web1", func(x *store.Target) { x.Via, x.ViaAccount = "", "" }))
		refused("deleting", s.Targets.Delete(ctx, "jump1"), "other targets go through jump1: jump2")
		check(t, s.Targets.Delete(ctx, "web1"))
		if got := must[store.Target](t)(s.Targets.ByName(ctx, "jump2")); got.Via != "jump1" || got.ViaAccount != "" {
			t.Errorf("jump2: %+v", got)
		}
	})
}

// Two operators who each close one half of a circle: one of them is refused.
func TestRoutesInParallel(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		nodes, ctx := e.nodes(), t.Context()
		for round := range 10 {
			names := []string{fmt.Sprint("a", round), fmt.Sprint("b", round)}
			for _, n := range names {
				must[store.Target](t)(nodes[0].Targets.Add(ctx, store.Target{Name: n, Address: "10.0.0.5:22", Accounts: []string{"root"}}))
			}
			errs := make([]error, 2)
			parallel(2, func(i int) {
				_, errs[i] = nodes[i].Targets.Change(ctx, names[i], func(x *store.Target) (store.CredentialSecret, error) {
					x.Via = names[1-i]
					return nil, nil
				})
			})
			if (errs[0] == nil) == (errs[1] == nil) {
				t.Fatalf("round %d: %v, %v", round, errs[0], errs[1])
			}
			gone := make([]error, 2) // and a jump host does not go while somebody comes to depend on it
			x := fmt.Sprint("c", round)
			must[store.Target](t)(nodes[0].Targets.Add(ctx, store.Target{Name: x, Address: "10.0.0.5:22", Accounts: []string{"root"}}))
			parallel(2, func(i int) {
				if i == 0 {
					gone[0] = nodes[0].Targets.Delete(ctx, x)
					return
				}
				_, gone[1] = nodes[1].Targets.Add(ctx, store.Target{Name: "to-" + x, Address: "10.0.0.6:22", Accounts: []string{"root"}, Via: x})
			})
			if (gone[0] == nil) == (gone[1] == nil) {
				t.Fatalf("round %d: %v, %v", round, gone[0], gone[1])
			}
		}
	})
}
