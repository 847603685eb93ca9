package store

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"sallyport/audit"
)

// chainBatch is how many events are chained in one transaction: few enough that logins do not wait.
const chainBatch = 500

const checkpointColumns = "position, after, head, at, node, signer, sig"

// hashColumn scans a column of hexadecimal digits.
type hashColumn struct{ to *audit.Hash }

func (c hashColumn) Scan(v any) error {
	switch v := v.(type) {
	case string:
		return c.to.UnmarshalText([]byte(v))
	case []byte:
		return c.to.UnmarshalText(v)
	}
	return fmt.Errorf("scanning %T as a hash", v)
}

// base64Column scans a column of base64.
type base64Column struct{ to *[]byte }

func (c base64Column) Scan(v any) (err error) {
	switch v := v.(type) {
	case string:
		*c.to, err = base64.StdEncoding.DecodeString(v)
	case []byte:
		*c.to, err = base64.StdEncoding.DecodeString(string(v))
	default:
		err = fmt.Errorf("scanning %T as base64", v)
	}
	return err
}

func checkpointFields(c *audit.Checkpoint) []any {
	return []any{&c.Position, &c.After, hashColumn{&c.Head}, timeColumn{&c.Time}, &c.Node, &c.Key, base64Column{&c.Sig}}
}

// Chain gives events that have none their places in the chain, oldest first, and has the new head signed. Of
// several nodes that do so at once each goes on where the one before stopped; one that dies in between leaves
// everything as it was. It does a part of a long backlog at a time and returns how many events that were, with
// the checkpoint; nothing is done if none wait. sign fills in key and signature.
func (s Audit) Chain(ctx context.Context, node string, sign func(*audit.Checkpoint) error) (n int, made audit.Checkpoint, err error) {
	const what = "chaining audit events"
	idle := false
	err = s.db.reading(ctx, what, func(ctx context.Context, q querier) error {
		_, err := scalar[int64](ctx, q, "SELECT 1 FROM audit_events WHERE position = 0 LIMIT 1")
		idle = errors.Is(err, ErrNotFound)
		if idle {
			return nil
		}
		return err
	})
	if err != nil || idle {
		return 0, audit.Checkpoint{}, err
	}
	err = s.db.changing(ctx, what, func(ctx context.Context, tx querier) error {
		n, made = 0, audit.Checkpoint{}
		if err := s.db.lock(ctx, tx, lockAuditChain); err != nil {
			return err
		}
		last, err := one(ctx, tx, checkpointFields, "SELECT "+checkpointColumns+" FROM audit_checkpoints ORDER BY position DESC LIMIT 1")
		if errors.Is(err, ErrNotFound) {
			last.Head, err = audit.ChainStart(), nil
		}
		if err != nil {
			return err
		}
		events, err := all(ctx, tx, auditFields, "SELECT "+auditColumns+" FROM audit_events WHERE position = 0 ORDER BY id LIMIT ?", chainBatch)
		if err != nil || len(events) == 0 {
			return err
		}
		head := last.Head
		rows := make([]string, len(events))
		var values []any
		for i, e := range events {
			if head, err = tidy(e).After(head); err != nil {
				return err
			}
			rows[i] = "(CAST(? AS TEXT), CAST(? AS BIGINT), CAST(? AS TEXT))"
			values = append(values, e.ID, last.Position+int64(i)+1, head.String())
		}
		// The names of the columns of VALUES are the same in both engines.
		changed, err := exec(ctx, tx, `UPDATE audit_events SET position = v.column2, link = v.column3
			FROM (VALUES `+strings.Join(rows, ", ")+`) AS v WHERE audit_events.id = v.column1 AND audit_events.position = 0`, values...)
		if err != nil {
			return err
		}
		if changed != int64(len(events)) {
			return fmt.Errorf("%d of %d events were taken by somebody else", int64(len(events))-changed, len(events))
		}
		c := audit.Checkpoint{Position: last.Position + int64(len(events)), After: last.Position, Head: head, Time: s.db.now().UTC().Truncate(time.Millisecond), Node: node}
		if err := sign(&c); err != nil {
			return fmt.Errorf("signing the head of the audit chain: %w", err)
		}
		if _, err := exec(ctx, tx, "INSERT INTO audit_checkpoints ("+checkpointColumns+") VALUES (?, ?, ?, ?, ?, ?, ?)",
			c.Position, c.After, c.Head.String(), ms(c.Time), c.Node, c.Key, base64.StdEncoding.EncodeToString(c.Sig)); err != nil {
			return err
		}
		n, made = len(events), c
		return nil
	})
	if err != nil {
		return 0, audit.Checkpoint{}, err
	}
	return n, made, nil
}

