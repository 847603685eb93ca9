package readahead

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"time"
)

// Every byte comes once and in order, whatever the sizes of reads and writes.
func TestBytesComeThrough(t *testing.T) {
	t.Parallel()
	want := make([]byte, 3<<20)
	rand.Read(want)
	for _, readSize := range []int{1, 511, 4096, 32 << 10, size - 1, size, size + 1} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			for rest := want; len(rest) > 0; {
				n := min(len(rest), 1+int(rest[0])*1000)
				c.Write(rest[:n])
				rest = rest[n:]
			}
		}()
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		limit := want
		if readSize == 1 {
			limit = want[:100_000]
		}
		conn := New(c)
		var got bytes.Buffer
		buf := make([]byte, readSize)
		for got.Len() < len(limit) {
			n, err := conn.Read(buf)
			got.Write(buf[:n])
			if err != nil {
				break
			}
		}
		if !bytes.Equal(got.Bytes()[:len(limit)], limit) {
			t.Errorf("reads of %d: bytes differ", readSize)
		}
		c.Close()
		l.Close()
	}
}

// An error that comes with bytes is not lost, and an idle connection holds no buffer.
func TestErrorsAndIdleness(t *testing.T) {
	t.Parallel()
	c := New(fake{iotest.DataErrReader(bytes.NewReader(make([]byte, 10_000)))})
	n, err := io.Copy(io.Discard, struct{ io.Reader }{c})
	if n != 10_000 || err != nil {
		t.Errorf("copied %d, %v", n, err)
	}
	if c.buf != nil || c.rest != nil {
		t.Error("a buffer is held though nothing is left to read")
	}
}

type fake struct{ io.Reader }

func (fake) Write([]byte) (int, error)        { return 0, io.ErrClosedPipe }
func (f fake) Close() error                   { return nil }
func (fake) LocalAddr() net.Addr              { return nil }
func (fake) RemoteAddr() net.Addr             { return nil }
func (fake) SetDeadline(time.Time) error      { return nil }
func (fake) SetReadDeadline(time.Time) error  { return nil }
func (fake) SetWriteDeadline(time.Time) error { return nil }

// pair is both ends of a TCP connection.
func pair(t *testing.T) (*Conn, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	here, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	there, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { here.Close(); there.Close() })
	return New(here), there
}

// A write of more than the kernel takes at once is complete, and both directions go on beside each other.
func TestSocketBothWays(t *testing.T) {
	t.Parallel()
	here, there := pair(t)
	want := make([]byte, 16<<20)
	rand.Read(want)
	go func() {
		_, _ = io.Copy(there, there)
		_ = there.(*net.TCPConn).CloseWrite()
	}()
	written := make(chan error, 1)
	go func() {
		n, err := here.Write(want)
		if err == nil && n != len(want) {
			err = io.ErrShortWrite
		}
		written <- err
	}()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(here, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("what came back differs: %v", err)
	}
	if err := <-written; err != nil {
		t.Error(err)
	}
}

// A socket ends, is closed, is reset and gets late as those of the net package do, and holds no buffer
// while it waits.
func TestSocketErrors(t *testing.T) {
	t.Parallel()
	one := make([]byte, 1)
	t.Run("end", func(t *testing.T) {
		here, there := pair(t)
		there.Close()
		if _, err := here.Read(one); err != io.EOF {
			t.Errorf("got %v", err)
		}
	})
	t.Run("closed while it waits", func(t *testing.T) {
		here, _ := pair(t)
		done := make(chan error, 1)
		go func() {
			_, err := here.Read(one)
			done <- err
		}()
		here.Close()
		if err := <-done; !errors.Is(err, net.ErrClosed) || here.buf != nil {
			t.Errorf("got %v, a buffer is held: %t", err, here.buf != nil)
		}
		if _, err := here.Write(one); !errors.Is(err, net.ErrClosed) {
			t.Errorf("writing: %v", err)
		}
	})
	t.Run("late", func(t *testing.T) {
		here, _ := pair(t)
		here.SetDeadline(time.Now().Add(20 * time.Millisecond))
		if _, err := here.Read(one); !errors.Is(err, os.ErrDeadlineExceeded) || here.buf != nil {
			t.Errorf("got %v, a buffer is held: %t", err, here.buf != nil)
		}
		if n, err := here.Write(make([]byte, 64<<20)); !errors.Is(err, os.ErrDeadlineExceeded) || n == 64<<20 {
			t.Errorf("writing to nobody: %d, %v", n, err)
		}
	})
	t.Run("reset", func(t *testing.T) {
		here, there := pair(t)
		there.(*net.TCPConn).SetLinger(0)
		there.Close()
		if _, err := here.Read(one); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("got %v", err)
		}
		if _, err := here.Write(one); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("writing: %v", err)
		}
	})
}

// Descriptors that are closed under writes and reads, and whose numbers are taken at once by other
// connections, are not used any more: nobody gets what was meant for another one.
func TestSocketClosedUnderUse(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var connections sync.WaitGroup
	for i := range 200 {
		mark := byte(i)
		here, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		there, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		conn := New(here)
		want := bytes.Repeat([]byte{mark}, 32<<10)
		connections.Go(func() { // until it is closed
			for {
				if _, err := conn.Write(want); err != nil {
					return
				}
			}
		})
		connections.Go(func() {
			buf := make([]byte, len(want))
			for {
				n, err := conn.Read(buf)
				if !bytes.Equal(buf[:n], want[:n]) {
					t.Errorf("connection %d read what another one was sent", mark)
				}
				if err != nil {
					return
				}
			}
		})
		connections.Go(func() {
			defer there.Close()
			buf := make([]byte, len(want))
			for range 4 {
				n, err := there.Read(buf)
				if err != nil {
					return
				}
				if !bytes.Equal(buf[:n], want[:n]) {
					t.Errorf("the peer of connection %d read what another one wrote", mark)
				}
				if _, err := there.Write(buf[:n]); err != nil {
					return
				}
			}
			conn.Close()
		})
	}
	connections.Wait()
}

// A peer that has ended its side still gets what is written to it.
func TestSocketHalfClosed(t *testing.T) {
	t.Parallel()
	here, there := pair(t)
	if err := there.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n, err := here.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("read %d, %v", n, err)
	}
	go func() {
		_, _ = here.Write([]byte("still here"))
		here.Close()
	}()
	if got, err := io.ReadAll(there); string(got) != "still here" || err != nil {
		t.Errorf("the peer read %q, %v", got, err)
	}
}
