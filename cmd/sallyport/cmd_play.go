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
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func sessionPlayCommand(g *globals) *cobra.Command {
	var source castSource
	var speed float64
	var idle time.Duration
	c := &cobra.Command{
		Use: "play ID|FILE", Short: "Replay a recording in this terminal", Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
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
			p := player{out: g.Out, speed: speed, idle: idle, sleep: sleep, warn: g.say}
			return p.play(ctx, cast)
		},
	}
	c.Long = "Replay a recording in this terminal, with the time it took, until its end or Ctrl-C.\n" +
		"What could reach beyond the screen (questions to the terminal, its clipboard, its title, its keyboard) is left out."
	f := c.Flags()
	source.register(c)
	f.Float64Var(&speed, "speed", 1, "how many times as fast")
	f.DurationVar(&idle, "idle-limit", 0, "longest pause, such as 2s (default: as recorded)")
	return c
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
	screen := &screenFilter{}
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
func (p *player) event(ctx context.Context, line []byte, screen *screenFilter) error {
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
	_, err := p.out.Write(screen.filter(nil, data))
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
