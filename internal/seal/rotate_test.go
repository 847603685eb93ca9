package seal_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"sallyport/internal/seal"
)

// A key file through a rotation: the new key opens before it seals, the old one opens until it is dropped, and
// the file keeps its comments, its mode and the way to it.
func TestKeyFileRotation(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	real, path := filepath.Join(dir, "real"), filepath.Join(t.TempDir(), "keyring")
	running := load(t, real)
	if err := os.Symlink(real, path); err != nil {
		t.Fatal(err)
	}
	old := running.IDs()[0]
	before, err := running.Seal("t", "c", "r", []byte("before"))
	check(t, err)

	id, err := seal.AddKey(path)
	check(t, err)
	if got := load(t, path).IDs(); !slices.Equal(got, []string{old, id}) {
		t.Errorf("after adding: %v", got)
	}
	check(t, seal.Promote(path, id))
	check(t, seal.Promote(path, id)) // once more changes nothing
	now := load(t, path)
	if got := now.IDs(); !slices.Equal(got, []string{id, old}) {
		t.Errorf("after promoting: %v", got)
	}
	after, err := now.Seal("t", "c", "r", []byte("after"))
	check(t, err)
	for _, sealed := range []string{before, after} { // the running one looks again by itself
		if _, err := running.Open("t", "c", "r", sealed); err != nil {
			t.Errorf("the ring that was loaded before: %v", err)
		}
	}
	if !slices.Equal(running.IDs(), now.IDs()) {
		t.Errorf("the running ring has %v", running.IDs())
	}
	if err := seal.Drop(path, id); err == nil {
		t.Error("the active key was dropped")
	}
	if err := seal.Drop(path, "00000000"); !errors.Is(err, seal.ErrUnknownKey) {
		t.Errorf("dropping a key that is not there: %v", err)
	}
	if err := seal.Promote(path, "00000000"); !errors.Is(err, seal.ErrUnknownKey) {
		t.Errorf("promoting a key that is not there: %v", err)
	}
	check(t, seal.Drop(path, old))
	if changed, err := running.Reload(); !changed || err != nil || !slices.Equal(running.IDs(), []string{id}) {
		t.Errorf("reloaded %v, %v: %v", changed, err, running.IDs())
	}
	text, err := os.ReadFile(real)
	check(t, err)
	info, err := os.Lstat(path)
	check(t, err)
	if !strings.HasPrefix(string(text), "# Keys that open") || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the file is now %v:\n%s", info.Mode(), text)
	}
	if info, err = os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	// A ring that cannot be read any more leaves what was loaded as it was.
	check(t, os.WriteFile(real, []byte("nonsense\n"), 0o600))
	if changed, err := running.Reload(); changed || err == nil || !slices.Equal(running.IDs(), []string{id}) {
		t.Errorf("reloaded nonsense: %v, %v, %v", changed, err, running.IDs())
	}
	if _, err := seal.AddKey(path); err == nil {
		t.Error("a key was added to nonsense")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestKeysAddedAtOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keyring")
	load(t, path)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if _, err := seal.AddKey(path); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := len(load(t, path).IDs()); n != 21 {
		t.Errorf("the file has %d keys, want 21", n)
	}
}

func load(t *testing.T, path string) *seal.Ring {
	t.Helper()
	r, err := seal.LoadOrCreate(path)
	check(t, err)
	return r
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
