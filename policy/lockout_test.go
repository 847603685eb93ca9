package policy

import (
	"testing"
	"time"
)

func TestLockoutStricter(t *testing.T) {
	t.Parallel()
	base := DefaultLockout()
	for _, tc := range []struct {
		name        string
		other, want Lockout
	}{
		{"nothing set", Lockout{}, base},
		{"looser is ignored", Lockout{Pair: Limit{50, time.Second, time.Second}, Source: Limit{50, 1, 1}, User: 1000}, base},
		{"fewer failures", Lockout{Pair: Limit{Failures: 3}, User: 20}, Lockout{
			Pair: Limit{3, 5 * time.Minute, 15 * time.Minute}, Source: base.Source, User: 20, Longest: base.Longest}},
		{"longer", Lockout{Source: Limit{Window: time.Hour, Lock: 24 * time.Hour}}, Lockout{
			Pair: base.Pair, Source: Limit{10, time.Hour, 24 * time.Hour}, User: 100, Longest: base.Longest}},
		{"below zero says nothing", Lockout{Pair: Limit{-1, -1, -1}, User: -1}, base},
	} {
		if got := base.Stricter(tc.other); got != tc.want {
			t.Errorf("%s: got %+v, want %+v", tc.name, got, tc.want)
		}
		if got := tc.want.Stricter(base); got != tc.want {
			t.Errorf("%s: the order matters: got %+v", tc.name, got)
		}
	}
}
