package radius

import (
	"net"
	"syscall"
)

// askForAddress has the system tell to which address each datagram came: a client takes an answer only from the one
// that it asked, and a machine may have many.
func askForAddress(conn *net.UDPConn) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { // where it cannot be told the system chooses, as it does without
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IPV6, syscall.IPV6_RECVPKTINFO, 1)
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_PKTINFO, 1)
	})
}
