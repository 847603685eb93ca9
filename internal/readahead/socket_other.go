//go:build !linux

package readahead

import "net"

// Socket makes reading and writing of a TCP connection cheaper on Linux. Here it returns it as it is.
func Socket(c net.Conn) net.Conn { return c }
