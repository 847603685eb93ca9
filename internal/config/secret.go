package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
)

// Secret is a text that must not be printed.
type Secret string

func (Secret) String() string               { return "[secret]" }
func (Secret) GoString() string             { return "[secret]" }
func (Secret) LogValue() slog.Value         { return slog.StringValue("[secret]") }
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"[secret]"`), nil }

// maxSecret bounds a secret file, so that a wrong path to something large is noticed.
const maxSecret = 64 << 10

// ReadSecret reads a file that holds one secret. One line break at its end does not count. A file that
// everybody on the machine may read, or an empty one, is refused.
func ReadSecret(file string) (Secret, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("reading secret: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("reading secret: %w", err)
	}
	if info.Mode().IsRegular() && info.Mode().Perm()&0o007 != 0 {
		return "", fmt.Errorf("secret file %s has mode %04o, so that anybody here can read it; run: chmod 0600 %s", file, info.Mode().Perm(), file)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return "", fmt.Errorf("reading secret %s: %w", file, err)
	}
	if len(text) > maxSecret {
		return "", fmt.Errorf("secret file %s is larger than %d bytes", file, maxSecret)
	}
	text = bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
	if len(text) == 0 {
		return "", fmt.Errorf("secret file %s: %w", file, errors.New("is empty"))
	}
	return Secret(text), nil
}
