package recorder

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sallyport/internal/testenv"

	"github.com/zeebo/blake3"
	"pgregory.net/rapid"
)

// checkCast fails unless the file is asciicast v3 to encoding/json, as a player reads it. It
// returns the number of events.
func checkCast(t testing.TB, file string) int {
	t.Helper()
	content := readFile(t, file)
	if !bytes.HasSuffix(content, []byte("\n")) {
		t.Fatalf("%s does not end with a whole line: %q", file, content[max(0, len(content)-80):])
	}
	lines := bytes.Split(bytes.TrimSuffix(content, []byte("\n")), []byte("\n"))
	var header struct {
		Version int
		Term    struct{ Cols, Rows int }
	}
	if err := json.Unmarshal(lines[0], &header); err != nil || header.Version != 3 || header.Term.Cols < 1 || header.Term.Rows < 1 {
		t.Fatalf("header %s: %v", lines[0], err)
	}
	for _, line := range lines[1:] {
		var interval float64
		var code, data string
		if err := json.Unmarshal(line, &[]any{&interval, &code, &data}); err != nil || interval < 0 || len(code) != 1 {
			t.Fatalf("event %s: %v", line, err)
		}
	}
	return len(lines) - 1
}

func TestValidAfterEveryEvent(t *testing.T) {
	t.Parallel()
	r := newRecorder(t, nil)
	w := create(t, r, Header{Kind: "exec", Command: "make"})
	file := fileOf(r, w.Path())
	if n := checkCast(t, file); n != 0 {
		t.Errorf("%d events before the first", n)
	}
	for i, step := range []func() error{
		func() error { return w.Output([]byte("hello\r\n")) },
		func() error { return w.Output([]byte("caf\xc3")) },
		func() error { return w.Stderr([]byte("oops\xff")) },
		func() error { return w.Output([]byte("\xa9")) },
		func() error { return w.Input([]byte("y\n")) },
		func() error { return w.Resize(100, 30) },
		func() error { return w.Mark("here \xff\n") },
		func() error { return w.Gap(12, "reason") },
		func() error { return w.Output(bytes.Repeat([]byte("x\x00\xff"), 100_000)) },
		func() error { return w.ExitSignal("TERM") },
		func() error { return w.ExitStatus(255) },
	} {
		before := checkCast(t, file)
		if err := step(); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		if after := checkCast(t, file); after <= before {
			t.Errorf("step %d wrote no event", i)
		}
	}
	sum := closed(t, w)
	if sum.Kept != 7+4+5+1+300_000 || sum.Counted != sum.Kept || sum.Lost != 0 || sum.Input != 2 || sum.Truncated {
		t.Errorf("summary %+v", sum)
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the asciicast is still there: %v", err)
	}
	report, err := r.Verify(sum.Path)
	if err != nil || !report.Complete() || report.Root != sum.Root {
		t.Errorf("verify: %+v, %v", report, err)
	}
}

// TestExactBytes records random bytes in random chunks and reads them back, open and sealed.
func TestExactBytes(t *testing.T) {
	t.Parallel()
	r := newRecorder(t, func(c *Config) { c.PartSize = 300 })
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		w, err := r.Create(Header{Session: fmt.Sprintf("s%d", n)})
		if err != nil {
			t.Fatal(err)
		}
		var want [3][]byte
		var passed []byte
		for range rapid.IntRange(0, 30).Draw(t, "chunks") {
			p := anyBytes().Draw(t, "p")
			if rapid.IntRange(0, 5).Draw(t, "binary") == 0 {
				p = append(rapid.SliceOfN(rapid.Byte(), 60, 300).Draw(t, "more"), 0)
			}
			s := rapid.IntRange(0, 2).Draw(t, "stream")
			want[s] = append(want[s], p...)
			if s < 2 {
				passed = append(passed, p...)
			}
			if err := []func([]byte) error{w.Output, w.Stderr, w.Input}[s](p); err != nil {
				t.Fatal(err)
			}
		}
		check := func(path string) {
			reader, err := r.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer reader.Close()
			all, err := allEvents(reader)
			if err != nil {
				t.Fatal(err)
			}
			for s, code := range []string{"o", "e", "i"} {
				if got := dataOf(all, code); !bytes.Equal(got, want[s]) {
					t.Fatalf("%s: stream %s: got %q want %q", path, code, got, want[s])
				}
			}
			if got := dataOf(all, "oe"); !bytes.Equal(got, passed) {
				t.Fatalf("%s: the streams are not in order", path)
			}
		}
		check(w.Path())
		sum, err := w.Close()
		if err != nil {
			t.Fatal(err)
		}
		check(sum.Path)
		check(w.Path()) // stays good
		hash := sha256.Sum256(passed)
		if sum.SHA256 != hex.EncodeToString(hash[:]) || sum.Kept != int64(len(passed)) || sum.Counted != sum.Kept || sum.Input != int64(len(want[2])) {
			t.Fatalf("summary %+v of %d bytes", sum, len(passed))
		}
		if report, err := r.Verify(sum.Path); err != nil || !report.Complete() {
			t.Fatalf("verify: %+v, %v", report, err)
		}
	})
}

