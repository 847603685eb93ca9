//go:build !linux

package tcpend

import (
	"syscall"
	"time"
)

// limit does nothing where there is no TCP_USER_TIMEOUT: keep-alive must do.
func limit(syscall.RawConn, time.Duration) error { return nil }
