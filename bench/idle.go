package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

const openers = 8 // connections set up at the same time

// idle measures the memory of the proxy with sessions that do nothing on a terminal, one on each connection.
func (b *bench) idle(ctx context.Context, p *peer) error {
	if p.proxy == nil {
		return nil
	}
	if _, err := p.proxy.settled(ctx); err != nil {
		return err
	}
	base, err := p.proxy.memory()
	if errors.Is(err, fs.ErrPermission) {
		b.note("Memory of %s is missing: only root may look at it.", p.name)
		return nil
	}
	if err != nil {
		return err
	}
	open, err := b.openIdle(ctx, p)
	if err == nil {
		// The garbage of the logins may go meanwhile.
		select {
		case <-time.After(b.cool):
		case <-ctx.Done():
		}
		var full int64
		if full, err = p.proxy.memory(); err == nil {
			b.add("idle_base", p.name, float64(base)/1e6)
			b.add("idle_session", p.name, float64(full-base)/1e3/float64(b.sessions))
		}
	}
	for _, t := range open {
		err = errors.Join(err, t.close())
	}
	if err != nil {
		return err
	}
	_, err = p.proxy.settled(ctx)
	return err
}

// openIdle opens all sessions, and gives also after an error those it opened.
func (b *bench) openIdle(ctx context.Context, p *peer) (open []*terminal, err error) {
	var mu sync.Mutex // guards open and err
	var opening sync.WaitGroup
	tickets := make(chan struct{}, b.sessions)
	for range b.sessions {
		tickets <- struct{}{}
	}
	close(tickets)
	for range openers {
		opening.Go(func() {
			for range tickets {
				t, failed := b.openTerminal(ctx, p, "echo ready && exec sleep 600", "ready\r\n")
				mu.Lock()
				if failed != nil {
					err = errors.Join(err, failed)
				} else {
					open = append(open, t)
				}
				stop := err != nil
				mu.Unlock()
				if stop {
					return
				}
			}
		})
	}
	opening.Wait()
	return open, err
}

// memory sums the proportional set size of all processes of the proxy, in bytes.
func (x *proxy) memory() (int64, error) {
	all, err := processes()
	if err != nil {
		return 0, err
	}
	sum, err := pss(x.server.pid())
	if err != nil {
		return 0, err
	}
	for _, u := range below(all, x.server.pid()) {
		n, err := pss(u.pid)
		if gone(err) || u.state == 'Z' {
			continue
		}
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

func pss(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, fmt.Errorf("reading memory of %d: %w", pid, err)
	}
	return parsePSS(string(text))
}

// parsePSS reads the text of /proc/PID/smaps_rollup and gives bytes.
func parsePSS(text string) (int64, error) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 3 && f[0] == "Pss:" && f[2] == "kB" {
			n, err := strconv.ParseInt(f[1], 10, 64)
			return n * 1024, err
		}
	}
	return 0, fmt.Errorf("no Pss in %q", text)
}
