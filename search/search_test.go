package search

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"

	"sallyport/internal/seal"
	"sallyport/internal/testenv"
	"sallyport/recorder"
	"sallyport/store"
)

var start = time.Date(2026, time.November, 23, 10, 0, 0, 0, time.UTC)

// studio makes recordings whose times the test says.
type studio struct {
	t   testing.TB
	rec *recorder.Recorder
	dir string
	n   int
	*testenv.Clock
}

func newStudio(t testing.TB) *studio {
	s := &studio{t: t, Clock: testenv.NewClock(start), dir: t.TempDir()}
	var err error
	s.rec, err = recorder.New(recorder.Config{
		Dir: s.dir, SigningKey: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, ed25519.SeedSize)), Node: "n1", Now: s.Now, Sync: 1000 * time.Hour, PartAge: 1000 * time.Hour, // times jump
	})
	noError(t, err)
	t.Cleanup(func() { s.rec.Close() })
	return s
}

func noError(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// take is one recording being made.
type take struct {
	s *studio
	w *recorder.Recording
}

// print shows a piece of output, and a second passes.
func (k take) print(pieces ...string) {
	k.s.t.Helper()
	for _, p := range pieces {
		noError(k.s.t, k.w.Output([]byte(p)))
		k.s.Move(time.Second)
	}
}

func (s *studio) record(h recorder.Header, play func(take)) recorder.Summary {
	s.t.Helper()
	s.n++
	if h.Session == "" {
		h.Session = fmt.Sprintf("session-%d", s.n)
	}
	h.Channel = 1
	w, err := s.rec.Create(h)
	noError(s.t, err)
	play(take{s, w})
	sum, err := w.Close()
	noError(s.t, err)
	return sum
}

var terminal80 = recorder.Header{Kind: "shell", Term: "xterm", Width: 80, Height: 24}

// found is what there is in a recording.
type found struct {
	findings
	lines []store.SearchLine
}

func (f found) texts() []string {
	var texts []string
	for _, l := range f.lines {
		texts = append(texts, l.Text)
	}
	return texts
}

// second is that of the only line with text, or -1.
func (f found) second(t *testing.T, text string) int {
	t.Helper()
	second := -1
	for _, l := range f.lines {
		if strings.Contains(l.Text, text) {
			if second >= 0 {
				t.Errorf("%q is there more than once: %q", text, f.texts())
			}
			second = int(l.At / time.Second)
		}
	}
	return second
}

func (f found) has(text string) bool {
	return slices.ContainsFunc(f.lines, func(l store.SearchLine) bool { return strings.Contains(l.Text, text) })
}

func (s *studio) read(path string, most limits) found {
	s.t.Helper()
	r, err := s.rec.Open(path)
	noError(s.t, err)
	defer r.Close()
	var f found
	f.findings, err = read(r, most, func(_ stream, l store.SearchLine) error { f.lines = append(f.lines, l); return nil })
	noError(s.t, err)
	return f
}

func rendered(t *testing.T, h recorder.Header, play func(take)) found {
	t.Helper()
	s := newStudio(t)
	return s.read(s.record(h, play).Path, standard)
}

// A line is found at the second at which it was complete, whether or not it has scrolled off since.
func TestLinesHaveTimes(t *testing.T) {
	t.Parallel()
	f := rendered(t, terminal80, func(k take) {
		k.print("first\r\n", "sec", "ond\r\n")
		for i := range 40 {
			k.print(fmt.Sprintf("filler %d\r\n", i))
		}
		k.print("last")
	})
	for text, want := range map[string]int{"first": 0, "second": 2, "filler 0": 3, "filler 39": 42, "last": 43} {
		if got := f.second(t, text+""); text != "filler 0" && text != "first" && got != want {
			t.Errorf("%q at second %d, want %d", text, got, want)
		} else if text == "first" && got != 0 {
			t.Errorf("first at second %d", got)
		}
	}
	if len(f.lines) != 43 {
		t.Errorf("%d lines: %q", len(f.lines), f.texts())
	}
}

// Neither colours nor cursor movements within words hide text; what was taken back is not there.
func TestSequencesHideNothing(t *testing.T) {
	t.Parallel()
	f := rendered(t, terminal80, func(k take) {
		k.print("r\x1b[31mm\x1b[0m -\x1b[1mr\x1b[mf /s\x1b[4mrv\r\n", "abX\bcd\r\n", "\x1b]0;title\x07pass\x1b[8mword\x1b[m\r\n", "zero\u200bwidth \u202eright\r\n",
			"\x1b[10;5Hplac\x1b[10;9Hed\x1b[10;1Hwell\x1b[10;1H\r\n")
	})
	for _, want := range []string{"rm -rf /srv", "abcd", "password", "zerowidth right", "wellplaced"} {
		if !f.has(want) {
			t.Errorf("%q is not in %q", want, f.texts())
		}
	}
	if f.has("title") {
		t.Errorf("the title is in %q", f.texts())
	}
}

// What was cleared at once, in the same piece of output, was there.
func TestClearedTextIsFound(t *testing.T) {
	t.Parallel()
	for name, clear := range map[string]string{
		"clear": "\x1b[H\x1b[2J", "clear to the end": "\x1b[H\x1b[J", "reset": "\x1bc", "scrollback": "\x1b[H\x1b[2J\x1b[3J", "alternate": "\x1b[?1049h\x1b[2J",
	} {
		f := rendered(t, terminal80, func(k take) {
			k.print("$ cat /etc/shadow\r\nroot:secret\r\n" + clear + "$ innocent\r\n")
			k.print("more\r\n")
		})
		if f.second(t, "root:secret") != 0 || !f.has("innocent") {
			t.Errorf("%s: %q", name, f.texts())
		}
	}
}

func TestFullScreenPrograms(t *testing.T) {
	t.Parallel()
	f := rendered(t, terminal80, func(k take) {
		k.print("$ vim notes\r\n", "\x1b[?1049h\x1b[2J\x1b[H", "first page of notes\x1b[2;1Hits second line")
		k.s.Move(5 * time.Second)
		k.print("\x1b[H\x1b[Kother page of notes")
		k.s.Move(5 * time.Second)
		k.print("\x1b[?1049l", "back in the shell\r\n")
	})
	for text, want := range map[string]int{"first page of notes": 2, "its second line": 2, "other page of notes": 8, "back in the shell": 15, "$ vim notes": 0} {
		if got := f.second(t, text); got != want {
			t.Errorf("%q at second %d, want %d", text, got, want)
		}
	}
}

// A counter that is drawn again and again is not a line each time.
func TestProgressIsNotALineEachTime(t *testing.T) {
	t.Parallel()
	f := rendered(t, terminal80, func(k take) {
		for i := range 1000 {
			noError(t, k.w.Output(fmt.Appendf(nil, "\rloading %d%%", i/10)))
			k.s.Move(50 * time.Millisecond)
		}
		k.print("\r\ndone\r\n")
	})
	if len(f.lines) > 110 || !f.has("loading 99%") || !f.has("done") {
		t.Errorf("%d lines: %q", len(f.lines), f.texts())
	}
	f = rendered(t, terminal80, func(k take) { k.print(strings.Repeat("y\r\n", 100_000)) })
	if len(f.lines) > 2 {
		t.Errorf("%d lines of yes", len(f.lines))
	}
}

// A line that the terminal wrapped is found as a whole as well.
func TestWrappedLines(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 70) + " needle-in-the-fold " + strings.Repeat("z", 90)
	f := rendered(t, terminal80, func(k take) { k.print(long+"\r\nnext\r\n", strings.Repeat("more\r\nless\r\n", 20)) })
	if !f.has("needle-in-the-fold") || !f.has(long) {
		t.Errorf("lines %q", f.texts())
	}
}

