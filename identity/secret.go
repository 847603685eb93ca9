package identity

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
)

// maxPassword is the longest password that is looked at, in bytes. OpenSSH takes 1023.
const maxPassword = 1024

// Password is a secret that a person typed or that the server binds with. It shows itself as
// [redacted] in every format, log and JSON; string(p) is the only way to its text.
type Password string

const redacted = "[redacted]"

// String returns a placeholder.
func (Password) String() string { return redacted }

// GoString returns a placeholder.
func (Password) GoString() string { return redacted }

// Format writes a placeholder whatever the verb is; %d of a string would show it otherwise.
func (Password) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue returns a placeholder.
func (Password) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns a placeholder.
func (Password) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON returns a placeholder.
func (Password) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// usable returns an error for a password that no check is made with. An empty one is an
// unauthenticated bind, which servers answer with success (RFC 4513, section 5.1.2); some servers
// read a leading NUL or blanks the same way; a huge one only costs time.
func (p Password) usable() error {
	switch {
	case strings.TrimSpace(string(p)) == "":
		return errors.New("empty or blank")
	case strings.IndexByte(string(p), 0) >= 0:
		return errors.New("contains a NUL byte")
	case len(p) > maxPassword:
		return fmt.Errorf("longer than %d bytes", maxPassword)
	}
	return nil
}
