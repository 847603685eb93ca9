package seal

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// NewLine returns a new key as a line of a key ring, and its id.
func NewLine() (line, id string) {
	secret := randomSecret()
	id = keyID(secret)
	return id + " " + base64.StdEncoding.EncodeToString(secret), id
}

// AddKey adds a new key to a key file, as its last one: it opens what other nodes seal with it and seals
// nothing yet.
func AddKey(path string) (id string, err error) {
	err = edit(path, func(lines []string) ([]string, error) {
		var line string
		line, id = NewLine()
		return append(lines, line), nil
	})
	return id, err
}

// Promote makes a key of a key file the active one.
func Promote(path, id string) error {
	return edit(path, func(lines []string) ([]string, error) {
		i := slices.IndexFunc(lines, isLineOf(id))
		if i < 0 {
			return nil, fmt.Errorf("%w %s", ErrUnknownKey, path)
		}
		line := lines[i]
		lines = slices.Delete(lines, i, i+1)
		first := slices.IndexFunc(lines, isKeyLine)
		if first < 0 {
			first = len(lines)
		}
		return slices.Insert(lines, first, line), nil
	})
}

// Drop takes a key other than the active one out of a key file. What is still sealed with it is lost.
func Drop(path, id string) error {
	return edit(path, func(lines []string) ([]string, error) {
		i := slices.IndexFunc(lines, isLineOf(id))
		switch {
		case i < 0:
			return nil, fmt.Errorf("%w %s", ErrUnknownKey, path)
		case i == slices.IndexFunc(lines, isKeyLine):
			return nil, errors.New("it is the active key")
		}
		return slices.Delete(lines, i, i+1), nil
	})
}

func isKeyLine(line string) bool {
	line = strings.TrimSpace(line)
	return line != "" && !strings.HasPrefix(line, "#")
}

func isLineOf(id string) func(string) bool {
	return func(line string) bool {
		fields := strings.Fields(line)
		return len(fields) == 2 && fields[0] == id
	}
}

// edit replaces the lines of a key file, in one step and for its owner: whoever reads it finds the ring
// before or after. Others that edit it wait.
func edit(path string, change func(lines []string) ([]string, error)) error {
	if err := editFile(path, change); err != nil {
		return fmt.Errorf("changing key file %s: %w", path, err)
	}
	return nil
}

func editFile(path string, change func(lines []string) ([]string, error)) error {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return cause(err)
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return cause(err)
	}
	defer folder.Close() // and with it the lock
	if err := syscall.Flock(int(folder.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("waiting for others who change it: %w", err)
	}
	text, err := readFile(path, 0o077)
	if err != nil {
		return err
	}
	if _, err := parse(text); err != nil {
		return err
	}
	lines, err := change(strings.Split(strings.TrimRight(text, "\n"), "\n"))
	if err != nil {
		return err
	}
	text = strings.Join(lines, "\n") + "\n"
	if _, err := parse(text); err != nil {
		return err
	}
	return replace(path, text)
}

// replace writes a new file in the place of path, with its owner.
func replace(path, text string) error {
	info, err := os.Stat(path)
	if err != nil {
		return cause(err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".new-") // mode 0600
	if err != nil {
		return cause(err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && int(owner.Uid) != os.Geteuid() {
		// By root for the user that runs the server.
		if err := f.Chown(int(owner.Uid), int(owner.Gid)); err != nil {
			return cause(err)
		}
	}
	if _, err := f.WriteString(text); err != nil {
		return cause(err)
	}
	if err := f.Sync(); err != nil {
		return cause(err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return cause(err)
	}
	return syncFolder(filepath.Dir(path))
}
