package auditlog

import (
	"context"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"sallyport/audit"
)

// ChainKeeper keeps the chain in which events stand; store.Audit is the real one.
type ChainKeeper interface {
	Chain(ctx context.Context, node string, sign func(*audit.Checkpoint) error) (int, audit.Checkpoint, error)
}

// ChainConfig of a [Chainer].
type ChainConfig struct {
	Keeper ChainKeeper
	Sign   func(text []byte) (key string, sig []byte) // signs with this node's key
	Node   string
	Logger *slog.Logger  // receives a checkpoint now and then, as witnesses outside the database; nil: slog.Default()
	Every  time.Duration // 0: half a second

	// Heads keeps heads outside of the database; nil: nothing does. Last is the last one that it had at the start. Away
	// takes one now and then, to keep it farther away; nil: nobody does.
	Heads *Heads
	Last  audit.Checkpoint
	Away  func(context.Context, audit.Checkpoint) error
}

// How often a checkpoint goes into the log, the file of heads, and away.
const (
	witnessEvery = time.Minute
	headEvery    = time.Second
	awayEvery    = 5 * time.Minute
)

// Chainer chains the events that nobody has chained yet. Every node runs one; it never delays who writes an event.
type Chainer struct {
	cfg ChainConfig

	mu      sync.Mutex // guards the fields below
	last    audit.Checkpoint
	err     error
	problem string
	lost    audit.Checkpoint // that the database has forgotten; zero: none
}

// NewChainer returns a Chainer. The Config must not be modified afterwards.
func NewChainer(cfg ChainConfig) *Chainer {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Every == 0 {
		cfg.Every = 500 * time.Millisecond
	}
	return &Chainer{cfg: cfg, last: cfg.Last}
}

// Run chains until ctx ends.
func (c *Chainer) Run(ctx context.Context) {
	tick := time.NewTicker(c.cfg.Every)
	defer tick.Stop()
	var witness time.Time
	kept := keptHeads{c: c, file: markOf(c.cfg.Last), away: markOf(c.cfg.Last)}
	for {
		select {
		case <-ctx.Done():
			ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			kept.keep(ending, true)
			cancel()
			return
		case <-tick.C:
		}
		err := c.All(ctx)
		c.mu.Lock()
		before, last := c.err, c.last
		c.err = err
		c.mu.Unlock()
		if err != nil && before == nil && ctx.Err() == nil {
			c.cfg.Logger.Error("chaining audit events; they are kept and will be chained later", "error", err)
		}
		kept.keep(ctx, false)
		if last.Position > 0 && time.Since(witness) >= witnessEvery && last.Time.After(witness) {
			witness = time.Now()
			c.cfg.Logger.Info("audit chain", "position", last.Position, "head", last.Head, "key", last.Key)
		}
	}
}

// keptHeads is which heads are kept outside of the database.
type keptHeads struct {
	c                    *Chainer
	file, away           mark
	fileAt, awayAt       time.Time
	fileFails, awayFails bool // and that was logged
}

// mark is which head was kept last. The position alone does not tell: a database that came from a backup goes on at an earlier one.
type mark struct {
	position int64
	head     audit.Hash
}

func markOf(c audit.Checkpoint) mark { return mark{c.Position, c.Head} }

// keep keeps the last head, if its time has come, or at once.
func (k *keptHeads) keep(ctx context.Context, now bool) {
	k.c.mu.Lock()
	last := k.c.last
	k.c.mu.Unlock()
	if k.c.cfg.Heads != nil && last.Position > 0 && markOf(last) != k.file && (now || time.Since(k.fileAt) >= headEvery) {
		k.fileAt = time.Now()
		err := k.c.cfg.Heads.Add(last)
		if err == nil {
			k.file = markOf(last)
		} else if !k.fileFails {
			k.c.cfg.Logger.Error("heads of the audit chain cannot be kept in the data folder", "error", err)
		}
		k.fileFails = err != nil
	}
	if k.c.cfg.Away != nil && last.Position > 0 && markOf(last) != k.away && (now || time.Since(k.awayAt) >= awayEvery) {
		k.awayAt = time.Now()
		err := k.c.cfg.Away(ctx, last)
		if err == nil {
			k.away = markOf(last)
		} else if !k.awayFails {
			k.c.cfg.Logger.Error("heads of the audit chain cannot be kept in the bucket", "error", err)
		}
		k.awayFails = err != nil
	}
}

// All chains what waits now.
func (c *Chainer) All(ctx context.Context) error {
	for {
		n, made, err := c.cfg.Keeper.Chain(ctx, c.cfg.Node, c.sign)
		if err != nil || n == 0 {
			return err
		}
		c.note(n, made)
	}
}

func (c *Chainer) sign(p *audit.Checkpoint) error {
	for p.Key, _ = c.cfg.Sign(nil); ; { // the id is signed too, and another key may take its place just now
		text, err := p.SignedText()
		if err != nil {
			return err
		}
		key := p.Key
		if p.Key, p.Sig = c.cfg.Sign(text); p.Key == key {
			return nil
		}
	}
}

// note keeps the newest head, and finds out when the database has forgotten one: what this node signed is
// never taken back.
func (c *Chainer) note(n int, made audit.Checkpoint) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if begun := made.Position - int64(n); begun < c.last.Position {
		c.lost = c.last
		c.problem = "the audit log has lost events: it went on at position " + strconv.FormatInt(begun, 10) + ", and had " + strconv.FormatInt(c.last.Position, 10)
		c.cfg.Logger.Error(c.problem+"; was the database brought back from a backup?", "position", c.last.Position, "head", c.last.Head)
	}
	c.last = made
}

// Answered is told of statements about what the log has lost: what one of them excuses is no problem any more.
func (c *Chainer) Answered(restores []audit.Restore) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range restores {
		if c.lost.Position > 0 && r.Excuses(c.lost.Position, audit.Kept{Head: c.lost.Head, Time: c.lost.Time}) {
			c.problem, c.lost = "", audit.Checkpoint{}
		}
	}
}

// Lost is the last head that the database has forgotten while this process ran, or before it was started; false: none is.
func (c *Chainer) Lost() (audit.Checkpoint, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lost, c.lost.Position > 0
}

// Problem tells what is wrong with the chain as this process has seen it, "" if nothing is.
func (c *Chainer) Problem() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.problem == "" && c.err != nil {
		return "events cannot be chained: " + c.err.Error()
	}
	return c.problem
}
