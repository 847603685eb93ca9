package replay

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"sallyport/internal/testenv"
	"sallyport/recorder"
	"sallyport/screen"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// tape is a recorder whose clock the test moves.
type tape struct {
	*recorder.Recorder
	t     testing.TB
	clock *testenv.Clock
}

func newTape(t testing.TB, change func(*recorder.Config)) *tape {
	t.Helper()
	w := &tape{t: t, clock: testenv.NewClock(time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC))}
	cfg := recorder.Config{
		Dir: t.TempDir(), SigningKey: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, ed25519.SeedSize)), Node: "node-1",
		Sync: 100 * time.Hour, Now: w.clock.Now, // a clock that jumps must not be waited for
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	w.Recorder, err = recorder.New(cfg)
	must(t, err)
	t.Cleanup(func() { w.Recorder.Close() })
	return w
}

func (w *tape) record(cols, rows int) *recorder.Recording {
	w.t.Helper()
	r, err := w.Create(recorder.Header{Session: "01-test", Channel: 1, Width: cols, Height: rows, Term: "xterm", Kind: "shell"})
	must(w.t, err)
	return r
}

// sixHours records a day's work: commands with coloured output, an editor that is opened and left,
// a window that changes its size, and pauses. It returns its path and what has to be seen when.
func sixHours(w *tape, mebibytes int) string {
	r := w.record(100, 30)
	random := rand.New(rand.NewPCG(1, 2))
	began := w.clock.Now()
	for n := 0; w.clock.Now().Sub(began) < 6*time.Hour; n++ {
		var b strings.Builder
		fmt.Fprintf(&b, "\x1b]0;alice@web1: ~\x07\x1b[01;32malice@web1\x1b[00m:\x1b[01;34m~\x1b[00m$ command %d\r\n", n)
		for b.Len() < mebibytes<<20/2160/2+random.IntN(mebibytes<<20/2160) {
			fmt.Fprintf(&b, "-rw-r--r-- 1 \x1b[1malice\x1b[m %8d Nov %2d %02d:%02d \x1b[38;5;%dmfile-%d.txt\x1b[m\r\n", random.IntN(1e8), 1+random.IntN(30), random.IntN(24), random.IntN(60), random.IntN(256), random.IntN(1e6))
		}
		if n%50 == 20 {
			b.WriteString("\x1b[?1049h\x1b[22;0;0t\x1b[H\x1b[2J\x1b[1;29r")
			for y := 1; y < 30; y++ {
				fmt.Fprintf(&b, "\x1b[%d;1H\x1b[94m~\x1b[m line %d of file %d", y, y, n)
			}
		}
		if n%50 == 24 {
			b.WriteString("\x1b[r\x1b[?1049l\x1b[23;0;0t")
		}
		must(w.t, r.Output([]byte(b.String())))
		if n%200 == 100 {
			must(w.t, r.Resize(100+n%7, 30))
		}
		w.clock.Move(time.Duration(5000+random.IntN(10_000)) * time.Millisecond)
		must(w.t, r.Output(fmt.Appendf(nil, "moment %d\r\n", int(w.clock.Now().Sub(began).Seconds()))))
	}
	sum, err := r.Close()
	must(w.t, err)
	return sum.Path
}

// shown is what is on the screen at moments, in order, for somebody who watches from the beginning.
func shown(t testing.TB, w *tape, path string, moments []time.Duration) (screens []string) {
	t.Helper()
	reader, err := w.Recorder.Open(path)
	must(t, err)
	defer reader.Close()
	s := screen.New(reader.Header().Width, reader.Header().Height)
	defer s.Close()
	for {
		e, err := reader.Next()
		for len(screens) < len(moments) && (err != nil || e.At > moments[len(screens)]) {
			screens = append(screens, strings.Join(s.Lines(), "\n"))
		}
		if err != nil {
			return screens
		}
		switch e.Code {
		case recorder.CodeOutput:
			_, _ = s.Write([]byte(e.Text))
		case recorder.CodeResize:
			cols, rows, _ := size(e.Text)
			s.Resize(bounded(cols, rows))
		}
	}
}

