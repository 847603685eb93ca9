package bastion

import (
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Guard bounds what connections may cost before their people have proved who they are. Zero fields
// mean the defaults given.
type Guard struct {
	PerSource int            // unauthenticated connections of one address (IPv6: /64) at once; 10
	Total     int            // … of all addresses; 512. From an eighth of it on some are dropped at random
	Queue     time.Duration  // how long the excess of a source waits for a place; 10 s
	Handshake time.Duration  // version and key exchange; 10 s
	Prompt    time.Duration  // each answer; 120 s
	Enrolment time.Duration  // the code that proves a new token; 5 min
	Login     time.Duration  // everything before authentication together; 15 min
	Bytes     int64          // inbound before authentication; 64 KiB
	Tries     int            // conversations in one connection; 3
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
	span(&g.Handshake, 10*time.Second)
	span(&g.Prompt, 120*time.Second)
	span(&g.Enrolment, 5*time.Minute)
	span(&g.Login, 15*time.Minute)
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

	mu      sync.Mutex // guards the fields below
	total   int
	sources map[netip.Prefix]*places
}

// places of one source: taken ones, and those who wait, first come first served.
type places struct {
	taken   int
	waiting []chan struct{}
}

func newGate(g Guard) *gate { return &gate{g: g, sources: map[netip.Prefix]*places{}} }

// enter takes a place for a connection from a, waiting for one in its own goroutine if its source
// has too many, and returns the function that gives it back.
func (t *gate) enter(a netip.Addr) (leave func(), err error) {
	key := sourceKey(a)
	exempt := false
	for _, p := range t.g.Exempt {
		exempt = exempt || p.Contains(a)
	}
	t.mu.Lock()
	if !exempt && t.dropEarly() {
		t.mu.Unlock()
		return nil, errOverloaded
	}
	s := t.sources[key]
	if s == nil {
		s = &places{}
		t.sources[key] = s
	}
	if exempt || s.taken < t.g.PerSource {
		s.taken++
		t.total++
		t.mu.Unlock()
		return sync.OnceFunc(func() { t.leave(key) }), nil
	}
	if len(s.waiting) >= maxQueue*t.g.PerSource {
		t.mu.Unlock()
		return nil, errTooMany
	}
	turn := make(chan struct{})
	s.waiting = append(s.waiting, turn)
	t.mu.Unlock()
	timer := time.NewTimer(t.g.Queue)
	defer timer.Stop()
	select {
	case <-turn: // leave handed its place over
		return sync.OnceFunc(func() { t.leave(key) }), nil
	case <-timer.C:
	}
	if t.giveUp(key, turn) {
		return nil, errTooMany
	}
	return sync.OnceFunc(func() { t.leave(key) }), nil // the place came at the last moment
}

// dropEarly turns connections away at random when many are unauthenticated, more of them the more
// there are, so that a flood from many sources leaves room for people. The caller holds mu.
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

func (t *gate) leave(key netip.Prefix) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.sources[key]
	if len(s.waiting) > 0 {
		close(s.waiting[0])
		s.waiting = s.waiting[1:]
		return
	}
	s.taken--
	t.total--
	if s.taken == 0 {
		delete(t.sources, key)
	}
}

// giveUp takes turn out of the queue; false if it was served meanwhile.
func (t *gate) giveUp(key netip.Prefix, turn chan struct{}) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.sources[key]
	if s == nil {
		return false
	}
	for i, w := range s.waiting {
		if w == turn {
			s.waiting = append(s.waiting[:i], s.waiting[i+1:]...)
			return true
		}
	}
	return false
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
	net.Conn
	budget   atomic.Int64 // bytes left; ignored once open
	open     atomic.Bool  // authenticated: no bounds
	latest   time.Time    // no deadline before authentication is later than this
	overdrew atomic.Bool
}

func newGuardedConn(c net.Conn, g Guard) *guardedConn {
	gc := &guardedConn{Conn: c, latest: time.Now().Add(g.Login)}
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
