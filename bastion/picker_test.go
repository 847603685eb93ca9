package bastion

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"sallyport/auth"
	"sallyport/store"
)

func reach(names ...string) []auth.Decision {
	var list []auth.Decision
	for _, n := range names {
		d := auth.Decision{Target: store.Target{Name: n, Labels: map[string]string{"env": "prod"}}, Account: "root"}
		d.Allow, d.Channels = true, []string{"shell"}
		list = append(list, d)
	}
	return list
}

// Ensure what was used last comes first and the rest keeps its order, and that what has no shell is left out.
func TestChoicesLastUsedFirst(t *testing.T) {
	t.Parallel()
	now := time.Now()
	list := reach("web1", "web2", "web10", "files")
	list[3].Channels = []string{"sftp"}
	got := choices("alice", list, []store.Session{
		{Target: "web10", Account: "root", Started: now}, {Target: "web2", Account: "other", Started: now}, {Target: "web2", Account: "root", Started: now.Add(-time.Hour)},
		{Target: "web10", Account: "root", Started: now.Add(-2 * time.Hour)}, {Target: "gone", Account: "root", Started: now},
	})
	var names []string
	for _, c := range got {
		names = append(names, c.target)
	}
	if fmt.Sprint(names) != "[web10 web2 web1]" {
		t.Errorf("got %v", names)
	}
}

var sequence = regexp.MustCompile("\x1b\\[[0-9;?]*[a-zA-Z]")

// Ensure that at any size the screen fills the window exactly and never a line more, and that the cursor's
// line is on it.
func TestPickerFitsWindow(t *testing.T) {
	t.Parallel()
	var names []string
	for i := range 60 {
		names = append(names, fmt.Sprintf("host%d%s", i, strings.Repeat("-long", i%12)), "名前"+strings.Repeat("長", i%20))
	}
	// One that was used not long ago has the time of that on its line.
	var used []store.Session
	for i, n := range names {
		used = append(used, store.Session{Target: n, Account: "root", Started: time.Now().Add(-time.Duration(i) * 7 * time.Hour)})
	}
	used = append(used, store.Session{Target: names[0], Account: "root"})
	long := strings.Repeat("There is no target web1, or no rule lets you in from here. ", 3) + strings.Repeat("x", 300)
	for _, size := range [][2]int{{80, 24}, {40, 10}, {20, 6}, {20, 5}, {200, 60}, {81, 13}, {81, 14}} {
		for _, message := range []string{"", "short", long} {
			for _, filter := range []string{"", "host1", strings.Repeat("名", maxFilter), "nothing"} {
				p := picker{user: "alice", cols: size[0], rows: size[1], now: time.Now(), colour: true}
				p.fill(choices("alice", reach(names...), used))
				p.setFilter([]rune(filter))
				p.message = message
				for range 3 {
					p.key(key{name: keyPageDown})
				}
				screen := p.screen()
				lines := strings.Split(screen, "\r\n")
				if len(lines) != size[1] {
					t.Errorf("%v, filter %.10q, message %.10q: %d lines", size, filter, message, len(lines))
				}
				marked := 0
				for _, l := range lines {
					plain := sequence.ReplaceAllString(l, "")
					if w := textWidth(plain); w >= size[0] {
						t.Errorf("%v: %d columns in %q", size, w, plain)
					}
					if strings.HasPrefix(plain, "> ") {
						marked++
					}
				}
				if want := min(1, len(p.shown)); marked != want {
					t.Errorf("%v: %d lines are marked, want %d", size, marked, want)
				}
			}
		}
	}
}

// A window that is too small for the menu shows what Enter opens, and what is typed, and neither wraps nor scrolls. It once got
// the lines of a window of 20 columns and 5 lines.
func TestPickerSmallWindows(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("There is no target web1, or no rule lets you in from here. ", 3)
	for _, size := range [][2]int{{1, 1}, {2, 1}, {1, 50}, {200, 1}, {200, 2}, {200, 4}, {19, 50}, {10, 3}, {5, 5}} {
		for _, message := range []string{"", long} {
			for _, filter := range []string{"", "web1", strings.Repeat("名", maxFilter), "nothing"} {
				p := picker{user: "alice", cols: size[0], rows: size[1], now: time.Now(), colour: true}
				p.fill(choices("alice", reach("web1", "web2", "web10"), nil))
				p.setFilter([]rune(filter))
				p.key(key{name: keyDown})
				p.message = message
				lines := strings.Split(p.screen(), "\r\n")
				if len(lines) > size[1] {
					t.Errorf("%v: %d lines", size, len(lines))
				}
				text := ""
				for _, l := range lines {
					plain := sequence.ReplaceAllString(l, "")
					if w := textWidth(plain); w >= size[0] {
						t.Errorf("%v: %d columns in %q", size, w, plain)
					}
					text += plain + "\n"
				}
				if len(p.shown) > 0 && message == "" && size[0] > 15 && !strings.Contains(text, "> root@"+p.shown[p.cursor].target) {
					t.Errorf("%v, filter %.10q: what Enter opens is not seen: %q", size, filter, text)
				}
				if message != "" && size[0] > 15 && !strings.Contains(text, "There is no") {
					t.Errorf("%v: the message is not seen: %q", size, text)
				}
				if p.key(key{name: keyUp}); p.message != "" {
					t.Errorf("%v: the message stays in the place of the list", size)
				}
			}
		}
	}
}

