package store_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"sallyport/store"
)

// heldUp opens a database, and holds the first change up, so that all others of run come together.
type heldUp struct {
	*store.Store
	t     *testing.T
	dsn   string
	ready sync.WaitGroup
	all   sync.WaitGroup
	go_   chan struct{}
}

func holdUp(t *testing.T) *heldUp {
	t.Helper()
	dsn := "sqlite:" + filepath.Join(t.TempDir(), "store.db")
	h := &heldUp{Store: open(t, store.Config{DSN: dsn, Ring: newRing(t)}), t: t, dsn: dsn, go_: make(chan struct{})}
	holding := make(chan struct{})
	h.all.Go(func() {
		check(t, store.Together(t.Context(), h.Store, func(func(string, int) error) error { close(holding); <-h.go_; return nil }))
	})
	<-holding
	return h
}

// add begins a change, which waits for its turn.
func (h *heldUp) add(f func(insert func(string, int) error) error, ended func(error)) {
	h.ready.Add(1)
	h.all.Go(func() {
		defer func() {
			if v := recover(); v != nil {
				ended(fmt.Errorf("panic: %v", v))
			}
		}()
		h.ready.Done()
		ended(store.Together(context.Background(), h.Store, f))
	})
}

// run lets them go, once all of them wait for the one that is held up, or nearly: whoever is late is in the next transaction.
func (h *heldUp) run() {
	h.ready.Wait()
	time.Sleep(20 * time.Millisecond) // makes it likely that they come together; the test holds if they do not
	close(h.go_)
	h.all.Wait()
}

func (h *heldUp) has(id string) bool {
	h.t.Helper()
	n := 0
	check(h.t, raw(h.t, h.dsn).QueryRowContext(h.t.Context(), "SELECT COUNT(*) FROM settings WHERE name = ?", id).Scan(&n))
	return n == 1
}

// Of changes that share a transaction each is all or nothing: one that fails, or panics, takes nothing of the others
// along, and whoever made it hears of it alone.
func TestChangesApart(t *testing.T) {
	t.Parallel()
	h := holdUp(t)
	wrong := errors.New("wrong")
	var mu sync.Mutex
	got := map[string]error{}
	for i := range 40 {
		id := fmt.Sprint("c", i)
		h.add(func(insert func(string, int) error) error {
			if err := insert(id, 1); err != nil {
				return err
			}
			switch i % 4 {
			case 1:
				return wrong
			case 2:
				return insert("c0", 1) // is there already, if c0 was first
			case 3:
				panic("oops")
			}
			return nil
		}, func(err error) { mu.Lock(); defer mu.Unlock(); got[id] = err })
	}
	h.run()
	both := 0
	for i := range 40 {
		id := fmt.Sprint("c", i)
		err := got[id]
		switch {
		case h.has(id) != (err == nil) && id != "c0":
			t.Errorf("%s is there: %v, and heard %v", id, h.has(id), err)
		case i%4 == 1 && !errors.Is(err, wrong), i%4 == 3 && (err == nil || err.Error() != "panic: oops"), i%4 == 0 && err != nil && i != 0:
			t.Errorf("%s heard %v", id, err)
		case i%4 == 2 && err == nil:
			both++
		case i%4 == 2 && !errors.Is(err, store.ErrExists):
			t.Errorf("%s heard %v", id, err)
		}
	}
	if !h.has("c0") || both > 1 || (both == 1) == (got["c0"] == nil) {
		t.Errorf("c0 heard %v, and %d others could write it", got["c0"], both)
	}
}

// If a transaction cannot be begun or committed nobody is told that it was, and nothing of it is there.
func TestChangesNotCommitted(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*testing.T, *heldUp) (mend func()){
		"locked by another": func(t *testing.T, h *heldUp) func() {
			conn, err := raw(t, h.dsn).Conn(t.Context())
			check(t, err)
			_, err = conn.ExecContext(t.Context(), "BEGIN IMMEDIATE")
			check(t, err)
			return func() { // nobody waits for so long
				h.all.Wait()
				_, err := conn.ExecContext(t.Context(), "ROLLBACK")
				check(t, errors.Join(err, conn.Close()))
			}
		},
		"full": func(t *testing.T, h *heldUp) func() {
			check(t, store.LimitSize(t.Context(), h.Store))
			return func() {}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := "sqlite:" + filepath.Join(t.TempDir(), "store.db")
			h := &heldUp{Store: open(t, store.Config{DSN: dsn, Ring: newRing(t)}), t: t, dsn: dsn, go_: make(chan struct{})}
			mend := spoil(t, h)
			var mu sync.Mutex
			heard := map[string]error{}
			for i := range 10 {
				id, size := fmt.Sprint("c", i), 1
				if i == 5 {
					size = 1 << 20
				}
				h.add(func(insert func(string, int) error) error { return insert(id, size) }, func(err error) { mu.Lock(); defer mu.Unlock(); heard[id] = err })
			}
			h.run()
			mend()
			for id, err := range heard {
				if h.has(id) != (err == nil) {
					t.Errorf("%s is there: %v, and heard %v", id, h.has(id), err)
				}
				if name != "full" && !errors.Is(err, store.ErrUnavailable) || id == "c5" && err == nil {
					t.Errorf("%s heard %v", id, err)
				}
			}
			if err := store.Together(t.Context(), h.Store, func(insert func(string, int) error) error { return insert("after", 1) }); err != nil || !h.has("after") {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

// Whoever goes away while a change waits for another process's lock changes nothing, and leaves no transaction open on the
// one connection that writes.
func TestCancelledWhileItWaits(t *testing.T) {
	t.Parallel()
	dsn := "sqlite:" + filepath.Join(t.TempDir(), "store.db")
	s := open(t, store.Config{DSN: dsn, Ring: newRing(t)})
	other, err := raw(t, dsn).Conn(t.Context())
	check(t, err)
	defer other.Close()
	for i := range 5 {
		_, err = other.ExecContext(t.Context(), "BEGIN IMMEDIATE")
		check(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		changed := make(chan error)
		go func() {
			changed <- store.Change(ctx, s, func(insert func(string) error) error { return insert(fmt.Sprint("gone", i)) })
		}()
		time.Sleep(20 * time.Millisecond) // makes it likely that it waits; the test holds if it does not
		cancel()
		_, err = other.ExecContext(t.Context(), "ROLLBACK")
		check(t, err)
		if err := <-changed; err == nil {
			t.Error("it was changed although nobody waited")
		}
		check(t, store.Change(t.Context(), s, func(insert func(string) error) error { return insert(fmt.Sprint("there", i)) }))
	}
}
