package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"sallyport/audit"
	"sallyport/replay"
)

func sessionWatchCommand(g *globals) *cobra.Command {
	var channel int
	c := action(g, "watch ID", "Watch a live session in this terminal", cobra.ExactArgs(1), func(c *cobra.Command, api *client, args []string) error {
		ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		q := url.Values{"channel": {itoa(channel)}}
		resp, err := api.send(ctx, http.MethodGet, route("sessions", args[0], "live")+"?"+q.Encode(), nil)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		return g.watch(ctx, resp.Body)
	})
	c.Long = "Watch a live session in this terminal, on whatever node it is, until it ends or you press q or Ctrl-C. You only look: nothing\n" +
		"that you type reaches the session. The person reads who watches, unless their rule says observed: silent.\n" +
		"What could reach beyond the screen (questions to the terminal, its clipboard, its title, its keyboard) is left out."
	c.Flags().IntVar(&channel, "channel", 0, "number of the channel (default: the first that runs something, which is waited for)")
	return c
}

// watch shows a live view until it is over or the one who watches leaves.
func (g *globals) watch(ctx context.Context, cast io.ReadCloser) error {
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	if tty, ok := g.In.(*os.File); ok && term.IsTerminal(int(tty.Fd())) {
		before, err := term.MakeRaw(int(tty.Fd())) // keys come at once, and are not shown between what is watched
		if err != nil {
			return fmt.Errorf("preparing the terminal: %w", err)
		}
		defer func() { _ = term.Restore(int(tty.Fd()), before) }() // it may be gone
		go leaveByKey(tty, leave)
	}
	context.AfterFunc(ctx, func() { _ = cast.Close() })
	why, err := (&player{out: g.Out, warn: g.say}).live(cast)
	if ctx.Err() != nil {
		return nil // q and Ctrl-C are how a watch is left
	}
	if err != nil {
		return failed("Is the server still there? Watch again.", "the live view broke off: %s", audit.Escape(err.Error()))
	}
	g.say("\r%s", audit.Escape(why))
	return nil
}

// leaveByKey leaves with q, Ctrl-C or Ctrl-D.
func leaveByKey(tty io.Reader, leave func()) {
	defer leave()
	key := make([]byte, 1)
	for {
		if n, err := tty.Read(key); err != nil || n == 1 && (key[0] == 'q' || key[0] == 0x03 || key[0] == 0x04) {
			return
		}
	}
}

// live shows the events of a live view as they come. It returns why it is over, and an error if that was not said.
func (p *player) live(cast io.Reader) (why string, err error) {
	lines := bufio.NewScanner(cast)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	screen := &replay.Filter{}
	defer func() { _, _ = io.WriteString(p.out, screenReset) }() // the terminal may be gone
	begun := false
	for lines.Scan() {
		line := lines.Bytes()
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		if !begun {
			var h castHeader
			if err := json.Unmarshal(line, &h); err != nil || h.Version != 3 {
				return "", fmt.Errorf("this is not an asciicast v3")
			}
			p.checkSize(h)
			begun = true
			continue
		}
		var interval float64
		var code, data string
		if err := json.Unmarshal(line, &[]any{&interval, &code, &data}); err != nil {
			return "", fmt.Errorf("reading the live view: %w", err)
		}
		switch code {
		case "o":
			if _, err := p.out.Write(screen.Append(nil, data)); err != nil {
				return "", err
			}
		case "m":
			why = data
		}
	}
	if err := lines.Err(); err != nil {
		return "", err
	}
	if why == "" {
		return "", io.ErrUnexpectedEOF
	}
	return why, nil
}
