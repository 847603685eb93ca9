package store_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/store"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func TestPlaces(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		u := addUser(t, s, "alice")
		see := func(source string) { check(t, s.Places.Seen(ctx, u.ID, addr(source))) }
		see("192.0.2.7")
		e.clock.Move(time.Hour)
		see("2001:db8::1")
		see("::ffff:192.0.2.7")
		for _, c := range []struct {
			user, source string
			since        time.Duration
			want         bool
		}{
			{u.ID, "192.0.2.7", time.Hour, true},
			{u.ID, "::ffff:192.0.2.7", time.Hour, true},
			{u.ID, "192.0.2.7", time.Hour + time.Millisecond, false},
			{u.ID, "192.0.2.8", 0, false},
			{u.ID, "2001:db8::2", 0, true},
			{u.ID, "2001:db8:0:1::1", 0, false},
			{"nobody", "192.0.2.7", 0, false},
		} {
			if got := must[bool](t)(s.Places.Known(ctx, c.user, addr(c.source), start.Add(c.since))); got != c.want {
				t.Errorf("%s since %v: got %v, want %v", c.source, c.since, got, c.want)
			}
		}
		list := must[[]store.Place](t)(s.Places.List(ctx, u.ID))
		i := slices.IndexFunc(list, func(p store.Place) bool { return p.Source == addr("192.0.2.7") })
		if len(list) != 2 || i < 0 || list[i].Count != 2 || !list[i].First.Equal(start) || !list[i].Last.Equal(start.Add(time.Hour)) {
			t.Errorf("got %+v", list)
		}
		wantError(t, "place of nobody", s.Places.Seen(ctx, "nobody", addr("192.0.2.7")), store.ErrNotFound)
	})
}

func TestPlaceWithoutAddress(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s := e.open()
		u := addUser(t, s, "alice")
		if err := s.Places.Seen(t.Context(), u.ID, netip.Addr{}); err == nil {
			t.Error("no address was noted")
		}
		if must[bool](t)(s.Places.Known(t.Context(), u.ID, netip.Addr{}, time.Time{})) {
			t.Error("no address is known")
		}
	})
}

// Addresses that were only refused are kept apart, bounded, and for people whom there are.
func TestRefusedPlaces(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		u := addUser(t, s, "alice")
		refuse := func(a netip.Addr) { check(t, s.Places.Refused(ctx, u.ID, a)) }
		refuse(addr("192.0.2.7"))
		e.clock.Move(time.Hour)
		refuse(addr("::ffff:192.0.2.7"))
		list := must[[]store.Place](t)(s.Places.ListRefused(ctx, u.ID))
		if len(list) != 1 || list[0].Count != 2 || !list[0].First.Equal(start) || !list[0].Last.Equal(start.Add(time.Hour)) {
			t.Errorf("got %+v", list)
		}
		if in := must[[]store.Place](t)(s.Places.List(ctx, u.ID)); len(in) != 0 {
			t.Errorf("signed in from %+v", in)
		}
		a := addr("198.51.100.0")
		for range 510 {
			e.clock.Move(time.Second)
			refuse(a)
			a = a.Next()
		}
		list = must[[]store.Place](t)(s.Places.ListRefused(ctx, u.ID))
		if len(list) != 500 || list[0].Source != a.Prev() || list[499].Source != addr("198.51.100.10") {
			t.Errorf("%d are kept, from %s to %s", len(list), list[0].Source, list[len(list)-1].Source)
		}
		wantError(t, "a refusal of nobody", s.Places.Refused(ctx, "nobody", a), store.ErrNotFound)
		if err := s.Places.Refused(ctx, u.ID, netip.Addr{}); err == nil {
			t.Error("no address was noted")
		}
		check(t, s.Users.Delete(ctx, u.ID))
		if n := count(t, e, "refused_places"); n != 0 {
			t.Errorf("%d rows outlive the user", n)
		}
	})
}

// The alarm of many new addresses is raised by one more than allowed within the time, once in it, and with the lock if
// that is set; addresses known before and others of the same /64 do not count.
func TestPlacesAlarm(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		u := addUser(t, s, "alice")
		login := func(source string, lock bool) int {
			t.Helper()
			r, _ := reserve(t, s, five(source), store.Reserved)
			a := store.Acceptance{Reservation: r, UserID: u.ID, Source: addr(source), Alarm: &store.PlacesAlarm{More: 2, Within: time.Hour, Lock: lock}}
			switch err := s.Attempts.Accept(ctx, &a); {
			case a.Networks > 0 && lock:
				wantError(t, source, err, store.ErrManyPlaces)
			case err != nil:
				t.Errorf("%s: %v", source, err)
			}
			return a.Networks
		}
		quiet := func(sources ...string) {
			t.Helper()
			for _, a := range sources {
				if got := login(a, true); got != 0 {
					t.Errorf("%s: alarm of %d", a, got)
				}
			}
		}
		quiet("192.0.2.1", "2001:db8::1", "192.0.2.1", "2001:db8::2")
		e.clock.Move(time.Hour)
		quiet("192.0.2.2", "192.0.2.3", "2001:db8::3") // the first two are not new any more
		if got := login("192.0.2.4", false); got != 3 {
			t.Errorf("the third new one: alarm of %d", got)
		}
		quiet("192.0.2.5", "192.0.2.6")
		if must[store.User](t)(s.Users.ByID(ctx, u.ID)).Locked {
			t.Error("locked without the setting")
		}
		e.clock.Move(time.Hour)
		quiet("192.0.2.7", "192.0.2.8")
		if got := login("192.0.2.9", true); got != 3 {
			t.Errorf("an hour later: alarm of %d", got)
		}
		got := must[store.User](t)(s.Users.ByID(ctx, u.ID))
		if !got.Locked || got.LockReason != "signed in from 3 new addresses within 1h" {
			t.Errorf("user %+v", got)
		}
	})
}

// Of many logins at once, at two nodes, from as many new addresses, one raises the alarm.
func TestPlacesAlarmParallel(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s := e.open()
		nodes := []*store.Store{s, s}
		if e.name == "postgres" {
			nodes[1] = e.open()
		}
		u := addUser(t, s, "alice")
		rights, cancel := s.Bus.Subscribe(store.TopicRights)
		defer cancel()
		var raised atomic.Int64
		var all sync.WaitGroup
		for i := range 20 {
			source := netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
			r, _ := reserve(t, s, five(source.String()), store.Reserved)
			all.Go(func() {
				a := store.Acceptance{Reservation: r, UserID: u.ID, Source: source, Alarm: &store.PlacesAlarm{More: 5, Within: time.Hour, Lock: true}}
				if err := nodes[i%2].Attempts.Accept(context.Background(), &a); err != nil && !errors.Is(err, store.ErrManyPlaces) {
					t.Error(err)
				}
				if a.Networks > 0 {
					raised.Add(1)
					if a.Networks != 6 {
						t.Errorf("raised for %d", a.Networks)
					}
				}
			})
		}
		all.Wait()
		if raised.Load() != 1 {
			t.Errorf("raised %d times", raised.Load())
		}
		if m := receive(t, rights); m.Payload != u.ID {
			t.Errorf("heard of %+v", m)
		}
	})
}
