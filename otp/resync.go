package otp

import "crypto/subtle"

// Reach of a resynchronisation: far enough for a clock that has gone wrong in a drawer for years, and for
// a button that children have played with. Two codes in a row are one chance in 10^12 for each step.
const (
	resyncSteps    = 2880 // time steps to each side: a day of 30 s
	resyncCounters = 1000 // counters ahead
)

// Resync looks for two normalised codes that follow each other, both of them later than last, the last
// step or counter that was accepted (RFC 4226, section 7.4). It returns the step of the second one, which
// the token shows now: for TOTP that step minus now is the drift. now is the present step, and means nothing to HOTP. Of several such pairs the one nearest to now
// counts, for HOTP the first.
func (p Params) Resync(secret Secret, first, second string, now, last int64) (step int64, ok bool) {
	if p.Validate() != nil || secret.Check() != nil {
		return 0, false
	}
	s := steps{max(last+1, now-resyncSteps, 0), now + resyncSteps}
	if p.Kind == HOTP {
		now = last + 1
		s = steps{max(now, 0), now + resyncCounters}
	}
	newHash := p.Algorithm.hash()
	var code []byte
	before := 0 // 1 if the code of the step before was the first one
	for n := s.from; n <= s.to; n++ {
		code = appendHOTP(code[:0], newHash, secret, uint64(n), p.Digits)
		hit := before & subtle.ConstantTimeCompare(code, []byte(second))
		if hit == 1 && (!ok || distance(n, now) < distance(step, now)) {
			step, ok = n, true
		}
		before = subtle.ConstantTimeCompare(code, []byte(first))
	}
	return step, ok
}

func distance(a, b int64) int64 { return max(a-b, b-a) }
