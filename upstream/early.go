package upstream

import (
	"context"
	"errors"
	"reflect"
	"sync"
	"time"

	"sallyport/store"
)

// earlyPerTarget bounds the connections to one first hop that wait at once: sshd drops new ones from ten on that have
// not authenticated (MaxStartups).
const earlyPerTarget = 6

// waiting counts the connections that wait for a verdict.
type waiting struct {
	mu  sync.Mutex // guards the fields below
	all int
	at  map[string]int // by id of the first hop's target
}

// enter takes a place of most, if there is one for a connection to the target of id; leave gives it back.
func (w *waiting) enter(id string, most int) (leave func(), ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all >= most || w.at[id] >= earlyPerTarget {
		return nil, false
	}
	w.all++
	w.at[id]++
	return sync.OnceFunc(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.all--
		if w.at[id]--; w.at[id] == 0 {
			delete(w.at, id)
		}
	}), true
}

// earlyWait is how long a connection that was begun early waits for the verdict.
const earlyWait = time.Minute

// Early is a connection to a target that was begun before it is decided whether anybody may have it. The
// first hop's TCP connection and key exchange are made, and there it waits: no host key was looked at, no
// name was sent. It must come to [Early.Dial] or [Early.Drop]; after a minute it drops itself.
type Early struct {
	d      *Dialer
	hops   []hop
	limit  *limit
	leave  func() // gives its place back
	called sync.Once
	call   chan Who // closed when it is dropped
	done   chan struct{}

	// set when done is closed:
	u   *Upstream
	err error
}

// Early begins a connection to account on t. It returns at once, with nil if too many wait already or the
// way is not clear.
func (d *Dialer) Early(ctx context.Context, t store.Target, account string) *Early {
	hops, err := d.route(ctx, t, account)
	if err != nil {
		return nil
	}
	leave, ok := d.early.enter(hops[0].target.ID, d.cfg.Early)
	if !ok {
		return nil
	}
	e := &Early{d: d, hops: hops, leave: leave, call: make(chan Who, 1), done: make(chan struct{})}
	e.limit = newLimit(context.Background(), d.cfg.Timeout)
	go e.run()
	return e
}

func (e *Early) run() {
	defer close(e.done)
	defer e.limit.stop()
	defer e.leave()
	j := &journey{d: e.d, hops: e.hops, limit: e.limit, admit: e.admit}
	e.u, e.err = j.run()
}

// admit waits for the verdict.
func (e *Early) admit() (Who, error) {
	e.limit.pause()
	timer := time.NewTimer(earlyWait)
	defer timer.Stop()
	select {
	case who, ok := <-e.call:
		if !ok {
			return Who{}, errNotWanted
		}
		e.leave()
		e.limit.run(e.d.cfg.Timeout)
		return who, nil
	case <-timer.C:
	case <-e.limit.ctx.Done():
	}
	return Who{}, errNotWanted
}

// Drop ends the connection, unless it was wanted before. It may be called on nil, and more than once.
func (e *Early) Drop() {
	if e == nil {
		return
	}
	e.called.Do(func() {
		close(e.call)
		e.limit.cancel(errNotWanted)
	})
}

// Dial is [Dialer.Dial] on this connection, if it is the right one and came about; else it is dropped and
// a new one dialled. It takes e; a second call dials anew.
func (e *Early) Dial(ctx context.Context, t store.Target, account string, who Who) (*Upstream, error) {
	hops, err := e.d.route(ctx, t, account)
	if err != nil || !reflect.DeepEqual(hops, e.hops) {
		e.Drop()
		return e.d.Dial(ctx, t, account, who)
	}
	mine := false
	select {
	case <-e.done: // it failed before anybody wanted it: the target may be back
	default:
		e.called.Do(func() { mine = true; e.call <- who })
	}
	if !mine {
		return e.d.Dial(ctx, t, account, who)
	}
	stop := context.AfterFunc(ctx, func() { e.limit.cancel(context.Cause(ctx)) })
	<-e.done
	if !stop() && e.u != nil {
		_ = e.u.Close()
		return nil, &Error{Public: "cannot reach " + t.Name + ": " + reason(context.Cause(ctx)), Err: context.Cause(ctx)}
	}
	if errors.Is(e.err, errNotWanted) { // it had just given up waiting
		return e.d.Dial(ctx, t, account, who)
	}
	return e.u, e.err
}
