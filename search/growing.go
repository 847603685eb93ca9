package search

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"sallyport/recorder"
	"sallyport/screen"
	"sallyport/store"
)

// How recordings of terminals are indexed that are still being written.
const (
	growsAfter = time.Minute     // how old a recording is before that
	growsEvery = time.Minute     // from one look at all of them to the next
	growsLease = 5 * time.Minute // a node that starts again has to wait no longer
	growsPause = 20              // a look at all of them takes at most this part of the time
)

// growing is the index of a recording that is still being written, part by part as they are closed.
//
// Between two looks the screen is kept as the sequence that paints it, a few KiB: an emulator is a hundred times
// that, and a node may have a thousand sessions.
type growing struct {
	claim   store.SearchClaim
	term    *terminal
	batch   *batch
	painted []byte // nil: the screen is there
	cols    int    // … its size
	rows    int
	parts   int // that are drawn
	lines   int
	left    int           // bytes that may still be drawn
	spent   time.Duration // of drawing
	written int           // commands that are in the store as they will stay
	full    string        // why nothing more is drawn; "": it goes on
	gone    time.Time     // since when it is not written any more
	dropped bool          // it waits for its end, as any other recording
}

// grow indexes what has been added to the open recordings of this node, and finishes those that have ended.
func (x *Indexer) grow(ctx context.Context) error {
	if x.cfg.Recorder == nil {
		return nil
	}
	begun := time.Now()
	now := x.cfg.Now()
	look := now.Sub(x.grown) >= max(growsEvery, growsPause*x.growing.took)
	if !look && len(x.growing.open) == 0 {
		return nil
	}
	active := map[string]bool{}
	for _, o := range x.cfg.Recorder.Readable() {
		active[o.Path] = true
		if !look || now.Sub(o.Begun) < growsAfter {
			continue
		}
		if err := x.growOne(ctx, o); err != nil {
			return err
		}
	}
	for path, g := range x.growing.open {
		if active[path] {
			continue
		}
		if err := x.growEnd(ctx, path, g); err != nil {
			return err
		}
	}
	if look {
		x.grown, x.growing.took = now, time.Since(begun)
	}
	return ctx.Err()
}

// growOne draws the parts of one open recording that were closed since the last look.
func (x *Indexer) growOne(ctx context.Context, o recorder.Open) error {
	g := x.growing.open[o.Path]
	if g == nil {
		var claim store.SearchClaim
		err := usually(func() (err error) {
			if claim, err = x.cfg.Store.Search.ClaimOpen(ctx, x.worker, x.cfg.Node, o.Session, o.Channel, growsLease); err == nil {
				err = x.cfg.Store.Search.Clear(ctx, claim, growsLease)
			}
			return err
		})
		if errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrNotFound) {
			return nil // it will be, or is another's: the end is soon enough
		}
		if err != nil {
			return err
		}
		g = &growing{claim: claim, left: x.cfg.most.bytes}
		x.growing.open[o.Path] = g
	}
	if g.dropped {
		return nil
	}
	return x.settle(ctx, g, x.draw(ctx, g, o.Path, false))
}

// growEnd finishes a recording that is not written any more.
func (x *Indexer) growEnd(ctx context.Context, path string, g *growing) error {
	sealed, err := x.cfg.Recorder.Sealed(ctx, path)
	if g.gone.IsZero() {
		g.gone = x.cfg.Now()
	}
	if err == nil && !sealed && x.cfg.Now().Sub(g.gone) < growsLease && !g.dropped {
		return nil // it is being sealed
	}
	delete(x.growing.open, path)
	if g.dropped {
		return nil
	}
	if err == nil && sealed {
		err = x.draw(ctx, g, path, true)
	}
	if err == nil && !sealed {
		err = errors.New("it was not sealed")
	}
	if err != nil {
		return x.settle(ctx, g, err)
	}
	commands := g.term.commands
	for i := range commands {
		commands[i].Channel = g.claim.Channel
	}
	return ignoreConflict(usually(func() error {
		return x.cfg.Store.Search.Finish(ctx, g.claim, store.SearchResult{State: store.SearchDone, Note: g.full, Commands: commands})
	}))
}

// settle gives a recording back that cannot be drawn while it grows: what is wrong is found again at its end.
func (x *Indexer) settle(ctx context.Context, g *growing, err error) error {
	var outside *outsideError
	if err == nil || ctx.Err() != nil {
		return err
	}
	if errors.As(err, &outside) && !errors.Is(err, store.ErrConflict) {
		return err
	}
	x.cfg.Log.Info("an open recording is indexed when it has ended", "session", g.claim.Session, "channel", g.claim.Channel, "error", err)
	g.dropped, g.term, g.batch, g.painted = true, nil, nil, nil
	return ignoreConflict(x.cfg.Store.Search.Postpone(ctx, g.claim, "", x.cfg.Now()))
}

