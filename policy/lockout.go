package policy

import "time"

// Limit is a number of failures within a window and how long the lock lasts that follows.
type Limit struct {
	Failures     int
	Window, Lock time.Duration
}

// Lockout says when failures lock: one person from one source, one source whoever it names, and one
// person wherever the failures come from.
type Lockout struct {
	Pair, Source Limit
	User         int           // failures in a row before success; then a lock until an operator clears it
	Longest      time.Duration // locks that follow one another within a day double up to this
}

// HardStop is the most failures in a row of one person, wherever they come from; no setting allows more.
const HardStop = 100

// NoLimit is a number of failures that nobody reaches.
const NoLimit = 1 << 30

// Off is l as it is when it is switched off for everybody: failures are counted and do not lock. Made stricter for a
// person, rule or target it is a limit again.
func (l Limit) Off() Limit { return Limit{Failures: NoLimit, Window: l.Window, Lock: l.Lock} }

// DefaultLockout is what holds unless an operator or a target sets something stricter.
func DefaultLockout() Lockout {
	return Lockout{
		Pair:   Limit{Failures: 5, Window: 5 * time.Minute, Lock: 15 * time.Minute},
		Source: Limit{Failures: 10, Window: 5 * time.Minute, Lock: 30 * time.Minute},
		User:   HardStop, Longest: 24 * time.Hour,
	}
}

// Stricter takes the stricter value of each field: fewer failures, a longer window, a longer lock. Zero
// fields of other say nothing, so that a setting can only ever tighten.
func (l Lockout) Stricter(other Lockout) Lockout {
	return Lockout{
		Pair:   l.Pair.stricter(other.Pair),
		Source: l.Source.stricter(other.Source),
		User:   smallest(l.User, other.User), Longest: max(l.Longest, other.Longest),
	}
}

func (l Limit) stricter(other Limit) Limit {
	return Limit{
		Failures: smallest(l.Failures, other.Failures),
		Window:   max(l.Window, other.Window),
		Lock:     max(l.Lock, other.Lock),
	}
}

// smallest is the smaller of two bounds, where zero or less means no bound.
func smallest[N int | time.Duration](a, b N) N {
	switch {
	case a <= 0:
		return max(b, 0)
	case b <= 0:
		return a
	}
	return min(a, b)
}
