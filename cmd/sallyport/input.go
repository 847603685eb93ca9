package main

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"sallyport/audit"
)

// usage is a refusal of how the command was called. The hint says what would have been right.
func usage(hint, format string, args ...any) error {
	return withHint(exitUsage, hint, format, args...)
}

// failed is that something was not done. The hint says what to do about it.
func failed(hint, format string, args ...any) error {
	return withHint(exitFailed, hint, format, args...)
}

func withHint(code int, hint, format string, args ...any) error {
	return &exitError{Code: code, Err: fmt.Errorf("%w\n%s", fmt.Errorf(format, args...), hint)}
}

// maxInput bounds what is read from a file or from standard input, in bytes.
const maxInput = 1 << 20

// readInput reads a file, or standard input if path is "-".
func (g *globals) readInput(path string) ([]byte, error) {
	in := g.In
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, usage("Give a file that can be read, or - for standard input.", "%s", audit.Escape(err.Error()))
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, maxInput+1))
	switch {
	case err != nil:
		return nil, usage("Give a file that can be read, or - for standard input.", "reading %s: %s", audit.Escape(path), audit.Escape(err.Error()))
	case len(text) > maxInput:
		return nil, usage("Is it the right file?", "%s is larger than %d MiB", audit.Escape(path), maxInput>>20)
	}
	return text, nil
}

// readSecret reads the one line of a file that holds a secret.
func (g *globals) readSecret(path string) (string, error) {
	text, err := g.readInput(path)
	if err != nil {
		return "", err
	}
	secret := strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	if secret == "" || strings.ContainsAny(secret, "\r\n\x00") {
		return "", usage("Write the secret alone into it, without a blank line before or after.", "%s does not hold one line", audit.Escape(path))
	}
	return secret, nil
}

// terminal is standard input if a person sits at it.
func (g *globals) terminal() (*os.File, bool) {
	f, ok := g.In.(*os.File)
	return f, ok && term.IsTerminal(int(f.Fd()))
}

// newPassword gets a password as the flags say: from a file, made up, or typed twice without echo. The
// bool tells that it was made up and has to be shown.
func (g *globals) newPassword(file string, generate bool) (password string, made bool, err error) {
	tty, ok := g.terminal()
	switch {
	case file != "" && generate:
		return "", false, usage("Give one of them.", "--password-file and --generate exclude each other")
	case generate:
		return generatePassword(), true, nil
	case file != "":
		password, err = g.readSecret(file)
		return password, false, err
	case !ok:
		return "", false, usage("Use --password-file FILE (- for standard input) or --generate.", "no password was given, and nobody sits at a terminal to type one")
	}
	password, err = g.typeTwice(tty)
	return password, false, err
}

func (g *globals) typeTwice(tty *os.File) (string, error) {
	restore, err := echoOff(int(tty.Fd()))
	if err != nil {
		return "", err
	}
	defer restore()
	var typed [2]string
	for i, prompt := range []string{"Password: ", "The same again: "} {
		fmt.Fprint(g.Err, prompt)
		p, err := term.ReadPassword(int(tty.Fd()))
		fmt.Fprintln(g.Err)
		if err != nil || len(p) == 0 {
			return "", usage("Run the command again, or use --generate.", "no password was typed")
		}
		typed[i] = string(p)
	}
	if typed[0] != typed[1] {
		return "", failed("Run the command again.", "the two passwords differ")
	}
	return typed[0], nil
}

// echoOff is for the time before the first prompt until after the last answer: what is typed ahead must
// not be seen either.
func echoOff(fd int) (restore func(), err error) {
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("asking the terminal for its settings: %w", err)
	}
	quiet := *before
	quiet.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &quiet); err != nil {
		return nil, fmt.Errorf("turning off the terminal's echo: %w", err)
	}
	return func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, before) }, nil // the terminal is gone otherwise
}

// generatePassword makes a password of 100 random bits that can be read out over the telephone.
func generatePassword() string {
	const letters = "abcdefghijkmnpqrstuvwxyz23456789" // 32 of them: five bits each
	raw := make([]byte, 20)
	_, _ = rand.Read(raw) // never fails (crypto/rand)
	var b strings.Builder
	for i, r := range raw {
		if i > 0 && i%5 == 0 {
			b.WriteByte('-')
		}
		b.WriteByte(letters[r%32])
	}
	return b.String()
}

// confirm asks a question at the terminal. Without a terminal the answer is absent.
func (g *globals) confirm(question string, absent bool) bool {
	if _, ok := g.terminal(); !ok {
		return absent
	}
	fmt.Fprintf(g.Err, "%s [y/N] ", question)
	line, err := bufio.NewReader(io.LimitReader(g.In, 100)).ReadBytes('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false
	}
	answer := strings.ToLower(string(bytes.TrimSpace(line)))
	return answer == "y" || answer == "yes"
}

// parseTime understands RFC 3339, a local date, a local date with time, and a duration ago.
func parseTime(text string, now time.Time) (time.Time, error) {
	if d, err := parseDuration(text); err == nil {
		return now.Add(-d), nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	for _, layout := range []string{time.DateOnly, "2006-01-02 15:04", "2006-01-02T15:04", time.DateTime} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usage("Write 2026-01-31T15:04:05Z, 2026-01-31, '2026-01-31 15:04', or a time ago such as 90m or 7d.", "%s is not a time", audit.Quote(text))
}

// parseDuration is time.ParseDuration with days.
func parseDuration(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok && days != "" {
		var n int
		if _, err := fmt.Sscanf(days, "%d", &n); err == nil && fmt.Sprint(n) == days && n > 0 && n < 100_000 {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, usage("Write it as 45s, 90m, 8h or 7d.", "%s is not a length of time", audit.Quote(text))
	}
	return d, nil
}
