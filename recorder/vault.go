package recorder

import (
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"filippo.io/age"
	"golang.org/x/crypto/chacha20poly1305"
)

// A recording can be encrypted to recipients of age, who are none of the nodes. Its parts are packed as ever and
// then each encrypted as an age file of its own. What is in the open file is encrypted too, in chunks under a
// key that only the process that records knows, and that stands at the beginning of the file encrypted to the
// recipients. So the bytes that were shown can be read by them, and by nobody else, after a kill -9 as well; and
// who completes the recording signs chunks that it cannot read.
//
// The open file:
//
//	"sallyport encrypted recording 1\n"
//	4 bytes n, big-endian; n bytes: an age file that holds the 32 bytes of the key
//	chunks: 4 bytes n; 8 bytes counter; n bytes ChaCha20-Poly1305 of whole lines of the asciicast
//
// The nonce of a chunk is four zero bytes and the counter, its additional data the offset of its lines in the
// asciicast, 8 bytes. A counter is used for one chunk, also if that could not be written.

// ErrEncrypted is the cause when a node is asked for what only the recipients can read.
var ErrEncrypted = errors.New("the recording is encrypted: only whoever has the key of one of its recipients can read it, with sallyport session play or export and --identity FILE")

const (
	vaultMagic = "sallyport encrypted recording 1\n"
	chunkHead  = 4 + 8
	maxHead    = 64 << 10
	maxChunk   = 4*maxLine + chacha20poly1305.Overhead

	// maxUnpacked bounds what is held in memory because it cannot be packed; the recording fails there.
	maxUnpacked = 64 << 20
)

// How a part is encrypted.
const (
	sealedAge  = "age"  // the frame is an age file that holds the zstd frame
	sealedTail = "tail" // the frame is the beginning of the open file and some of its chunks
)

// vault encrypts one recording that is being written, and keeps in memory what is not packed yet.
type vault struct {
	recipients []age.Recipient
	aead       cipher.AEAD
	head       []byte

	mu      sync.Mutex // guards the fields below
	counter uint64
	plain   []byte // lines that are not packed
	start   int64  // their offset in the asciicast
}

// newVault makes the key of a recording.
func newVault(recipients []age.Recipient) (*vault, error) {
	key := make([]byte, chacha20poly1305.KeySize)
	rand.Read(key) // never fails
	defer clear(key)
	aead, err := chacha20poly1305.New(key)
	if err != nil {
		return nil, fmt.Errorf("encrypting a recording: %w", err)
	}
	v := &vault{recipients: recipients, aead: aead}
	wrapped, err := v.encrypt(key)
	if err != nil {
		return nil, err
	}
	if len(wrapped) > maxHead {
		return nil, fmt.Errorf("encrypting a recording: %d recipients are too many", len(recipients))
	}
	v.head = binary.BigEndian.AppendUint32([]byte(vaultMagic), uint32(len(wrapped)))
	v.head = append(v.head, wrapped...)
	return v, nil
}

// encrypt returns data as an age file.
func (v *vault) encrypt(data []byte) ([]byte, error) {
	var file bytes.Buffer
	w, err := age.Encrypt(&file, v.recipients...)
	if err == nil {
		_, err = w.Write(data)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("encrypting a part: %w", err)
	}
	return file.Bytes(), nil
}

// appendChunk appends the chunk of lines that stand at offset in the asciicast.
func (v *vault) appendChunk(dst, lines []byte, offset int64) []byte {
	v.mu.Lock()
	v.counter++
	counter := v.counter
	v.mu.Unlock()
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(lines)+chacha20poly1305.Overhead))
	dst = binary.BigEndian.AppendUint64(dst, counter)
	return v.aead.Seal(dst, nonce(counter), lines, binary.BigEndian.AppendUint64(nil, uint64(offset)))
}

func nonce(counter uint64) []byte {
	return binary.BigEndian.AppendUint64(make([]byte, 4, chacha20poly1305.NonceSize), counter)
}

// keep holds lines that were written until they are packed.
func (v *vault) keep(lines []byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.plain = append(v.plain, lines...)
}

// full tells whether so much could not be packed that no more may be held.
func (v *vault) full() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.plain) > maxUnpacked
}

