package policy

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestSpares(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC)
	trust := &Trust{Idle: 8 * time.Hour, Max: 24 * time.Hour, Uses: 3, Targets: 2, Grow: &Grow{After: 2, Max: 48 * time.Hour}}
	for _, c := range []struct {
		name   string
		trust  *Trust
		g      Granted
		target string
		after  time.Duration
		why    string // "": it does
	}{
		{"at once", trust, Granted{CodeAt: at, LastUsed: at}, "web1", 0, ""},
		{"nothing is remembered", nil, Granted{CodeAt: at, LastUsed: at}, "web1", 0, "remembers no codes"},
		{"a moment before idle", trust, Granted{CodeAt: at, LastUsed: at}, "web1", 8*time.Hour - 1, ""},
		{"idle", trust, Granted{CodeAt: at, LastUsed: at}, "web1", 8 * time.Hour, "not used for 8h"},
		{"old", trust, Granted{CodeAt: at, LastUsed: at.Add(23 * time.Hour)}, "web1", 24 * time.Hour, "older than 24h"},
		{"grown", trust, Granted{CodeAt: at, LastUsed: at.Add(23 * time.Hour), Uses: 2}, "web1", 24 * time.Hour, ""},
		{"grown old", trust, Granted{CodeAt: at, LastUsed: at.Add(47 * time.Hour), Uses: 2}, "web1", 48 * time.Hour, "older than 48h"},
		{"used up", trust, Granted{CodeAt: at, LastUsed: at, Uses: 3}, "web1", 0, "used 3 times"},
		{"a known target", trust, Granted{CodeAt: at, LastUsed: at, Targets: []string{"web1", "web2"}}, "web1", 0, ""},
		{"too many targets", trust, Granted{CodeAt: at, LastUsed: at, Targets: []string{"web1", "web2"}}, "web3", 0, "for 2 targets"},
		{"clock set back", trust, Granted{CodeAt: at, LastUsed: at}, "web1", -time.Second, "set back"},
	} {
		ok, why := c.trust.Spares(c.g, c.target, at.Add(c.after))
		if ok != (c.why == "") || !strings.Contains(why, c.why) {
			t.Errorf("%s: %v, %q", c.name, ok, why)
		}
	}
	if until, uses := trust.Left(Granted{CodeAt: at, Uses: 1}, at.Add(20*time.Hour)); !until.Equal(at.Add(24*time.Hour)) || uses != 2 {
		t.Errorf("left: until %v, %d uses", until, uses)
	}
	if until, uses := (&Trust{Idle: time.Hour, Max: 24 * time.Hour}).Left(Granted{CodeAt: at}, at); !until.Equal(at.Add(time.Hour)) || uses != -1 {
		t.Errorf("left: until %v, %d uses", until, uses)
	}
}

// What two rules remember together is never more than what each would.
func TestTighterTrust(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		at := time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC)
		hours := func(label string, least, most int) time.Duration {
			return time.Duration(rapid.IntRange(least, most).Draw(t, label)) * time.Hour
		}
		draw := func() *Trust {
			idle := hours("idle", 1, 10)
			r := &Trust{Idle: idle, Max: idle + hours("max", 0, 30), Uses: rapid.IntRange(0, 5).Draw(t, "uses"), Targets: rapid.IntRange(0, 3).Draw(t, "targets")}
			if rapid.Bool().Draw(t, "grows") {
				r.Grow = &Grow{After: rapid.IntRange(1, 4).Draw(t, "after"), Max: r.Max + hours("grown", 1, 40)}
			}
			return r
		}
		a, b := draw(), draw()
		g := Granted{CodeAt: at, LastUsed: at.Add(hours("used", 0, 20)), Uses: rapid.IntRange(0, 6).Draw(t, "used"), Targets: []string{"x", "y", "z"}[:rapid.IntRange(0, 3).Draw(t, "for")]}
		now, target := at.Add(hours("now", 0, 80)), rapid.SampledFrom([]string{"x", "w"}).Draw(t, "target")
		both, _ := a.tighten(b).Spares(g, target, now)
		one, _ := a.Spares(g, target, now)
		other, _ := b.Spares(g, target, now)
		if both && !(one && other) {
			t.Fatalf("%+v and %+v together spare the code of %+v at %v", a, b, g, now)
		}
	})
}
