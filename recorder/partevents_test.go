package recorder

import (
	"context"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"sallyport/internal/testenv"
)

// The events of all parts are those of the recording, with their times, while it is open and afterwards.
func TestPartEvents(t *testing.T) {
	t.Parallel()
	clock := testenv.NewClock(time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC))
	var ended []string
	r := newRecorder(t, func(c *Config) {
		c.PartSize, c.Sync, c.Now = 2000, time.Hour, clock.Now
		c.OnSealed = func(s Summary) { ended = append(ended, s.Path) }
	})
	w := create(t, r, Header{Term: "xterm"})
	for i := range 100 {
		clock.Move(1234567 * time.Microsecond)
		must(t, w.Output([]byte(strings.Repeat("x", 50)+"\xff\r\n")))
		must(t, w.Stderr([]byte("err")))
		must(t, w.Resize(80+i, 24))
	}
	compare := func(when string, sealed bool) {
		t.Helper()
		parts, err := r.Parts(context.Background(), w.Path())
		must(t, err)
		if len(parts) < 2 {
			t.Fatalf("%s: %d parts", when, len(parts))
		}
		var got []Event
		for _, p := range parts {
			plain, err := r.ReadPart(context.Background(), w.Path(), p)
			must(t, err)
			reader, err := p.Events(plain)
			must(t, err)
			if p.Number == 1 && reader.Header().Term != "xterm" {
				t.Errorf("%s: the first part has no header", when)
			}
			list, err := allEvents(reader)
			must(t, err)
			got = append(got, list...)
		}
		if want := events(t, r, w.Path()); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %d events by parts, %d by reading all, or others", when, len(got), len(want))
		}
		if is, err := r.Sealed(context.Background(), w.Path()); err != nil || is != sealed {
			t.Errorf("%s: sealed %v, %v", when, is, err)
		}
	}
	eventually(t, "the first parts to be packed", func() bool {
		parts, err := r.Parts(context.Background(), w.Path())
		return err == nil && len(parts) > 2
	})
	compare("open", false)
	if len(ended) != 0 {
		t.Errorf("told that %v have ended", ended)
	}
	sum := closed(t, w)
	compare("sealed", true)
	if len(ended) != 1 || ended[0] != sum.Path {
		t.Errorf("told that %v have ended, want %s", ended, sum.Path)
	}
}

func TestScreensBeside(t *testing.T) {
	t.Parallel()
	r := newRecorder(t, nil)
	sum := closed(t, create(t, r, Header{}))
	if _, err := r.ReadScreens(sum.Path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("before any were written: %v", err)
	}
	for _, data := range []string{"first", "second, longer", "3"} {
		must(t, r.WriteScreens(sum.Path, []byte(data)))
		if got, err := r.ReadScreens(sum.Path); err != nil || string(got) != data {
			t.Errorf("%q, %v; want %q", got, err, data)
		}
	}
	if report, err := r.Verify(sum.Path); err != nil || !report.Sealed {
		t.Errorf("with screens beside it: %+v, %v", report, err)
	}
	if err := r.WriteScreens("2026/11/23/other/1.cast.zst", nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a recording: %v", err)
	}
	if err := r.WriteScreens("../x", nil); !errors.Is(err, ErrPath) {
		t.Errorf("outside: %v", err)
	}
	// They go with the recording.
	other := closed(t, create(t, r, Header{Session: "02-test"}))
	must(t, r.WriteScreens(other.Path, []byte("x")))
	must(t, r.Delete(context.Background(), other.Path))
	if _, err := os.Stat(fileOf(r, strings.TrimSuffix(other.Path, ".zst")+".screens")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("screens of a deleted recording: %v", err)
	}
	if err := r.WriteScreens(other.Path, []byte("x")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("screens for a deleted recording: %v", err)
	}
	// A link that somebody has put there is not followed.
	must(t, os.Remove(fileOf(r, strings.TrimSuffix(sum.Path, ".zst")+".screens")))
	must(t, os.Symlink("/etc/passwd", fileOf(r, strings.TrimSuffix(sum.Path, ".zst")+".screens")))
	if _, err := r.ReadScreens(sum.Path); !errors.Is(err, ErrPath) {
		t.Errorf("by a symbolic link: %v", err)
	}
}
