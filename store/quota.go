package store

import (
	"context"
	"fmt"
	"hash/fnv"
	"slices"
	"time"
)

// Quota bounds how many sessions may be live at once, on all nodes together. Zero fields set no bound.
type Quota struct {
	Sessions       int // of the session's user under its rule
	UserSessions   int // of its user
	RuleSessions   int // under its rule
	TargetSessions int // to its target
}

// QuotaError is the error of opening a session for which there is no place.
type QuotaError struct {
	Limit string // as rules call it, such as "user-sessions"
	Open  int    // sessions that are live now
	Max   int
}

func (e *QuotaError) Error() string {
	open := fmt.Sprintf("%d sessions are open", e.Open)
	if e.Open == 1 {
		open = "1 session is open"
	}
	return fmt.Sprintf("%s, and %s allows %d", open, e.Limit, e.Max)
}

// nodeSilence is how long a node may say nothing before its sessions take no places any more. A node says
// that it lives every few seconds, see [Sessions.Alive].
const nodeSilence = time.Minute

// Alive notes that a node lives. Its sessions take places under limits for a minute from now; those of a node
// that never said so take them always.
func (s Sessions) Alive(ctx context.Context, node string) error {
	return s.db.writing(ctx, "noting that node "+node+" lives", func(ctx context.Context, q querier) error {
		_, err := exec(ctx, q, "INSERT INTO nodes (name, seen) VALUES (?, "+s.db.clockSQL()+") ON CONFLICT (name) DO UPDATE SET seen = excluded.seen", node)
		return err
	})
}

// Lives tells whether a node has said within the given time that it lives.
func (s Sessions) Lives(ctx context.Context, node string, silence time.Duration) (bool, error) {
	n := 0
	err := s.db.briefly(ctx, "looking whether node "+node+" lives", func(ctx context.Context, q querier) (err error) {
		n, err = scalar[int](ctx, q, "SELECT COUNT(*) FROM nodes WHERE name = ? AND seen >= "+s.db.clockSQL()+" - ?", node, silence.Milliseconds())
		return err
	})
	return n > 0, err
}

// Room tells whether x could be opened within q now, as [Sessions.OpenWithin] will decide it. It takes no
// place.
func (s Sessions) Room(ctx context.Context, x Session, q Quota) error {
	if q == (Quota{}) {
		return nil
	}
	return s.db.briefly(ctx, "counting sessions", func(ctx context.Context, r querier) error { return s.within(ctx, r, x, q) })
}

// within counts.
func (s Sessions) within(ctx context.Context, q querier, x Session, quota Quota) error {
	type row struct{ both, user, rule, target int }
	n, err := one(ctx, q, func(r *row) []any { return []any{&r.both, &r.user, &r.rule, &r.target} }, `SELECT
		COALESCE(SUM(CASE WHEN user_id = ? AND rule = ? THEN 1 ELSE 0 END), 0),
		COALESCE(SUM(CASE WHEN user_id = ? THEN 1 ELSE 0 END), 0),
		COALESCE(SUM(CASE WHEN rule = ? THEN 1 ELSE 0 END), 0),
		COALESCE(SUM(CASE WHEN target = ? THEN 1 ELSE 0 END), 0)
		FROM sessions WHERE state = ? AND node NOT IN (SELECT name FROM nodes WHERE seen < `+s.db.clockSQL()+" - ?)",
		x.UserID, x.Rule, x.UserID, x.Rule, x.Target, Live, nodeSilence.Milliseconds())
	if err != nil {
		return err
	}
	for _, l := range []QuotaError{
		{"sessions", n.both, quota.Sessions}, {"user-sessions", n.user, quota.UserSessions},
		{"rule-sessions", n.rule, quota.RuleSessions}, {"target-sessions", n.target, quota.TargetSessions},
	} {
		if l.Max > 0 && l.Open >= l.Max {
			return &l
		}
	}
	return nil
}

// holdPlaces makes transactions that count the same sessions wait for each other, always in one order. (SQLite
// has one writer at a time.) An open without limits waits for none: it may always be taken to come last.
func (s Sessions) holdPlaces(ctx context.Context, tx querier, x Session, q Quota) error {
	if !s.db.postgres() {
		return nil
	}
	var subjects []int32
	for _, c := range []struct {
		counted bool
		subject string
	}{
		{q.Sessions > 0 || q.UserSessions > 0, "user " + x.UserID}, {q.RuleSessions > 0, "rule " + x.Rule}, {q.TargetSessions > 0, "target " + x.Target},
	} {
		if c.counted {
			h := fnv.New32a()
			h.Write([]byte(c.subject))
			subjects = append(subjects, int32(h.Sum32()))
		}
	}
	slices.Sort(subjects)
	for _, subject := range slices.Compact(subjects) {
		if _, err := exec(ctx, tx, "SELECT pg_advisory_xact_lock(?, ?)", lockSessions, subject); err != nil {
			return err
		}
	}
	return nil
}

// LiveNodes is how many nodes live: their last word is not older than silence.
func (s Sessions) LiveNodes(ctx context.Context, silence time.Duration) (n int, err error) {
	err = s.db.reading(ctx, "counting the nodes that live", func(ctx context.Context, q querier) (err error) {
		n, err = scalar[int](ctx, q, "SELECT COUNT(*) FROM nodes WHERE seen >= "+s.db.clockSQL()+" - ?", silence.Milliseconds())
		return err
	})
	return n, err
}
