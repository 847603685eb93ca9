package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jmoiron/sqlx"

	"sallyport/internal/seal"
)

// patience is how long a method waits for the database unless its context ends earlier. Together
// with grace it stays below three seconds, in which a login must be refused.
const patience = 2800 * time.Millisecond

// db is what the entities share: connections, clock and key ring.
type db struct {
	write *sqlx.DB // one connection for SQLite
	read  *sqlx.DB // the same as write except for an SQLite file
	pg    *pgConnector
	gate  chan struct{} // holds a place for each attempt that is being reserved
	ring  *seal.Ring
	clock func() time.Time

	gathering *gathering // nil: PostgreSQL

	bus    *Bus // set when the store is open
	closed atomic.Bool
}

// querier is a connection or a transaction.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryxContext(ctx context.Context, query string, args ...any) (*sqlx.Rows, error)
	Rebind(query string) string
}

func (d *db) postgres() bool { return d.pg != nil }

// now returns the time as the database keeps it.
func (d *db) now() time.Time { return d.clock().UTC().Truncate(time.Millisecond) }

func (d *db) close() error {
	d.closed.Store(true)
	d.gathering.close()
	if d.postgres() {
		d.pg.farewell()
		_ = d.write.Close() // says how the farewell went; what was asked for is done or was refused before
		return nil
	}
	err := d.write.Close()
	if d.read != d.write {
		err = errors.Join(err, d.read.Close())
	}
	return err
}

// reading runs f on a connection that may be a read-only one. what says in errors what is being
// done.
func (d *db) reading(ctx context.Context, what string, f func(context.Context, querier) error) error {
	return d.run(ctx, what, d.read, func(ctx context.Context, c *sqlx.Conn) error { return f(ctx, c) })
}

// briefly is reading for what takes microseconds, as nearly all of a login does. Nobody is set to watch whether ctx ends
// while a statement runs: that costs as much as the statement. It is looked at before each, and the patience of the
// connection holds all the same.
func (d *db) briefly(ctx context.Context, what string, f func(context.Context, querier) error) error {
	return d.run(ctx, what, d.read, func(ctx context.Context, c *sqlx.Conn) error { return f(unwatched{ctx}, c) })
}

// unwatched is a context whose end is not waited for: database/sql and the drivers start a goroutine or two for each
// statement whose context can end.
type unwatched struct{ context.Context }

// Done is part of context.Context.
func (unwatched) Done() <-chan struct{} { return nil }

// writing runs f on a connection that may write; each statement is a transaction of its own.
func (d *db) writing(ctx context.Context, what string, f func(context.Context, querier) error) error {
	return d.run(ctx, what, d.write, func(ctx context.Context, c *sqlx.Conn) error { return f(ctx, c) })
}

// changing runs f in one transaction, which is rolled back if f returns an error. SQLite begins it
// with the write lock. On PostgreSQL each statement sees what was committed
// before it, so that a conditional UPDATE decides on the newest version of its row.
func (d *db) changing(ctx context.Context, what string, f func(context.Context, querier) error) error {
	return d.changingWithin(ctx, patience, what, f)
}

// changingWithin is changing for what may take longer than a login waits.
func (d *db) changingWithin(ctx context.Context, limit time.Duration, what string, f func(context.Context, querier) error) error {
	return d.runWithin(ctx, limit, what, d.write, func(ctx context.Context, c *sqlx.Conn) error {
		if !d.postgres() {
			return sqliteTx(ctx, c, f)
		}
		tx, err := c.BeginTxx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
		if err != nil {
			return err
		}
		defer tx.Rollback() // no effect after Commit
		if err := f(ctx, tx); err != nil {
			return err
		}
		return tx.Commit()
	})
}

// withdrawing is changing for what can take rights from people: with the change, and not without it, every
// node hears of it on [TopicRights]. user is the id of the one person whom it concerns, "" for everybody.
func (d *db) withdrawing(ctx context.Context, what, user string, f func(context.Context, querier) error) error {
	err := d.changing(ctx, what, func(ctx context.Context, tx querier) error {
		if err := f(ctx, tx); err != nil {
			return err
		}
		return d.bus.publishWith(ctx, tx, TopicRights, user)
	})
	if err == nil {
		d.bus.deliver(Message{Topic: TopicRights, Payload: user})
	}
	return err
}

func (d *db) run(ctx context.Context, what string, pool *sqlx.DB, f func(context.Context, *sqlx.Conn) error) error {
	return d.runWithin(ctx, patience, what, pool, f)
}

