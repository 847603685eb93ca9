package bastion

import (
	"container/list"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/internal/readahead"
)

// Guard bounds what connections may cost before their people have proved who they are. Zero fields
// mean the defaults given.
type Guard struct {
	PerSource int            // unauthenticated connections of one address (IPv6: /64) at once; 10
	Total     int            // … of all addresses; 512. From an eighth of it on some new ones take the place of the oldest still at key exchange
	Queue     time.Duration  // how long the excess of a source waits for a place; 10 s
	Patience  time.Duration  // from when on a place at a prompt may go to a new one when places are short; 30 s
	Handshake time.Duration  // version and key exchange; 10 s
	Prompt    time.Duration  // each answer; 120 s
	Enrolment time.Duration  // the code that proves a new token; 5 min
	Login     time.Duration  // everything before authentication together; 15 min
	Bytes     int64          // inbound before authentication; 64 KiB
	Tries     int            // conversations in one connection; 3
	Jump      time.Duration  // how soon after authentication a connection inside of one (ssh -J) may do without a proof of its own; 10 s
	Exempt    []netip.Prefix // sources that neither bound applies to
}

func (g Guard) withDefaults() Guard {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	span := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	def(&g.PerSource, 10)
	def(&g.Total, 512)
	def(&g.Tries, 3)
	span(&g.Queue, 10*time.Second)
	span(&g.Patience, 30*time.Second)
	span(&g.Handshake, 10*time.Second)
	span(&g.Prompt, 120*time.Second)
	span(&g.Enrolment, 5*time.Minute)
	span(&g.Login, 15*time.Minute)
	span(&g.Jump, 10*time.Second)
	if g.Bytes == 0 {
		g.Bytes = 64 << 10
	}
	return g
}

// maxQueue bounds the connections of one source that wait for a place, as a multiple of PerSource.
const maxQueue = 4

var (
	errTooMany     = errors.New("too many unauthenticated connections from this source")
	errOverloaded  = errors.New("too many unauthenticated connections")
	errByteBudget  = errors.New("too many bytes before authentication")
	errLoginTooOld = errors.New("authentication took too long")
)

// gate hands out the places for unauthenticated connections.
type gate struct {
	g Guard

	mu          sync.Mutex // guards the fields below
	total       int        // places taken
	waiting     int        // connections that wait for a place
	sources     map[netip.Prefix]*queue
	handshaking list.List // of *place: those that have not finished key exchange, oldest first
	prompted    list.List // of *place: those that have, oldest first
}

// queue of one source: places taken, and those who wait, first come first served.
type queue struct {
	taken   int
	waiting []chan struct{}
}

// place is what one unauthenticated connection holds.
type place struct {
	gate *gate
	key  netip.Prefix
	conn io.Closer

	// Guarded by gate.mu:
	elem  *list.Element // in handshaking or, from since on, in prompted; nil: in neither
	since time.Time     // zero: key exchange is not done
	left  bool
}

func newGate(g Guard) *gate { return &gate{g: g, sources: map[netip.Prefix]*queue{}} }

// enter takes a place for conn from a, waiting for one in its own goroutine if its source has too many.
func (t *gate) enter(a netip.Addr, conn io.Closer) (*place, error) {
	p := &place{gate: t, key: sourceKey(a), conn: conn}
	exempt := slices.ContainsFunc(t.g.Exempt, func(n netip.Prefix) bool { return n.Contains(a) })
	t.mu.Lock()
	if !exempt && t.dropEarly() && !t.evict() {
		t.mu.Unlock()
		return nil, errOverloaded
	}
	q := t.sources[p.key]
	if q == nil {
		q = &queue{}
		t.sources[p.key] = q
	}
	if exempt || q.taken < t.g.PerSource {
		q.taken++
		t.total++
		p.elem = t.handshaking.PushBack(p)
		t.mu.Unlock()
		return p, nil
	}
	if len(q.waiting) >= maxQueue*t.g.PerSource || t.waiting >= t.g.Total {
		t.mu.Unlock()
		return nil, errTooMany
	}
	turn := make(chan struct{})
	q.waiting = append(q.waiting, turn)
	t.waiting++
	t.mu.Unlock()
	timer := time.NewTimer(t.g.Queue)
	defer timer.Stop()
	select {
	case <-turn: // somebody who left handed the place over
	case <-timer.C:
		if t.giveUp(p.key, turn) {
			return nil, errTooMany
		} // else the place came at the last moment
	}
	t.mu.Lock()
	p.elem = t.handshaking.PushBack(p)
	t.mu.Unlock()
	return p, nil
}

