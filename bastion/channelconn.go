package bastion

import (
	"errors"
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// closeWait is how long a client may take to confirm that a channel is closed.
const closeWait = 10 * time.Second

// channelConn is a channel of one SSH connection on which another one is spoken.
type channelConn struct {
	ch    ssh.Channel
	outer net.Conn        // that the channel belongs to
	gone  <-chan struct{} // closed when the channel is closed by both sides, or outer is

	closing sync.Once
	mu      sync.Mutex // guards the field below
	timer   *time.Timer
}

// Read implements net.Conn.
func (c *channelConn) Read(p []byte) (int, error) { return c.ch.Read(p) }

// Write implements net.Conn.
func (c *channelConn) Write(p []byte) (int, error) { return c.ch.Write(p) }

// Close implements net.Conn. It waits for nobody. The library lets go of readers and writers only when
// the client confirms; one that does not loses the outer connection.
func (c *channelConn) Close() error {
	c.closing.Do(func() {
		go c.ch.Close()
		time.AfterFunc(closeWait, func() {
			select {
			case <-c.gone:
			default:
				_ = c.outer.Close()
			}
		})
	})
	return nil
}

// LocalAddr implements net.Conn.
func (c *channelConn) LocalAddr() net.Addr { return c.outer.LocalAddr() }

// RemoteAddr implements net.Conn.
func (c *channelConn) RemoteAddr() net.Addr { return c.outer.RemoteAddr() }

// SetDeadline implements net.Conn, in as far as the connection is closed then: channels know no deadlines.
func (c *channelConn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	if !t.IsZero() {
		c.timer = time.AfterFunc(time.Until(t), func() { _ = c.Close() })
	}
	return nil
}

// SetReadDeadline is not there: one direction cannot end alone.
func (c *channelConn) SetReadDeadline(time.Time) error { return errors.ErrUnsupported }

// SetWriteDeadline is not there: one direction cannot end alone.
func (c *channelConn) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }
