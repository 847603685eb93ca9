package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"sallyport/otp"
)

// Files in the state folder of a demo.
const (
	demoMarker = ".sallyport-demo" // says that the folder may be wiped
	demoFile   = "demo.json"
)

// demoSecrets is what a demo gives away: passwords, seeds and the like, kept between runs. Mode 0600.
type demoSecrets struct {
	Passwords map[string]string `json:"passwords"` // by login
	Seeds     map[string]string `json:"seeds"`     // by login, base 32; bob has none
	APIToken  string            `json:"api_token"`

	RADIUSSecret string `json:"radius_secret"`
}

// defaultDemoState is the state folder where --state names no other.
func defaultDemoState() (string, error) {
	state := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(state) { // the specification says that a relative one must be ignored
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("finding the home folder (name a folder with --state): %w", err)
		}
		state = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(state, "sallyport", "demo"), nil
}

// demoState is the state folder that the flags name.
func (g *globals) demoState() (string, error) {
	if g.State == "" {
		return defaultDemoState()
	}
	dir, err := filepath.Abs(g.State)
	if err != nil {
		return "", fmt.Errorf("finding %s: %w", g.State, err)
	}
	return dir, nil
}

// prepareState makes the state folder, or takes one that a demo has made; with reset that one is emptied.
// Any other folder with something in it is refused.
func prepareState(dir string, reset bool) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making the state folder: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("reading the state folder: %w", err)
	}
	marker := filepath.Join(dir, demoMarker)
	if _, err := os.Lstat(marker); err != nil && len(entries) > 0 {
		return usageErrorf("%s has something in it that is no demo's; name an empty folder with --state", dir)
	}
	if reset {
		if err := emptyState(dir, entries); err != nil {
			return err
		}
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("closing the state folder to others: %w", err)
	}
	if err := writeNew(marker, []byte("State of a Sallyport demo. 'sallyport demo --reset' deletes all of this folder.\n")); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("marking the state folder: %w", err)
	}
	return nil
}

// emptyState removes everything in the folder, the marker last, unless a demo runs on it.
func emptyState(dir string, entries []os.DirEntry) error {
	lock, err := lockFile(filepath.Join(dir, socketName+".lock"))
	if err != nil {
		return err
	}
	defer func() { _ = unlock(lock) }()
	for _, e := range entries {
		if e.Name() == demoMarker {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("emptying the state folder: %w", err)
		}
	}
	return nil
}

// loadSecrets reads what the demo gives away, and adds what is missing for users u1 to uN.
func loadSecrets(dir string, users int) (*demoSecrets, error) {
	s, err := readSecrets(dir)
	if errors.Is(err, os.ErrNotExist) {
		s, err = &demoSecrets{Passwords: map[string]string{}, Seeds: map[string]string{}}, nil
	}
	if err != nil {
		return nil, err
	}
	for _, login := range []string{"alice", "bob"} {
		if s.Passwords[login] == "" {
			s.Passwords[login] = newDemoPassword()
		}
	}
	if s.RADIUSSecret == "" {
		s.RADIUSSecret = newDemoPassword() + "-" + newDemoPassword()
	}
	for _, login := range append([]string{"alice"}, numberedUsers(users)...) {
		if s.Seeds[login] == "" {
			s.Seeds[login] = otp.NewSecret().Base32()
		}
	}
	return s, s.save(dir)
}

func readSecrets(dir string) (*demoSecrets, error) {
	text, err := os.ReadFile(filepath.Join(dir, demoFile))
	if err != nil {
		return nil, fmt.Errorf("reading the demo's secrets: %w", err)
	}
	var s demoSecrets
	if err := json.Unmarshal(text, &s); err != nil || s.Passwords == nil || s.Seeds == nil {
		return nil, fmt.Errorf("the demo's secrets in %s are damaged; begin anew: sallyport demo --reset", filepath.Join(dir, demoFile))
	}
	return &s, nil
}

func (s *demoSecrets) save(dir string) error {
	text, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return fmt.Errorf("keeping the demo's secrets: %w", err)
	}
	if err := replaceFile(filepath.Join(dir, demoFile), append(text, '\n')); err != nil {
		return fmt.Errorf("keeping the demo's secrets: %w", err)
	}
	return nil
}

// numberedUsers are u1 to uN.
func numberedUsers(n int) []string {
	logins := make([]string, n)
	for i := range logins {
		logins[i] = fmt.Sprintf("u%d", i+1)
	}
	return logins
}

// newDemoPassword makes a password of 60 bits that is easy to read and type: no letter in it looks like another.
func newDemoPassword() string {
	const letters = "abcdefghijkmnpqrstuvwxyz23456789" // 32 of them
	random := make([]byte, 12)
	_, _ = rand.Read(random) // never fails
	var b strings.Builder
	for i, v := range random {
		if i > 0 && i%4 == 0 {
			b.WriteByte('-')
		}
		b.WriteByte(letters[v%32])
	}
	return b.String()
}
