package seal_test

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"sallyport/internal/seal"
)

// keyLine returns a line with a new key, as LoadOrCreate writes it.
func keyLine(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	if _, err := seal.LoadOrCreate(path); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(read(t, path), "\n"), "\n")
	return lines[len(lines)-1]
}

// ringOf loads a file of n keys and returns its text as well.
func ringOf(t *testing.T, n int) (*seal.Ring, string) {
	t.Helper()
	var text strings.Builder
	for range n {
		text.WriteString(keyLine(t) + "\n")
	}
	r, err := seal.Load(write(t, text.String(), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	return r, text.String()
}

// leaks returns what must not appear anywhere of the keys in a file's text.
func leaks(text string) []string {
	var all []string
	for line := range strings.Lines(text) {
		encoded := strings.Fields(line)[1]
		secret, _ := base64.StdEncoding.DecodeString(encoded)
		all = append(all, encoded[:20], hex.EncodeToString(secret[:8]), fmt.Sprint(secret[:6])[1:18])
	}
	return all
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// write makes a file of exactly the given mode and returns its path.
func write(t *testing.T, text string, mode fs.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoadOrCreate(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys")
	if _, err := seal.Load(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("loading what is not there: got %v, want fs.ErrNotExist", err)
	}
	first, err := seal.LoadOrCreate(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o600 {
		t.Errorf("mode %v, want -rw-------", info.Mode())
	}
	before := read(t, path)
	second, err := seal.LoadOrCreate(path)
	if err != nil {
		t.Fatal(err)
	}
	if read(t, path) != before {
		t.Error("the second start changed the file")
	}
	got, err := second.Open("tokens", "secret", "7", mustSeal(t, first, "tokens", "secret", "7", "a secret"))
	if err != nil || string(got) != "a secret" {
		t.Errorf("after a restart: got %q, %v", got, err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("files are left over: %v", entries)
	}
}

// Ensure the first start of several processes at once makes one key.
func TestLoadOrCreateConcurrently(t *testing.T) {
	t.Parallel()
	for range 20 {
		path := filepath.Join(t.TempDir(), "keys")
		const n = 20
		var (
			rings [n]*seal.Ring
			errs  [n]error
			start = make(chan struct{})
			done  sync.WaitGroup
		)
		for i := range n {
			done.Go(func() {
				<-start
				rings[i], errs[i] = seal.LoadOrCreate(path)
			})
		}
		close(start)
		done.Wait()
		if err := errors.Join(errs[:]...); err != nil {
			t.Fatal(err)
		}
		for i, r := range rings {
			sealed := mustSeal(t, r, "tokens", "secret", "7", "a secret")
			if _, err := rings[(i+1)%n].Open("tokens", "secret", "7", sealed); err != nil {
				t.Fatalf("%v and %v are different keys: %v", r, rings[(i+1)%n], err)
			}
		}
		if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
			t.Fatalf("files are left over: %v", entries)
		}
	}
}

func TestLoadRefusesReadableFile(t *testing.T) {
	t.Parallel()
	line := keyLine(t)
	for _, mode := range []fs.FileMode{0o644, 0o640, 0o604, 0o660, 0o620, 0o602, 0o610, 0o777} {
		path := write(t, line+"\n", mode)
		for name, load := range map[string]func(string) (*seal.Ring, error){"Load": seal.Load, "LoadOrCreate": seal.LoadOrCreate} {
			r, err := load(path)
			if err == nil || r != nil {
				t.Errorf("%s accepts mode %v", name, mode)
				continue
			}
			if !strings.Contains(err.Error(), "chmod 600 "+path) {
				t.Errorf("%s: got %q, want it to say how to repair", name, err)
			}
		}
	}
	for _, mode := range []fs.FileMode{0o600, 0o400} {
		if _, err := seal.Load(write(t, line+"\n", mode)); err != nil {
			t.Errorf("mode %v: %v", mode, err)
		}
	}
}

func TestLoadRefusesBadFiles(t *testing.T) {
	t.Parallel()
	line, other := keyLine(t), keyLine(t)
	id, encoded, _ := strings.Cut(line, " ")
	otherID, _, _ := strings.Cut(other, " ")
	changed := []byte(encoded)
	changed[5] = "AB"[map[bool]int{true: 1}[changed[5] == 'A']]
	short := base64.StdEncoding.EncodeToString(make([]byte, 16))
	tests := []struct{ name, text, want string }{
		{"empty", "", "holds no key"},
		{"spaces", " \n\t\n", "holds no key"},
		{"only comments", "# nothing\n", "holds no key"},
		{"id only", id + "\n", "line 1"},
		{"key only", encoded + "\n", "line 1"},
		{"id of another key", "# one\n" + otherID + " " + encoded + "\n", "line 2: the key does not belong to the id " + otherID},
		{"a character changed", id + " " + string(changed) + "\n", "does not belong"},
		{"cut off", line[:40] + "\n", "line 1"},
		{"not base64", id + " ****\n", "line 1"},
		{"AES-128", id + " " + short + "\n", "32 bytes"},
		{"a word more", line + " active\n", "line 1"},
		{"second line bad", line + "\nrubbish\n", "line 2"},
		{"key twice", line + "\n" + other + "\n" + line + "\n", "line 3: key " + id + " is there twice"},
		{"binary", "\x00\x01\x02", "line 1"},
		{"large", line + "\n#" + strings.Repeat("x", 64<<10), "larger"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := write(t, tt.text, 0o600)
			for name, load := range map[string]func(string) (*seal.Ring, error){"Load": seal.Load, "LoadOrCreate": seal.LoadOrCreate} {
				r, err := load(path)
				if err == nil || r != nil {
					t.Fatalf("%s accepts it", name)
				}
				if !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
					t.Errorf("%s: got %q, want %q and the path in it", name, err, tt.want)
				}
				for _, leak := range []string{encoded[:20], encoded[len(encoded)-20:], "rubbish"} {
					if strings.Contains(err.Error(), leak) {
						t.Errorf("%s: the error repeats the file: %v", name, err)
					}
				}
			}
			if read(t, path) != tt.text {
				t.Error("the file was changed")
			}
		})
	}
}

func TestLoadRefusesOtherThanFiles(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	pipe := filepath.Join(folder, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	dangling := filepath.Join(folder, "dangling")
	if err := os.Symlink(filepath.Join(folder, "nowhere"), dangling); err != nil {
		t.Fatal(err)
	}
	inside := filepath.Join(folder, "missing", "keys")
	for _, path := range []string{folder, pipe, dangling, inside, "/dev/null"} {
		if r, err := seal.LoadOrCreate(path); err == nil {
			t.Errorf("%s: got %v, want an error", path, r)
		} else if strings.Count(err.Error(), path) != 1 {
			t.Errorf("got %q, want the path in it once", err)
		}
	}
}

// Ensure the first key seals and every key opens, also after a new one was put in front.
func TestSeveralKeys(t *testing.T) {
	t.Parallel()
	old, young := keyLine(t), keyLine(t)
	before, err := seal.Load(write(t, old+"\n", 0o600))
	if err != nil {
		t.Fatal(err)
	}
	after, err := seal.Load(write(t, "# rotated\r\n"+young+"\r\n\r\n  "+strings.Replace(old, " ", "\t", 1)+"  ", 0o600))
	if err != nil {
		t.Fatal(err)
	}
	sealedBefore := mustSeal(t, before, "tokens", "secret", "7", "a secret")
	if got, err := after.Open("tokens", "secret", "7", sealedBefore); err != nil || string(got) != "a secret" {
		t.Errorf("sealed with the old key: got %q, %v", got, err)
	}
	sealedAfter := mustSeal(t, after, "tokens", "secret", "7", "a secret")
	if id, _, _ := strings.Cut(young, " "); !strings.HasPrefix(sealedAfter, "v1."+id+".") {
		t.Errorf("got %s, want it sealed with the first key, %s", sealedAfter, id)
	}
	_, err = before.Open("tokens", "secret", "7", sealedAfter)
	if !errors.Is(err, seal.ErrUnknownKey) {
		t.Errorf("sealed with a key that is not there: got %v, want ErrUnknownKey", err)
	}
	// The id in a sealed value is authenticated: another known one in its place does not open it.
	id, _, _ := strings.Cut(old, " ")
	swapped := "v1." + id + sealedAfter[len("v1.")+len(id):]
	if _, err := after.Open("tokens", "secret", "7", swapped); !errors.Is(err, seal.ErrDamaged) {
		t.Errorf("other key id: got %v, want ErrDamaged", err)
	}
}
