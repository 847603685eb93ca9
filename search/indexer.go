package search

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"runtime/debug"
	"slices"
	"time"

	"github.com/google/uuid"

	"sallyport/recorder"
	"sallyport/store"
)

// How the work is done.
const (
	every      = 5 * time.Second // looks for new recordings
	overlap    = 10 * time.Minute
	sweepEvery = time.Hour // looks for all that were missed
	lease      = 20 * time.Minute
	maxTries   = 3
	notHere    = time.Hour // before a recording that is not on this node is looked for again
	batchBytes = 32 << 10  // of lines that are written at once
)

// Config of an [Indexer].
type Config struct {
	Store    *store.Store
	Recorder *recorder.Recorder
	Node     string           // this node: its own recordings first
	Log      *slog.Logger     // nil: slog.Default()
	Every    time.Duration    // between two looks for new recordings; 0: 5 s
	Now      func() time.Time // nil: time.Now

	most limits // zero: standard
}

// Indexer puts recordings into the index, one at a time: whole when they are sealed, those of terminals that are open
// for longer part by part.
type Indexer struct {
	cfg    Config
	worker string
	looked time.Time // up to when ended channels are known
	swept  time.Time

	grown   time.Time // when all open recordings were looked at
	growing struct {
		open map[string]*growing // by path
		took time.Duration       // for the last look
	}
}

