//go:build !linux

package store

import (
	"net"
	"syscall"
)

// limitUnacknowledged does nothing where there is no TCP_USER_TIMEOUT: keep-alive must do.
func limitUnacknowledged(string, string, syscall.RawConn) error { return nil }

// hungUp does not know; the first statement on a dead connection fails.
func hungUp(net.Conn) bool { return false }