// seek is what the segments show at a moment: that of which it is in, and nothing before.
func seek(t testing.TB, r *Replay, moment time.Duration) string {
	t.Helper()
	c, err := r.Contents(context.Background())
	must(t, err)
	part, err := r.Segment(context.Background(), c.At(moment), 0)
	must(t, err)
	s := newScreen(part.Cols, part.Rows)
	defer s.Close()
	_, _ = s.Write([]byte(part.Init))
	for _, e := range part.Events {
		if e.At <= moment {
			print(s, []Event{e}, 0)
		}
	}
	return strings.Join(s.Lines(), "\n")
}

// TestSeek: wherever one begins in six hours, the screen is as if all before had been watched; before
// and after the background pass, and from what that has kept.
func TestSeek(t *testing.T) {
	t.Parallel()
	w := newTape(t, nil)
	path := sixHours(w, 3)
	moments := []time.Duration{0, time.Second, time.Minute, time.Hour, 2*time.Hour + 3*time.Second, 4 * time.Hour, 5*time.Hour + 59*time.Minute, 7 * time.Hour}
	want := shown(t, w, path, moments)
	compare := func(how string, r *Replay, longest time.Duration) {
		t.Helper()
		for i, moment := range moments {
			begun := time.Now()
			if got := seek(t, r, moment); got != want[i] {
				t.Errorf("%s, at %v:\n%s\nwant\n%s", how, moment, got, want[i])
			}
			if took := time.Since(begun); took > longest {
				t.Errorf("%s, at %v: took %v, want at most %v", how, moment, took, longest)
			}
		}
	}
	l, err := NewLibrary(w.Recorder, nil)
	must(t, err)
	r := l.Open(path)
	c, err := r.Contents(context.Background())
	must(t, err)
	if c.Open || len(c.Starts) < 10 || c.Duration < 6*time.Hour || len(c.Pauses) < 1000 || c.Exact < c.Duration-time.Second {
		t.Errorf("%d segments, %d pauses, %v, exact to %v, open %v", len(c.Starts), len(c.Pauses), c.Duration, c.Exact, c.Open)
	}
	compare("first look", r, time.Minute)
	l.Close()

	l, err = NewLibrary(w.Recorder, nil)
	must(t, err)
	defer l.Close()
	r = newReplay(context.Background(), recording{w.Recorder, path}, l.busy, screensFile{l, path})
	must(t, r.prepare(context.Background()))
	kept, err := w.ReadScreens(path)
	must(t, err)
	if packed := w.size(path); len(kept) > packed/3 {
		t.Errorf("the screens take %d bytes, the recording %d", len(kept), packed)
	}
	fresh := newReplay(context.Background(), recording{w.Recorder, path}, l.busy, screensFile{l, path})
	compare("from what was kept", fresh, 10*time.Second)
	if fresh.printed == 0 || fresh.passing {
		t.Error("what was kept was not read")
	}
	again, err := fresh.Contents(context.Background())
	must(t, err)
	if !reflect.DeepEqual(again, c) {
		t.Error("what was kept tells something else")
	}

	// What does not fit the recording is made again.
	must(t, w.WriteScreens(path, []byte("nonsense")))
	compare("after nonsense", newReplay(context.Background(), recording{w.Recorder, path}, l.busy, screensFile{l, path}), time.Minute)
}

func (w *tape) size(path string) (packed int) {
	parts, err := w.Parts(context.Background(), path)
	must(w.t, err)
	for _, p := range parts {
		packed += int(p.Packed)
	}
	return packed
}

// player31 is the index and a segment as the player's own rules have it (see wire.go).
type player31 struct {
	Version  int
	Duration float64
	Segments []struct {
		Start float64
		URL   string
	}
	Markers [][2]any
}

