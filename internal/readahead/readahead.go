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

// Conn reads ahead while its peer sends faster than it is read. A Conn is read by one goroutine.
type Conn struct {
	net.Conn
	buf  *[]byte // nil while nothing is held
	rest []byte  // unread part of *buf
	err  error   // came with the last bytes of rest
	busy bool    // the last read filled all it was given: more is waiting, a large read will not block for long
}

// New wraps c.
func New(c net.Conn) *Conn { return &Conn{Conn: c} }

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

func (c *Conn) release() {
	pool.Put(c.buf)
	c.buf, c.rest = nil, nil
}

// Pool lends copy buffers of the same size to whoever relays in bulk.
func Pool() *sync.Pool { return &pool }
