package store

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// hungUp tells whether an idle connection cannot be used any more: the peer closed it or sent what
// nobody asked for, which PostgreSQL does as a farewell.
func hungUp(c net.Conn) bool {
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		return true
	}
	var peekErr error
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, peekErr = unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		return true // in any case do not wait
	})
	return err != nil || peekErr != unix.EAGAIN
}
