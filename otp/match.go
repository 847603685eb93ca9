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

// Outcome is what [Params.Match] found out about a code. The zero value is a wrong code.
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

// Match judges a normalised code (see [Normalise]) against all steps of the window around the step
// now. lastStep is the last step that was accepted from this token, 0 if none was; no step up to it
// is accepted again. If the code is that of several unused steps, the lowest counts.
//
// All candidates are computed and compared in constant time with no early exit, so that the time
// taken does not tell which matched, or whether. An invalid p or w, or a secret shorter than 16
// bytes, matches nothing.
func (p Params) Match(secret Secret, code string, now, lastStep int64, w Window) Outcome {
	if p.Validate() != nil || w.Validate() != nil || secret.Check() != nil {
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
	// From the latest step down, so that the lowest is what remains.
	for ahead := w.Ahead; ahead >= -w.Behind; ahead-- {
		step := now + int64(ahead)
		if step < 0 { // before 1970: the clock is wrong, not the person
			continue
		}
		candidate = appendHOTP(candidate[:0], newHash, secret, uint64(step), p.Digits)
		equal := subtle.ConstantTimeCompare(candidate, typed)
		isFresh := equal
		if step <= lastStep {
			isFresh = 0
		}
		isUsed := equal &^ isFresh
		fresh |= isFresh
		used |= isUsed
		freshStep = choose(isFresh, step, freshStep)
		usedStep = choose(isUsed, step, usedStep)
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
