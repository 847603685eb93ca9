package seal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// maxFile bounds a key file; a key takes 54 bytes.
const maxFile = 64 << 10

// Load reads a key file: one key a line, "KEYID BASE64", the first one active; empty lines and
// lines that start with "#" do not count. The file must be a regular one that nobody but its owner can
// read or write. If it does not exist, the error is fs.ErrNotExist.
func Load(path string) (*Ring, error) {
	r, err := load(path)
	if err != nil {
		return nil, fmt.Errorf("loading key file %s: %w", path, err)
	}
	return r, nil
}

func load(path string) (*Ring, error) {
	// O_NONBLOCK, so that a named pipe in its place does not hold the start up for ever.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, cause(err)
	}
	defer f.Close()
	// Of the open file, not of the path: what is examined is what is read.
	info, err := f.Stat()
	if err != nil {
		return nil, cause(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("others than its owner can reach it (mode %04o): run chmod 600 %s, and replace the key if somebody may have read it", mode, path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, cause(err)
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("it is larger than %d bytes", maxFile)
	}
	keys, err := parse(string(text))
	if err != nil {
		return nil, err
	}
	return &Ring{keys: keys, path: path}, nil
}

// LoadOrCreate is [Load], but makes a file with one new key, mode 0600, if there is none. When
// several processes do so at once, one of them makes the key and all get it. The folder must exist.
func LoadOrCreate(path string) (*Ring, error) {
	r, err := load(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := create(path); err != nil {
			return nil, fmt.Errorf("making key file %s: %w", path, err)
		}
		r, err = load(path)
	}
	if err != nil {
		return nil, fmt.Errorf("loading key file %s: %w", path, err)
	}
	return r, nil
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
