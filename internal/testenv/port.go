package testenv

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strconv"
	"testing"
)

// FreePort is a port of 127.0.0.1 that nobody has open, neither for TCP nor for UDP, and that nobody
// will be given before t has ended: no other test by this function, in whatever process, and nobody
// who lets the system choose a port, since the system chooses none of these. It is for programs that
// cannot be handed an open socket.
func FreePort(t testing.TB) int {
	t.Helper()
	low, high := systemPorts()
	for range 1000 {
		port := 10_000 + rand.IntN(65_536-10_000)
		if port >= low && port <= high {
			continue
		}
		release, ok := reserve(port)
		if !ok {
			continue
		}
		if !isFree(port) {
			release()
			continue
		}
		t.Cleanup(release)
		return port
	}
	t.Fatalf("no free port outside of %d to %d", low, high)
	return 0
}

// FreeAddr is 127.0.0.1 with a [FreePort].
func FreeAddr(t testing.TB) string {
	t.Helper()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(FreePort(t)))
}

// systemPorts are the first and last of the ports that the system gives to who asks for any; where it
// does not say, or gives nearly all of them, none is left out.
func systemPorts() (low, high int) {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return 0, 0
	}
	if _, err := fmt.Sscan(string(text), &low, &high); err != nil || low < 11_000 && high > 64_000 {
		return 0, 0
	}
	return low, high
}

// reserve takes the name of a port among all processes that run tests; the end of the process gives it back.
func reserve(port int) (release func(), ok bool) {
	if runtime.GOOS != "linux" {
		return func() {}, true // such names, which are in no folder, are Linux's
	}
	l, err := net.Listen("unix", "@sallyport-test-port-"+strconv.Itoa(port))
	if err != nil {
		return nil, false
	}
	return func() { l.Close() }, true
}

func isFree(port int) bool {
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return false
	}
	l.Close()
	conn, err := net.ListenPacket("udp", addr)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}
