package tcpend

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A peer that vanishes while something is on its way to it, without a reset or a last packet, ends the connection
// after the time that was given: here its network goes down.
func TestUnacknowledged(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Fatal("this test makes a network namespace and needs root")
	}
	id := os.Getpid() % 100_000
	ns, here, there := fmt.Sprintf("tcpend%d", id), fmt.Sprintf("teh%d", id), fmt.Sprintf("tet%d", id)
	block := fmt.Sprintf("198.18.%d.", id%256) // RFC 2544: for tests of networks
	ip := func(args string) {
		t.Helper()
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v %s", args, err, out)
		}
	}
	ip("netns add " + ns)
	t.Cleanup(func() { ip("netns del " + ns) })
	ip("link add " + here + " type veth peer name " + there + " netns " + ns)
	ip("addr add " + block + "1/30 dev " + here)
	ip("link set " + here + " up")
	ip("-n " + ns + " addr add " + block + "2/30 dev " + there)
	ip("-n " + ns + " link set " + there + " up")

	l := listenIn(t, ns, block+"2:0")
	defer l.Close()
	go func() {
		for {
			if _, err := l.Accept(); err != nil {
				return
			}
		}
	}()
	d := net.Dialer{Timeout: 10 * time.Second, Control: Unacknowledged(time.Second)}
	conn, err := d.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ip("-n " + ns + " link set " + there + " down")
	if _, err := conn.Write([]byte("is anybody there")); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	// Linux says why it could not send last, if it knows: with a neighbour that does not answer, that there is no way to it.
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ETIMEDOUT) && !errors.Is(err, syscall.EHOSTUNREACH) {
		t.Errorf("reading: %v", err)
	}
}

// listenIn listens in another network namespace.
func listenIn(t *testing.T, ns, addr string) net.Listener {
	t.Helper()
	type result struct {
		l   net.Listener
		err error
	}
	listening := make(chan result)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		fd, err := unix.Open("/run/netns/"+ns, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			defer unix.Close(fd)
			err = unix.Setns(fd, unix.CLONE_NEWNET)
		}
		var l net.Listener
		if err == nil {
			l, err = net.Listen("tcp", addr)
		}
		listening <- result{l, err}
	}()
	r := <-listening
	if r.err != nil {
		t.Fatal(r.err)
	}
	return r.l
}
