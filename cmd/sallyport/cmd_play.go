package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"sallyport/replay"
)

// screenReset brings a terminal back from whatever a recording left it in.
const screenReset = replay.Reset

func sessionPlayCommand(g *globals) *cobra.Command {
	var source castSource
	var speed float64
	var idle time.Duration
	var from string
	c := &cobra.Command{
		Use: "play ID|FILE", Short: "Replay a recording in this terminal", Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			at, ok := readMoment(from)
			if !ok {
				return usage("Use seconds such as 73, or 1:02:03.", "--at %s cannot be", from)
			}
			if !(speed > 0 && speed <= 1000) {
				return usage("Use a number such as 2 or 0.5.", "--speed %v cannot be", speed)
			}
			if idle < 0 {
				return usage("Use a length of time such as 2s.", "--idle-limit %v cannot be", idle)
			}
			ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt)
			defer stop()
			cast, err := source.open(ctx, g, args[0], "replay")
			if err != nil {
				return err
			}
			defer cast.Close()
			in, out, ok := terminals(g)
			if ok {
				return playInTerminal(ctx, cast, theatre{in: in, out: out, speed: speed, idle: idle}, at, g.say)
			}
			if at > 0 {
				return usage("Play it in a terminal, with its input and output.", "--at needs keys to come from a terminal")
			}
			p := player{out: g.Out, speed: speed, idle: idle, sleep: sleep, warn: g.say}
			return p.play(ctx, cast)
		},
	}
	c.Long = "Replay a recording in this terminal, with the time it took, until q or Ctrl-C. Keys are those of the web player:\n\n" +
		playKeys + "\n\n" +
		"What could reach beyond the screen (questions to the terminal, its clipboard, its title, its keyboard) is left out.\n" +
		"Where input or output is no terminal there are no keys: what was printed is written with the time it took."
	f := c.Flags()
	source.register(c)
	f.Float64Var(&speed, "speed", 1, "how many times as fast")
	f.StringVar(&from, "at", "0", "begin at this second, or at h:mm:ss")
	f.DurationVar(&idle, "idle-limit", 0, "longest pause, such as 2s (default: as recorded)")
	return c
}

// terminals are the terminal on both sides of a command, if there is one.
func terminals(g *globals) (in, out *os.File, ok bool) {
	in, isFile := g.In.(*os.File)
	out, isFile2 := g.Out.(*os.File)
	return in, out, isFile && isFile2 && term.IsTerminal(int(in.Fd())) && term.IsTerminal(int(out.Fd()))
}

// playInTerminal reads the whole recording before the first picture, so that one that is damaged is
// not taken for whole.
func playInTerminal(ctx context.Context, cast io.Reader, t theatre, at time.Duration, warn func(string, ...any)) error {
	whole, size, err := seekable(cast)
	if err != nil {
		return err
	}
	src, err := replay.OpenFile(whole, size)
	if err != nil {
		return err
	}
	t.r = replay.New(src)
	defer t.r.Close()
	if t.contents, err = t.r.Contents(ctx); err != nil {
		return err
	}
	if cols, rows, err := term.GetSize(int(t.out.Fd())); err == nil && (cols < t.contents.Cols || rows < t.contents.Rows) {
		defer warn("this terminal is %dx%d, the recording %dx%d: make the window larger to see it as it was", cols, rows, t.contents.Cols, t.contents.Rows)
	}
	return t.run(ctx, at)
}

// seekable is a recording that can be read anywhere. One that was encrypted comes into memory: what is
// in it is on no disk.
func seekable(cast io.Reader) (io.ReaderAt, int64, error) {
	if f, ok := cast.(*os.File); ok {
		info, err := f.Stat()
		if err != nil {
			return nil, 0, fmt.Errorf("looking at the recording: %w", err)
		}
		return f, info.Size(), nil
	}
	plain, err := io.ReadAll(cast)
	return bytes.NewReader(plain), int64(len(plain)), err
}

// readMoment reads a moment of a recording: seconds such as 73 or 73.5, or 1:02:03.
func readMoment(text string) (time.Duration, bool) {
	seconds := 0.0
	for i, field := range strings.Split(text, ":") {
		n, err := strconv.ParseFloat(field, 64)
		if err != nil || !(n >= 0 && n < 1e7) || i > 2 || i > 0 && n >= 60 {
			return 0, false
		}
		seconds = seconds*60 + n
	}
	return time.Duration(min(seconds, 1e7) * float64(time.Second)), true
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// maxLine bounds one event of a recording in bytes of JSON.
const maxLine = 16 << 20

// player replays an asciicast v3.
type player struct {
	out   io.Writer
	speed float64
	idle  time.Duration // longest pause; 0: any
	sleep func(context.Context, time.Duration) error
	warn  func(format string, args ...any)
}

// castHeader is what the player needs of the first line.
type castHeader struct {
	Version int `json:"version"`
	Term    struct {
		Cols int `json:"cols"`
		Rows int `json:"rows"`
	} `json:"term"`
}

func (p *player) play(ctx context.Context, cast io.Reader) error {
	lines := bufio.NewScanner(cast)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	if !lines.Scan() {
		return errors.Join(errors.New("the recording is empty"), lines.Err())
	}
	var h castHeader
	if err := json.Unmarshal(lines.Bytes(), &h); err != nil || h.Version != 3 {
		return failed("Look at it by: sallyport session export ID --format json", "this is not an asciicast v3")
	}
	p.checkSize(h)
	screen := &replay.Filter{}
	defer func() { _, _ = io.WriteString(p.out, screenReset) }() // the terminal may be gone
	for lines.Scan() {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		if err := p.event(ctx, line, screen); err != nil {
			if ctx.Err() != nil {
				return nil // Ctrl-C is how a replay is left
			}
			return err
		}
	}
	return lines.Err()
}

// event waits and shows. Events that are not output only take their time.
func (p *player) event(ctx context.Context, line []byte, screen *replay.Filter) error {
	var interval float64
	var code, data string
	if err := json.Unmarshal(line, &[]any{&interval, &code, &data}); err != nil {
		return fmt.Errorf("reading the recording: %w", err)
	}
	if interval > 0 {
		pause := time.Duration(min(interval, 1e6) * float64(time.Second))
		if p.idle > 0 {
			pause = min(pause, p.idle)
		}
		if err := p.sleep(ctx, time.Duration(float64(pause)/p.speed)); err != nil {
			return err
		}
	}
	if code != "o" && code != "e" {
		return nil
	}
	_, err := p.out.Write(screen.Append(nil, data))
	return err
}

// checkSize warns when the terminal cannot show what was recorded.
func (p *player) checkSize(h castHeader) {
	f, ok := p.out.(*os.File)
	if !ok {
		return
	}
	cols, rows, err := term.GetSize(int(f.Fd()))
	if err == nil && (cols < h.Term.Cols || rows < h.Term.Rows) {
		p.warn("this terminal is %dx%d, the recording %dx%d: make the window larger to see it as it was", cols, rows, h.Term.Cols, h.Term.Rows)
	}
}