// followRules asserts what the player asserts, in its floating-point numbers, of all segments.
func followRules(t *testing.T, r *Replay) {
	t.Helper()
	ctx := context.Background()
	c, err := r.Contents(ctx)
	must(t, err)
	data, err := c.Index(c.Markers, func(n int, until time.Duration) string { return fmt.Sprintf("%d/%d", n, until.Microseconds()) })
	must(t, err)
	var index player31
	must(t, json.Unmarshal(data, &index))
	if index.Version != 1 || len(index.Segments) == 0 || index.Segments[0].Start != 0 {
		t.Fatalf("the index is %.200s", data)
	}
	last := 0.0
	for i, m := range index.Markers {
		at := m[0].(float64)
		if at < last || at > index.Duration {
			t.Errorf("marker %d at %v is out of order or range", i, at)
		}
		last = at
	}
	for i, s := range index.Segments {
		if i > 0 && (s.Start <= index.Segments[i-1].Start || s.Start >= index.Duration) {
			t.Errorf("segment %d of %d starts at %v, the one before at %v, all lasts %v", i, len(index.Segments), s.Start, index.Segments[i-1].Start, index.Duration)
		}
		var n int
		var micros int64
		_, err := fmt.Sscanf(s.URL, "%d/%d", &n, &micros)
		must(t, err)
		until := time.Duration(micros) * time.Microsecond
		segment, err := r.Segment(ctx, n, until)
		must(t, err)
		if i == len(index.Segments)-1 {
			until = c.Duration
		}
		data, err := segment.JSON(until)
		must(t, err)
		var content struct {
			Snapshot struct{ Cols, Rows int }
			Events   [][3]any
		}
		must(t, json.Unmarshal(data, &content))
		if content.Snapshot.Cols < 1 || content.Snapshot.Rows < 1 || len(content.Events) == 0 {
			t.Fatalf("segment %d is %.200s", i, data)
		}
		before := s.Start
		for j, e := range content.Events {
			at := e[0].(float64)
			if at < before || i+1 < len(index.Segments) && at >= index.Segments[i+1].Start || at > index.Duration {
				t.Errorf("segment %d: event %d of %d at %v is out of range", i, j, len(content.Events), at)
			}
			before = at
		}
		if content.Events[0][0].(float64) != s.Start || i == len(index.Segments)-1 && before != index.Duration {
			t.Errorf("segment %d from %v: its first event is at %v, its last at %v, all lasts %v", i, s.Start, content.Events[0][0], before, index.Duration)
		}
	}
}

// TestSegmentRules: whatever the recorder has cut where, the player takes it.
func TestSegmentRules(t *testing.T) {
	t.Parallel()
	for name, write := range map[string]func(*tape, *recorder.Recording){
		"nothing":         func(*tape, *recorder.Recording) {},
		"one moment":      func(_ *tape, r *recorder.Recording) { _ = r.Output(bytes.Repeat([]byte("x"), 5000)) },
		"all at one time": func(_ *tape, r *recorder.Recording) { _ = r.Output(bytes.Repeat([]byte("0123456789"), 20_000)) },
		"all at the end": func(w *tape, r *recorder.Recording) {
			w.clock.Move(time.Hour)
			_ = r.Output(bytes.Repeat([]byte("0123456789"), 20_000))
		},
		"odd times": func(w *tape, r *recorder.Recording) {
			for i := range 500 {
				w.clock.Move(time.Duration(i*i*7919) * time.Microsecond)
				_ = r.Output(bytes.Repeat([]byte("x"), 300))
				_ = r.Resize(80+i%3, 24)
				_ = r.Mark("here")
			}
		},
		"no output": func(w *tape, r *recorder.Recording) {
			for range 500 {
				w.clock.Move(time.Minute)
				_ = r.Mark("still here")
			}
			_ = r.ExitSignal("KILL")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTape(t, func(c *recorder.Config) { c.PartSize = 4096 })
			rec := w.record(80, 24)
			write(w, rec)
			l, err := NewLibrary(w.Recorder, nil)
			must(t, err)
			defer l.Close()
			r := l.Open(rec.Path())
			followRules(t, r) // it is open
			_ = rec.Output([]byte("more"))
			followRules(t, r)
			_, err = rec.Close()
			must(t, err)
			followRules(t, r)
			if c, err := r.Contents(context.Background()); err != nil || c.Open {
				t.Errorf("open %v, %v", c.Open, err)
			}
		})
	}
}

