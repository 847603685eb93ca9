package replay

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"sallyport/internal/testenv"
	"sallyport/recorder"
)

// hostile records the whole corpus, one attack each second, with a marker before each.
func hostile(t testing.TB, w *tape) (path string, list []testenv.Hostile) {
	t.Helper()
	list = testenv.HostileRecordings()
	r := w.record(80, 24)
	for _, h := range list {
		w.clock.Move(time.Second)
		must(t, r.Mark(h.Name))
		must(t, r.Output([]byte(h.Output)))
		for _, s := range h.Sizes {
			must(t, r.Resize(s.Cols, s.Rows))
		}
		must(t, r.Output([]byte(testenv.HostileEnd+h.Name+" was shown\r\n")))
	}
	w.clock.Move(time.Second)
	must(t, r.Output([]byte("the last line")))
	sum, err := r.Close()
	must(t, err)
	return sum.Path, list
}

// TestHostileSegments: of every attack the player gets what draws, in the order and with the sizes that
// it insists on, and the screens after it are right.
func TestHostileSegments(t *testing.T) {
	t.Parallel()
	w := newTape(t, nil)
	path, list := hostile(t, w)
	r := New(recording{w.Recorder, path})
	defer r.Close()
	followRules(t, r)
	ctx := context.Background()
	c, err := r.Contents(ctx)
	must(t, err)
	if len(c.Starts) < 5 {
		t.Errorf("%d segments", len(c.Starts))
	}
	for n := range c.Starts {
		s, err := r.Segment(ctx, n, 0)
		must(t, err)
		if !harmless.MatchString(s.Init) {
			t.Errorf("segment %d: its screen is painted by %.300q", n, s.Init)
		}
		for _, e := range s.Events {
			if !harmless.MatchString(e.Output) {
				t.Errorf("segment %d at %v: %.300q", n, e.At, e.Output)
			}
			if e.Cols < 0 || e.Cols > maxSide || e.Rows < 0 || e.Rows > maxSide {
				t.Errorf("segment %d at %v: %d × %d", n, e.At, e.Cols, e.Rows)
			}
		}
		data, err := s.JSON(time.Hour)
		must(t, err)
		if !json.Valid(data) || strings.ContainsAny(string(data), "<>\x1b\x07\x00\u2028\u2029") {
			t.Errorf("segment %d is not harmless JSON", n)
		}
		if len(data) > 4<<20 {
			t.Errorf("segment %d has %d bytes", n, len(data))
		}
	}
	for i, h := range list {
		if got := strings.TrimSpace(seek(t, r, time.Duration(i+1)*time.Second+500*time.Millisecond)); got != h.Name+" was shown" {
			t.Errorf("after %s the screen is %.300q", h.Name, got)
		}
	}
}

// TestManyLines: two hundred thousand lines (a million in the long form) are cut into segments, and the last is reached in a moment.
func TestManyLines(t *testing.T) {
	t.Parallel()
	w := newTape(t, nil)
	r := w.record(80, 24)
	pieces := 20
	if os.Getenv("SALLYPORT_LONG") != "" {
		pieces = 100
	}
	for range pieces {
		w.clock.Move(time.Millisecond)
		must(t, r.Output([]byte(strings.Repeat("y\r\n", 10_000))))
	}
	must(t, r.Output([]byte("the end")))
	for i := range 10_000 { // and somebody who plays with the window
		must(t, r.Resize(80+i%2, 24))
	}
	sum, err := r.Close()
	must(t, err)
	replay := New(recording{w.Recorder, sum.Path})
	defer replay.Close()
	begun := time.Now()
	got := seek(t, replay, time.Hour)
	if !strings.HasSuffix(strings.TrimSpace(got), "y\nthe end") {
		t.Errorf("at the end the screen is %q", got)
	}
	if took := time.Since(begun); took > 30*time.Second {
		t.Errorf("it took %v", took)
	}
	c, err := replay.Contents(context.Background())
	must(t, err)
	if len(c.Markers) > maxMarkers {
		t.Errorf("%d markers", len(c.Markers))
	}
}

// FuzzSegments: whatever a recording holds, the player's rules are followed and only what draws is passed on.
func FuzzSegments(f *testing.F) {
	for _, h := range testenv.HostileRecordings() {
		f.Add([]byte(h.Output[:min(len(h.Output), 2000)]), uint16(10), uint16(5))
	}
	f.Fuzz(func(t *testing.T, output []byte, cols, rows uint16) {
		w := newTape(t, func(c *recorder.Config) { c.PartSize = 1000 })
		rec := w.record(80, 24)
		for i := 0; i < len(output); i += 700 {
			w.clock.Move(time.Duration(i) * time.Microsecond)
			must(t, rec.Output(output[i:min(i+700, len(output))]))
			must(t, rec.Resize(int(cols)%300, int(rows)%100))
		}
		_, err := rec.Close()
		must(t, err)
		r := New(recording{w.Recorder, rec.Path()})
		defer r.Close()
		followRules(t, r)
		c, err := r.Contents(context.Background())
		must(t, err)
		for n := range c.Starts {
			s, err := r.Segment(context.Background(), n, 0)
			must(t, err)
			for _, text := range append([]Event{{Output: s.Init}}, s.Events...) {
				if !harmless.MatchString(text.Output) {
					t.Errorf("%q is passed on", text.Output)
				}
			}
		}
	})
}

// TestSlowScreens: a recording that keeps a terminal busy for hours keeps nobody waiting.
func TestSlowScreens(t *testing.T) {
	t.Parallel()
	w := newTape(t, nil)
	r := w.record(400, 300)
	for range 8 {
		must(t, r.Output([]byte(strings.Repeat("\x1b[9999b\x1b[9999S\n", 3000))))
	}
	must(t, r.Output([]byte(strings.Repeat("x", 300_000)+"the end")))
	must(t, r.Output([]byte("!")))
	_, err := r.Close()
	must(t, err)
	replay := New(recording{w.Recorder, r.Path()})
	defer replay.Close()
	c, err := replay.Contents(context.Background())
	must(t, err)
	o, err := replay.look(context.Background())
	must(t, err)
	n := len(c.Starts) - 1
	// The screen is not to be had in time: what was printed last is.
	if s, err := replay.derive(context.Background(), &o, 0, "", n, 1<<40, 1); err != nil || s != nil {
		t.Errorf("derived without time: %v, %v", s, err)
	}
	s, err := replay.derive(context.Background(), &o, n-1, "", n, little, 0)
	must(t, err)
	defer s.Close()
	if got := strings.Join(s.Lines(), "\n"); !strings.Contains(got, "xxx") {
		t.Errorf("put together is %.200q", got)
	}
	// A pass that gives up says from where on.
	replay.stopped, replay.enough = 1, 50*time.Millisecond
	if c, err = replay.Contents(context.Background()); err != nil || c.Exact >= c.Duration {
		t.Errorf("exact to %v of %v, %v", c.Exact, c.Duration, err)
	}
	if _, err := replay.Segment(context.Background(), n, 0); err != nil {
		t.Error(err)
	}
}
