package otp

import (
	"crypto/rand"
	"errors"
	"strings"
)

// A spare code is typed in the place of a token's code, once: a recovery code that the person keeps on
// paper, or a bypass code that an operator gives them. It is 80 random bits, so that a plain hash
// keeps it safe, written as four groups of letters and digits that nobody takes for each other. It is
// longer than any code of a token and never mistaken for one.
const (
	spareLetters = "abcdefghijkmnpqrstuvwxyz23456789" // 32 of them, five bits each: no l and 1, no o and 0
	spareLength  = 16
	spareGroup   = 4
)

// ErrSpare is the error of [NormaliseSpare]. It never repeats what was typed.
var ErrSpare = errors.New("a recovery or bypass code is sixteen letters and digits")

// NewSpareCode returns a random spare code as people write it, such as "k7vw-3mzd-q2xe-hu9a".
func NewSpareCode() string {
	raw := make([]byte, spareLength)
	rand.Read(raw) // never fails: the program ends if the system has no random source
	var b strings.Builder
	for i, r := range raw {
		if i > 0 && i%spareGroup == 0 {
			b.WriteByte('-')
		}
		b.WriteByte(spareLetters[int(r)%len(spareLetters)])
	}
	return b.String()
}

// NormaliseSpare returns the canonical form of a typed spare code: lower case, without the ASCII spaces
// and hyphens that people put in or leave out. Everything else is refused.
func NormaliseSpare(typed string) (string, error) {
	if len(typed) > maxTyped {
		return "", ErrSpare
	}
	code := make([]byte, 0, spareLength)
	for i := range len(typed) {
		c := typed[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		switch {
		case c == ' ' || c == '-':
		case len(code) == spareLength || strings.IndexByte(spareLetters, c) < 0:
			return "", ErrSpare
		default:
			code = append(code, c)
		}
	}
	if len(code) != spareLength {
		return "", ErrSpare
	}
	return string(code), nil
}