// tidy is an event as it is hashed: without an empty map.
func tidy(e audit.Event) audit.Event {
	if len(e.Detail) == 0 {
		e.Detail = nil
	}
	return e
}

// ChainState is how the audit chain stands.
type ChainState struct {
	Last      audit.Checkpoint // zero if nothing was chained ever
	Unchained int64            // events without a place in the chain
	Oldest    time.Time        // time of the oldest of them
}

// ChainState returns how the audit chain stands.
func (s Audit) ChainState(ctx context.Context) (ChainState, error) {
	var state ChainState
	err := s.db.reading(ctx, "reading the state of the audit chain", func(ctx context.Context, q querier) (err error) {
		state.Last, err = one(ctx, q, checkpointFields, "SELECT "+checkpointColumns+" FROM audit_checkpoints ORDER BY position DESC LIMIT 1")
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		waiting, err := one(ctx, q, func(c *ChainState) []any { return []any{&c.Unchained, timeColumn{&c.Oldest}} },
			"SELECT COUNT(*), COALESCE(MIN(at), 0) FROM audit_events WHERE position = 0")
		state.Unchained, state.Oldest = waiting.Unchained, waiting.Oldest
		return err
	})
	return state, err
}

// linkedEvent is an event with its place.
type linkedEvent struct {
	event    audit.Event
	position int64
	link     string
}

func linkedFields(l *linkedEvent) []any {
	return append(auditFields(&l.event), &l.position, &l.link)
}

func (l linkedEvent) line() audit.Line {
	e := tidy(l.event)
	line := audit.Line{Position: l.position, Event: &e}
	var h audit.Hash
	if l.position != 0 && h.UnmarshalText([]byte(l.link)) == nil {
		line.Link = &h
	}
	return line
}

// Lines calls f with every line of the log in the order of the chain, for a proof: events, after them their
// checkpoint, and at last what is not chained yet. With since it begins with the last checkpoint before. f
// must not use this store.
func (s Audit) Lines(ctx context.Context, since time.Time, f func(audit.Line) error) error {
	var from, to int64
	var anchor *audit.Checkpoint
	err := s.db.reading(ctx, "reading the audit chain", func(ctx context.Context, q querier) (err error) {
		// Events are never newer than the checkpoint that follows them.
		if !since.IsZero() {
			c, err := one(ctx, q, checkpointFields, "SELECT "+checkpointColumns+" FROM audit_checkpoints WHERE at < ? ORDER BY position DESC LIMIT 1", ms(since))
			if err == nil {
				anchor, from = &c, c.Position
			} else if !errors.Is(err, ErrNotFound) {
				return err
			}
		}
		to, err = scalar[int64](ctx, q, "SELECT COALESCE(MAX(position), 0) FROM audit_checkpoints")
		return err
	})
	if err == nil && anchor != nil {
		err = f(audit.Line{Checkpoint: anchor})
	}
	if err == nil {
		err = s.lines(ctx, from, to, f)
	}
	if err != nil {
		return err
	}
	return s.unchained(ctx, f)
}

