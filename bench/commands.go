package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	connections  = 8 // at once
	sessionsEach = 4 // at once on a connection; together 32
	perSession   = 6 // commands one after another, then the connection is replaced

	relayShare = 25 // the relay runs that part of it: each starts processes worth a tenth of a second
)

// outcome counts commands.
type outcome struct {
	done, failed int
	first        error // the first failure
}

func (o *outcome) add(n int, err error) {
	if err == nil {
		o.done += n
		return
	}
	o.failed += n
	if o.first == nil {
		o.first = err
	}
}

// runCommands runs `true` many times, 32 at once, on several connections that are replaced again and
// again. A failure is counted and not an error here.
func (b *bench) runCommands(ctx context.Context, p *peer) error {
	n := b.commands / b.rounds
	if p.name == relay {
		n /= relayShare
	}
	batches := make(chan int, n)
	for left := n; left > 0; left -= sessionsEach * perSession {
		batches <- min(left, sessionsEach*perSession)
	}
	close(batches)
	var mu sync.Mutex // guards all
	var all outcome
	var workers sync.WaitGroup
	begun := time.Now()
	for range connections {
		workers.Go(func() {
			for size := range batches {
				o := b.batch(ctx, p, size)
				mu.Lock()
				all.add(o.done, nil)
				if o.first != nil {
					all.add(o.failed, o.first)
				}
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if all.done+all.failed != n {
		return fmt.Errorf("%d commands were done and %d failed, of %d", all.done, all.failed, n)
	}
	b.add("commands_failed", p.name, float64(all.failed))
	b.add("commands_run", p.name, float64(n))
	b.add("commands_rate", p.name, float64(all.done)/time.Since(begun).Seconds())
	if all.first != nil {
		b.failed = errors.Join(b.failed, fmt.Errorf("%d of %d commands failed at %s, the first so: %w", all.failed, n, p.name, all.first))
	}
	return nil
}

// batch runs size commands on one connection.
func (b *bench) batch(ctx context.Context, p *peer, size int) (all outcome) {
	client, err := b.dial(ctx, p)
	if err != nil {
		all.add(size, err)
		return all
	}
	defer client.Close()
	var mu sync.Mutex                                // guards all
	_ = within(2*time.Minute, client, func() error { // what is cut off fails and is counted
		var sessions sync.WaitGroup
		for i := range sessionsEach {
			sessions.Go(func() {
				for j := i; j < size; j += sessionsEach {
					err := runOnce(client, "true")
					mu.Lock()
					all.add(1, err)
					mu.Unlock()
				}
			})
		}
		sessions.Wait()
		return nil
	})
	return all
}

// failures are what went wrong without ending the measurement.
func (b *bench) failures() error { return b.failed }