func (d *db) runWithin(ctx context.Context, limit time.Duration, what string, pool *sqlx.DB, f func(context.Context, *sqlx.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	conn, err := d.acquire(ctx, pool)
	if err != nil {
		return d.explain(ctx, what, err)
	}
	defer conn.Close()
	return d.explain(ctx, what, f(ctx, conn))
}

// acquire takes a connection out of the pool and sees to it that nothing done on it lasts longer
// than ctx. A pooled connection to PostgreSQL may have died since it was last used; such ones are
// thrown away until one lives or is new.
func (d *db) acquire(ctx context.Context, pool *sqlx.DB) (*sqlx.Conn, error) {
	deadline, _ := ctx.Deadline()
	for {
		conn, err := pool.Connx(ctx)
		if err != nil {
			return nil, err
		}
		if d.postgres() {
			err = conn.Raw(func(c any) error { return d.pg.arm(c.(driver.Conn), deadline) })
		} else {
			err = conn.Raw(func(c any) error { return c.(*sqliteConn).arm(ctx, time.Until(deadline)) })
		}
		if err == nil {
			return conn, nil
		}
		conn.Close()
		if !errors.Is(err, driver.ErrBadConn) || ctx.Err() != nil {
			return nil, err
		}
	}
}

// lock makes transactions that decide on several rows of one subject wait for each other.
// SQLite has one writer at a time anyway.
func (d *db) lock(ctx context.Context, tx querier, subject int64) error {
	if !d.postgres() {
		return nil
	}
	_, err := exec(ctx, tx, "SELECT pg_advisory_xact_lock(?)", subject)
	return err
}

// Subjects of db.lock, for PostgreSQL numbers in a space that all programs on one database share.
const (
	lockAdmins = 0x5A11_0001 + iota
	lockRules
	lockLogins
	lockSessions // with the hash of what is counted
	lockRoutes
	lockCAKeys
	lockSerials // which must be unique in two tables
	lockAuditChain
	lockApprovals
)

// exec runs a statement and returns the number of rows it changed.
func exec(ctx context.Context, q querier, query string, args ...any) (int64, error) {
	result, err := q.ExecContext(ctx, q.Rebind(query), clean(args)...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// execOne is exec for a statement that must change a row; if it changes none, the error is
// ErrNotFound.
func execOne(ctx context.Context, q querier, query string, args ...any) error {
	n, err := exec(ctx, q, query, args...)
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	return err
}

// all returns the rows of a query; fields gives the places to scan a row into, and runs no statement
// of its own: the compiled form of query is in use until all returns.
func all[T any](ctx context.Context, q querier, fields func(*T) []any, query string, args ...any) ([]T, error) {
	rows, err := q.QueryxContext(ctx, q.Rebind(query), clean(args)...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []T
	for rows.Next() {
		var v T
		if err := rows.Scan(fields(&v)...); err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	// Reading to the end matters for statements that change something, too: only then is it sure
	// that an SQLite statement outside a transaction was committed.
	if err := rows.Err(); err != nil {
		return nil, err
	}
	return list, rows.Close()
}

// one returns the first row of a query, or ErrNotFound.
func one[T any](ctx context.Context, q querier, fields func(*T) []any, query string, args ...any) (T, error) {
	list, err := all(ctx, q, fields, query, args...)
	if err != nil {
		var zero T
		return zero, err
	}
	if len(list) == 0 {
		var zero T
		return zero, ErrNotFound
	}
	return list[0], nil
}

// scalar returns the only column of the first row of a query, or ErrNotFound.
func scalar[T any](ctx context.Context, q querier, query string, args ...any) (T, error) {
	return one(ctx, q, func(v *T) []any { return []any{v} }, query, args...)
}

// explain says in err what was being done and which of the errors of this package it is.
func (d *db) explain(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	for _, known := range []error{ErrNotFound, ErrExists, ErrNameTaken, ErrConflict, ErrLastAdmin, ErrStepUsed, ErrGrantUsed, ErrNoFreeLogin, ErrNoPlace, ErrLastToken, ErrSendLimit, ErrOutboxFull, ErrTooManyApprovals, ErrDecidedAlready, ErrRateLimit, ErrOtherAsk} {
		if errors.Is(err, known) {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("%s: %w", what, ctx.Err())
	case ctx.Err() != nil, d.closed.Load(), unavailable(err):
		return fmt.Errorf("%s: %w: %w", what, ErrUnavailable, err)
	case violates(err, uniqueViolation):
		return fmt.Errorf("%s: %w", what, ErrExists)
	case violates(err, foreignKeyViolation):
		return fmt.Errorf("%s: %w", what, ErrNotFound)
	}
	return fmt.Errorf("%s: %w", what, err)
}
