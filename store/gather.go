package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jmoiron/sqlx"
)

// gathering gathers changes of SQLite that come at the same time into one transaction, since to have one on the disk costs
// more than what is in it. Nothing waits for company: what comes while a transaction is committed is in the next one.
//
// Each change is a savepoint of its own, all or nothing as in a transaction of its own, and hears of its outcome after the
// commit. So nobody is told yes before it is on the disk.
type gathering struct {
	db      *db
	changes chan *change // unbuffered: who waits for a turn is still free to go
	ending  sync.Once
	stop    chan struct{} // closed by close
	ended   chan struct{}
}

// change is one of them.
type change struct {
	what  string
	f     func(context.Context, querier) error
	taken atomic.Bool   // by who runs it, or by who does not wait for that any more
	done  chan struct{} // closed once the fields below are valid
	err   error
	died  any // what f has panicked with
}

// mostTogether bounds the changes of one transaction, so that none waits long for others.
const mostTogether = 32

var (
	errClosed = errors.New("the store is closed")
	errLate   = errors.New("nobody waits for it any more")

	errNothing = errors.New("there is nothing to commit")
)

func newGathering(d *db) *gathering {
	t := &gathering{db: d, changes: make(chan *change), stop: make(chan struct{}), ended: make(chan struct{})}
	go t.work()
	return t
}

func (t *gathering) close() {
	if t != nil {
		t.ending.Do(func() { close(t.stop) })
		<-t.ended
	}
}

// changingTogether is changing, for changes that are short and many. f must not write to anything that whoever calls this
// reads after an error: it may still be running then.
func (d *db) changingTogether(ctx context.Context, what string, f func(context.Context, querier) error) error {
	if d.gathering == nil { // PostgreSQL, which gathers commits itself
		return d.changing(ctx, what, f)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c := &change{what: what, f: f, done: make(chan struct{})}
	select {
	case d.gathering.changes <- c:
	case <-ctx.Done():
		return d.explain(ctx, what, ctx.Err())
	case <-d.gathering.stop:
		return d.explain(ctx, what, errClosed)
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		if c.taken.CompareAndSwap(false, true) {
			return d.explain(ctx, what, ctx.Err()) // it has not begun, and will not
		}
		select {
		case <-c.done:
		case <-time.After(grace):
			return d.explain(ctx, what, ctx.Err()) // nobody knows whether it is done, as of a commit without an answer
		}
	}
	if c.died != nil {
		panic(c.died)
	}
	return c.err
}

// work runs one transaction after another. It is one goroutine for all, whose stack has grown to what SQLite needs.
func (t *gathering) work() {
	defer close(t.ended)
	for {
		select {
		case c := <-t.changes:
			t.change(t.gather(c))
		case <-t.stop:
			return
		}
	}
}

// gather adds those who wait for their turn to first.
func (t *gathering) gather(first *change) []*change {
	list := []*change{first}
	for len(list) < mostTogether {
		select {
		case c := <-t.changes:
			list = append(list, c)
		default:
			return list
		}
	}
	return list
}

// change makes changes in one transaction, and tells all of them.
func (t *gathering) change(list []*change) {
	err := t.db.runWithin(context.Background(), patience, "writing to the database", t.db.write, func(ctx context.Context, conn *sqlx.Conn) error {
		return sqliteTx(unwatched{ctx}, conn, func(ctx context.Context, tx querier) error {
			if len(list) == 1 { // without a savepoint: if it fails there is nothing to commit
				if t.run(ctx, tx, list[0]); list[0].failed() {
					return errNothing
				}
				return nil
			}
			for _, c := range list {
				if err := t.apart(ctx, tx, c); err != nil {
					return err
				}
			}
			return nil
		})
	})
	for _, c := range list {
		if err != nil && !c.failed() {
			c.err = fmt.Errorf("%s: %w", c.what, err)
		}
		close(c.done)
	}
}

func (c *change) failed() bool { return c.err != nil || c.died != nil }

// run runs a change, unless nobody waits for it any more.
func (t *gathering) run(ctx context.Context, tx querier, c *change) {
	if !c.taken.CompareAndSwap(false, true) {
		c.err = errLate
		return
	}
	defer func() { c.died = recover() }()
	c.err = t.db.explain(ctx, c.what, c.f(ctx, tx))
}

// apart runs a change so that its failure leaves the others as they are. An error is one of the whole transaction.
func (t *gathering) apart(ctx context.Context, tx querier, c *change) error {
	if _, err := tx.ExecContext(ctx, "SAVEPOINT change"); err != nil {
		return err
	}
	if t.run(ctx, tx, c); c.failed() {
		if _, err := tx.ExecContext(ctx, "ROLLBACK TO change"); err != nil {
			return err
		}
	}
	_, err := tx.ExecContext(ctx, "RELEASE change")
	return err
}
