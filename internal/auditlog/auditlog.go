// Package auditlog decides where audit events go: a JSON line on standard error and a row in the
// database. It escapes what strangers typed before either sees it.
package auditlog

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"sallyport/audit"
)

// Sink keeps events for good; store.Audit is the real one.
type Sink interface {
	Append(ctx context.Context, e audit.Event) error
}

// Config of a [Log].
type Config struct {
	Sink   Sink
	Logger *slog.Logger     // receives every event at level info; nil: slog.Default()
	Node   string           // name of this node, written into each event
	Now    func() time.Time // nil: time.Now

	// Seen is told every event, in the goroutine that emits it; it must not wait. May be nil.
	Seen func(audit.Event)
}

// maxPending bounds the events that wait in memory while the database is away. When it is full the
// oldest are given up; their JSON lines were written all the same.
const maxPending = 10_000

// Log emits events. It is safe for concurrent use.
type Log struct {
	cfg Config

	mu      sync.Mutex    // guards pending
	pending []audit.Event // events that the sink refused, oldest first
}

// New returns a Log. The Config must not be modified afterwards.
func New(cfg Config) *Log {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Log{cfg: cfg}
}

// Emit completes e with id, time and node and writes it to both places. An error means that the row
// could not be written yet: a caller that is about to let somebody in must refuse; the event itself
// is kept in memory and written by [Log.Flush] when the database is back.
func (l *Log) Emit(ctx context.Context, e audit.Event) error {
	e, err := l.Complete(e)
	if err != nil {
		return err
	}
	l.Print(ctx, e)
	return l.Write(ctx, e)
}

// Write keeps a complete event that was printed, as [Log.Emit] does.
func (l *Log) Write(ctx context.Context, e audit.Event) error {
	// The event must be kept even if whoever caused it has hung up meanwhile.
	if err := l.cfg.Sink.Append(context.WithoutCancel(ctx), e); err != nil {
		l.keep(e)
		return fmt.Errorf("writing audit event %s: %w", e.Type, err)
	}
	return nil
}

// Complete returns e with id, time and node, escaped: for who writes the row in a transaction of their
// own, and after it calls [Log.Print]. Everybody else calls [Log.Emit].
func (l *Log) Complete(e audit.Event) (audit.Event, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return e, fmt.Errorf("making an id for audit event %s: %w", e.Type, err)
	}
	e.ID = id.String()
	e.Time = l.cfg.Now().UTC().Truncate(time.Millisecond)
	if e.Node == "" {
		e.Node = l.cfg.Node
	}
	return e.Escaped(), nil
}

// Print writes the JSON line of a complete event.
func (l *Log) Print(ctx context.Context, e audit.Event) {
	l.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "audit", slog.Any("event", e))
	if l.cfg.Seen != nil {
		l.cfg.Seen(e)
	}
}

func (l *Log) keep(e audit.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.pending) >= maxPending {
		l.pending = l.pending[1:]
	}
	l.pending = append(l.pending, e)
}

// Flush writes the events that are waiting, in order, and stops at the first one that is refused.
func (l *Log) Flush(ctx context.Context) error {
	for {
		l.mu.Lock()
		if len(l.pending) == 0 {
			l.mu.Unlock()
			return nil
		}
		e := l.pending[0]
		l.mu.Unlock()
		if err := l.cfg.Sink.Append(ctx, e); err != nil {
			return fmt.Errorf("writing waiting audit event %s: %w", e.Type, err)
		}
		l.mu.Lock()
		if len(l.pending) > 0 && l.pending[0].ID == e.ID {
			l.pending = l.pending[1:]
		}
		l.mu.Unlock()
	}
}

// Pending tells how many events wait for the database.
func (l *Log) Pending() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.pending)
}
