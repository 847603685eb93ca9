// Package tcpend ends TCP connections whose peer is gone without a word. By itself Linux goes on for a quarter of an
// hour when something was sent that nobody acknowledges, and keep-alive rests meanwhile.
package tcpend

import (
	"net"
	"syscall"
	"time"
)

// Unacknowledged is a [net.Dialer.Control] for connections that end when the peer has not acknowledged for d what was
// sent.
func Unacknowledged(d time.Duration) func(network, address string, c syscall.RawConn) error {
	return func(network, _ string, c syscall.RawConn) error {
		if network == "unix" {
			return nil
		}
		return limit(c, d)
	}
}

// KeepAlive finds out within a minute that an idle peer is gone.
var KeepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 15 * time.Second, Count: 3}
