package otp

import (
	"crypto/subtle"
	"fmt"
)

// Window is the range of time steps around the present in which a code is accepted, for clocks
// that go wrong and people who type slowly (RFC 6238, section 5.2). Every step more makes guessing
// easier by one chance in a million.
type Window struct {
	Behind int // steps before the present one
	Ahead  int // steps after it

	// Drift is how many steps the token's clock is known to be ahead, negative if behind. The same
	// range around the present plus Drift is accepted as well.
	Drift int
}

// DefaultWindow accepts one step on each side.
func DefaultWindow() Window {
	return Window{Behind: 1, Ahead: 1}
}

// maxWindow bounds each side of a window.
const maxWindow = 10

// Validate tells whether w has a negative side or one beyond 10 steps. An invalid window matches
// nothing.
func (w Window) Validate() error {
	if w.Behind < 0 || w.Behind > maxWindow || w.Ahead < 0 || w.Ahead > maxWindow {
		return fmt.Errorf("window of %d steps behind and %d ahead: each side is 0 to %d", w.Behind, w.Ahead, maxWindow)
	}
	return nil
}

// Outcome is what [Params.Match] and [Params.MatchCounter] found out about a code. The zero value is a wrong code.
type Outcome struct {
	// OK tells that the code is that of an unused step of the window. It is accepted only once the
	// caller has atomically replaced the token's last step by Step; of two who try, one loses.
	OK bool
	// Replayed tells that the code is right, but of a step that is not after the last used one:
	// refused like a wrong one, and the only sign of a stolen code. Never set together with OK.
	Replayed bool
	// Step is the step that the code belongs to if OK or Replayed, else 0.
	Step int64
}

// MaxDrift bounds the drift that is learned from a person's logins, in steps to each side.
const MaxDrift = 10

// LookAhead is how many unused counters of an HOTP token are tried, for codes that were made and not
// used (RFC 4226, section 7.4). As many used ones are looked at, to notice a replay.
const LookAhead = 10

// Match judges a normalised code (see [Normalise]) of a TOTP token against all steps of the window
// around the step now, and around now plus the token's drift: its clock may have been set right
// meanwhile. lastStep is the last step that was accepted from this token, 0 if none was; no step up to
// it is accepted again, whatever the drift. If the code is that of several unused steps, the lowest
// counts.
//
// All candidates are computed and compared in constant time with no early exit, so that the time
// taken does not tell which matched, or whether. An invalid p or w, or a secret shorter than 16
// bytes, matches nothing.
func (p Params) Match(secret Secret, code string, now, lastStep int64, w Window) Outcome {
	if p.Kind == HOTP || w.Validate() != nil {
		return Outcome{}
	}
	earlier, later := w.around(now), w.around(now+int64(w.Drift))
	if w.Drift < 0 {
		earlier, later = later, earlier
	}
	if later.from <= earlier.to { // they overlap: each step once
		return p.judge(secret, code, lastStep, steps{earlier.from, later.to})
	}
	return p.judge(secret, code, lastStep, later, earlier)
}

// MatchCounter judges a normalised code of an HOTP token against the [LookAhead] counters after the
// last one that was accepted; last is -1 if none was. Otherwise it does as [Params.Match].
func (p Params) MatchCounter(secret Secret, code string, last int64) Outcome {
	if p.Kind != HOTP {
		return Outcome{}
	}
	return p.judge(secret, code, last, steps{last - LookAhead + 1, last + LookAhead})
}

// steps are consecutive steps or counters, both ends included.
type steps struct{ from, to int64 }

func (w Window) around(center int64) steps {
	return steps{center - int64(w.Behind), center + int64(w.Ahead)}
}

// judge compares a code with those of all steps in spans, which go from later ones to earlier ones.
func (p Params) judge(secret Secret, code string, last int64, spans ...steps) Outcome {
	if p.Validate() != nil || secret.Check() != nil {
		return Outcome{}
	}
	var (
		newHash     = p.Algorithm.hash()
		typed       = []byte(code)
		fresh, used int   // 1 if the code is that of an unused or a used step
		freshStep   int64 // the lowest unused one
		usedStep    int64 // the lowest used one
		candidate   []byte
	)
	for _, s := range spans {
		// From the latest step down, so that the lowest is what remains.
		for step := s.to; step >= s.from; step-- {
			if step < 0 { // before 1970: the clock is wrong, not the person
				continue
			}
			candidate = appendHOTP(candidate[:0], newHash, secret, uint64(step), p.Digits)
			equal := subtle.ConstantTimeCompare(candidate, typed)
			isFresh := equal
			if step <= last {
				isFresh = 0
			}
			isUsed := equal &^ isFresh
			fresh |= isFresh
			used |= isUsed
			freshStep = choose(isFresh, step, freshStep)
			usedStep = choose(isUsed, step, usedStep)
		}
	}
	return Outcome{
		OK:       fresh == 1,
		Replayed: used&^fresh == 1,
		Step:     choose(fresh, freshStep, usedStep),
	}
}

// choose returns yes if condition is 1 and no if it is 0, without a branch.
func choose(condition int, yes, no int64) int64 {
	mask := -int64(condition)
	return yes&mask | no&^mask
}