// TestOpenRecording: an index stays good while the recording goes on, is cut otherwise, and ends.
func TestOpenRecording(t *testing.T) {
	t.Parallel()
	w := newTape(t, func(c *recorder.Config) { c.PartSize = 2000 })
	rec := w.record(80, 24)
	say := func(text string) {
		w.clock.Move(time.Second)
		must(t, rec.Output([]byte(text+"\r\n")))
	}
	for i := range 10 {
		say(fmt.Sprint("line ", i))
	}
	l, err := NewLibrary(w.Recorder, nil)
	must(t, err)
	defer l.Close()
	r := l.Open(rec.Path())
	early, err := r.Contents(context.Background())
	must(t, err)
	if !early.Open || early.Duration != 10*time.Second {
		t.Fatalf("open %v, %v", early.Open, early.Duration)
	}
	n := len(early.Starts) - 1
	then, err := r.Segment(context.Background(), n, early.Duration)
	must(t, err)
	for i := range 500 {
		say(fmt.Sprint("later ", i))
	}
	check := func(when string) {
		t.Helper()
		now, err := r.Segment(context.Background(), n, early.Duration)
		must(t, err)
		if !reflect.DeepEqual(now, then) {
			t.Errorf("%s the last segment of the early index has %d events, had %d, or others", when, len(now.Events), len(then.Events))
		}
	}
	check("later")
	_, err = rec.Close()
	must(t, err)
	check("in the end")
	if got := seek(t, r, time.Hour); !strings.Contains(got, "later 499") {
		t.Errorf("at the end the screen is\n%s", got)
	}
}

func TestMarkersAndPauses(t *testing.T) {
	t.Parallel()
	w := newTape(t, nil)
	rec := w.record(80, 24)
	later := func(d time.Duration) { w.clock.Move(d) }
	later(3 * time.Second)
	must(t, rec.Output([]byte("\x1b]0;nothing to see\x07")))
	later(2 * time.Second)
	must(t, rec.Output([]byte("$ ")))
	later(500 * time.Millisecond)
	for i := range 20 { // somebody drags the corner of the window
		later(10 * time.Millisecond)
		must(t, rec.Resize(80+i, 24))
	}
	later(10 * time.Second)
	must(t, rec.Mark("noted"))
	must(t, rec.Gap(7, "disk full"))
	later(5 * time.Second)
	must(t, rec.Output([]byte("bye\r\n")))
	must(t, rec.ExitStatus(3))
	sum, err := rec.Close()
	must(t, err)
	c, err := New(recording{w.Recorder, sum.Path}).Contents(context.Background())
	must(t, err)
	var got []string
	for _, m := range c.Markers {
		got = append(got, fmt.Sprintf("%v %s %s", m.At, m.Kind, m.Label))
	}
	if want := "5.7s resize 99 × 24|15.7s note noted|15.7s gap 7 bytes are missing: disk full|20.7s end exit status 3"; strings.Join(got, "|") != want {
		t.Errorf("markers %q, want %q", got, want)
	}
	if want := []Pause{{0, 5 * time.Second}, {5700 * time.Millisecond, 20700 * time.Millisecond}}; !reflect.DeepEqual(c.Pauses, want) || c.Shown != 5*time.Second {
		t.Errorf("pauses %v, shown from %v; want %v, 5s", c.Pauses, c.Shown, want)
	}
}

// TestDamagedPart: what cannot be read is an error, and never a screen.
func TestDamagedPart(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	w := newTape(t, func(c *recorder.Config) { c.PartSize, c.Dir = 2000, folder })
	rec := w.record(80, 24)
	for i := range 500 {
		w.clock.Move(time.Second)
		must(t, rec.Output(fmt.Appendf(nil, "line %d\r\n", i)))
	}
	sum, err := rec.Close()
	must(t, err)
	name := filepath.Join(folder, filepath.FromSlash(sum.Path))
	data, err := os.ReadFile(name)
	must(t, err)
	data[len(data)/2] ^= 1
	must(t, os.WriteFile(name, data, 0o600))
	r := New(recording{w.Recorder, sum.Path})
	if _, err := r.Contents(context.Background()); !errors.Is(err, recorder.ErrDamaged) {
		t.Errorf("contents of a damaged recording: %v", err)
	}
	if _, err := r.Segment(context.Background(), 0, 0); !errors.Is(err, recorder.ErrDamaged) {
		t.Errorf("a segment of it: %v", err)
	}
}

