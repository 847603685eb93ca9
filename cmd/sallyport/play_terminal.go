package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"golang.org/x/term"

	"sallyport/audit"
	"sallyport/replay"
	"sallyport/screen"
)

// theatre shows a recording in a terminal, with keys. What reaches the terminal is never the recording:
// it is printed on a screen in memory, and that is painted.
type theatre struct {
	in       *os.File
	out      *os.File
	r        *replay.Replay
	contents replay.Contents
	idle     time.Duration // longest pause; 0: any
	speed    float64

	cols, rows int // of the terminal
	playing    bool
	help       bool
	queued     []string  // keys that were pressed while a screen was being made
	told       time.Time // until when the status is shown over a screen as high as the terminal
	at         time.Duration
	began      time.Time // when at was at

	n     int            // segment
	part  replay.Segment // events of it
	next  int            // the one to be shown next
	shown time.Duration  // time of the one before
	since time.Duration  // when the pause began that is going on
	stage *screen.Screen
}

var errQuit = errors.New("quit")

// speedSteps are those of the web player, and two for the patient.
var speedSteps = []float64{0.5, 1, 1.5, 2, 4, 8, 16, 64}

// frame is the time between two pictures at least.
const frame = 40 * time.Millisecond

// statusStays is how long the status covers the last line after a key.
const statusStays = 2 * time.Second

// run plays until q or Ctrl-C. Whatever happens, the terminal is left as it was.
func (t *theatre) run(ctx context.Context, from time.Duration) error {
	before, err := term.MakeRaw(int(t.in.Fd()))
	if err != nil {
		return fmt.Errorf("taking over the terminal: %w", err)
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	defer func() {
		_, _ = io.WriteString(t.out, strings.TrimSuffix(screenReset, "\r\n"))
		_ = term.Restore(int(t.in.Fd()), before)
	}()
	if _, err := io.WriteString(t.out, "\x1b[?1049h\x1b[2J"); err != nil {
		return fmt.Errorf("writing to the terminal: %w", err)
	}
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	defer signal.Stop(resized)
	t.measure()
	keys := make(chan string)
	go readKeys(ctx, t.in, keys)
	defer func() {
		if t.stage != nil {
			t.stage.Close()
		}
	}()
	t.playing = true
	if err = t.seek(ctx, from, keys); err == nil {
		err = t.play(ctx, keys, resized)
	}
	if errors.Is(err, errQuit) || ctx.Err() != nil {
		return nil
	}
	return err
}

func (t *theatre) measure() {
	t.cols, t.rows = 80, 24
	if cols, rows, err := term.GetSize(int(t.out.Fd())); err == nil && cols > 0 && rows > 0 {
		t.cols, t.rows = cols, rows
	}
}

func (t *theatre) play(ctx context.Context, keys <-chan string, resized <-chan os.Signal) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if err := t.paint(); err != nil {
			return err
		}
		if len(t.queued) > 0 {
			key := t.queued[0]
			t.queued = t.queued[1:]
			if err := t.key(ctx, key, keys); err != nil {
				return err
			}
			continue
		}
		timer.Reset(t.wait())
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-resized:
			t.measure()
		case key, ok := <-keys:
			if !ok {
				return errQuit
			}
			if err := t.key(ctx, key, keys); err != nil {
				return err
			}
		case <-timer.C:
			if err := t.pass(ctx); err != nil {
				return err
			}
		}
	}
}

// wait is the time until there is something to do: an event, or the status to be painted again.
func (t *theatre) wait() time.Duration {
	if !t.playing {
		if t.told.IsZero() {
			return time.Hour
		}
		return max(time.Until(t.told), frame)
	}
	due := time.Duration(float64(t.due()-t.at)/t.speed) - time.Since(t.began)
	return min(max(due, frame), 250*time.Millisecond)
}

