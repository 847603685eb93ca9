package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/crypto/ssh"
)

// turns is how often the peers take turns within one round.
const turns = 20

// terminal is a session with a terminal on which something runs.
type terminal struct {
	client *ssh.Client
	in     io.Writer
	out    io.Reader
}

// openTerminal starts command on a terminal of its own connection and reads until it has printed ready.
func (b *bench) openTerminal(ctx context.Context, p *peer, command, ready string) (*terminal, error) {
	client, err := b.dial(ctx, p)
	if err != nil {
		return nil, err
	}
	t := &terminal{client: client}
	if err := within(dialLimit, client, func() error { return t.start(command, ready) }); err != nil {
		return nil, errors.Join(err, ignoreClosed(client.Close()))
	}
	return t, nil
}

func (t *terminal) start(command, ready string) error {
	s, err := t.client.NewSession()
	if err != nil {
		return fmt.Errorf("opening a session: %w", err)
	}
	if err := s.RequestPty("xterm", 24, 80, ssh.TerminalModes{ssh.ECHO: 0}); err != nil {
		return fmt.Errorf("asking for a terminal: %w", err)
	}
	if t.in, err = s.StdinPipe(); err != nil {
		return err
	}
	if t.out, err = s.StdoutPipe(); err != nil {
		return err
	}
	if err := s.Start(command); err != nil {
		return fmt.Errorf("starting %s: %w", command, err)
	}
	var seen []byte
	for !bytes.HasSuffix(seen, []byte(ready)) {
		var one [1]byte
		if _, err := io.ReadFull(t.out, one[:]); err != nil {
			return fmt.Errorf("waiting for %q, having read %q: %w", ready, seen, err)
		}
		seen = append(seen, one[0])
	}
	return nil
}

func (t *terminal) close() error { return ignoreClosed(t.client.Close()) }

// ignoreClosed drops the error of closing what is closed already.
func ignoreClosed(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// press types keys one at a time, each after the echo of the one before, and gives the times between
// key and echo.
func (t *terminal) press(n int) ([]time.Duration, error) {
	times := make([]time.Duration, 0, n)
	for i := range n {
		key, echo := [1]byte{'a' + byte(i%26)}, [1]byte{}
		begun := time.Now()
		if _, err := t.in.Write(key[:]); err != nil {
			return nil, fmt.Errorf("typing: %w", err)
		}
		if _, err := io.ReadFull(t.out, echo[:]); err != nil {
			return nil, fmt.Errorf("reading the echo: %w", err)
		}
		times = append(times, time.Since(begun))
		if echo != key {
			return nil, fmt.Errorf("typed %q, and %q came back", key, echo)
		}
	}
	return times, nil
}

// echo measures how long a typed key takes to come back from `cat` on a raw terminal. All peers' sessions are
// open together, and a few keys go through each in turn.
func (b *bench) echo(ctx context.Context, peers []*peer) error {
	open := map[string]*terminal{}
	defer func() {
		for _, t := range open {
			_ = t.close() // the echoes were all read
		}
	}()
	for _, p := range peers {
		t, err := b.openTerminal(ctx, p, "stty raw -echo && echo ready && exec cat", "ready\n")
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		open[p.name] = t
	}
	times := map[string][]float64{}
	for turn := range turns + 1 {
		for _, p := range peers {
			t := open[p.name]
			err := within(time.Minute, t.client, func() error {
				some, err := t.press(b.keys / turns)
				if turn > 0 { // the first is for warming up
					times[p.name] = append(times[p.name], inMilliseconds(some)...)
				}
				return err
			})
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
		}
	}
	for _, p := range peers {
		for metric, share := range map[string]float64{"echo_p50": 0.50, "echo_p99": 0.99} {
			took, base := percentile(times[p.name], share), percentile(times[direct], share)
			b.add(metric, p.name, took)
			if p.proxy != nil {
				b.add(metric+"_added", p.name, (took-base)*1000)
			}
		}
	}
	return nil
}

func inMilliseconds(times []time.Duration) []float64 {
	list := make([]float64, len(times))
	for i, t := range times {
		list[i] = milliseconds(t)
	}
	return list
}
