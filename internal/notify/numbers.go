package notify

import (
	"fmt"
	"slices"
	"strings"
)

// Numbers says how telephone numbers are read, and where short messages may go.
type Numbers struct {
	Country  string   // +49: what stands for the 0 of a number without a country; "": such numbers are refused
	Prefixes []string // +49, +43664, …; "+" alone: everywhere; none: nowhere
}

// Normalise returns a telephone number in E.164: "+" and 8 to 15 digits. People write spaces, dots, dashes,
// slashes and brackets, "00" for "+", and "(0)" behind the country.
func (n Numbers) Normalise(text string) (string, error) {
	wrong := fmt.Errorf("%.40q is no telephone number; write it as +49 151 12345678", text)
	s := strings.ReplaceAll(text, "(0)", "")
	s = strings.Map(func(r rune) rune {
		if strings.ContainsRune(" \t.-/()\u00a0\u2010\u2011\u2013", r) {
			return -1
		}
		return r
	}, s)
	switch {
	case strings.HasPrefix(s, "+"):
	case strings.HasPrefix(s, "00"):
		s = "+" + s[2:]
	case strings.HasPrefix(s, "0") && n.Country != "":
		s = n.Country + s[1:]
	default:
		return "", wrong
	}
	if len(s) < 9 || len(s) > 16 || s[1] == '0' || strings.Trim(s[1:], "0123456789") != "" {
		return "", wrong
	}
	return s, nil
}

// Allow looks whether a number in E.164 is where short messages may go. Its error wraps [ErrRejected].
func (n Numbers) Allow(number string) error {
	if !slices.ContainsFunc(n.Prefixes, func(p string) bool { return strings.HasPrefix(number, p) }) {
		return fmt.Errorf("%w: %s begins with none of sms.prefixes", ErrRejected, number)
	}
	return nil
}