// due is the moment at which the next event is shown, so that no pause takes more than idle; what
// there is to jump over is jumped over then.
func (t *theatre) due() time.Duration {
	due := t.contents.Duration
	if t.next < len(t.part.Events) {
		due = t.part.Events[t.next].At
	} else if t.n+1 < len(t.contents.Starts) {
		due = t.contents.Starts[t.n+1]
	}
	if t.idle > 0 {
		due = min(due, max(t.since+t.idle, t.at))
	}
	return due
}

// pass lets time pass and shows what came up.
func (t *theatre) pass(ctx context.Context) error {
	if !t.playing {
		t.told = time.Time{}
		return nil
	}
	now := time.Now()
	t.at += time.Duration(float64(now.Sub(t.began)) * t.speed)
	t.began = now
	for {
		event := t.next < len(t.part.Events)
		due := t.due()
		switch {
		case due > t.at:
			return nil
		case event:
			e := t.part.Events[t.next]
			t.at = max(t.at, e.At)
			replay.Show(t.stage, e)
			t.next++
			t.shown, t.since = e.At, e.At
		case t.n+1 < len(t.contents.Starts):
			if err := t.load(ctx, t.n+1, false); err != nil {
				return err
			}
		default:
			t.at = t.contents.Duration
			t.pause()
			return nil
		}
		if time.Since(now) > 5*frame { // a flood: let the keys be heard
			return nil
		}
	}
}

func (t *theatre) pause() { t.playing, t.told = false, time.Time{} }

// load goes to a segment: with a new stage, or on the one there is.
func (t *theatre) load(ctx context.Context, n int, anew bool) error {
	part, stage, err := t.r.Watch(ctx, n)
	if err != nil {
		return err
	}
	if anew || t.stage == nil {
		if t.stage != nil {
			t.stage.Close()
		}
		t.stage = stage
	} else {
		stage.Close()
	}
	t.n, t.part, t.next = n, part, 0
	return nil
}

// maxQueued is how many keys wait while a screen is being made.
const maxQueued = 100

// seek goes to a moment. Until it is there only the keys that leave are heard; the others wait.
func (t *theatre) seek(ctx context.Context, to time.Duration, keys <-chan string) error {
	to = min(max(to, 0), t.contents.Duration)
	n := t.contents.At(to)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- t.load(ctx, n, true) }()
	left := false
	for waiting := true; waiting; {
		select {
		case err := <-done:
			if left {
				return errQuit
			}
			if err != nil {
				return err
			}
			waiting = false
		case key, ok := <-keys:
			if !ok || key == "q" || key == "ctrl-c" {
				left = true
				cancel()
			} else if len(t.queued) < maxQueued {
				t.queued = append(t.queued, key)
			}
			if !ok {
				keys = nil
			}
		}
	}
	t.shown = min(t.part.Start, to)
	for t.next < len(t.part.Events) && t.part.Events[t.next].At <= to {
		replay.Show(t.stage, t.part.Events[t.next])
		t.shown = t.part.Events[t.next].At
		t.next++
	}
	t.since = to // a pause that somebody has jumped into is not over at once
	t.at, t.began = to, time.Now()
	t.tell()
	return nil
}

func (t *theatre) tell() { t.told = time.Now().Add(statusStays) }

// key does what a key says.
func (t *theatre) key(ctx context.Context, key string, keys <-chan string) error {
	t.tell()
	if t.help {
		t.help = false
		if key != "q" && key != "ctrl-c" {
			return nil
		}
	}
	tenth := t.contents.Duration / 10
	switch key {
	case "q", "ctrl-c":
		return errQuit
	case "?":
		t.help = true
		t.pause()
	case " ":
		return t.toggle(ctx, keys)
	case "left":
		return t.seek(ctx, t.at-5*time.Second, keys)
	case "right":
		return t.seek(ctx, t.at+5*time.Second, keys)
	case "shift-left":
		return t.seek(ctx, t.at-tenth, keys)
	case "shift-right":
		return t.seek(ctx, t.at+tenth, keys)
	case "[", "]":
		return t.seek(ctx, t.marker(key == "]")+oneWrite, keys)
	case ",", ".":
		return t.step(ctx, key == ".", keys)
	case "+", "=", ">":
		t.faster(1)
	case "-", "<":
		t.faster(-1)
	default:
		if len(key) == 1 && key[0] >= '0' && key[0] <= '9' {
			return t.seek(ctx, tenth*time.Duration(key[0]-'0'), keys)
		}
	}
	return nil
}