// lines calls f with the events of positions after from up to to, and their checkpoints. Positions are read
// as they are, twice or not at all.
func (s Audit) lines(ctx context.Context, from, to int64, f func(audit.Line) error) error {
	for after := from; ; {
		var events []linkedEvent
		var points []audit.Checkpoint
		err := s.db.reading(ctx, "reading the audit chain", func(ctx context.Context, q querier) (err error) {
			events, err = all(ctx, q, linkedFields, "SELECT "+auditColumns+`, position, link FROM audit_events
				WHERE position > 0 AND position > ? AND position <= ? ORDER BY position LIMIT 1000`, after, to)
			if err != nil {
				return err
			}
			until := to
			if len(events) == 1000 {
				until = events[999].position
			}
			points, err = all(ctx, q, checkpointFields, "SELECT "+checkpointColumns+` FROM audit_checkpoints
				WHERE position > ? AND position <= ? ORDER BY position`, after, until)
			return err
		})
		if err != nil {
			return err
		}
		for _, e := range events {
			for len(points) > 0 && points[0].Position < e.position {
				if err := f(audit.Line{Checkpoint: &points[0]}); err != nil {
					return err
				}
				points = points[1:]
			}
			if err := f(e.line()); err != nil {
				return err
			}
		}
		for i := range points {
			if err := f(audit.Line{Checkpoint: &points[i]}); err != nil {
				return err
			}
		}
		if len(events) < 1000 {
			return nil
		}
		after = events[999].position
	}
}

// unchained calls f with the events that have no place; of those that got one since, with none.
func (s Audit) unchained(ctx context.Context, f func(audit.Line) error) error {
	for after := ""; ; {
		var events []linkedEvent
		err := s.db.reading(ctx, "reading the audit chain", func(ctx context.Context, q querier) (err error) {
			events, err = all(ctx, q, linkedFields, "SELECT "+auditColumns+", position, link FROM audit_events WHERE position = 0 AND id > ? ORDER BY id LIMIT 1000", after)
			return err
		})
		if err != nil {
			return err
		}
		for _, e := range events {
			if err := f(e.line()); err != nil {
				return err
			}
			after = e.event.ID
		}
		if len(events) < 1000 {
			return nil
		}
	}
}

// Proving returns the lines that prove the events of a session of the given types: for each a stretch of the
// chain from the checkpoint before it to the one after it. Those that are not chained yet come without.
func (s Audit) Proving(ctx context.Context, session string, types ...string) (events []audit.Line, stretches [][]audit.Line, err error) {
	marks := strings.TrimSuffix(strings.Repeat("?, ", len(types)), ", ")
	args := []any{session, session}
	for _, t := range types {
		args = append(args, t)
	}
	var found []linkedEvent
	err = s.db.reading(ctx, "reading the events of session "+session, func(ctx context.Context, q querier) (err error) {
		found, err = all(ctx, q, linkedFields, "SELECT "+auditColumns+`, position, link FROM audit_events
			WHERE substr(session_id, 1, 128) = substr(?, 1, 128) AND session_id = ? AND type IN (`+marks+") ORDER BY id", args...)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	covered := int64(0)
	for _, e := range found {
		events = append(events, e.line())
		if e.position == 0 || e.position <= covered {
			continue
		}
		var from, to audit.Checkpoint
		err := s.db.reading(ctx, "reading the audit chain", func(ctx context.Context, q querier) (err error) {
			from, err = one(ctx, q, checkpointFields, "SELECT "+checkpointColumns+" FROM audit_checkpoints WHERE position < ? ORDER BY position DESC LIMIT 1", e.position)
			if err != nil && !errors.Is(err, ErrNotFound) {
				return err
			}
			to, err = one(ctx, q, checkpointFields, "SELECT "+checkpointColumns+" FROM audit_checkpoints WHERE position >= ? ORDER BY position LIMIT 1", e.position)
			if errors.Is(err, ErrNotFound) {
				to.Position, err = e.position, nil // the proof will say that no signature follows
			}
			return err
		})
		if err != nil {
			return nil, nil, err
		}
		var stretch []audit.Line
		if from.Position > 0 {
			stretch = append(stretch, audit.Line{Checkpoint: &from})
		}
		if err := s.lines(ctx, from.Position, to.Position, func(l audit.Line) error { stretch = append(stretch, l); return nil }); err != nil {
			return nil, nil, err
		}
		covered = to.Position
		stretches = append(stretches, stretch)
	}
	return events, stretches, nil
}