// NewIndexer returns an Indexer. The Config must not be modified afterwards.
func NewIndexer(cfg Config) *Indexer {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Every <= 0 {
		cfg.Every = every
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.most == (limits{}) {
		cfg.most = standard
	}
	x := &Indexer{cfg: cfg, worker: cfg.Node + " " + uuid.NewString()}
	x.growing.open = map[string]*growing{}
	return x
}

// Run works until ctx ends, with the lowest priority that the system has. It says once when it begins to fail.
func (x *Indexer) Run(ctx context.Context) {
	lowPriority()
	tick := time.NewTicker(x.cfg.Every)
	defer tick.Stop()
	failing := false
	for {
		err := x.Once(ctx)
		if err != nil && !failing && ctx.Err() == nil {
			x.cfg.Log.Error("indexing recordings for the search", "error", err)
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Once indexes all that is due.
func (x *Indexer) Once(ctx context.Context) error {
	if err := x.grow(ctx); err != nil {
		return err
	}
	if err := x.discover(ctx); err != nil {
		return err
	}
	for ctx.Err() == nil {
		c, err := x.cfg.Store.Search.Claim(ctx, x.worker, x.cfg.Node, lease)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		// A claim that another worker has taken over is the other's.
		if err := x.index(ctx, c); err != nil && !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return ctx.Err()
}

// discover looks for recordings that have ended: of late, and now and then for all.
func (x *Indexer) discover(ctx context.Context) error {
	now := x.cfg.Now()
	since := x.looked.Add(-overlap)
	if sweep := now.Sub(x.swept) >= sweepEvery; sweep {
		since = time.Time{}
		defer func() { x.swept = now }()
	}
	for {
		n, err := x.cfg.Store.Search.Discover(ctx, since)
		if err != nil {
			x.looked = time.Time{}
			return err
		}
		if n == 0 {
			x.looked = now
			return nil
		}
	}
}

// index does the work for one claim. Whatever a recording does to it, the next one gets its turn.
func (x *Indexer) index(ctx context.Context, c store.SearchClaim) (err error) {
	var r store.SearchResult
	r, err = x.render(ctx, c)
	var outside *outsideError
	switch {
	case err == nil:
		return usually(func() error { return x.cfg.Store.Search.Finish(ctx, c, r) })
	case errors.As(err, &outside) || ctx.Err() != nil:
		return err // the claim ends by itself
	case errors.Is(err, fs.ErrNotExist):
		return x.cfg.Store.Search.Postpone(ctx, c, "its recording is not on this node", x.cfg.Now().Add(notHere))
	case c.Tries < maxTries && !errors.Is(err, recorder.ErrDamaged):
		return x.cfg.Store.Search.Postpone(ctx, c, err.Error(), x.cfg.Now().Add(time.Minute))
	}
	x.cfg.Log.Warn("a recording cannot be indexed", "session", c.Session, "channel", c.Channel, "error", err)
	return x.cfg.Store.Search.Finish(ctx, c, store.SearchResult{State: store.SearchFailed, Note: err.Error()})
}

// outsideError has nothing to do with the recording.
type outsideError struct{ error }

func (e *outsideError) Unwrap() error { return e.error }

// render reads the recording and adds its lines. What the recording is to blame for is its own error, a panic
// included.
func (x *Indexer) render(ctx context.Context, c store.SearchClaim) (result store.SearchResult, err error) {
	defer func() {
		if v := recover(); v != nil {
			x.cfg.Log.Error("drawing a recording", "session", c.Session, "channel", c.Channel, "panic", v, "stack", string(debug.Stack()))
			err = fmt.Errorf("drawing it failed: %v", v)
		}
	}()
	r, err := x.cfg.Recorder.Open(c.Path)
	if errors.Is(err, recorder.ErrEncrypted) {
		return store.SearchResult{State: store.SearchOff, Note: "it is encrypted"}, nil
	}
	if err != nil {
		return result, err
	}
	defer r.Close()
	if err := usually(func() error { return x.cfg.Store.Search.Clear(ctx, c, lease) }); err != nil {
		return result, &outsideError{err}
	}
	if slices.Contains(r.Header().Tags, recorder.TagUnsearched) {
		return store.SearchResult{State: store.SearchOff, Note: "its rule says search: off"}, nil
	}
	b := &batch{ctx: ctx, x: x, claim: c, begun: r.Header().Started}
	found, err := read(r, x.cfg.most, b.line)
	if err := b.flush(); err != nil {
		return result, err
	}
	if err != nil {
		return result, err
	}
	for i := range found.commands {
		found.commands[i].Channel = c.Channel
	}
	return store.SearchResult{State: store.SearchDone, Note: found.note, Commands: found.commands}, nil
}

// usually does f at the usual priority: who holds a lock of the database must not be kept waiting by everybody else.
func usually(f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return <-done
}

// batch collects lines into blocks, and blocks until it is worth a transaction.
type batch struct {
	ctx    context.Context
	x      *Indexer
	claim  store.SearchClaim
	begun  time.Time
	open   [2]block // of each stream
	blocks []store.SearchBlock
	size   int
}

type block struct {
	lines    []store.SearchLine
	size     int
	from, to time.Duration
}

func (b *batch) line(s stream, l store.SearchLine) error {
	o := &b.open[s]
	if len(o.lines) > 0 && (o.size+len(l.Text) > store.SearchBlockBytes || max(o.to, l.At)-min(o.from, l.At) > store.SearchBlockSpan) {
		if err := b.close(o); err != nil {
			return err
		}
	}
	if len(o.lines) == 0 {
		o.from, o.to = l.At, l.At
	}
	o.from, o.to = min(o.from, l.At), max(o.to, l.At)
	o.lines = append(o.lines, l)
	o.size += len(l.Text)
	return nil
}

func (b *batch) close(o *block) error {
	slices.SortStableFunc(o.lines, func(a, b store.SearchLine) int { return int(a.At - b.At) })
	b.blocks = append(b.blocks, store.SearchBlock{Begun: b.begun, Lines: o.lines})
	b.size += o.size
	*o = block{}
	if b.size < batchBytes {
		return nil
	}
	return b.write()
}

func (b *batch) write() error {
	err := usually(func() error { return b.x.cfg.Store.Search.Add(b.ctx, b.claim, lease, b.blocks...) })
	b.blocks, b.size = nil, 0
	if err != nil {
		return &outsideError{err}
	}
	return nil
}

// flush writes what is left, of a recording that cannot be read to its end as well.
func (b *batch) flush() error {
	for i := range b.open {
		if len(b.open[i].lines) > 0 {
			if err := b.close(&b.open[i]); err != nil {
				return err
			}
		}
	}
	return b.write()
}