func (t *theatre) toggle(ctx context.Context, keys <-chan string) error {
	if t.playing {
		t.pause()
		return nil
	}
	if t.at >= t.contents.Duration { // once more
		if err := t.seek(ctx, 0, keys); err != nil {
			return err
		}
	}
	t.playing, t.began = true, time.Now()
	return nil
}

// marker is the moment of the marker after or before this one. In play, one that has just gone by is
// not gone back to.
func (t *theatre) marker(after bool) time.Duration {
	to := time.Duration(0)
	if after {
		to = t.contents.Duration
	}
	here := t.at
	if !after {
		here -= 2 * oneWrite // the one that stands here
	}
	if t.playing && !after {
		here -= time.Second
	}
	for _, m := range t.contents.Markers {
		if after && m.At > here {
			return m.At
		}
		if !after && m.At < here {
			to = m.At
		}
	}
	return to
}

// step goes to the next moment at which something is shown, or to the one before.
func (t *theatre) step(ctx context.Context, on bool, keys <-chan string) error {
	t.pause()
	if on {
		return t.stepOn(ctx)
	}
	n, part := t.n, t.part
	for {
		for i := len(part.Events) - 1; i >= 0; i-- {
			if part.Events[i].At < t.shown-oneWrite {
				return t.seek(ctx, part.Events[i].At, keys)
			}
		}
		if n--; n < 0 {
			return t.seek(ctx, 0, keys)
		}
		before, stage, err := t.r.Watch(ctx, n)
		if err != nil {
			return err
		}
		stage.Close()
		part = before
	}
}

// oneWrite is how far apart pieces of what was printed at once can be.
const oneWrite = time.Millisecond

func (t *theatre) stepOn(ctx context.Context) error {
	until := time.Duration(-1)
	for {
		for t.next < len(t.part.Events) {
			e := t.part.Events[t.next]
			if until < 0 {
				until = e.At + oneWrite
			}
			if e.At > until {
				return nil
			}
			replay.Show(t.stage, e)
			t.next++
			t.at, t.shown, t.since, t.began = e.At, e.At, e.At, time.Now()
		}
		if t.n+1 >= len(t.contents.Starts) || until >= 0 && t.contents.Starts[t.n+1] > until {
			return nil
		}
		if err := t.load(ctx, t.n+1, false); err != nil {
			return err
		}
	}
}

func (t *theatre) faster(by int) {
	now := time.Now()
	if t.playing {
		t.at, t.began = t.at+time.Duration(float64(now.Sub(t.began))*t.speed), now
	}
	i := 0
	for i < len(speedSteps)-1 && speedSteps[i] < t.speed {
		i++
	}
	t.speed = speedSteps[min(max(i+by, 0), len(speedSteps)-1)]
}

// paint shows the stage and, where there is room or something to tell, the status.
func (t *theatre) paint() error {
	cols, rows := t.stage.Size()
	picture := t.stage.Snapshot()
	if i := bytes.LastIndex(picture, []byte("\x1b[?1049h")); i >= 0 { // what is under the alternate screen
		picture = picture[i:]
	}
	hidden := bytes.HasSuffix(picture, []byte("\x1b[?25l"))
	var b bytes.Buffer
	b.WriteString("\x1b[?2026h\x1b[?25l")
	b.Write(replay.NewFilter(replay.Carry{}).Append(nil, string(withoutModes(picture))))
	b.WriteString("\x1b[m\x1b(B\x0f\x1b[4l\x1b[?6l\x1b[?7h\x1b[r\x1b[?25l")
	covered := rows >= t.rows
	if t.help {
		t.paintHelp(&b)
	}
	if !covered || !t.playing || cols > t.cols || time.Now().Before(t.told) {
		fmt.Fprintf(&b, "\x1b[%d;1H\x1b[7m%s\x1b[m", t.rows, t.status())
	}
	if x, y := t.stage.Cursor(); !hidden && !t.help && x < t.cols && y < t.rows {
		fmt.Fprintf(&b, "\x1b[%d;%dH\x1b[?25h", y+1, x+1)
	}
	b.WriteString("\x1b[?2026l")
	if _, err := t.out.Write(b.Bytes()); err != nil {
		return fmt.Errorf("writing to the terminal: %w", err)
	}
	return nil
}

