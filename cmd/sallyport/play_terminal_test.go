package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"sallyport/internal/testenv"
	"sallyport/recorder"
	"sallyport/screen"
)

// stalls is somebody in front of a terminal in which a recording is played.
type stalls struct {
	t        *testing.T
	keyboard *os.File
	terminal *os.File
	ended    chan error
	before   *unix.Termios // settings of the terminal

	mu   sync.Mutex // guards the fields below
	seen *screen.Screen
	raw  bytes.Buffer // all that the terminal was sent
}

// newStalls makes a terminal of the given size.
func newStalls(t *testing.T, cols, rows uint16) *stalls {
	t.Helper()
	keyboard, terminal, err := pty.Open()
	noError(t, err)
	t.Cleanup(func() { keyboard.Close(); terminal.Close() })
	noError(t, pty.Setsize(terminal, &pty.Winsize{Cols: cols, Rows: rows}))
	s := &stalls{t: t, keyboard: keyboard, terminal: terminal, ended: make(chan error, 1), seen: screen.New(int(cols), int(rows))}
	s.before = s.settings()
	go func() {
		buf := make([]byte, 64<<10)
		for {
			n, err := keyboard.Read(buf)
			s.mu.Lock()
			_, _ = s.seen.Write(buf[:n])
			s.raw.Write(buf[:n])
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return s
}

// playCast plays an asciicast in a terminal of the given size.
func playCast(t *testing.T, cast string, cols, rows uint16, change func(*theatre), at time.Duration) *stalls {
	t.Helper()
	s := newStalls(t, cols, rows)
	file := filepath.Join(t.TempDir(), "1.cast")
	noError(t, os.WriteFile(file, []byte(cast), 0o600))
	f, err := os.Open(file)
	noError(t, err)
	t.Cleanup(func() { f.Close() })
	th := theatre{in: s.terminal, out: s.terminal, speed: 1}
	if change != nil {
		change(&th)
	}
	go func() { s.ended <- playInTerminal(context.Background(), f, th, at, t.Logf) }()
	return s
}

func (s *stalls) press(keys string) {
	s.t.Helper()
	_, err := s.keyboard.WriteString(keys)
	noError(s.t, err)
}

// sees waits until the terminal shows all of the texts, and none that begins with !.
func (s *stalls) sees(texts ...string) {
	s.t.Helper()
	var shown string
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		s.mu.Lock()
		shown = strings.Join(s.seen.Lines(), "\n")
		s.mu.Unlock()
		right := true
		for _, text := range texts {
			unwanted, not := strings.CutPrefix(text, "!")
			right = right && strings.Contains(shown, unwanted) != not
		}
		if right {
			return
		}
	}
	s.t.Fatalf("the terminal does not show %q but\n%s", texts, shown)
}

// leaves waits until the player has ended, and asserts that the terminal is as before.
func (s *stalls) leaves() {
	s.t.Helper()
	select {
	case err := <-s.ended:
		noError(s.t, err)
	case <-time.After(time.Minute):
		s.t.Fatal("the player has not ended")
	}
	if after := s.settings(); *after != *s.before {
		s.t.Errorf("the terminal's settings were %+v and are %+v", s.before, after)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		s.mu.Lock()
		raw := s.raw.String()
		s.mu.Unlock()
		if strings.HasSuffix(raw, "\x1b[?2026l\x1b[?1049l") {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("the last that the terminal was sent is %q", raw[max(0, len(raw)-100):])
		}
	}
}

func (s *stalls) settings() *unix.Termios {
	s.t.Helper()
	state, err := unix.IoctlGetTermios(int(s.terminal.Fd()), unix.TCGETS)
	noError(s.t, err)
	return state
}

// minutes is a recording of so many minutes in 80 × 24: every minute "minute N", with markers on the hours.
func minutes(n int) string {
	var b strings.Builder
	b.WriteString(`{"version":3,"term":{"cols":80,"rows":24}}` + "\n")
	for i := range n {
		interval := 60
		if i == 0 {
			interval = 0
		}
		if i%60 == 0 && i > 0 {
			fmt.Fprintf(&b, `[%d,"m","hour %d"]`+"\n", interval, i/60)
			interval = 0
		}
		fmt.Fprintf(&b, `[%d,"o","%sminute %d\r\n"]`+"\n", interval, strings.Repeat("x", 3000)+`\u001b[2J\u001b[H`, i)
	}
	return b.String()
}

// TestPlayKeys: the keys of the web player, in a terminal.
func TestPlayKeys(t *testing.T) {
	t.Parallel()
	s := playCast(t, minutes(360), 100, 30, nil, 5*time.Hour+30*time.Minute+time.Second)
	s.sees("minute 330", "playing", "5:30:01 / 5:59:00", "marker 5/5 hour 5", "? keys", "q quit")
	s.press(" ")
	s.sees("paused")
	for _, step := range []struct{ keys, shows, clock string }{
		{"[", "minute 300", "5:00:00"},
		{"[", "minute 240", "4:00:00"},
		{"]", "minute 300", "5:00:00"},
		{"\x1b[D", "minute 299", "4:59:55"},
		{"\x1b[C\x1b[C", "minute 300", "5:00:05"},
		{",", "minute 299", "4:59:00"},
		{",,", "minute 297", "4:57:00"},
		{".", "minute 298", "4:58:00"},
		{"0", "minute 0", "0:00 /"},
		{"5", "minute 179", "2:59:30"},
		{"\x1b[1;2C", "minute 215", "3:35:24"},
		{"\x1b[1;2D", "minute 179", "2:59:30"},
		{"]]]]]", "minute 359", "5:59:00 /"},
	} {
		s.press(step.keys)
		s.sees(step.shows+"\n", step.clock, "paused")
	}
	s.press("0?")
	s.sees("marker before or after", "one step back or on")
	s.press("x++++")
	s.sees("!marker before or after", "x8")
	s.press("-<")
	s.sees("x2")
	if s.settings().Lflag&unix.ECHO != 0 {
		t.Error("while it plays the terminal echoes")
	}
	s.press("q")
	s.leaves()
}

// TestPlaySkipsPauses: with a limit for pauses, an hour in which something is shown once a minute takes
// seconds, and at the end it stands.
func TestPlaySkipsPauses(t *testing.T) {
	t.Parallel()
	s := playCast(t, minutes(60), 80, 24, func(th *theatre) { th.idle, th.speed = 100*time.Millisecond, 64 }, 0)
	s.sees("minute 59", "paused", "59:00 / 59:00")
	s.press("\x03")
	s.leaves()
}

// TestOperatorPlaysInTerminal: the command itself, from a moment on.
func TestOperatorPlaysInTerminal(t *testing.T) {
	t.Parallel()
	o := startOperated(t)
	id := o.record(func(w *recorder.Recording) {
		noError(t, w.Output([]byte("hello \x1b[31mred\x1b[0m\x1b[6n\r\n")))
		noError(t, w.ExitStatus(0))
	})
	o.fails(2, "session", "play", id, "--at", "1:99")
	o.fails(2, "session", "play", id, "--at", "5") // there is no terminal
	s := newStalls(t, 100, 30)
	go func() {
		var err error
		if code := run(context.Background(), []string{"--socket", string(o.cfg.Socket), "session", "play", id, "--at", "0:10"}, s.terminal, s.terminal, s.terminal); code != 0 {
			err = fmt.Errorf("exit %d", code)
		}
		s.ended <- err
	}()
	s.sees("hello red", "marker 1/1 exit status 0")
	s.press("q")
	s.leaves()
	if raw := s.raw.String(); strings.Contains(raw, "\x1b[6n") {
		t.Errorf("the terminal was asked something: %q", raw)
	}
}

// onlyDraws is what a player may send to a terminal: text, cursor, colours, and the modes of the screen.
var onlyDraws = regexp.MustCompile(`^(?:[^\x00-\x1f\x7f-\x{9f}]|[\x08-\x0f]|\x1b[78DEMH]|\x1b[()][0AB]|\x1b\[[0-9;:]{0,64}[@A-MPSTXZ` + "`" + `abdefgmrsu]|\x1b\[\?[0-9;:]{0,64}[JK]|\x1b\[\?(?:5|6|7|12|25|47|1047|1048|1049|2026)[hl]|\x1b\[(?:4|20)[hl])*$`)

// TestPlayHostile: whatever a recording holds, the terminal is sent what draws, cannot answer, and is
// left as it was.
func TestPlayHostile(t *testing.T) {
	t.Parallel()
	clock := testenv.NewClock(time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC))
	_, key, err := ed25519.GenerateKey(rand.Reader)
	noError(t, err)
	rec, err := recorder.New(recorder.Config{Dir: t.TempDir(), SigningKey: key, Node: "n", Sync: 100 * time.Hour, Now: clock.Now})
	noError(t, err)
	defer rec.Close()
	r, err := rec.Create(recorder.Header{Session: "01-test", Channel: 1, Width: 80, Height: 24, Term: "xterm", Title: "\x1b]0;owned\x07"})
	noError(t, err)
	list := testenv.HostileRecordings()
	for _, h := range list {
		clock.Move(time.Second)
		noError(t, r.Mark(h.Name+"\x1b[6n\u202e"))
		noError(t, r.Output([]byte(h.Output)))
		for _, s := range h.Sizes {
			noError(t, r.Resize(s.Cols, s.Rows))
		}
		clock.Move(500 * time.Millisecond)
		noError(t, r.Output([]byte(testenv.HostileEnd+h.Name+" was shown\r\n")))
	}
	sum, err := r.Close()
	noError(t, err)
	var cast bytes.Buffer
	noError(t, rec.Export(&cast, sum.Path, recorder.Asciicast3))

	s := playCast(t, cast.String(), 90, 28, nil, 0)
	s.press(" ")
	for _, h := range list {
		s.press("]")           // to the marker, where the attack is on the screen
		if len(h.Sizes) == 0 { // else the last marker is that of a size
			s.sees(" paused ", "/33 "+h.Name)
		}
		s.press(".")
		s.sees(h.Name + " was shown")
	}
	s.press("0 ")
	s.press("q")
	s.leaves()
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, piece := range strings.SplitAfter(s.raw.String(), "\x1b[?2026l") {
		if !onlyDraws.MatchString(piece) {
			t.Fatalf("picture %d is %q", i, piece[:min(len(piece), 2000)])
		}
		if strings.Contains(piece, "owned\x07") {
			t.Errorf("picture %d holds a title", i)
		}
	}
}
