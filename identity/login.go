package identity

import (
	"errors"
	"strings"
)

// maxLogin is the longest login name, in bytes.
const maxLogin = 64

var errLogin = errors.New("a login name is 1 to 64 of a-z 0-9 . _ - and starts with a letter, a digit or _")

// CanonicalLogin returns the one spelling of a typed login name: ASCII letters in lower case. What
// is not 1 to 64 bytes of a-z, 0-9, dot, underscore and hyphen is refused, not repaired: a name with
// a blank, a NUL or a look-alike letter is no one's. The first byte is a letter, a digit or an
// underscore, so that no name reads as an option of a command or as a folder. UPN suffixes are the
// caller's to take off before.
func CanonicalLogin(typed string) (string, error) {
	if len(typed) == 0 || len(typed) > maxLogin || typed[0] == '-' || typed[0] == '.' {
		return "", errLogin
	}
	for i := range len(typed) {
		switch c := typed[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return "", errLogin
		}
	}
	// Only ASCII is left, so that lower-casing cannot change the length or fold a foreign letter.
	return strings.ToLower(typed), nil
}
