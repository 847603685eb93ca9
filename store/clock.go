package store

import (
	"context"
	"time"
)

// Clock returns what the database's own clock says. Several nodes must agree on the time, because
// one-time codes are good for seconds.
func (s *Store) Clock(ctx context.Context) (time.Time, error) {
	query := "SELECT " + s.db.clockSQL()
	var now int64
	err := s.db.reading(ctx, "reading the clock of the database", func(ctx context.Context, q querier) (err error) {
		now, err = scalar[int64](ctx, q, query)
		return err
	})
	return time.UnixMilli(now), err
}

// clockSQL is the time of the database's clock in milliseconds.
func (d *db) clockSQL() string {
	if d.postgres() {
		return "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)"
	}
	return "CAST(unixepoch('subsec') * 1000 AS INTEGER)"
}
