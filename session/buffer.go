package session

import (
	"io"
	"sync"

	"sallyport/internal/readahead"
)

// smallBuffer is what an idle direction of a channel holds.
const smallBuffer = 512

// buffer reads with a small buffer while little comes, and with a large one from a pool while much
// does, so that an idle session holds next to nothing.
type buffer struct {
	small [smallBuffer]byte
	large *[]byte
}

var smallBuffers = sync.Pool{New: func() any { return new(buffer) }}

func newBuffer() *buffer { return smallBuffers.Get().(*buffer) }

func (b *buffer) release() {
	b.drop()
	smallBuffers.Put(b)
}

func (b *buffer) drop() {
	if b.large != nil {
		readahead.Pool().Put(b.large)
		b.large = nil
	}
}

// read reads once from r. The bytes are valid until the next read.
func (b *buffer) read(r io.Reader) (int, error) {
	if b.large != nil {
		n, err := r.Read(*b.large)
		if n <= smallBuffer { // bytes() still finds them in the large buffer; the next read is small
			copy(b.small[:], (*b.large)[:n])
			b.drop()
		}
		return n, err
	}
	n, err := r.Read(b.small[:])
	if n == smallBuffer && err == nil { // more is waiting: the next read will not block for long
		b.large = readahead.Pool().Get().(*[]byte)
		copy(*b.large, b.small[:])
	}
	return n, err
}

// bytes returns the n bytes of the last read.
func (b *buffer) bytes(n int) []byte {
	if b.large != nil {
		return (*b.large)[:n]
	}
	return b.small[:n]
}