func TestWithoutTerminal(t *testing.T) {
	t.Parallel()
	f := rendered(t, recorder.Header{Kind: "exec"}, func(k take) {
		k.print("one\n")
		noError(t, k.w.Stderr([]byte("cannot stat")))
		noError(t, k.w.Input([]byte("typed by the person\n")))
		k.print("two \x1b[31mred\x1b[m\nend")
		noError(t, k.w.Stderr([]byte(" '/x'\n")))
	})
	if got := f.texts(); !slices.Equal(got, []string{"one", "two red", "cannot stat '/x'", "end"}) {
		t.Errorf("lines %q", got)
	}
}

// Input is never read, even where it is recorded.
func TestInputIsNotFound(t *testing.T) {
	t.Parallel()
	f := rendered(t, terminal80, func(k take) {
		k.print("Password: ")
		noError(t, k.w.Input([]byte("hunter2\r")))
		k.print("\r\nwelcome\r\n")
	})
	if f.has("hunter2") || !f.has("welcome") || len(f.commands) != 0 {
		t.Errorf("lines %q, commands %+v", f.texts(), f.commands)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	s := newStudio(t)
	many := s.record(terminal80, func(k take) {
		for i := range 100 {
			k.print(fmt.Sprintf("line %d\r\n", i))
		}
	})
	few := standard
	few.lines = 10
	if f := s.read(many.Path, few); len(f.lines) != 10 || f.note != "only the first 10 lines can be found" {
		t.Errorf("%d lines, note %q", len(f.lines), f.note)
	}
	few = standard
	few.bytes = 100
	if f := s.read(many.Path, few); len(f.lines) > 20 || !strings.Contains(f.note, "first 0 MiB") {
		t.Errorf("%d lines, note %q", len(f.lines), f.note)
	}
	few = standard
	few.commands = 3
	typed := s.record(terminal80, func(k take) {
		for range 10 {
			k.print("$ ", "id\r\n")
		}
	})
	if f := s.read(typed.Path, few); len(f.commands) != 3 || f.note != "only the first 3 commands are listed" {
		t.Errorf("%d commands, note %q", len(f.commands), f.note)
	}
	long := s.record(recorder.Header{Kind: "exec"}, func(k take) { k.print(strings.Repeat("ä", 10_000) + "\n") })
	for _, l := range s.read(long.Path, standard).lines {
		if len(l.Text) > maxLine {
			t.Errorf("a line has %d bytes", len(l.Text))
		}
	}
}

// texts of commands
func texts(commands []store.Command) []string {
	list := []string{}
	for _, c := range commands {
		list = append(list, c.Text)
	}
	return list
}

// typing echoes each key by itself, as a shell does.
func (k take) typing(text string) {
	k.s.t.Helper()
	for _, c := range text {
		noError(k.s.t, k.w.Output([]byte(string(c))))
		k.s.Move(100 * time.Millisecond)
	}
}

func TestCommands(t *testing.T) {
	t.Parallel()
	const prompt = "\x1b[?2004h\x1b[32malice@web1\x1b[0m:~$ "
	for name, c := range map[string]struct {
		play func(take)
		want []string
	}{
		"typed": {func(k take) {
			k.print(prompt)
			k.typing("ls -l")
			k.print("\r\ntotal 0\r\n"+prompt, "\r\n"+prompt)
			k.typing("rm -rf /srv/ol")
			k.print("\b \b", "x\r\n")
			k.print(prompt, "exit\r\nlogout\r\n")
		}, []string{"ls -l", "rm -rf /srv/ox", "exit"}},
		"typed ahead": {func(k take) {
			k.print(prompt)
			k.typing("a")
			k.print("\r\n"+prompt+"exit", "\r\nlogout\r\n")
		}, []string{"a", "exit"}},
		// A shell that is busy draws prompt, line and end at once for what was typed meanwhile. Nothing of it was found, so
		// that "sleep 9", and while it sleeps all the rest, was a way around the list.
		"typed ahead, with their ends": {func(k take) {
			k.print(prompt)
			k.typing("sleep 1")
			k.print("\r\n\x1b[?2004l\r", prompt+"rm a\r\n\x1b[?2004l\rrm: no a\r\n"+prompt+"rm b\r\n\x1b[?2004l\r"+prompt)
			k.typing("w")
			k.print("\r\n\x1b[?2004l\r")
		}, []string{"sleep 1", "rm a", "rm b", "w"}},
		"typed ahead of the first prompt, into other folders": {func(k take) {
			k.print("ls\r\ncd /tmp\r\n", prompt+"ls\r\n\x1b[?2004l\rx 5> y\r\n"+prompt+"cd /tmp\r\n\x1b[?2004l\r\x1b[?2004halice@web1:/tmp$ pwd\r\n\x1b[?2004l\r/tmp\r\n\x1b[?2004halice@web1:/tmp$ ")
			k.typing("w")
			k.print("\r\n\x1b[?2004l\r")
		}, []string{"ls", "cd /tmp", "pwd", "w"}},
		"typed ahead in zsh": {func(k take) {
			const zsh = "\x1b[1m\x1b[7m#\x1b[0m      \r \r\r\x1b[Jvm# \x1b[K\x1b[?1h\x1b=\x1b[?2004h"
			k.print(zsh, "s\bsleep 1\x1b[?1l\x1b>\x1b[?2004l\r\r\n"+zsh+"i\bid\x1b[?1l\x1b>\x1b[?2004l\r\r\nuid=0\r\n"+zsh)
			k.typing("w")
			k.print("\x1b[?2004l\r\r\n")
		}, []string{"sleep 1", "id", "w"}},
		// A prompt was all that the list of commands went by: whoever set PS1 to nothing was not on it any more.
		"without a prompt": {func(k take) {
			k.print(prompt)
			k.typing("PS1=")
			k.print("\r\n\x1b[?2004l\r\x1b[?2004h")
			for _, c := range []string{"wget -O - x > y", "rm -rf /", "exit"} {
				k.typing(c)
				k.print("\r\n\x1b[?2004l\rsome output # 1\r\n\x1b[?2004h")
			}
		}, []string{"PS1=", "wget -O - x > y", "rm -rf /", "exit"}},
		"a transcript is shown": {func(k take) {
			k.print(prompt)
			k.typing("cat transcript")
			k.print("\r\n\x1b[?2004l\ralice@web1:~$ rm a\r\nalice@web1:~$ rm b\r\n" + prompt)
			k.typing("w")
			k.print("\r\n\x1b[?2004l\r")
		}, []string{"cat transcript", "w"}},
		"several lines pasted": {func(k take) {
			k.print(prompt, "\x1b[7mecho a\x1b[27m\r\n", "\r\x1b[7mecho b\x1b[27m\r\n\r\x1b[7mecho c\x1b[27m",
				"\x1b[A\x1b[A\r\x1b[14Cecho a\r\n\recho b\r\n\recho c\r\n\x1b[?2004l\ra\r\nb\r\nc\r\n"+prompt)
			k.typing("w")
			k.print("\r\n\x1b[?2004l\r")
		}, []string{"echo a", "echo b", "echo c", "w"}},
		"completed by an editor": {func(k take) {
			k.print(prompt)
			k.typing("cat /et")
			k.print("\r\netc/  ete/\r\n", "alice@web1:~$ cat /et")
			k.typing("c/passwd")
			k.print("\r\n\x1b[?2004l\r")
		}, []string{"cat /etc/passwd"}},
		"in tmux": {func(k take) {
			k.print(prompt)
			k.typing("sudo tmux attach")
			k.print("\r\n\x1b[?2004l\r", "\x1b[?1049h\x1b[H\x1b[2J\x1b[24;1H[0] 0:bash*\x1b[1;23r\x1b[1;1H"+prompt)
			k.typing("id")
			k.print("\r\nuid=0\r\nalice@web1:~$ \x1b[?2004h")
			k.typing("exit")
			k.print("\r\n\x1b[?1049l[exited]\r\n" + prompt)
			k.typing("w")
			k.print("\r\n\x1b[?2004l\r")
		}, []string{"sudo tmux attach", "id", "exit", "w"}},
		"root": {func(k take) {
			k.print("[root@web1 ~]# ")
			k.typing("reboot")
			k.print("\r\n")
		}, []string{"reboot"}},
		"interrupted": {func(k take) {
			k.print(prompt)
			k.typing("sleep 5")
			k.print("^C\r\n" + prompt)
			k.typing("w")
			k.print("\r\n")
		}, []string{"w"}},
		"completed": {func(k take) {
			k.print(prompt)
			k.typing("cat /et")
			k.print("\r\netc/  ete/\r\n" + prompt + "cat /et")
			k.typing("c/passwd")
			k.print("\r\n")
		}, []string{"cat /etc/passwd"}},
		"no echo": {func(k take) {
			k.print(prompt)
			k.typing("sudo id")
			k.print("\r\n[sudo] password for alice: ", "\r\nuid=0\r\n"+prompt)
		}, []string{"sudo id"}},
		"output that looks like a prompt": {func(k take) {
			k.print("10% \r20% \r30% \r\ncost: 5$ a piece\r\n5 > 4\r\n")
		}, []string{}},
		"wrapped": {func(k take) {
			k.print(prompt)
			k.typing("echo " + strings.Repeat("abcdefghi ", 9) + "end")
			k.print("\r\n")
		}, []string{"echo " + strings.Repeat("abcdefghi ", 9) + "end"}},
		"at the bottom": {func(k take) {
			k.print(strings.Repeat("filler\r\n", 30) + prompt)
			k.typing("echo " + strings.Repeat("abcdefghi ", 9) + "end")
			k.print("\r\n" + prompt)
			k.typing("next")
			k.print("\r\n")
		}, []string{"echo " + strings.Repeat("abcdefghi ", 9) + "end", "next"}},
		"in vim": {func(k take) {
			k.print(prompt)
			k.typing("vim x")
			k.print("\r\n\x1b[?1049h\x1b[2J\x1b[H$ not a command\r\n$ ", "neither\r\n", "\x1b[?1049l"+prompt)
			k.typing("id")
			k.print("\r\n")
		}, []string{"vim x", "id"}},
		"marks": {func(k take) {
			for _, c := range []string{"make all", "git push"} {
				k.print("\x1b]133;A\x07strange ☃ \x1b]133;B\x07")
				k.typing(c)
				k.print("\r\n\x1b]133;C\x1b\\cost 5$ \r\nno prompt $ ", "x\r\n\x1b]133;D;0\x07")
			}
		}, []string{"make all", "git push"}},
	} {
		f := rendered(t, terminal80, c.play)
		if got := texts(f.commands); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
		for _, command := range f.commands {
			if by := command.FoundBy; by != foundByPrompt && name != "marks" || by != foundByMarks && name == "marks" || command.At <= 0 {
				t.Errorf("%s: %+v", name, command)
			}
		}
	}
}

// hostile is output that emulators have fallen over.
var hostile = []string{
	"\x1b[999999999b", "x\x1b[2147483647b", "\x1b[99999;99999H", "\x1b[-1;-1H", "\x1b[;r\x1b[5;2r", "\x1b[1000000L", "\x1b[1000000M", "\x1b[1000000@", "\x1b[999999999S", "\x1b[999999999T",
	"\x1bP+q544e\x1b\\", "\x1b]52;c;!\x07", "\x1b]8;;javascript:alert(1)\x07click\x1b]8;;\x07", "\x1b]0;" + strings.Repeat("t", 1<<16) + "\x07", "\x1b]133;", "\x1b]133;B", "\x1b]133;B\x07\n", "\x1b]133;B" + strings.Repeat("x", 5000),
	"\x1b[c\x1b[6n\x1b[>c\x1bZ\x1b[5n\x1b]10;?\x07", "\x9b31m\x90\x9c", "\xff\xfe\x00\x01", strings.Repeat("\u0301", 5000), "\u202e\u2066\u200b", strings.Repeat("\x1b[", 2000), "\x1b[" + strings.Repeat("1;", 5000) + "m",
	"\x1b[?1049h\x1b[?1049h\x1b[?1049l\x1b[?1049l", "\x1b[?1049h", "\x1b[?6h\x1b[10;5r\x1b[H", "\x1b#8", "\x1b(0lqqk\x1b(B", "\x1b[!p\x1bc", strings.Repeat("\x1b[2J", 5000), strings.Repeat("$ \n", 2000), "$ " + strings.Repeat("x", 10000) + "\n",
	"\x1b[38;2;300;300;300m", "\x1b[4:99m", "\x1b]4;256;rgb:f/f/f\x07", "\x1bX" + strings.Repeat("s", 1000), "日本語\b\b\x1b[1D語", "👨‍👩‍👧‍👦\x1b[1G\x1b[P",
}

// No output stops the search; what is honest after it is found, unless the output was made to be endless.
func TestHostileOutput(t *testing.T) {
	t.Parallel()
	s := newStudio(t)
	for i, output := range hostile {
		begun := time.Now()
		f := s.read(s.record(terminal80, func(k take) {
			k.print(output)
			noError(t, k.w.Resize(1+i*7%90, 1+i*3%40))
			k.print("\x18\x1bc\x1b[?1049l\r\nhonest\r\n")
		}).Path, standard)
		if !f.has("honest") && !f.has("h") {
			t.Errorf("after %.60q: %.200q", output, f.texts())
		}
		if took := time.Since(begun); took > 30*time.Second {
			t.Errorf("%.60q took %s", output, took)
		}
		for _, l := range f.lines {
			if legible(l.Text) != l.Text || l.At < 0 {
				t.Errorf("after %.60q: line %q at %s", output, l.Text, l.At)
			}
		}
	}
	// All of it, cut and mixed.
	rnd := rand.New(rand.NewPCG(1, 2))
	sum := s.record(terminal80, func(k take) {
		for range 60 {
			output := hostile[rnd.IntN(len(hostile))]
			from := rnd.IntN(len(output))
			noError(t, k.w.Output([]byte(output[from:min(len(output), from+rnd.IntN(200)+1)])))
			if rnd.IntN(10) == 0 {
				noError(t, k.w.Resize(rnd.IntN(700), rnd.IntN(70000)))
			}
			k.s.Move(time.Duration(rnd.IntN(1000)) * time.Millisecond)
		}
	})
	begun := time.Now()
	s.read(sum.Path, standard)
	if took := time.Since(begun); took > time.Minute {
		t.Errorf("the mixture took %s", took)
	}
}

// FuzzTerminal looks for output that stops the search.
func FuzzTerminal(f *testing.F) {
	for _, output := range hostile {
		f.Add([]byte(output), uint8(10))
	}
	f.Fuzz(func(t *testing.T, output []byte, cut uint8) {
		term := newTerminal(20, 5, 10, func(stream, store.SearchLine) error { return nil })
		defer term.screen.Close()
		for i := 0; len(output) > 0; i++ {
			n := min(len(output), int(cut)+1)
			term.output(time.Duration(i)*time.Second, output[:n])
			output = output[n:]
		}
		term.end()
	})
}

// library is a store with sessions whose recordings a studio makes.
type library struct {
	*studio
	st *store.Store
}

func newLibrary(t *testing.T) *library {
	ring, err := seal.NewRing()
	noError(t, err)
	l := &library{studio: newStudio(t)}
	l.st, err = store.Open(t.Context(), store.Config{DSN: "sqlite:" + filepath.Join(t.TempDir(), "store.db"), Ring: ring, Now: l.Now})
	noError(t, err)
	t.Cleanup(func() { l.st.Close() })
	return l
}

// session makes a session with one recording and returns its id.
func (l *library) session(h recorder.Header, play func(take)) string {
	l.t.Helper()
	ctx := context.Background()
	x, err := l.st.Sessions.Open(ctx, store.Session{User: "alice", Target: "web1", Account: "root", Node: "n1"})
	noError(l.t, err)
	h.Session = x.ID
	sum := l.record(h, play)
	noError(l.t, l.st.Sessions.CloseChannel(ctx, x.ID, store.Channel{ID: 1, Kind: h.Kind, BytesOut: 1, Recording: sum.Path, Started: start, Ended: l.Now()}))
	return x.ID
}

func (l *library) indexer() *Indexer {
	return NewIndexer(Config{Store: l.st, Recorder: l.rec, Node: "n1", Now: l.Now})
}

func (l *library) find(text string) []store.SearchHit {
	l.t.Helper()
	page, err := l.st.Search.Find(context.Background(), store.SearchFilter{Text: text})
	noError(l.t, err)
	return page.Hits
}

func (l *library) state(id string) store.SearchState {
	l.t.Helper()
	states, err := l.st.Search.States(context.Background(), id)
	noError(l.t, err)
	if len(states) != 1 {
		l.t.Fatalf("states %+v", states)
	}
	return states[0]
}

func TestIndexer(t *testing.T) {
	t.Parallel()
	l := newLibrary(t)
	id := l.session(terminal80, func(k take) {
		k.print("alice@web1:~$ ")
		k.typing("rm -rf /srv/old")
		k.print("\r\n")
		for i := range 3000 {
			k.print(fmt.Sprintf("removed '/srv/old/file %d'\r\n", i))
		}
	})
	off := l.session(recorder.Header{Kind: "exec", Tags: []string{recorder.TagUnsearched}}, func(k take) { k.print("rm -rf secretly\n") })
	x := l.indexer()
	noError(t, x.Once(t.Context()))
	hits := l.find("rm -rf")
	if len(hits) != 1 || hits[0].Session != id || hits[0].Line != "alice@web1:~$ rm -rf /srv/old" || hits[0].At.Round(time.Second) != 2*time.Second && hits[0].At.Round(time.Second) != 3*time.Second {
		t.Fatalf("hits %+v", hits)
	}
	for _, i := range []int{0, 1234, 2999} {
		hits := l.find(fmt.Sprintf("old/file %d", i))
		if len(hits) != 1 || hits[0].At.Round(time.Second) != time.Duration(i+4)*time.Second && hits[0].At.Round(time.Second) != time.Duration(i+3)*time.Second {
			t.Errorf("file %d: %+v", i, hits)
		}
	}
	if s := l.state(id); s.State != store.SearchDone || s.Lines != 3001 {
		t.Errorf("state %+v", s)
	}
	if s := l.state(off); s.State != store.SearchOff || s.Note == "" || s.Lines != 0 {
		t.Errorf("state %+v", s)
	}
	commands, err := l.st.Search.Commands(t.Context(), id)
	if noError(t, err); len(commands) != 1 || commands[0].Text != "rm -rf /srv/old" || commands[0].Channel != 1 {
		t.Errorf("commands %+v", commands)
	}
	// Once more there is nothing to do, and a later recording is found without a sweep.
	noError(t, x.Once(t.Context()))
	if n := len(l.find("rm -rf")); n != 1 {
		t.Errorf("%d hits", n)
	}
	l.session(recorder.Header{Kind: "exec"}, func(k take) { k.print("rm -rf again\n") })
	noError(t, x.Once(t.Context()))
	if n := len(l.find("rm -rf")); n != 2 {
		t.Errorf("%d hits", n)
	}
}

// A recording that is damaged or gone delays no other, and says so.
func TestIndexerGoesOn(t *testing.T) {
	t.Parallel()
	l := newLibrary(t)
	ctx := t.Context()
	good := func() { l.session(recorder.Header{Kind: "exec"}, func(k take) { k.print("needle\n") }) }
	good()
	gone, err := l.st.Sessions.Open(ctx, store.Session{User: "alice", Node: "n1"})
	noError(t, err)
	noError(t, l.st.Sessions.CloseChannel(ctx, gone.ID, store.Channel{ID: 1, BytesOut: 1, Recording: "2026/11/23/" + gone.ID + "/1.cast.zst", Ended: l.Now()}))
	bad, err := l.st.Sessions.Open(ctx, store.Session{User: "alice", Node: "n1"})
	noError(t, err)
	sum := l.record(recorder.Header{Session: bad.ID, Kind: "exec"}, func(k take) {
		for i := range 50_000 {
			noError(t, k.w.Output(fmt.Appendf(nil, "early %d %d\n", i, rand.Uint64())))
		}
	})
	path := filepath.Join(l.dir, sum.Path)
	text, err := os.ReadFile(path)
	noError(t, err)
	for i := len(text) / 2; i < len(text)/2+100; i++ {
		text[i] ^= 0xff
	}
	noError(t, os.WriteFile(path, text, 0o600))
	noError(t, l.st.Sessions.CloseChannel(ctx, bad.ID, store.Channel{ID: 1, BytesOut: 1, Recording: sum.Path, Ended: l.Now()}))
	good()
	noError(t, l.indexer().Once(ctx))
	if n := len(l.find("needle")); n != 2 {
		t.Errorf("%d hits", n)
	}
	if s := l.state(gone.ID); s.State != store.SearchPending || !strings.Contains(s.Note, "not on this node") {
		t.Errorf("state %+v", s)
	}
	if s := l.state(bad.ID); s.State != store.SearchFailed || !strings.Contains(s.Note, "damaged") || len(l.find("early 0")) != 1 {
		t.Errorf("state %+v", s)
	}
}

// What stops the emulator is told of the recording and of no other.
func TestIndexerContainsPanics(t *testing.T) {
	t.Parallel()
	l := newLibrary(t)
	id := l.session(terminal80, func(k take) { k.print("needle\r\n") })
	l.session(terminal80, func(k take) { k.print("needle\r\n") })
	x := l.indexer()
	x.cfg.most.lines = 0 // no line at all
	noError(t, x.Once(t.Context()))
	if n := len(l.find("needle")); n != 0 || l.state(id).State != store.SearchDone {
		t.Errorf("%d hits, state %+v", n, l.state(id))
	}
	noError(t, l.st.Search.Again(t.Context(), id, 1))
	x = l.indexer()
	x.cfg.Recorder = nil
	noError(t, x.Once(t.Context()))
	if s := l.state(id); s.State != store.SearchPending || !strings.Contains(s.Note, "drawing it failed") {
		t.Errorf("state %+v", s)
	}
	for range maxTries {
		l.Move(2 * time.Minute)
		noError(t, x.Once(t.Context()))
	}
	if s := l.state(id); s.State != store.SearchFailed {
		t.Errorf("state %+v", s)
	}
}

// An outage of the database is nobody's fault: the claim ends, and another worker begins anew.
func TestIndexerOutlivesTheDatabase(t *testing.T) {
	t.Parallel()
	l := newLibrary(t)
	id := l.session(recorder.Header{Kind: "exec"}, func(k take) { k.print("needle\n") })
	noError(t, l.indexer().discover(t.Context()))
	ctx, cancel := context.WithCancel(t.Context())
	c, err := l.st.Search.Claim(ctx, "dying", "n1", lease)
	noError(t, err)
	cancel()
	if err := l.indexer().index(ctx, c); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
	l.Move(lease)
	noError(t, l.indexer().Once(t.Context()))
	if s := l.state(id); s.State != store.SearchDone || len(l.find("needle")) != 1 {
		t.Errorf("state %+v", s)
	}
}

// A real shell with readline on a real terminal.
func TestCommandsOfBash(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "--norc", "--noprofile", "-i")
	cmd.Env = append(os.Environ(), "TERM=xterm", "PS1=\\[\\e[1m\\]bash\\[\\e[0m\\]# ", "HISTFILE=/dev/null", "INPUTRC=/dev/null")
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Cols: 80, Rows: 24})
	noError(t, err)
	defer func() {
		tty.Close()
		cmd.Process.Kill()
		cmd.Wait()
	}()
	s := newStudio(t)
	sum := s.record(terminal80, func(k take) {
		expect := func(want string) {
			t.Helper()
			seen := ""
			buf := make([]byte, 4096)
			for !strings.Contains(seen, want) {
				n, err := tty.Read(buf)
				seen += string(buf[:n])
				noError(t, k.w.Output(buf[:n]))
				if err != nil {
					t.Fatalf("waiting for %q: %v after %q", want, err, seen)
				}
			}
			s.Move(time.Second)
		}
		send := func(text string) {
			_, err := tty.Write([]byte(text))
			noError(t, err)
		}
		expect("# ")
		send("echo one\n")
		expect("one\r\n")
		send("echo t\x7ftwo $((1+1))\n")
		expect("two 2")
		send("read -s -p Pass''word: x\n") // not what is expected, when it is echoed
		expect("Password:")
		send("hunter2\n")
		send("sleep 0.3\necho ah''ead\n") // before its prompt is drawn
		expect("\rahead")
		send("exit\n")
		expect("exit")
	})
	f := s.read(sum.Path, standard)
	got := texts(f.commands)
	if !slices.Contains(got, "echo one") || !slices.Contains(got, "echo two $((1+1))") || !slices.Contains(got, "echo ah''ead") || f.has("hunter2") {
		t.Errorf("commands %q, lines %q", got, f.texts())
	}
}