// impatient is a Source whose reader leaves after so many parts.
type impatient struct {
	Source
	parts int
	leave func()
	read  int
}

func (s *impatient) ReadPart(ctx context.Context, p recorder.Part) ([]byte, error) {
	if s.read++; s.read == s.parts {
		s.leave()
	}
	return s.Source.ReadPart(ctx, p)
}

// TestImpatience: who leaves while a long recording is read has not had it read for nothing.
func TestImpatience(t *testing.T) {
	t.Parallel()
	w := newTape(t, func(c *recorder.Config) { c.PartSize = 2000 })
	rec := w.record(80, 24)
	for i := range 500 {
		must(t, rec.Output(fmt.Appendf(nil, "line %d\r\n", i)))
	}
	sum, err := rec.Close()
	must(t, err)
	ctx, leave := context.WithCancel(context.Background())
	src := &impatient{Source: recording{w.Recorder, sum.Path}, parts: 3, leave: leave}
	r := New(src)
	if _, err := r.Contents(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("after leaving: %v", err)
	}
	c, err := r.Contents(context.Background())
	must(t, err)
	if src.read != len(c.Starts) {
		t.Errorf("%d parts were read for %d", src.read, len(c.Starts))
	}
	followRules(t, r)
}

// TestScreensAreBounded: a stranger's screens may be large; what is kept of them is not.
func TestScreensAreBounded(t *testing.T) {
	t.Parallel()
	r := New(nil)
	for i := range 200 {
		r.add(atPart{i, strings.Repeat("x", 1<<20)})
	}
	r.add(atPart{1000, strings.Repeat("x", maxKept)})
	size := 0
	for _, k := range r.screens {
		size += len(k.Init)
	}
	if size != r.size || size > maxKept || len(r.screens) < 4 || r.screens[len(r.screens)-1].Part < 150 {
		t.Errorf("%d screens of %d bytes are kept, counted are %d", len(r.screens), size, r.size)
	}
}

// TestOpenFile: an exported recording is seekable like the recording itself.
func TestOpenFile(t *testing.T) {
	t.Parallel()
	w := newTape(t, nil)
	path := sixHours(w, 1)
	var cast bytes.Buffer
	must(t, w.Export(&cast, path, recorder.Asciicast3))
	src, err := OpenFile(bytes.NewReader(cast.Bytes()), int64(cast.Len()))
	must(t, err)
	r := New(src)
	defer r.Close()
	c, err := r.Contents(context.Background())
	must(t, err)
	moments := []time.Duration{0, time.Hour, 3*time.Hour + 7*time.Minute, 7 * time.Hour}
	want := shown(t, w, path, moments)
	for i, moment := range moments {
		if got := seek(t, r, moment); got != want[i] {
			t.Errorf("at %v:\n%s\nwant\n%s", moment, got, want[i])
		}
	}
	whole, err := New(recording{w.Recorder, path}).Contents(context.Background())
	must(t, err)
	if !reflect.DeepEqual(c.Markers, whole.Markers) || !reflect.DeepEqual(c.Pauses, whole.Pauses) || c.Open {
		t.Errorf("%d markers and %d pauses in the file, %d and %d in the recording, or others", len(c.Markers), len(c.Pauses), len(whole.Markers), len(whole.Pauses))
	}
	for _, bad := range []string{"", "x", "{}\n", `{"version":2}` + "\n", `{"version":3}` + "\nnonsense\n", `{"version":3}` + "\n" + `[1,"b","!"]` + "\n" + `[1,"o","x"]` + "\n"} {
		src, err := OpenFile(strings.NewReader(bad), int64(len(bad)))
		if err == nil {
			_, err = New(src).Contents(context.Background())
		}
		if err == nil {
			t.Errorf("%q was opened", bad)
		}
	}
}