// withoutModes leaves the switch to the alternate screen out: the player has one of its own.
func withoutModes(picture []byte) []byte {
	return bytes.ReplaceAll(picture, []byte("\x1b[?1049h"), nil)
}

// status is one line of the terminal's width.
func (t *theatre) status() string {
	state := "paused "
	if t.playing {
		state = "playing"
	}
	text := fmt.Sprintf(" %s  %s / %s  x%g", state, span(t.at), span(t.contents.Duration), t.speed)
	if t.idle > 0 {
		text += "  pauses " + t.idle.String()
	}
	if n := len(t.contents.Markers); n > 0 {
		last := -1
		for i, m := range t.contents.Markers {
			if m.At <= t.at {
				last = i
			}
		}
		text += fmt.Sprintf("  marker %d/%d", last+1, n)
		if last >= 0 {
			text += " " + audit.Escape(t.contents.Markers[last].Label)
		}
	}
	const keys = "  ? keys  q quit "
	room := max(t.cols-len(keys), 0)
	runes := []rune(text)
	if len(runes) > room {
		runes = runes[:room]
	}
	text = string(runes) + strings.Repeat(" ", max(room-utf8.RuneCountInString(string(runes)), 0)) + keys
	return string([]rune(text)[:min(t.cols, utf8.RuneCountInString(text))])
}

// span is a moment as people read it.
func span(d time.Duration) string {
	s := int(d.Seconds())
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

const playKeys = `space        play or pause
left right   5 seconds back or on; with shift a tenth
[ ]          marker before or after
0 ... 9      to so many tenths
, .          one step back or on
- +          slower or faster; also < >
q            quit`

func (t *theatre) paintHelp(b *bytes.Buffer) {
	for i, line := range strings.Split("\n"+playKeys+"\n", "\n") {
		if i+2 < t.rows {
			fmt.Fprintf(b, "\x1b[%d;3H\x1b[7m %-*s \x1b[m", i+2, 52, line)
		}
	}
}

// readKeys reads keys from a terminal until it ends. Keys are characters, or names of those that are
// sent as a sequence.
func readKeys(ctx context.Context, in io.Reader, keys chan<- string) {
	defer close(keys)
	buf := make([]byte, 256)
	for {
		n, err := in.Read(buf)
		for text := string(buf[:n]); text != ""; {
			var key string
			key, text = cutKey(text)
			select {
			case keys <- key:
			case <-ctx.Done():
				return
			}
		}
		if err != nil {
			return
		}
	}
}

var keyNames = map[string]string{
	"\x03": "ctrl-c", "\x1b[C": "right", "\x1b[D": "left", "\x1bOC": "right", "\x1bOD": "left",
	"\x1b[1;2C": "shift-right", "\x1b[1;2D": "shift-left", "\x1b[c": "shift-right", "\x1b[d": "shift-left",
}

// cutKey takes the first key off what a terminal has sent.
func cutKey(text string) (key, rest string) {
	n := 1
	if strings.HasPrefix(text, "\x1b[") || strings.HasPrefix(text, "\x1bO") {
		n = 2
		for n < len(text) && (text[n] < 0x40 || text[n] > 0x7e) {
			n++
		}
		n = min(n+1, len(text))
	} else if _, size := utf8.DecodeRuneInString(text); size > 1 {
		n = size
	}
	key, rest = text[:n], text[n:]
	if name, ok := keyNames[key]; ok {
		return name, rest
	}
	return key, rest
}