// TestBulk: chunks far longer than an event, text and not, come back exact.
func TestBulk(t *testing.T) {
	t.Parallel()
	r := newRecorder(t, nil)
	w := create(t, r, Header{})
	random := make([]byte, 3<<20)
	source := rand.NewChaCha8([32]byte{1})
	source.Read(random)
	want := slices.Concat(bytes.Repeat([]byte("€"), 1<<20), random, bytes.Repeat([]byte{0}, 1<<20))
	for p := want; len(p) > 0; {
		n := min(len(p), 1+int(source.Uint64()%200_000))
		must(t, w.Output(p[:n]))
		p = p[n:]
	}
	sum := closed(t, w)
	if got := dataOf(events(t, r, sum.Path), "o"); !bytes.Equal(got, want) {
		t.Errorf("%d bytes went in, %d other ones came out", len(want), len(got))
	}
	report, err := r.Verify(sum.Path)
	if err != nil || !report.Complete() || report.Parts < 10 {
		t.Errorf("verify: %+v, %v", report, err)
	}
}

// TestBinary: what nobody could read is kept exactly, once, and not as text; what a terminal draws
// is always text.
func TestBinary(t *testing.T) {
	t.Parallel()
	random := make([]byte, 100_000)
	rand.NewChaCha8([32]byte{2}).Read(random)
	for _, tt := range []struct {
		name   string
		term   string
		data   []byte
		binary bool
	}{
		{"zeros", "", make([]byte, 300_000), true},
		{"random", "", random, true},
		{"controls", "", bytes.Repeat([]byte("\x01\x02abc"), 20_000), true},
		{"with a rune cut before", "", slices.Concat([]byte("€\xe2"), make([]byte, 300)), true},
		{"zeros on a terminal", "xterm", make([]byte, 300_000), false},
		{"few zeros", "", make([]byte, minBinary-1), false},
		{"names ended by NUL", "", bytes.Repeat([]byte("./src/café/main.go\x00"), 5000), false},
		{"colours", "", bytes.Repeat([]byte("\x1b[1ma\x1b[m\tb\r\n"), 5000), false},
		{"Latin-1", "", bytes.Repeat([]byte("Stra\xdfe\n"), 5000), false},
		{"text", "", bytes.Repeat([]byte("€"), 50_000), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRecorder(t, nil)
			w := create(t, r, Header{Term: tt.term})
			must(t, w.Output([]byte("before\xe2")))
			must(t, w.Stderr(tt.data))
			size := len(readFile(t, fileOf(r, w.Path())))
			must(t, w.Output([]byte("after\n")))
			checkCast(t, fileOf(r, w.Path()))
			all := events(t, r, w.Path())
			if got := dataOf(all, "e"); !bytes.Equal(got, tt.data) {
				t.Errorf("%d bytes went in, %d other ones came out", len(tt.data), len(got))
			}
			if got := dataOf(all, "o"); string(got) != "before\xe2after\n" {
				t.Errorf("the other stream has %q", got)
			}
			if once := size < len(tt.data)*11/8+500; tt.binary && !once {
				t.Errorf("%d bytes take %d in the file", len(tt.data), size)
			}
			text, note := export(t, r, w.Path(), Text), fmt.Sprintf("[%d bytes that are not text]\n", len(tt.data))
			if got := strings.Count(text, note); (got == 1) != tt.binary || got > 1 {
				t.Errorf("the note stands %d times in %.200q", got, text)
			}
			if sum := closed(t, w); sum.Kept != int64(len(tt.data)+13) || sum.SHA256 == "" {
				t.Errorf("summary %+v", sum)
			}
		})
	}
}