// held tells how many connections have a place or wait for one.
func (t *gate) held() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.total + t.waiting
}

// dropEarly tells at random whether a connection is too many, more often the more are unauthenticated,
// so that a flood from many sources leaves room for people. The caller holds mu.
func (t *gate) dropEarly() bool {
	begin := max(t.g.Total/8, 1)
	if t.total < begin {
		return false
	}
	if t.total >= t.g.Total {
		return true
	}
	share := 0.3 + 0.7*float64(t.total-begin)/float64(t.g.Total-begin)
	return rand.Float64() < share
}

// evict cuts the connection that has been at key exchange for longest, to make room for a new one. A
// client that means it is done with key exchange in a moment; those that keep places by saying nothing
// are not. If nobody is at that stage it cuts who has been at prompts for longest, but nobody who has
// not had time to type. It is false if there is no such connection. The caller holds mu.
func (t *gate) evict() bool {
	oldest := t.handshaking.Front()
	if oldest == nil {
		oldest = t.prompted.Front()
		if oldest == nil || time.Since(oldest.Value.(*place).since) < t.g.Patience {
			return false
		}
	}
	p := oldest.Value.(*place)
	t.leave(p)
	go p.conn.Close()
	return true
}

// exchanged notes that key exchange is done.
func (p *place) exchanged() {
	p.gate.mu.Lock()
	defer p.gate.mu.Unlock()
	if p.left || !p.since.IsZero() {
		return
	}
	p.settle()
	p.since = time.Now()
	p.elem = p.gate.prompted.PushBack(p)
}

// settle takes p out of the list that it is in. The caller holds gate.mu.
func (p *place) settle() {
	if p.elem == nil {
		return
	}
	if p.since.IsZero() {
		p.gate.handshaking.Remove(p.elem)
	} else {
		p.gate.prompted.Remove(p.elem)
	}
	p.elem = nil
}

// leave gives the place back. It may be called more than once.
func (p *place) leave() {
	p.gate.mu.Lock()
	defer p.gate.mu.Unlock()
	p.gate.leave(p)
}

func (t *gate) leave(p *place) {
	if p.left {
		return
	}
	p.left = true
	p.settle()
	q := t.sources[p.key]
	if len(q.waiting) > 0 {
		close(q.waiting[0])
		q.waiting = q.waiting[1:]
		t.waiting--
		return
	}
	q.taken--
	t.total--
	if q.taken == 0 {
		delete(t.sources, p.key)
	}
}

// giveUp takes turn out of the queue; false if it was served meanwhile.
func (t *gate) giveUp(key netip.Prefix, turn chan struct{}) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	q := t.sources[key]
	if q == nil {
		return false
	}
	i := slices.Index(q.waiting, turn)
	if i < 0 {
		return false
	}
	q.waiting = slices.Delete(q.waiting, i, i+1)
	t.waiting--
	return true
}

// sourceKey is the address, or the /64 of an IPv6 one.
func sourceKey(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits)
	return p
}

// guardedConn counts inbound bytes and keeps deadlines until the person is authenticated.
type guardedConn struct {
	*readahead.Conn
	budget   atomic.Int64 // bytes left; ignored once open
	open     atomic.Bool  // authenticated: no bounds
	latest   time.Time    // no deadline before authentication is later than this
	overdrew atomic.Bool
}

func newGuardedConn(c net.Conn, g Guard) *guardedConn {
	gc := &guardedConn{Conn: readahead.New(c), latest: time.Now().Add(g.Login)}
	gc.budget.Store(g.Bytes)
	_ = c.SetDeadline(time.Now().Add(g.Handshake))
	return gc
}

// Read implements net.Conn.
func (c *guardedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if !c.open.Load() && c.budget.Add(-int64(n)) < 0 {
		c.overdrew.Store(true)
		_ = c.Conn.Close()
		return 0, errByteBudget
	}
	return n, err
}

// allow gives the client d from now for its next message.
func (c *guardedConn) allow(d time.Duration) error {
	if c.open.Load() {
		return nil
	}
	deadline := time.Now().Add(d)
	if deadline.After(c.latest) {
		deadline = c.latest
	}
	if time.Now().After(c.latest) {
		return errLoginTooOld
	}
	return c.Conn.SetDeadline(deadline)
}

// authenticated lifts all bounds.
func (c *guardedConn) authenticated() error {
	c.open.Store(true)
	return c.Conn.SetDeadline(time.Time{})
}
