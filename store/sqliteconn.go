package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jmoiron/sqlx"
)

// sqliteConnector opens connections to SQLite that keep the statements they have compiled: compiling
// one costs more than running it. PostgreSQL needs nothing of the kind, its statements take one round
// trip each as they are.
type sqliteConnector struct {
	driver.Connector

	// keep is set when the schema is complete: migrations run once, and each changes what the
	// statements before it were compiled for.
	keep atomic.Bool
}

// Connect is part of driver.Connector.
func (c *sqliteConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	inner, ok := conn.(sqliteDriverConn)
	if !ok {
		return nil, errors.Join(errors.New("the driver of SQLite lacks a method"), conn.Close())
	}
	return &sqliteConn{sqliteDriverConn: inner, keep: &c.keep, kept: map[string]sqliteStmt{}}, nil
}

// sqliteDriverConn is what the driver's connections can do and the pool makes use of.
type sqliteDriverConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.SessionResetter
	driver.Validator
}

type sqliteStmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

// sqliteConn is a connection to SQLite. As with every driver.Conn, no two goroutines use it at once.
type sqliteConn struct {
	sqliteDriverConn
	keep *atomic.Bool
	kept map[string]sqliteStmt // by text; one at a time is running, see all
	wait time.Duration         // busy_timeout as it is set; 0: never set
}

// maxKept bounds the statements that a connection keeps. The texts in this package are about a hundred;
// lists that are filtered in many ways may make more.
const maxKept = 200

// statement returns the compiled form of query. It is nil for those that are not kept.
func (c *sqliteConn) statement(ctx context.Context, query string) (sqliteStmt, error) {
	if s, ok := c.kept[query]; ok {
		return s, nil
	}
	if !c.keep.Load() || strings.HasPrefix(query, "PRAGMA") { // some pragmas act while they are compiled
		return nil, nil
	}
	prepared, err := c.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	s, ok := prepared.(sqliteStmt)
	if !ok {
		return nil, prepared.Close()
	}
	if len(c.kept) >= maxKept {
		if err := c.forget(); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	c.kept[query] = s
	return s, nil
}

func (c *sqliteConn) forget() error {
	var errs []error
	for _, s := range c.kept {
		errs = append(errs, s.Close())
	}
	clear(c.kept)
	return errors.Join(errs...)
}

// sqliteTx runs f in one transaction, which begins with the write lock and is rolled back if f returns an error. That
// of database/sql costs a goroutine, and compiles its statements each time.
func sqliteTx(ctx context.Context, c *sqlx.Conn, f func(context.Context, querier) error) error {
	ended := false
	defer func() {
		if !ended {
			sqliteRollback(c) // also if it was not begun: the driver says so too when ctx has ended just after that
		}
	}()
	if _, err := c.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if err := f(ctx, c); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	_, err := c.ExecContext(context.Background(), "COMMIT") // a commit that has begun is waited for
	ended = err == nil
	return err
}

// sqliteRollback ends a transaction. SQLite has ended it by itself after some errors; a connection on which it goes on
// for another reason is given up.
func sqliteRollback(c *sqlx.Conn) {
	_, err := c.ExecContext(context.Background(), "ROLLBACK")
	if err == nil || strings.Contains(err.Error(), "no transaction is active") {
		return
	}
	_ = c.Raw(func(any) error { return driver.ErrBadConn })
}

// ExecContext is part of driver.ExecerContext.
func (c *sqliteConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if err := ctx.Err(); err != nil { // the driver looks at contexts that are watched only
		return nil, err
	}
	s, err := c.statement(ctx, query)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return c.sqliteDriverConn.ExecContext(ctx, query, args)
	}
	return s.ExecContext(ctx, args)
}

// QueryContext is part of driver.QueryerContext.
func (c *sqliteConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s, err := c.statement(ctx, query)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return c.sqliteDriverConn.QueryContext(ctx, query, args)
	}
	return s.QueryContext(ctx, args)
}

// Close is part of driver.Conn.
func (c *sqliteConn) Close() error {
	return errors.Join(c.forget(), c.sqliteDriverConn.Close())
}

// maxWait is how long SQLite waits for another process's lock where the caller's patience allows it.
const maxWait = patience - 400*time.Millisecond

// arm sees to it that SQLite does not wait for another process's lock for longer than left, during
// which it does not look at the context. A time that is in force and not much shorter is left alone.
func (c *sqliteConn) arm(ctx context.Context, left time.Duration) error {
	if c.wait > 0 && c.wait <= left && c.wait >= min(left*3/4, maxWait) {
		return nil
	}
	wait := max(min(left, maxWait), time.Millisecond).Truncate(time.Millisecond)
	c.wait = 0
	_, err := c.sqliteDriverConn.ExecContext(ctx, "PRAGMA busy_timeout = "+strconv.FormatInt(wait.Milliseconds(), 10), nil)
	if err == nil {
		c.wait = wait
	}
	return err
}
