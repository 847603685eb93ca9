package tcpend

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func limit(c syscall.RawConn, d time.Duration) error {
	var err error
	if e := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
	}); e != nil {
		return e
	}
	return err
}