func ignoreConflict(err error) error {
	if errors.Is(err, store.ErrConflict) {
		return nil
	}
	return err
}

// draw draws the parts of a recording that are closed and were not drawn yet, and writes what they have. At the end
// that is all there is.
func (x *Indexer) draw(ctx context.Context, g *growing, path string, end bool) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("drawing it failed: %v", v)
		}
	}()
	parts, err := x.cfg.Recorder.Parts(ctx, path)
	if err != nil {
		return err
	}
	if n := len(parts); n > 0 && parts[n-1].Packed == 0 {
		parts = parts[:n-1]
	}
	if len(parts) <= g.parts && !end {
		return x.renew(ctx, g)
	}
	begun := time.Now()
	for _, p := range parts[min(g.parts, len(parts)):] {
		if g.parts = p.Number; g.full != "" {
			continue
		}
		if err := x.drawPart(ctx, g, path, p, begun); err != nil {
			return err
		}
	}
	if g.term == nil {
		return errors.New("it has no part")
	}
	g.wake()
	if end {
		g.term.end()
	} else {
		g.term.standing()
	}
	g.spent += time.Since(begun)
	g.sleep()
	if err := errors.Join(notFull(g.term.err), g.batch.flush()); err != nil {
		return err
	}
	if end {
		return nil
	}
	return x.renew(ctx, g)
}

func notFull(err error) error {
	if errors.Is(err, errFull) {
		return nil
	}
	return err
}

// renew keeps the claim, and tells how far the index goes.
func (x *Indexer) renew(ctx context.Context, g *growing) error {
	note, commands, settled := "the session goes on", []store.Command(nil), 0
	if g.term != nil {
		note = "what was on the screen after " + g.batch.begun.Add(g.term.before).UTC().Format("15:04:05 UTC") + ", as the session goes on"
		commands, settled = g.term.complete()
	}
	err := usually(func() error {
		return x.cfg.Store.Search.Progress(ctx, g.claim, growsLease, note, min(g.written, settled), commands)
	})
	if err != nil {
		return &outsideError{err}
	}
	g.written = settled
	return nil
}

// drawPart draws one part.
func (x *Indexer) drawPart(ctx context.Context, g *growing, path string, p recorder.Part, begun time.Time) error {
	plain, err := x.cfg.Recorder.ReadPart(ctx, path, p)
	if err != nil {
		return err
	}
	r, err := p.Events(plain)
	if err != nil {
		return err
	}
	defer r.Close()
	if p.Number == 1 {
		h := r.Header()
		g.batch = &batch{ctx: ctx, x: x, claim: g.claim, begun: h.Started}
		g.term = newTerminal(min(h.Width, maxCols), min(h.Height, maxRows), x.cfg.most.commands, g.bounded(x.cfg.most.lines))
		g.term.started = h.Command
	}
	if g.term == nil {
		return fmt.Errorf("part %d is the first", p.Number)
	}
	g.wake()
	g.batch.ctx = ctx
	for g.full == "" {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		g.term.event(e, &g.left)
		if errors.Is(g.term.err, errFull) || g.term.err == nil {
			g.full = enough(x.cfg.most, g.left, g.spent+time.Since(begun), e.At, g.full)
		} else {
			return g.term.err
		}
	}
	return nil
}

// bounded gives lines to the batch, up to so many.
func (g *growing) bounded(most int) func(stream, store.SearchLine) error {
	return func(s stream, l store.SearchLine) error {
		if l.Text = legible(l.Text); l.Text == "" {
			return nil
		}
		if g.lines == most {
			g.full = fullOfLines(most)
			return errFull
		}
		g.lines++
		return g.batch.line(s, l)
	}
}

// wake puts the screen back, and sleep gives its memory away.
func (g *growing) wake() {
	if g.painted == nil {
		return
	}
	s := screen.New(g.cols, g.rows)
	_, _ = s.Write(g.painted)
	s.OnScroll(g.term.scrolled)
	g.term.screen, g.painted = s, nil
}

func (g *growing) sleep() {
	s := g.term.screen
	g.painted, g.term.screen = s.Snapshot(), nil
	g.cols, g.rows = s.Size()
	s.Close()
}