// What is pasted is looked for, and its line ends open nothing: the rest would be typed into what they open.
func TestPickerPaste(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		in, filter string
		opens      bool
		leaves     bool
	}{
		{"\x1b[200~we\rb1\n\x1b[201~", "we b1 ", false, false},
		{"\x1b[200~web1\n\x1b[201~\r", "web1 ", true, false},
		{"\x1b[200~web1\x04\x15\x17\x12\x1b[A\x1b[201~\r", "web1", true, false},
		{"\x1b[200~web1\x1b\r", "web1", true, false}, // the end never came: Esc
		{"\x1b[200~web1\x03", "web1", false, true},
		{"\x1b[201~web1\r", "web1", true, false},
	} {
		p := picker{user: "alice", cols: 80, rows: 24}
		p.fill(choices("alice", reach("web1", "web2"), nil))
		got, keys := wishNothing, []byte(x.in)
		for len(keys) > 0 && got == wishNothing {
			k, n := nextKey(keys, true)
			keys, got = keys[n:], p.key(k)
		}
		if string(p.filter) != x.filter || (got == wishOpen) != x.opens || (got == wishLeave) != x.leaves || len(keys) > 0 {
			t.Errorf("%q: filter %q, wish %d, left %q", x.in, string(p.filter), got, keys)
		}
	}
}

// A target with a name as long as names can be once had the column of names take the whole line, so that no target
// showed its labels; and where the menu showed besides when a target was last used, every line was longer than the window,
// and each second one was lost.
func TestPickerLongName(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 63)
	p := picker{user: "alice", cols: 80, rows: 24, now: time.Now()}
	p.fill(choices("alice", reach("web1", "web2", long), []store.Session{{Target: "web1", Account: "root", Started: p.now.Add(-time.Hour)}}))
	lines := strings.Split(sequence.ReplaceAllString(p.screen(), ""), "\r\n")
	want := []string{"> web1  root  env=prod", "  web2  root  env=prod", "  " + strings.Repeat("x", 60) + "~  root"}
	for i, w := range want {
		if got := strings.TrimRight(lines[3+i], " "); !strings.HasPrefix(got, w) {
			t.Errorf("line %d is %q, want %q", i, got, w)
		}
	}
	if !strings.HasSuffix(lines[3], " 1 h ago ") {
		t.Errorf("the last use is not at the end of %q", lines[3])
	}
}

// Ensure keys are told apart however they arrive: one byte at a time, several at once, cut in the middle.
func TestNextKey(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		in   string
		want key
		n    int
	}{
		{"a", key{char: 'a'}, 1}, {"éx", key{char: 'é'}, 2}, {"\xc3", key{}, 0}, {"\xff", key{}, 1}, {"\r", key{name: keyEnter}, 1},
		{"\x7f", key{name: keyBackspace}, 1}, {"\x03", key{name: keyInterrupt}, 1}, {"\x1b", key{}, 0}, {"\x1b[", key{}, 0},
		{"\x1b[A", key{name: keyUp}, 3}, {"\x1bOB", key{name: keyDown}, 3}, {"\x1bO", key{}, 0}, {"\x1b[1;5B", key{name: keyDown}, 6},
		{"\x1b[5~", key{name: keyPageUp}, 4}, {"\x1b[200~x", key{name: keyPaste}, 6}, {"\x1b[201~", key{name: keyPasteEnd}, 6}, {"\x1b[202~x", key{}, 6}, {"\x1bx", key{name: keyEscape}, 1}, {"\x1b\x1b", key{name: keyEscape}, 1},
		{"\x1bOM", key{name: keyEnter}, 3}, {"\x1b[M !!\r", key{}, 6}, {"\x1b[M !", key{}, 0}, {"\x1b[<0;10;10M\r", key{}, 11}, {"\x1b[<0;10;10m", key{}, 11},
		{"\x1b[24;80R", key{}, 8}, {"\x1b]11;rgb:0000/0000/0000\x07x", key{}, 24}, {"\x1bP>|xterm(390)\x1b\\x", key{}, 16}, {"\x1b]11;rgb", key{}, 0},
		{"\x1b]a\r", key{name: keyEscape}, 1}, {"\x1bP" + strings.Repeat("1", 300), key{name: keyEscape}, 1},
		{"\x1b[" + strings.Repeat("1", 200), key{}, maxSequence}, {"\u202e", key{}, 3}, {"\u0085", key{}, 2},
	} {
		if got, n := nextKey([]byte(x.in), false); got != x.want || n != x.n {
			t.Errorf("%q: got %+v, %d; want %+v, %d", x.in, got, n, x.want, x.n)
		}
	}
	if got, n := nextKey([]byte("\x1b]x"), true); got.name != keyEscape || n != 1 {
		t.Errorf("ESC ] alone: %+v, %d", got, n)
	}
	if got, n := nextKey([]byte("\x1b"), true); got.name != keyEscape || n != 1 {
		t.Errorf("ESC alone: %+v, %d", got, n)
	}
}

// Ensure nothing that can be typed is stuck or brings the list out of its bounds.
func FuzzPicker(f *testing.F) {
	f.Add([]byte("web\x7f\x1b[A\x1b[B\x1b[6~\x17\x15"))
	f.Fuzz(func(t *testing.T, in []byte) {
		p := picker{user: "alice", cols: 40, rows: 10}
		p.fill(choices("alice", reach("web1", "web2", "web10"), nil))
		for len(in) > 0 {
			k, n := nextKey(in, true)
			if n <= 0 || n > len(in) {
				t.Fatalf("%q: %d bytes", in, n)
			}
			in = in[n:]
			if p.key(k) == wishOpen {
				_ = p.shown[p.cursor]
			}
			if s := p.screen(); !utf8.ValidString(s) || strings.Count(s, "\r\n") != 9 {
				t.Fatalf("screen: %q", s)
			}
		}
	})
}
