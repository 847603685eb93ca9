package auth_test

import (
	"errors"
	"net/netip"
	"testing"

	"sallyport/auth"
	"sallyport/policy"
	"sallyport/store"
)

// Lockout by address, and by person and address, can be switched off for everybody (J6). Then failures are counted
// and do not lock; for one person it can be switched on again; what an operator locks stays locked, and after a
// hundred failures in a row everything stops, whatever the settings say.
func TestLockoutSwitchedOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", func(c *auth.Config) {
		l := policy.DefaultLockout()
		l.Pair, l.Source, l.User = l.Pair.Off(), l.Source.Off(), 5000
		c.Lockout = l
	})
	ctx := t.Context()
	alice, bob, carol := w.local("alice", "pw"), w.local("bob", "pw"), w.local("carol", "pw")
	fail := func(login string, n int) {
		t.Helper()
		for range n {
			_, err := w.login(auth.Attempt{Login: login}, "pw", "wrong")
			w.refused(err, auth.ErrCode)
		}
	}
	in := func(login string, u store.User) error {
		_, err := w.login(auth.Attempt{Login: login}, "pw", w.code(w.token(u.ID)))
		return err
	}
	for _, u := range []store.User{alice, bob, carol} {
		w.token(u.ID)
	}
	fail("alice", 30)
	check(t, in("alice", alice))

	check(t, w.Store.Users.SetLockout(ctx, bob.ID, store.UserLockout{Failures: 3}))
	fail("bob", 3)
	w.refused(in("bob", bob), auth.ErrLocked)
	check(t, in("alice", alice)) // the address is not locked

	fail("carol", 100)
	w.refused(in("carol", carol), auth.ErrLocked)

	_, err := w.Engine.Block(ctx, nil, netip.MustParseAddr("192.0.2.66"), "root", "known for it", w.now.Add(1e15))
	check(t, err)
	_, err = w.login(auth.Attempt{Login: "alice", Source: netip.MustParseAddr("192.0.2.66")}, "pw", w.code(w.token(alice.ID)))
	if !errors.Is(err, auth.ErrLocked) {
		t.Errorf("from an address that an operator locked: %v", err)
	}
}

// Addresses that only asked are kept for people whom there are, also while they are locked, and not when a service was away.
func TestRefusedPlaces(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	ctx := t.Context()
	u := w.local("alice", "pw")
	w.token(u.ID)
	for i, login := range []string{"alice", "nobody", "alice", "Alice"} {
		_, err := w.login(auth.Attempt{Login: login, Source: address(i)}, "pw", "000000")
		if err == nil {
			t.Fatal("got in")
		}
	}
	check(t, w.Store.Users.Lock(ctx, u.ID, "left", w.now.Add(1e15)))
	_, err := w.login(auth.Attempt{Login: "alice", Source: address(9)}, "pw", "000000")
	w.refused(err, auth.ErrLocked)
	got, err := w.Store.Places.ListRefused(ctx, u.ID)
	check(t, err)
	if len(got) != 4 {
		t.Errorf("refused from %+v", got)
	}
	if in, err := w.Store.Places.List(ctx, u.ID); err != nil || len(in) != 0 {
		t.Errorf("signed in from %+v, %v", in, err)
	}
}