// TestTimesDoNotDrift: after many intervals that no microsecond holds exactly, the sum of what was
// written is still the time that passed; a clock set back makes no negative interval.
func TestTimesDoNotDrift(t *testing.T) {
	t.Parallel()
	clock := testenv.NewClock(time.Date(2026, 11, 23, 23, 59, 59, 999_999_999, time.UTC))
	r := newRecorder(t, func(c *Config) { c.Now = clock.Now; c.Sync = 20 * time.Hour; c.PartAge = 100 * time.Hour })
	w := create(t, r, Header{})
	var passed time.Duration
	for range 20_000 {
		const step = 333*time.Microsecond + 333*time.Nanosecond
		clock.Move(step)
		passed += step
		must(t, w.Output([]byte("x")))
	}
	clock.Move(-time.Hour)
	must(t, w.Output([]byte("the clock was set back")))
	clock.Move(26 * time.Hour)
	passed += 25 * time.Hour
	must(t, w.Output([]byte("a day later")))

	sum := closed(t, w)
	all := events(t, r, sum.Path)
	if !slices.IsSortedFunc(all, func(a, b Event) int { return int(a.At - b.At) }) {
		t.Error("times go back")
	}
	if got := all[len(all)-1].At; (got - passed).Abs() > time.Microsecond {
		t.Errorf("the events say that %v passed, it was %v", got, passed)
	}
	if sum.Duration.Round(time.Microsecond) != all[len(all)-1].At {
		t.Errorf("duration %v, last event at %v", sum.Duration, all[len(all)-1].At)
	}
	if want := "2026/11/23/01-test/0.cast"; w.Path() != want {
		t.Errorf("path %s, want %s", w.Path(), want)
	}
}

func TestLimit(t *testing.T) {
	t.Parallel()
	r := newRecorder(t, nil)
	w := create(t, r, Header{Limit: 10})
	var passed []byte
	for i, p := range []string{"12345", "€€", "lost", "more"} {
		passed = append(passed, p...)
		if i%2 == 0 {
			must(t, w.Output([]byte(p)))
		} else {
			must(t, w.Stderr([]byte(p)))
		}
		if got, want := w.Truncated(), i > 0; got != want {
			t.Errorf("after %q: truncated %v", p, got)
		}
	}
	must(t, w.Input([]byte("not kept either")))
	must(t, w.ExitStatus(0))
	sum := closed(t, w)
	hash, beyond := sha256.Sum256(passed[:10]), blake3.Sum256(passed[10:])
	if sum.BLAKE3 != hex.EncodeToString(beyond[:]) || sum.Kept != 10 || sum.Counted != int64(len(passed)) || sum.Lost != 0 || sum.Input != 15 || !sum.Truncated || sum.SHA256 != hex.EncodeToString(hash[:]) {
		t.Errorf("summary %+v", sum)
	}
	all := events(t, r, sum.Path)
	if got := dataOf(all, "oei"); !bytes.Equal(got, passed[:10]) {
		t.Errorf("kept %q", got)
	}
	if n := len(all); all[n-2].Code != CodeLimit || all[n-2].Text != "10" || all[n-1].Code != CodeExit {
		t.Errorf("the last events are %+v", all[n-2:])
	}

	exact := create(t, r, Header{Channel: 1, Limit: 10})
	must(t, exact.Output([]byte("0123456789")))
	if sum := closed(t, exact); sum.Truncated || sum.BLAKE3 != "" {
		t.Error("exactly the limit counts as truncated")
	}
}

func TestResize(t *testing.T) {
	t.Parallel()
	r := newRecorder(t, nil)
	w := create(t, r, Header{Width: 70_000, Height: -3})
	for _, size := range [][2]int{{1000, 24}, {80, 24}, {80, 24}, {0, 50}, {65535, 65535}, {90, 0}, {-1, -1}} {
		must(t, w.Resize(size[0], size[1]))
	}
	var got []string
	for _, e := range events(t, r, closed(t, w).Path) {
		got = append(got, e.Text)
	}
	if want := []string{"80x24", "80x50", "1000x1000", "90x1000"}; !slices.Equal(got, want) {
		t.Errorf("got %v want %v", got, want)
	}
}

