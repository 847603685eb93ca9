package store_test

import (
	"net/netip"
	"slices"
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
		e.clock.move(time.Hour)
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
