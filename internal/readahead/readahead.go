// Package readahead cuts the number of read calls on a busy SSH connection without holding a large
// buffer on an idle one.
package readahead

import (
	"net"
	"sync"
)

// size of the pooled buffers: four of the largest packets that x/crypto/ssh sends.
const size = 128 << 10

var pool = sync.Pool{New: func() any { b := make([]byte, size); return &b }}

// Lender is a connection that gives what it reads in a buffer of the pool, and holds none while it waits.
type Lender interface {
	// Lend reads once. The buffer is nil after an error, and otherwise goes back to the pool.
	Lend() (buf *[]byte, n int, err error)
}

// Conn reads ahead: as much as there is from a [Lender], and from others while the peer sends faster than
// it is read. A Conn is read by one goroutine.
type Conn struct {
	net.Conn
	from Lender  // nil: Conn is none
	buf  *[]byte // nil while nothing is held
	rest []byte  // unread part of *buf
	err  error   // came with the last bytes of rest
	busy bool    // the last read filled all it was given: more is waiting, a large read will not block for long
}

// New wraps c.
func New(c net.Conn) *Conn {
	c = Socket(c)
	from, _ := c.(Lender)
	return &Conn{Conn: c, from: from}
}

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	if len(c.rest) > 0 {
		n := copy(p, c.rest)
		c.rest = c.rest[n:]
		if len(c.rest) > 0 {
			return n, nil
		}
		c.release()
		err := c.err
		c.err = nil
		return n, err
	}
	if c.from != nil {
		return c.borrow(p)
	}
	if !c.busy || len(p) >= size {
		n, err := c.Conn.Read(p)
		c.busy = n == len(p) && n > 0
		return n, err
	}
	c.buf = pool.Get().(*[]byte)
	n, err := c.Conn.Read(*c.buf)
	c.busy = n > len(p)
	m := copy(p, (*c.buf)[:n])
	c.rest = (*c.buf)[m:n]
	if len(c.rest) > 0 {
		c.err = err
		return m, nil
	}
	c.release()
	return m, err
}

// borrow reads as much as there is.
func (c *Conn) borrow(p []byte) (int, error) {
	buf, n, err := c.from.Lend()
	if buf == nil {
		return 0, err
	}
	c.buf = buf
	m := copy(p, (*buf)[:n])
	c.rest = (*buf)[m:n]
	if len(c.rest) == 0 {
		c.release()
	}
	return m, err
}

// Buffered is how many bytes Read gives without asking the peer. The SSH library of hack/patchssh looks
// at it.
func (c *Conn) Buffered() int { return len(c.rest) }

func (c *Conn) release() {
	pool.Put(c.buf)
	c.buf, c.rest = nil, nil
}

// Pool lends copy buffers of the same size to whoever relays in bulk.
func Pool() *sync.Pool { return &pool }
