//go:build !linux

package radius

import "net"

// askForAddress does nothing: the system chooses the address that an answer leaves from.
func askForAddress(*net.UDPConn) {}
