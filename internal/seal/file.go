package seal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// maxFile bounds a key file; a key takes 54 bytes.
const maxFile = 64 << 10

// Sources of a key ring other than a file.
const (
	credentialPrefix  = "credential:"
	environmentPrefix = "env:"
)

// IsFile tells whether a source names a file, which can be written, and not a credential or the
// environment, which belong to somebody else.
func IsFile(source string) bool {
	return !strings.HasPrefix(source, credentialPrefix) && !strings.HasPrefix(source, environmentPrefix)
}

// Load reads a key ring: one key a line, "KEYID BASE64", the first one active; empty lines and lines that
// start with "#" do not count. The source is
//
//	the path of a file       a regular one that nobody but its owner can read or write
//	credential:NAME          that credential of systemd, in $CREDENTIALS_DIRECTORY
//	env:NAME                 that variable of the environment, in which a comma may stand for the end of a line
//
// If the file does not exist, the error is fs.ErrNotExist.
func Load(source string) (*Ring, error) {
	keys, err := load(source)
	if err != nil {
		return nil, fmt.Errorf("loading key ring %s: %w", source, err)
	}
	return newRing(source, keys), nil
}

// Reload reads the source of the ring again and tells whether its keys have changed. On an error the ring
// stays as it was. A ring that is in memory only, or came from the environment, never changes.
func (r *Ring) Reload() (changed bool, err error) {
	if r == nil || r.source == "" || strings.HasPrefix(r.source, environmentPrefix) {
		return false, nil
	}
	keys, err := load(r.source)
	if err != nil {
		return false, fmt.Errorf("loading key ring %s again: %w", r.source, err)
	}
	before := r.list()
	if slices.EqualFunc(before, keys, func(a, b key) bool { return a.id == b.id }) {
		return false, nil
	}
	r.keys.Store(&keys)
	return true, nil
}

func load(source string) ([]key, error) {
	text, err := read(source)
	if err != nil {
		return nil, err
	}
	return parse(text)
}

// read returns the text of a source.
func read(source string) (string, error) {
	if name, ok := strings.CutPrefix(source, environmentPrefix); ok {
		text := os.Getenv(name)
		if text == "" {
			return "", errors.New("the variable is not set")
		}
		return strings.ReplaceAll(text, ",", "\n"), nil
	}
	forbid := fs.FileMode(0o077)
	path := source
	if name, ok := strings.CutPrefix(source, credentialPrefix); ok {
		dir := os.Getenv("CREDENTIALS_DIRECTORY")
		if dir == "" {
			return "", errors.New("systemd gave no credentials: $CREDENTIALS_DIRECTORY is not set")
		}
		if name == "" || name != filepath.Base(name) {
			return "", errors.New("this is not the name of a credential")
		}
		// Where systemd gives access by an ACL, the bits of the group are its mask and tell nothing.
		path, forbid = filepath.Join(dir, name), 0o007
	}
	return readFile(path, forbid)
}

func readFile(path string, forbid fs.FileMode) (string, error) {
	// O_NONBLOCK, so that a named pipe in its place does not hold the start up for ever.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", cause(err)
	}
	defer f.Close()
	// Of the open file, not of the path: what is examined is what is read.
	info, err := f.Stat()
	if err != nil {
		return "", cause(err)
	}
	if !info.Mode().IsRegular() {
		return "", errors.New("it is not a regular file")
	}
	if mode := info.Mode().Perm(); mode&forbid != 0 {
		return "", fmt.Errorf("others than its owner can reach it (mode %04o): run chmod 600 %s, and replace the key if somebody may have read it", mode, path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return "", cause(err)
	}
	if len(text) > maxFile {
		return "", fmt.Errorf("it is larger than %d bytes", maxFile)
	}
	return string(text), nil
}

// LoadOrCreate is [Load], but makes a file with one new key, mode 0600, if there is none. When
// several processes do so at once, one of them makes the key and all get it. The folder must exist.
func LoadOrCreate(source string) (*Ring, error) {
	r, err := Load(source)
	if errors.Is(err, fs.ErrNotExist) && IsFile(source) {
		if err := create(source); err != nil {
			return nil, fmt.Errorf("making key file %s: %w", source, err)
		}
		r, err = Load(source)
	}
	return r, err
}

// create puts a new key file in place if there is still none. The file appears under its name only
// when it is whole and on disk: a value sealed with a key that a power cut then takes away would be
// lost, and a reader must never find half a file.
func create(path string) error {
	folder := filepath.Dir(path)
	// CreateTemp opens with O_EXCL and mode 0600.
	f, err := os.CreateTemp(folder, "."+filepath.Base(path)+".new-")
	if err != nil {
		return cause(err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := f.WriteString(format(randomSecret())); err != nil {
		return cause(err)
	}
	if err := f.Sync(); err != nil {
		return cause(err)
	}
	// Unlike a rename, a link never replaces what is there already.
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return cause(err)
	}
	return syncFolder(folder)
}

// syncFolder makes the names in a folder durable.
func syncFolder(folder string) error {
	d, err := os.Open(folder)
	if err != nil {
		return cause(err)
	}
	defer d.Close()
	return cause(d.Sync())
}

// cause drops operation and path from an error of package os: the caller says them better.
func cause(err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err
	}
	var linkErr *os.LinkError
	if errors.As(err, &linkErr) {
		return linkErr.Err
	}
	return err
}
