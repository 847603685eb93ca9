package recorder

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestReservePays fills a small file system up to the reserve: nothing new is begun, and what is open
// goes on, to its sealed end. Where none may be mounted, TestDiskFull and the faults have to do.
func TestReservePays(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Logf("mounting is not permitted here: %v", err)
		return
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	r := newRecorder(t, func(c *Config) { c.Dir = dir; c.Reserve = 2 << 20; c.PartSize = 64 << 10 })
	open := []*Recording{create(t, r, Header{}), create(t, r, Header{Channel: 1}), create(t, r, Header{Channel: 2})}
	must(t, os.WriteFile(filepath.Join(dir, "ballast"), make([]byte, 2<<20), 0o600))
	if _, err := r.Create(Header{Session: "new"}); !errors.Is(err, ErrReserve) {
		t.Errorf("a new one within the reserve: %v", err)
	}
	line := bytes.Repeat([]byte("what is open goes on\r\n"), 100)
	for range 50 {
		for _, w := range open {
			must(t, w.Output(line))
		}
	}
	for _, w := range open {
		sum := closed(t, w)
		if report, err := r.Verify(sum.Path); err != nil || !report.Complete() || report.Summary.Kept != int64(50*len(line)) {
			t.Errorf("%s: %+v, %v", sum.Path, report, err)
		}
	}
	if _, err := r.Create(Header{Session: "new"}); !errors.Is(err, ErrReserve) {
		t.Errorf("a new one afterwards: %v", err)
	}
	must(t, os.Remove(filepath.Join(dir, "ballast")))
	closed(t, create(t, r, Header{Session: "new"}))
}
