package policy

import (
	"net/netip"
	"slices"
	"strconv"
	"time"
)

// Trust lets an accepted code be remembered as a grant.
type Trust struct {
	Idle, Max time.Duration // lifetime since the last use, and in all; both above zero
	Uses      int           // logins that a grant spares the code; zero: not counted
	Targets   int           // different targets it is good for; zero: not counted
	Grow      *Grow         // nil: Max does not change
	Sources   []string      // words as in from

	sets [][]netip.Prefix // what Covers asks; every set must contain the address
}

// Grow makes a grant that is used a lot live longer.
type Grow struct {
	After int           // uses
	Max   time.Duration // the longest lifetime from then on, above Trust.Max
}

// Covers reports whether source lies in the rule's trust.sources, which is where a grant spares the
// code also after a password. It is false for a nil Trust and without sources. Only the Trust of a
// [Decision] knows its networks; that of a [Rule] covers nothing.
func (t *Trust) Covers(source netip.Addr) bool {
	if t == nil || len(t.sets) == 0 {
		return false
	}
	source, known := normalAddr(source)
	if !known {
		return false
	}
	for _, set := range t.sets {
		if !containsAddr(set, source) {
			return false
		}
	}
	return true
}

// Granted is a remembered code as far as rules look at it.
type Granted struct {
	CodeAt   time.Time // when the code was accepted
	LastUsed time.Time // when the grant was written or last spared a code
	Uses     int       // how often it did
	Targets  []string  // where
}

// Spares tells whether g stands in for a code at target now, and if not, in words for people, why. A nil
// Trust takes nothing that is remembered. Whether the same evidence was proved is not asked here.
func (t *Trust) Spares(g Granted, target string, now time.Time) (ok bool, why string) {
	switch {
	case t == nil:
		return false, "the rule remembers no codes"
	case now.Before(g.CodeAt) || now.Before(g.LastUsed):
		return false, "the clock was set back"
	case now.Sub(g.CodeAt) >= t.lifetime(g.Uses):
		return false, "the code is older than " + formatDuration(t.lifetime(g.Uses))
	case now.Sub(g.LastUsed) >= t.Idle:
		return false, "it was not used for " + formatDuration(t.Idle)
	case t.Uses > 0 && g.Uses >= t.Uses:
		return false, "it was used " + counted(g.Uses, "time", "times")
	case t.Targets > 0 && len(g.Targets) >= t.Targets && !slices.Contains(g.Targets, target):
		return false, "it was used for " + counted(len(g.Targets), "target", "targets")
	}
	return true, ""
}

// lifetime is the longest one of a grant after so many uses.
func (t *Trust) lifetime(uses int) time.Duration {
	if t.Grow != nil && uses >= t.Grow.After {
		return t.Grow.Max
	}
	return t.Max
}

// Left tells until when g lives if it is used now, and for how many more logins; -1: not counted.
func (t *Trust) Left(g Granted, now time.Time) (until time.Time, uses int) {
	until, idle := g.CodeAt.Add(t.lifetime(g.Uses)), now.Add(t.Idle)
	if idle.Before(until) {
		until = idle
	}
	if t.Uses == 0 {
		return until, -1
	}
	return until, max(t.Uses-g.Uses, 0)
}

// Longest is the longest lifetime that a grant of this rule can have.
func (t *Trust) Longest() time.Duration {
	if t.Grow != nil {
		return max(t.Max, t.Grow.Max)
	}
	return t.Max
}

// tighten gives a trust that both would give; a nil one gives none.
func (t *Trust) tighten(other *Trust) *Trust {
	if t == nil || other == nil {
		return nil
	}
	both := &Trust{
		Idle:    min(t.Idle, other.Idle),
		Max:     min(t.Max, other.Max),
		Uses:    smallest(t.Uses, other.Uses),
		Targets: smallest(t.Targets, other.Targets),
	}
	if t.Grow != nil && other.Grow != nil {
		both.Grow = &Grow{After: max(t.Grow.After, other.Grow.After), Max: min(t.Grow.Max, other.Grow.Max)}
		if both.Grow.Max <= both.Max {
			both.Grow = nil
		}
	}
	if len(t.sets) > 0 && len(other.sets) > 0 {
		both.Sources = append(append(both.Sources, t.Sources...), other.Sources...)
		both.sets = append(append(both.sets, t.sets...), other.sets...)
	}
	return both
}

// counted is n with the word for one or for many.
func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}
