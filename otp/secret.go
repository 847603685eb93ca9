package otp

import (
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// Secret is the key that a token shares with the server: at least 128 bits (RFC 4226, section 4,
// R6). It does not show itself in logs, messages, JSON or templates; [Secret.Base32] is the way to
// show it on purpose. Keep it in exported fields only: package fmt prints the unexported fields of
// a struct without asking them.
type Secret []byte

const (
	minSecret = 16  // bytes, RFC 4226, section 4, R6
	newSecret = 20  // bytes, recommended there
	maxSecret = 128 // bytes, the block of SHA-512; longer keys are hashed down anyway
)

// ErrSecret is the error of [ParseSecret] and [Secret.Check]. It never repeats the secret.
var ErrSecret = errors.New("a token's secret is 16 to 128 bytes, written in base32")

// NewSecret returns a random secret of 20 bytes.
func NewSecret() Secret {
	s := make(Secret, newSecret)
	rand.Read(s) // never fails: the program ends if the system has no random source
	return s
}

// encoding is base32 as in otpauth URIs: upper case, no padding.
var encoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// ParseSecret reads a secret in base32. Case, spaces, hyphens, padding and a line break at the end
// do not matter. The error is [ErrSecret] with what is wrong.
func ParseSecret(text string) (Secret, error) {
	if len(text) > 4*maxSecret {
		return nil, fmt.Errorf("%w: this one is too long", ErrSecret)
	}
	text = strings.TrimRight(text, "\r\n")
	if strings.ContainsAny(text, "\r\n") { // base32 would skip them
		return nil, fmt.Errorf("%w: this one goes over several lines", ErrSecret)
	}
	text = strings.TrimRight(strings.Map(base32Letter, text), "=")
	b, err := encoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("%w: this one has a character other than A–Z and 2–7", ErrSecret)
	}
	s := Secret(b)
	// Bits left over are zero in whole secrets (RFC 4648, section 3.5), rarely in ones cut off.
	if s.Base32() != text {
		return nil, fmt.Errorf("%w: at the end of this one a character is missing", ErrSecret)
	}
	if err := s.Check(); err != nil {
		return nil, err
	}
	return s, nil
}

// base32Letter maps what people write for a letter of base32 to it, and drops what they put between.
// Only ASCII changes case: some letters of other scripts have an ASCII capital.
func base32Letter(r rune) rune {
	switch {
	case r == ' ' || r == '-':
		return -1
	case r >= 'a' && r <= 'z':
		return r - 'a' + 'A'
	}
	return r
}

// Check tells whether the length of s is allowed, 16 to 128 bytes. The error is [ErrSecret].
func (s Secret) Check() error {
	if len(s) < minSecret || len(s) > maxSecret {
		return fmt.Errorf("%w: this one has %d bytes", ErrSecret, len(s))
	}
	return nil
}

// Base32 returns s as people type it into an app: upper-case base32 without padding. It is the
// secret itself.
func (s Secret) Base32() string {
	return encoding.EncodeToString(s)
}

// redacted stands for the secret wherever it is not asked for on purpose.
const redacted = "[secret]"

// String returns a placeholder.
func (s Secret) String() string { return redacted }

// GoString returns a placeholder.
func (s Secret) GoString() string { return redacted }

// Format writes a placeholder for every verb of package fmt; without it %d would print the bytes.
func (s Secret) Format(f fmt.State, verb rune) { io.WriteString(f, redacted) }

// LogValue returns a placeholder.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns a placeholder, for JSON, YAML and XML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON returns a placeholder.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
