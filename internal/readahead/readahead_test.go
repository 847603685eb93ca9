package readahead

import (
	"bytes"
	"crypto/rand"
	"io"
	"net"
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
