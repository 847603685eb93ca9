package readahead

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"unsafe"
)

// A write of 128 KiB to a socket takes the kernel longer than the 20 µs after which Go's scheduler thinks
// that a system call waits for something, and has another thread go on with its work. Between two cores that
// are busy this happens for most writes, and the thread that looks for it comes back so often that both
// together are a quarter of the CPU of a transfer. But calls to sockets never wait here: the socket is not
// blocking, and waiting is left to the net package. So the scheduler is not told of them.
//
// That package also holds the descriptor while a call is under way: Close wakes who waits for it, and the
// kernel closes it, and may give its number to another file, only when the last of them has come back. A
// write to a peer that is gone returns EPIPE; its SIGPIPE ends Go programs for standard output and error alone.

// socket is a TCP connection that reads and writes in this way.
type socket struct {
	*net.TCPConn
	raw  syscall.RawConn
	in   direction
	out  direction
	lend func(fd uintptr) bool
	lent *[]byte // that Lend reads to; guarded by in.mu
}

// direction is a system call under way. The functions are kept since RawConn would make one escape each time.
type direction struct {
	mu  sync.Mutex // guards the fields below
	do  func(fd uintptr) bool
	p   []byte // to read to, or what is not written yet
	n   int
	err error
}

// Socket makes reading and writing of a TCP connection cheaper. Any other connection it returns as it is.
func Socket(c net.Conn) net.Conn {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return c
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return c
	}
	s := &socket{TCPConn: tcp, raw: raw}
	s.in.do = s.in.read
	s.lend = s.lendOnce
	s.out.do = s.out.write
	return s
}

// Read implements net.Conn.
func (s *socket) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := s.in.run(s.raw.Read, p)
	if err != nil {
		return n, s.error("read", err)
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// Lend implements [Lender].
func (s *socket) Lend() (*[]byte, int, error) {
	s.in.mu.Lock()
	defer s.in.mu.Unlock()
	s.in.n, s.in.err, s.lent = 0, nil, nil
	err := s.raw.Read(s.lend)
	buf := s.lent
	s.lent = nil
	switch {
	case err == nil && s.in.err != nil:
		err = s.error("read", s.in.err)
	case err == nil && s.in.n == 0:
		err = io.EOF
	}
	if err != nil && buf != nil {
		pool.Put(buf)
		buf = nil
	}
	return buf, s.in.n, err
}

// lendOnce is false when there is nothing to read yet; then no buffer is held.
func (s *socket) lendOnce(fd uintptr) bool {
	s.lent = pool.Get().(*[]byte)
	s.in.p = *s.lent
	done := s.in.read(fd)
	s.in.p = nil
	if !done {
		pool.Put(s.lent)
		s.lent = nil
	}
	return done
}

// Write implements net.Conn.
func (s *socket) Write(p []byte) (int, error) {
	n, err := s.out.run(s.raw.Write, p)
	if err != nil {
		return n, s.error("write", err)
	}
	return n, nil
}

// error is as the net package gives it.
func (s *socket) error(op string, err error) error {
	if number, ok := err.(syscall.Errno); ok {
		return &net.OpError{Op: op, Net: "tcp", Source: s.LocalAddr(), Addr: s.RemoteAddr(), Err: os.NewSyscallError(op, number)}
	}
	return err
}

// run does one call, and waits and repeats it as often as it has to.
func (d *direction) run(with func(func(fd uintptr) bool) error, p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.p, d.n, d.err = p, 0, nil
	err := with(d.do)
	d.p = nil
	if err == nil {
		err = d.err
	}
	return d.n, err
}

// read is false when there is nothing to read yet.
func (d *direction) read(fd uintptr) bool {
	n, number := call(syscall.SYS_READ, fd, d.p)
	if number == syscall.EAGAIN {
		return false
	}
	d.n = n
	if number != 0 {
		d.err = number
	}
	return true
}

// write is false when the peer has to take something first.
func (d *direction) write(fd uintptr) bool {
	for len(d.p) > 0 {
		n, number := call(syscall.SYS_WRITE, fd, d.p)
		if number == syscall.EAGAIN {
			return false
		}
		if number != 0 {
			d.err = number
			return true
		}
		d.n += n
		d.p = d.p[n:]
	}
	return true
}

// call is read(2) or write(2), repeated when a signal came.
func call(trap, fd uintptr, p []byte) (int, syscall.Errno) {
	for {
		n, _, number := syscall.RawSyscall(trap, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
		if number == 0 {
			return int(n), 0
		}
		if number != syscall.EINTR {
			return 0, number
		}
	}
}
