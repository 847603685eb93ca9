package store

import (
	"context"
	"strings"
	"time"
)

// LimitSize forbids an SQLite database to grow.
func LimitSize(ctx context.Context, s *Store) error {
	return s.db.writing(ctx, "limiting the size", func(ctx context.Context, q querier) error {
		_, err := scalar[int](ctx, q, "PRAGMA max_page_count = 1")
		return err
	})
}

// KillBus cuts the connection on which the store listens to other nodes.
func KillBus(s *Store) {
	d := s.Bus.remote.dialer
	d.mu.Lock()
	defer d.mu.Unlock()
	d.conn.Close()
}

// Together runs f as a change that may share its transaction with others, with what writes a row in it.
func Together(ctx context.Context, s *Store, f func(insert func(id string, size int) error) error) error {
	return s.db.changingTogether(ctx, "trying it", func(ctx context.Context, tx querier) error {
		return f(func(id string, size int) error {
			_, err := exec(ctx, tx, "INSERT INTO settings (name, value, changed) VALUES (?, ?, 0)", id, strings.Repeat("x", size))
			return err
		})
	})
}

// ExpireSockets makes all connections to PostgreSQL as they are when nothing was asked for some seconds.
func ExpireSockets(s *Store) (n int) {
	s.db.pg.sockets.Range(func(_, socket any) bool {
		n++
		return socket.(*pgSocket).SetDeadline(time.Unix(1, 0)) == nil
	})
	return n
}

// Change runs f in a transaction, with what writes a row in it, or ends it.
func Change(ctx context.Context, s *Store, f func(insert func(id string) error) error) error {
	return s.db.changing(ctx, "trying it", func(ctx context.Context, tx querier) error {
		return f(func(id string) error {
			if id == "\x00rollback" {
				_, err := exec(ctx, tx, "ROLLBACK")
				return err
			}
			_, err := exec(ctx, tx, "INSERT INTO settings (name, value, changed) VALUES (?, '', 0)", id)
			return err
		})
	})
}
