package recorder

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"time"
)

// folder is one below the folder of all recordings, kept open.
type folder struct {
	name   string
	root   *os.Root
	opened time.Time
}

// dayFor is how long a folder is taken for what its name stands for: somebody may have moved it away, and what is deleted
// must not be deleted there.
const dayFor = time.Second

func (f *folder) fresh() bool { return f != nil && time.Since(f.opened) < dayFor }

// near gives a folder that is open, and the way to name from there. os.Root opens every folder on the way to a file,
// each time, and nearly all that happens in a day happens in one folder: so that one is kept open.
func (r *Recorder) near(name string) (*os.Root, string) {
	if day := r.day.Load(); day.fresh() {
		if rest, ok := strings.CutPrefix(name, day.name+"/"); ok {
			return day.root, rest
		}
	}
	return r.root, name
}

// keepDay makes and opens the folder of a day, none of whose steps may be a symbolic link, and keeps it open. The one
// before is closed by the collector, when nobody works in it any more.
func (r *Recorder) keepDay(name string) (*os.Root, error) {
	if err := r.root.MkdirAll(name, 0o700); err != nil {
		return nil, err
	}
	for step := name; step != "."; step = path.Dir(step) {
		if err := r.wantMode(r.root, step, os.ModeDir); err != nil {
			return nil, err
		}
	}
	root, err := r.root.OpenRoot(name)
	if err == nil {
		r.day.Store(&folder{name, root, time.Now()})
	}
	return root, err
}

// makeDir opens the folder of a recording's session, and makes it if it is missing.
func (r *Recorder) makeDir(where place) (*os.Root, error) {
	name, session := path.Split(where.dir())
	name = path.Clean(name)
	if day := r.day.Load(); day.fresh() && day.name == name {
		if dir, err := r.makeIn(day.root, session); !errors.Is(err, os.ErrNotExist) { // else somebody has just removed it
			return dir, err
		}
	}
	root, err := r.keepDay(name)
	if err != nil {
		return nil, err
	}
	return r.makeIn(root, session)
}

func (r *Recorder) makeIn(day *os.Root, session string) (*os.Root, error) {
	if err := day.Mkdir(session, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	if err := r.wantMode(day, session, os.ModeDir); err != nil {
		return nil, err
	}
	return day.OpenRoot(session)
}

// openDir opens the folder of a recording's session.
func (r *Recorder) openDir(where place) (*os.Root, error) {
	root, rest := r.near(where.dir())
	dir, err := root.OpenRoot(rest)
	if err != nil {
		return nil, fmt.Errorf("opening folder %s: %w", where.dir(), err)
	}
	return dir, nil
}

// openFile opens a file of a recording for reading, or to mend it. A symbolic link anywhere on the
// way is refused: nothing of ours makes one, and os.Root alone would follow it to another recording.
func (r *Recorder) openFile(name string, flag int) (*os.File, error) {
	root, rest := r.near(name)
	for i, c := range rest {
		if c == '/' {
			if err := r.wantMode(root, rest[:i], os.ModeDir); err != nil {
				return nil, err
			}
		}
	}
	if err := r.wantMode(root, rest, 0); err != nil && (flag&os.O_CREATE == 0 || !errors.Is(err, os.ErrNotExist)) {
		return nil, err
	}
	return root.OpenFile(rest, flag, 0o600)
}

func (r *Recorder) wantMode(root *os.Root, name string, mode os.FileMode) error {
	st, err := root.Lstat(name)
	if err != nil {
		return err
	}
	if st.Mode().Type() != mode {
		return fmt.Errorf("%w: %q is %s", ErrPath, name, strings.TrimSpace(st.Mode().Type().String()))
	}
	return nil
}

func (r *Recorder) remove(name string) error {
	if err := r.fault("remove", name); err != nil {
		return err
	}
	root, rest := r.near(name)
	if err := root.Remove(rest); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing %s: %w", name, err)
	}
	return nil
}

// syncPath brings one file, or the entries of one folder, to the disk.
func (r *Recorder) syncPath(name string) error {
	if err := r.fault("sync", name); err != nil {
		return err
	}
	root, rest := r.near(name)
	f, err := root.Open(rest)
	if err != nil {
		return fmt.Errorf("syncing %s: %w", name, err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("syncing %s: %w", name, err)
	}
	return nil
}
