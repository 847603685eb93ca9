package recorder

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// The folder of the day is kept open. What is begun after somebody has removed it, or moved it to a backup, must not be
// written into what is not there any more.
func TestDayIsTakenAway(t *testing.T) {
	t.Parallel()
	for name, take := range map[string]func(t *testing.T, day string){
		"removed": func(t *testing.T, day string) { must(t, os.RemoveAll(day)) },
		"moved": func(t *testing.T, day string) {
			must(t, os.Rename(day, filepath.Join(t.TempDir(), "backup")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRecorder(t, nil)
			first := create(t, r, Header{Session: "01-first"})
			must(t, first.Output([]byte("one")))
			closed(t, first)
			take(t, filepath.Dir(filepath.Dir(fileOf(r, first.Path()))))
			if day := r.day.Load(); name == "moved" { // as if the second were over
				r.day.Store(&folder{day.name, day.root, day.opened.Add(-dayFor)})
			}
			second := create(t, r, Header{Session: "01-second"})
			must(t, second.Output([]byte("two")))
			sum := closed(t, second)
			if _, err := os.Stat(fileOf(r, sum.Path)); err != nil {
				t.Error(err)
			}
			if got := events(t, r, sum.Path); len(got) != 1 || string(got[0].Data) != "two" {
				t.Errorf("the recording holds %v", got)
			}
		})
	}
}

// What is deleted here must not be deleted in the place to which somebody has moved the folder of the day.
func TestNothingIsDeletedElsewhere(t *testing.T) {
	t.Parallel()
	r := newRecorder(t, nil)
	sum := closed(t, create(t, r, Header{}))
	day := filepath.Dir(filepath.Dir(fileOf(r, sum.Path)))
	backup := filepath.Join(t.TempDir(), "backup")
	must(t, os.Rename(day, backup))
	kept := r.day.Load()
	r.day.Store(&folder{kept.name, kept.root, kept.opened.Add(-dayFor)}) // as if a second were over
	must(t, r.remove(sum.Path))
	if _, err := os.Stat(filepath.Join(backup, "01-test", filepath.Base(sum.Path))); err != nil {
		t.Error(err)
	}
}

// A recording that lasts over midnight stays in the folder of the day on which it began, and one of the new day beside it
// is not in its way.
func TestMidnight(t *testing.T) {
	t.Parallel()
	var later atomic.Bool
	r := newRecorder(t, func(c *Config) {
		c.Now = func() time.Time {
			now := time.Date(2026, 11, 26, 23, 59, 59, 0, time.UTC)
			if later.Load() {
				now = now.Add(2 * time.Second)
			}
			return now
		}
	})
	before := create(t, r, Header{Session: "01-before"})
	must(t, before.Output([]byte("old")))
	later.Store(true)
	after := create(t, r, Header{Session: "01-after"})
	must(t, before.Output([]byte(" day")))
	must(t, after.Output([]byte("new day")))
	for w, want := range map[*Recording]string{before: "old day", after: "new day"} {
		sum := closed(t, w)
		var got string
		for _, e := range events(t, r, sum.Path) {
			got += string(e.Data)
		}
		if got != want {
			t.Errorf("%s holds %q, want %q", sum.Path, got, want)
		}
	}
	if a, b := filepath.Dir(filepath.Dir(before.Path())), filepath.Dir(filepath.Dir(after.Path())); a != "2026/11/26" || b != "2026/11/27" {
		t.Errorf("they are in %s and %s", a, b)
	}
}

// A day that is a symbolic link would lead recordings to another place.
func TestDayIsALink(t *testing.T) {
	t.Parallel()
	r := newRecorder(t, func(c *Config) { c.Now = func() time.Time { return time.Date(2026, 11, 26, 1, 0, 0, 0, time.UTC) } })
	must(t, os.MkdirAll(fileOf(r, "2026/11/other"), 0o700))
	must(t, os.Symlink("other", fileOf(r, "2026/11/26")))
	if _, err := r.Create(Header{Session: "01-test"}); err == nil {
		t.Fatal("a recording was begun behind a symbolic link")
	}
}
