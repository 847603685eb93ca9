package screen_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sallyport/screen"
)

func print(s *screen.Screen, text string) { _, _ = s.Write([]byte(text)) }

func TestScreen(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		printed string
		lines   []string
	}{
		"text":            {"one\r\ntwo", []string{"one", "two", ""}},
		"colours":         {"r\x1b[31mm \x1b[1m-r\x1b[mf", []string{"rm -rf", "", ""}},
		"carriage return": {"50 %\r100 %", []string{"100 %", "", ""}},
		"cursor":          {"\x1b[2;3Hx\x1b[Hy", []string{"y", "  x", ""}},
		"wide":            {"世界!", []string{"世界!", "", ""}},
		"combining":       {"e\u0301!", []string{"e\u0301!", "", ""}},
		"line drawing":    {"\x1b(0lqk\x1b(B x", []string{"┌─┐ x", "", ""}},
		"wrapped":         {"0123456789ab", []string{"0123456789", "ab", ""}},
		"back":            {"main\x1b[?1049h\x1b[Halt\x1b[?1049l", []string{"main", "", ""}},
	} {
		s := screen.New(10, 3)
		print(s, c.printed)
		if got := s.Lines(); !slices.Equal(got, c.lines) {
			t.Errorf("%s: %q, not %q", name, got, c.lines)
		}
		s.Close()
	}
}

func TestScrolledLines(t *testing.T) {
	t.Parallel()
	s := screen.New(20, 3)
	var gone []string
	s.OnScroll(func(line string) { gone = append(gone, line) })
	for i := range 5000 {
		print(s, fmt.Sprintf("\x1b[3%dmline %d\x1b[m\r\n", i%8, i))
	}
	if len(gone) != 4998 || gone[0] != "line 0" || gone[4997] != "line 4997" {
		t.Fatalf("%d lines have scrolled off, from %q", len(gone), gone[:min(len(gone), 3)])
	}
	print(s, "\x1b[?1049h"+strings.Repeat("full screen\r\n", 10)+"\x1b[?1049l")
	if len(gone) != 4998 {
		t.Fatalf("lines of a full-screen program were taken for ones that scrolled off: %q", gone[4998:])
	}
}

// Programs ask the terminal things, and nobody answers here: that must not hold the emulator.
func TestQuestions(t *testing.T) {
	t.Parallel()
	s := screen.New(80, 24)
	print(s, strings.Repeat("\x1b[c\x1b[6n\x1b[>c\x1b[?u\x1b]10;?\x07\x1b]11;?\x1b\\\x05\x1b[?2048h", 1000)+"\x1b[2J\x1b[Hend")
	if got := s.Lines()[0]; got != "end" {
		t.Fatalf("the first line is %q", got)
	}
}

// A snapshot on a fresh screen gives the same screen, and what is printed next does the same to both.
func TestSnapshot(t *testing.T) {
	t.Parallel()
	pieces := []string{
		"word ", "\r\n", "\n", "\t", "\b", "é", "e\u0301", "\x1b[31m", "\x1b[1;44m", "\x1b[m", "\x1b[H", "\x1b[5;10H", "\x1b[2J", "\x1b[K", "\x1b[1J",
		"\x1b[2;6r", "\x1b[r", "\x1b[L", "\x1b[2M", "\x1b[3P", "\x1b[4@", "\x1b[S", "\x1b[T", "\x1bM", "\x1b[4h", "\x1b[4l", "\x1b[?25l", "\x1b[?25h",
		"\x1b(0lqk", "\x1b(B", "\x1b[?1049h", "\x1b[?1049l", "\x1b]0;title\x07", "\x1b[A", "\x1b[C", "\x1bc", "\x1b[7m", "\x1b]8;;https://a.example\x1b\\x\x1b]8;;\x1b\\",
	}
	rapid.Check(t, func(t *rapid.T) {
		gen := rapid.SliceOfN(rapid.SampledFrom(pieces), 0, 60)
		a := screen.New(20, 8)
		defer a.Close()
		print(a, strings.Join(gen.Draw(t, "before"), ""))
		// Whether the next character wraps is not in a snapshot, so go where it does not.
		print(a, fmt.Sprintf("\r\x1b[%dC", rapid.IntRange(1, 18).Draw(t, "column")))
		b := screen.New(a.Size())
		defer b.Close()
		print(b, string(a.Snapshot()))
		same(t, a, b, "at once")
		print(b, "\x1b7")
		print(a, "\x1b7") // a saved cursor is not in a snapshot
		after := strings.Join(gen.Draw(t, "after"), "")
		print(a, after)
		print(b, after)
		same(t, a, b, "later")
	})
}

func same(t *rapid.T, a, b *screen.Screen, when string) {
	ax, ay := a.Cursor()
	bx, by := b.Cursor()
	if !slices.Equal(a.Lines(), b.Lines()) || ax != bx || ay != by || a.AltScreen() != b.AltScreen() {
		t.Fatalf("%s they differ:\n%s\n(cursor %d, %d, %v)\n\n%s\n(cursor %d, %d, %v)", when, strings.Join(a.Lines(), "|\n"), ax, ay, a.AltScreen(), strings.Join(b.Lines(), "|\n"), bx, by, b.AltScreen())
	}
	if string(a.Snapshot()) != string(b.Snapshot()) {
		t.Fatalf("%s the snapshots differ:\n%q\n%q", when, a.Snapshot(), b.Snapshot())
	}
}

// Whatever is printed, the emulator's faults stay inside.
func TestJunk(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 1))
		s := screen.New(1+r.IntN(200), 1+r.IntN(60))
		const alphabet = "\x1b\x1b\x1b[[]P_^X?>=!$ ;;:0123456789hlmrJKHfABCDLMPST@Xbcdnqstuwxz()\\\x07\x9b\x9d\r\n\t\b\x0e\x0f世e\u0301"
		for range 400 {
			p := make([]byte, r.IntN(64))
			for i := range p {
				p[i] = alphabet[r.IntN(len(alphabet))]
			}
			_, _ = s.Write(p)
			if r.IntN(20) == 0 {
				s.Resize(r.IntN(300)-10, r.IntN(100)-10)
			}
			if r.IntN(20) == 0 {
				s.Snapshot()
				s.Lines()
			}
		}
		s.Close()
	}
}

func FuzzScreen(f *testing.F) {
	f.Add([]byte("\x1b[31mred\x1b[m\r\n\x1b[?1049h\x1b[5;5Hx"))
	f.Add([]byte("\x1b]8;;javascript:alert(1)\x07x\x1b[999999999b\x1b[2;1r\x1b[-1;99999H"))
	f.Fuzz(func(t *testing.T, p []byte) {
		s := screen.New(40, 10)
		defer s.Close()
		_, _ = s.Write(p)
		s.Resize(len(p)%90, len(p)%40)
		_, _ = s.Write(p)
		b := screen.New(s.Size())
		defer b.Close()
		_, _ = b.Write(s.Snapshot())
	})
}

func BenchmarkWrite(b *testing.B) {
	s := screen.New(80, 24)
	line := []byte("\x1b[32muser@host\x1b[m:\x1b[34m~/src\x1b[m$ ls -la | grep something --color=always\r\n")
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		_, _ = s.Write(line)
	}
}

func BenchmarkSnapshot(b *testing.B) {
	s := screen.New(80, 24)
	print(s, strings.Repeat("\x1b[32muser@host\x1b[m:\x1b[34m~/src\x1b[m$ ls -la\r\n", 30))
	for b.Loop() {
		s.Snapshot()
	}
}
