// Package otp computes and judges one-time passwords: HOTP by RFC 4226, TOTP by RFC 6238, the
// normal form of what people type, drift and resynchronisation, spare codes on paper, and the otpauth URI
// with its QR code for enrolment. It has no
// I/O but the random source of [NewSecret], and no clock: time comes in as an argument.
//
// What a caller does with a typed code:
//
//	code, err := otp.Normalise(typed, p.Digits)     // ASCII digits or refused
//	now := p.StepAt(time.Now())
//	m := p.Match(secret, code, now, token.LastStep, otp.DefaultWindow()) // MatchCounter for HOTP
//	if m.OK { … store.ConsumeStep(token, m.Step, m.Step-now) … } // atomically, and only then is the code accepted
//
// The memory against replay is the number of the time step that the code itself belongs to (RFC 6238,
// section 5.2), an integer, never the text that was typed nor the step of the server's clock: two
// spellings of one code are the same step, and it stays the same however the token's drift is judged later.
package otp

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"time"
)

// Algorithm is the hash under the HMAC of RFC 4226, section 5.3, written as in an otpauth URI.
type Algorithm string

// Algorithms of RFC 6238, section 1.2. Only SHA1 is understood by every authenticator app; several
// ignore the parameter and compute SHA1 whatever it says.
const (
	SHA1   Algorithm = "SHA1"
	SHA256 Algorithm = "SHA256"
	SHA512 Algorithm = "SHA512"
)

// hash returns the constructor of the algorithm's hash, or nil for an unknown name.
func (a Algorithm) hash() func() hash.Hash {
	switch a {
	case SHA1:
		return sha1.New
	case SHA256:
		return sha256.New
	case SHA512:
		return sha512.New
	}
	return nil
}

// Kind is what moves a token from one code to the next, written as in an otpauth URI.
type Kind string

// Kinds of tokens.
const (
	TOTP Kind = "totp" // time (RFC 6238)
	HOTP Kind = "hotp" // a counter, one further with each press of the button (RFC 4226)
)

// Params says how the codes of one token are computed. The zero value is not valid and matches
// nothing; see [DefaultParams].
type Params struct {
	Kind      Kind      // TOTP or HOTP; empty means TOTP
	Algorithm Algorithm // SHA1, SHA256 or SHA512
	Digits    int       // length of a code: 6 or 8
	Period    int       // length of a time step in seconds: 30 or 60; nothing for HOTP
}

// DefaultParams is what every authenticator app understands: SHA1, 6 digits, 30 seconds.
func DefaultParams() Params {
	return Params{Algorithm: SHA1, Digits: 6, Period: 30}
}

// Validate tells what is wrong with p. Whatever does not validate makes no code and matches none.
func (p Params) Validate() error {
	switch {
	case p.Kind != "" && p.Kind != TOTP && p.Kind != HOTP:
		return fmt.Errorf("kind %q is neither totp nor hotp", string(p.Kind))
	case p.Algorithm.hash() == nil:
		return fmt.Errorf("algorithm %q is not one of SHA1, SHA256, SHA512", string(p.Algorithm))
	case p.Digits != 6 && p.Digits != 8:
		return fmt.Errorf("%d digits: a code has 6 or 8", p.Digits)
	case p.Kind != HOTP && p.Period != 30 && p.Period != 60:
		return fmt.Errorf("period of %d s: a step lasts 30 or 60", p.Period)
	}
	return nil
}

// StepAt returns the number of the time step that t lies in: full periods since 1970 (RFC 6238,
// section 4.2). It is negative before 1970 and -1 for an invalid period; [Params.Match] never
// accepts a negative step.
func (p Params) StepAt(t time.Time) int64 {
	period := int64(p.Period)
	if period <= 0 {
		return -1
	}
	step := t.Unix() / period
	if t.Unix()%period < 0 {
		step-- // round down, as between 1969-12-31T23:59:31 and 1970
	}
	return step
}

// StepEnd returns the moment at which step is over and the next one begins, in UTC.
func (p Params) StepEnd(step int64) time.Time {
	return time.Unix((step+1)*int64(p.Period), 0).UTC()
}

// Code returns the code of a time step, of a counter for HOTP: p.Digits ASCII digits. It is empty if p is invalid, the
// secret is shorter than 16 bytes or the step is negative.
func (p Params) Code(secret Secret, step int64) string {
	if p.Validate() != nil || secret.Check() != nil || step < 0 {
		return ""
	}
	return string(appendHOTP(nil, p.Algorithm.hash(), secret, uint64(step), p.Digits))
}

// appendHOTP appends the HOTP value of a counter in digits ASCII digits (RFC 4226, section 5.3).
func appendHOTP(dst []byte, h func() hash.Hash, secret []byte, counter uint64, digits int) []byte {
	var moving [8]byte
	binary.BigEndian.PutUint64(moving[:], counter)
	mac := hmac.New(h, secret)
	mac.Write(moving[:])
	sum := mac.Sum(nil)

	// Dynamic truncation, section 5.3: the low four bits of the last byte say where to read 31 bits.
	offset := sum[len(sum)-1] & 0x0f
	value := binary.BigEndian.Uint32(sum[offset:]) & 0x7fffffff

	start := len(dst)
	for range digits {
		dst = append(dst, '0')
	}
	for i := len(dst) - 1; i >= start; i-- {
		dst[i] = byte('0' + value%10)
		value /= 10
	}
	return dst
}

// Normalise returns the canonical form of a typed code: exactly digits (6 or 8) ASCII digits. ASCII
// spaces are dropped, and so is a hyphen between two digits, as in "123 456" and "123-456".
// Everything else is refused: signs, other spaces, other scripts' digits, control characters. The
// error never repeats what was typed.
func Normalise(typed string, digits int) (string, error) {
	refused := fmt.Errorf("a code is %d digits", digits)
	if digits != 6 && digits != 8 {
		return "", errors.New("a code has 6 or 8 digits")
	}
	if len(typed) > maxTyped {
		return "", refused
	}
	code := make([]byte, 0, digits)
	last := byte('-') // last character other than a space; a hyphen at the start is a sign
	for i := range len(typed) {
		switch c := typed[i]; {
		case c == ' ':
			continue
		case c >= '0' && c <= '9':
			code = append(code, c)
			last = c
		case c == '-' && last != '-':
			last = c
		default:
			return "", refused
		}
	}
	if len(code) != digits || last == '-' {
		return "", refused
	}
	return string(code), nil
}

// maxTyped bounds the work that one answer can cause; eight digits each apart are 15 characters.
const maxTyped = 64