// ReadAt implements io.ReaderAt for lines that are not packed.
func (v *vault) ReadAt(p []byte, offset int64) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if offset < v.start || offset > v.start+int64(len(v.plain)) {
		return 0, fmt.Errorf("byte %d of an encrypted recording is not in memory", offset)
	}
	n := copy(p, v.plain[offset-v.start:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// forget drops what was packed, up to an offset.
func (v *vault) forget(until int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	n := copy(v.plain, v.plain[until-v.start:])
	clear(v.plain[n:])
	v.plain, v.start = slices.Clip(v.plain[:n]), until
	if n == 0 {
		v.plain = nil // an idle recording holds nothing
	}
}

// isVault tells whether a file begins as an encrypted open one does.
func isVault(f io.ReaderAt) bool {
	begin := make([]byte, len(vaultMagic))
	n, _ := f.ReadAt(begin, 0)
	return string(begin[:n]) == vaultMagic
}

// isSealedFrame tells whether a packed file begins with an encrypted part.
func isSealedFrame(f io.ReaderAt) bool {
	const ageMagic = "age-encryption.org/v1\n"
	begin := make([]byte, max(len(ageMagic), len(vaultMagic)))
	n, _ := f.ReadAt(begin, 0)
	return bytes.HasPrefix(begin[:n], []byte(ageMagic)) || bytes.HasPrefix(begin[:n], []byte(vaultMagic))
}

// chunk is a whole chunk of an open file, and where its lines belong.
type chunk struct {
	at, size int64 // in the file
	offset   int64 // of its lines in the asciicast
	length   int64 // of its lines
}

// readVaultHead returns the beginning of an open file up to its first chunk.
func readVaultHead(f io.ReaderAt) ([]byte, error) {
	begin := make([]byte, len(vaultMagic)+4)
	if _, err := f.ReadAt(begin, 0); err != nil {
		return nil, torn(err)
	}
	n := binary.BigEndian.Uint32(begin[len(vaultMagic):])
	if n == 0 || n > maxHead {
		return nil, fmt.Errorf("%w: the head of its open file was altered", ErrDamaged)
	}
	head := make([]byte, len(begin)+int(n))
	if _, err := f.ReadAt(head, 0); err != nil {
		return nil, torn(err)
	}
	return head, nil
}

// errTorn is the cause when a file ends in the middle of something.
var errTorn = errors.New("it ends early")

func torn(err error) error {
	if errors.Is(err, io.EOF) {
		return errTorn
	}
	return err
}

// walkVault calls f with the whole chunks of an open file in order, the offset of the first of them in the
// asciicast being first. It returns how many bytes of the file and of the asciicast that is; half a chunk at the
// end is left out: nobody was shown it.
func walkVault(src io.ReaderAt, headSize, first int64, f func(chunk) error) (file, plain int64, err error) {
	file, plain = headSize, first
	begin := make([]byte, chunkHead)
	for {
		if _, err := src.ReadAt(begin, file); errors.Is(err, io.EOF) {
			return file, plain, nil
		} else if err != nil {
			return file, plain, err
		}
		n := int64(binary.BigEndian.Uint32(begin))
		if n <= chacha20poly1305.Overhead || n > maxChunk {
			return file, plain, fmt.Errorf("%w: a chunk of its open file was altered", ErrDamaged)
		}
		c := chunk{at: file, size: chunkHead + n, offset: plain, length: n - chacha20poly1305.Overhead}
		var last [1]byte
		if _, err := src.ReadAt(last[:], file+c.size-1); errors.Is(err, io.EOF) {
			return file, plain, nil
		} else if err != nil {
			return file, plain, err
		}
		if f != nil {
			if err := f(c); err != nil {
				return file, plain, err
			}
		}
		file += c.size
		plain += c.length
	}
}

// plainSize is how many bytes of asciicast are in the open file of a recording, encrypted or not.
func plainSize(f *io.SectionReader) (int64, error) {
	if isVault(f) {
		head, err := readVaultHead(f)
		if errors.Is(err, errTorn) {
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
		_, plain, err := walkVault(f, int64(len(head)), 0, nil)
		return plain, err
	}
	return f.Size(), nil
}

// openChunks decrypts the chunks that follow a head in src and writes their lines.
func openChunks(w io.Writer, src io.ReaderAt, first int64, ids []age.Identity) error {
	head, err := readVaultHead(src)
	if err != nil {
		return fmt.Errorf("%w: the head of its open file: %w", ErrDamaged, err)
	}
	key, err := openAge(head[len(vaultMagic)+4:], ids)
	if err != nil {
		return err
	}
	aead, err := chacha20poly1305.New(key)
	if err != nil {
		return fmt.Errorf("%w: its key has %d bytes", ErrDamaged, len(key))
	}
	var buf []byte
	_, _, err = walkVault(src, int64(len(head)), first, func(c chunk) error {
		buf = slices.Grow(buf[:0], int(c.size))[:c.size]
		if _, err := src.ReadAt(buf, c.at); err != nil {
			return err
		}
		counter := binary.BigEndian.Uint64(buf[4:])
		lines, err := aead.Open(buf[chunkHead:chunkHead], nonce(counter), buf[chunkHead:], binary.BigEndian.AppendUint64(nil, uint64(c.offset)))
		if err != nil {
			return fmt.Errorf("%w: the chunk at byte %d was altered, or is not where it was written", ErrDamaged, c.at)
		}
		_, err = w.Write(lines)
		return err
	})
	return err
}

// openAge decrypts a small age file.
func openAge(file []byte, ids []age.Identity) ([]byte, error) {
	r, err := age.Decrypt(bytes.NewReader(file), ids...)
	var other *age.NoIdentityMatchError
	if errors.As(err, &other) {
		return nil, fmt.Errorf("%w; the identity given is none of them", ErrEncrypted)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: decrypting it: %w", ErrDamaged, err)
	}
	plain, err := io.ReadAll(io.LimitReader(r, 2*maxPart))
	if err != nil {
		return nil, fmt.Errorf("%w: decrypting it: %w", ErrDamaged, err)
	}
	return plain, nil
}
