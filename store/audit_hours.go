package store

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// HourCount tells how many events of a type there were in one hour.
type HourCount struct {
	Type  string
	Hour  time.Time // its beginning, UTC
	Count int
}

// PerHour counts the events of some types, hour by hour since a moment. Hours without any are left out.
func (s Audit) PerHour(ctx context.Context, types []string, since time.Time) ([]HourCount, error) {
	var where conditions
	// Ids begin with the time they were made at (RFC 9562, section 5.7), and have the index.
	where.add("id >= ?", firstID(since))
	where.add("at >= ?", ms(since))
	in, args := "", make([]any, len(types))
	for i, t := range types {
		in, args[i] = in+", ?", t
	}
	if len(types) == 0 {
		return nil, nil
	}
	where.add("type IN ("+in[2:]+")", args...)
	var counts []HourCount
	err := s.db.reading(ctx, "counting audit events", func(ctx context.Context, q querier) error {
		type row struct {
			kind    string
			hour, n int64
		}
		rows, err := all(ctx, q, func(r *row) []any { return []any{&r.kind, &r.hour, &r.n} },
			"SELECT type, at / 3600000, COUNT(*) FROM audit_events WHERE "+strings.Join(where.terms, " AND ")+" GROUP BY 1, 2 ORDER BY 2, 1", where.args...)
		for _, r := range rows {
			counts = append(counts, HourCount{Type: r.kind, Hour: time.Unix(r.hour*3600, 0).UTC(), Count: int(r.n)})
		}
		return err
	})
	return counts, err
}

// firstID is not above any UUIDv7 made at or after t.
func firstID(t time.Time) string {
	h := fmt.Sprintf("%012x", max(ms(t), 0))
	return h[:8] + "-" + h[8:12] + "-7000-8000-000000000000"
}