func TestCreateRefuses(t *testing.T) {
	t.Parallel()
	r := newRecorder(t, nil)
	for _, h := range []Header{
		{Session: ""}, {Session: ".."}, {Session: "a/b"}, {Session: "a\x00"}, {Session: "../../etc"}, {Session: "a.b"}, {Session: "é"},
		{Session: strings.Repeat("a", 65)}, {Session: "a\n"}, {Session: "a", Channel: -1}, {Session: "a", Channel: 10_000},
		{Session: "a", Started: time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)}, {Session: "a", Started: time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		if _, err := r.Create(h); !errors.Is(err, ErrPath) {
			t.Errorf("%+v: got %v", h, err)
		}
	}
	w := create(t, r, Header{})
	if _, err := r.Create(Header{Session: "01-test"}); !errors.Is(err, ErrExists) {
		t.Errorf("a second recording of a channel: %v", err)
	}
	closed(t, w)
	if _, err := r.Create(Header{Session: "01-test"}); !errors.Is(err, ErrExists) {
		t.Errorf("a second recording of a sealed channel: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(r.cfg.Dir, "*/*/*/*/*")); err != nil || len(left) != 2 {
		t.Errorf("files %v, %v", left, err)
	}
}

func TestModes(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new")
	r := newRecorder(t, func(c *Config) { c.Dir = dir })
	must(t, create(t, r, Header{}).Output([]byte("x")))
	closed(t, create(t, r, Header{Channel: 1}))
	must(t, filepath.Walk(dir, func(name string, st os.FileInfo, err error) error {
		if err == nil && st.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", name, st.Mode())
		}
		return err
	}))
}

func TestAfterClose(t *testing.T) {
	t.Parallel()
	r := newRecorder(t, nil)
	w := create(t, r, Header{})
	must(t, w.Output([]byte("x")))
	sum := closed(t, w)
	for name, err := range map[string]error{
		"Output": w.Output([]byte("y")), "Stderr": w.Stderr(nil), "Input": w.Input([]byte("y")), "Resize": w.Resize(1, 1), "Mark": w.Mark(""),
		"Gap": w.Gap(1, ""), "ExitStatus": w.ExitStatus(0), "ExitSignal": w.ExitSignal("KILL"),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	again, err := w.Close()
	if err != nil || again != sum {
		t.Errorf("closed again: %+v, %v", again, err)
	}
	if err := w.Err(); err != nil {
		t.Errorf("Err: %v", err)
	}
	select {
	case <-w.Failed():
		t.Error("a closed recording counts as failed")
	default:
	}
}

// TestManyGoroutines writes from several goroutines and closes in the middle: each chunk is in the
// recording if and only if its call returned nil.
func TestManyGoroutines(t *testing.T) {
	t.Parallel()
	r := newRecorder(t, func(c *Config) { c.PartSize = 4 << 10; c.PartAge = time.Millisecond; c.Sync = time.Millisecond })
	var group sync.WaitGroup
	for n := range 8 {
		w := create(t, r, Header{Channel: n})
		written := make([]int, 4)
		for g := range written {
			group.Go(func() {
				for ; ; written[g]++ {
					err := w.Output(fmt.Appendf(nil, "%d:%d\n", g, written[g]))
					if errors.Is(err, ErrClosed) {
						return
					}
					if err != nil {
						t.Errorf("output: %v", err)
						return
					}
				}
			})
		}
		group.Go(func() {
			for got := 0; got < 3000; {
				reader, err := r.Open(w.Path())
				if err != nil {
					t.Errorf("open: %v", err)
					return
				}
				all, err := allEvents(reader)
				if reader.Close(); err != nil || len(all) < got {
					t.Errorf("reading along: %d events, %v", len(all), err)
					return
				}
				got = len(all)
			}
			sum, err := w.Close()
			if err != nil {
				t.Errorf("close: %v", err)
			}
			if report, err := r.Verify(sum.Path); err != nil || !report.Complete() {
				t.Errorf("verify: %+v, %v", report, err)
			}
		})
		t.Cleanup(func() {
			got := make([]int, 4)
			lines := bufio.NewScanner(bytes.NewReader(dataOf(events(t, r, w.Path()), "o")))
			for lines.Scan() {
				var g, i int
				if _, err := fmt.Sscanf(lines.Text(), "%d:%d", &g, &i); err != nil || i != got[g] {
					t.Fatalf("line %q where %d was to come: %v", lines.Text(), got[g], err)
				}
				got[g]++
			}
			if !slices.Equal(got, written) {
				t.Errorf("recorded %v, written %v", got, written)
			}
		})
	}
	group.Wait()
}

// TestIdleMemory: a thousand sessions in which nobody types must not hold buffers.
func TestIdleMemory(t *testing.T) {
	r := newRecorder(t, func(c *Config) { c.PartAge = 10 * time.Millisecond })
	const count = 600
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc + m.StackInuse)
	}
	packed := func(w *Recording) {
		t.Helper()
		eventually(t, "the part to be packed", func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.partStart == w.size && len(w.cuts) == 0 && w.dirtySince == clean && w.syncingSince == clean
		})
	}
	idle := func(first, n int) []*Recording {
		t.Helper()
		all := make([]*Recording, n)
		for i := range all {
			all[i] = create(t, r, Header{Channel: first + i, Term: "xterm"})
			must(t, all[i].Output([]byte(strings.Repeat("$ ", 10_000))))
		}
		for _, w := range all {
			packed(w)
		}
		return all
	}
	// What all recordings share, the encoder's windows above all, is not counted: it is there before the first look.
	first := idle(0, 100)
	before := heap()
	all := idle(len(first), count)
	var each int64
	for deadline := time.Now().Add(time.Minute); ; {
		if each = (heap() - before) / count; each < 4<<10 {
			break
		}
		if time.Now().After(deadline) {
			var b strings.Builder
			if err := pprof.Lookup("heap").WriteTo(&b, 1); err != nil {
				t.Error(err)
			}
			t.Fatalf("an idle recording holds %d bytes, where 4096 are too many; the heap:\n%.20000s", each, b.String())
		}
	}
	t.Logf("an idle recording holds %d bytes", each)
	runtime.KeepAlive(first)
	runtime.KeepAlive(all)
}

func TestOutputDoesNotAllocate(t *testing.T) {
	r := newRecorder(t, func(c *Config) { c.Sync = time.Hour; c.PartSize = maxPartSize })
	w := create(t, r, Header{})
	chunk := []byte(strings.Repeat("total 0 \x1b[1m€\x1b[0m\r\n", 10))
	if n := testing.AllocsPerRun(1000, func() { must(t, w.Output(chunk)) }); n >= 1 {
		t.Errorf("%v allocations for a chunk", n)
	}
}

// TestOneWrite counts the system calls of an event: what is written can be torn only in between.
func TestOneWrite(t *testing.T) {
	t.Parallel()
	var writes atomic.Int32
	r := newRecorder(t, func(c *Config) {
		c.testingFault = func(op, path string) error {
			if op == "write" && strings.HasSuffix(path, castSuffix) {
				writes.Add(1)
			}
			return nil
		}
	})
	w := create(t, r, Header{})
	writes.Store(0)
	must(t, w.Output([]byte("caf\xc3")))
	must(t, w.Stderr([]byte("\xff€\xe2")))
	must(t, w.Mark("x"))
	if n := writes.Load(); n != 3 {
		t.Errorf("%d writes for 3 calls", n)
	}
	closed(t, w)
}

func TestReserve(t *testing.T) {
	t.Parallel()
	r := newRecorder(t, func(c *Config) { c.Reserve = 1 << 60 })
	if _, err := r.Create(Header{Session: "a"}); !errors.Is(err, ErrReserve) {
		t.Errorf("got %v", err)
	}
	if left, _ := os.ReadDir(r.cfg.Dir); len(left) != 0 {
		t.Errorf("left %v", left)
	}
	free, err := r.Free()
	var st syscall.Statfs_t
	must(t, errors.Join(err, syscall.Statfs(r.cfg.Dir, &st)))
	if diff := free - int64(st.Bavail)*st.Bsize; max(diff, -diff) > 1<<30 {
		t.Errorf("%d bytes free, statfs says %d", free, int64(st.Bavail)*st.Bsize)
	}
}
