package recorder

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/klauspost/compress/zstd"
)

// Code is the kind of an event.
type Code string

// Codes of events.
const (
	CodeOutput Code = "o"
	CodeStderr Code = "e"
	CodeInput  Code = "i"
	CodeResize Code = "r" // Text is "90x30"
	CodeMark   Code = "m"
	CodeExit   Code = "x" // Text is the exit status
	CodeSignal Code = "s" // Text is the name of the signal
	CodeGap    Code = "g" // Text is the number of missing bytes, a space and the reason
	CodeLimit  Code = "l" // Text is the limit in bytes
)

// Event is one event of a recording.
type Event struct {
	At   time.Duration // since the recording began
	Code Code
	Data []byte // of output, stderr and input: the exact bytes
	Text string // what a player shows, or the text of another event; valid UTF-8
}

// Reader reads the events of a recording in order. It serves one goroutine.
type Reader struct {
	header Header
	node   string
	src    *bufio.Reader
	close  func() error
	follow *follower // nil: nothing is waited for

	long   []byte // a line longer than src's buffer
	line   int    // number of the last line
	offset int64  // bytes up to its end
	whole  int64  // bytes up to the end of the last whole event
	end    int64  // bytes read, a torn line included
	at     int64  // µs of the last event
}

// Open opens a recording by the path that [Recording.Path], [Summary] or [Recovered] gave, whether
// it is open, left behind or sealed. Of an open one the Reader sees what is there now.
func (r *Recorder) Open(path string) (*Reader, error) {
	where, err := parsePath(path)
	if err != nil {
		return nil, err
	}
	src, err := r.openPlain(where)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", where.cast(), err)
	}
	reader, err := newReader(src)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", where.cast(), err)
	}
	return reader, nil
}

// Follow opens a recording as Open does; while it is being written by this Recorder, Next waits for
// the next event, until the recording is closed (io.EOF) or ctx is done (its error).
func (r *Recorder) Follow(ctx context.Context, path string) (*Reader, error) {
	where, err := parsePath(path)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	w := r.active[where.base]
	r.mu.Unlock()
	if w == nil {
		return r.Open(path)
	}
	if w.vault != nil {
		return nil, fmt.Errorf("following %s: %w", where.cast(), ErrEncrypted)
	}
	f, err := r.openFile(where.cast(), os.O_RDONLY)
	if errors.Is(err, os.ErrNotExist) { // sealed in the meantime
		return r.Open(path)
	}
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", where.cast(), err)
	}
	follow := &follower{ctx: ctx, w: w, f: f}
	reader, err := newReader(follow)
	if err != nil {
		return nil, fmt.Errorf("following %s: %w", where.cast(), err)
	}
	reader.follow = follow
	return reader, nil
}

// openPlain opens the asciicast of a recording: the .cast while there is one, else the packed file.
func (r *Recorder) openPlain(where place) (io.ReadCloser, error) {
	r.mu.Lock()
	w := r.active[where.base]
	r.mu.Unlock()
	f, err := r.openFile(where.cast(), os.O_RDONLY)
	if err == nil && isVault(f) {
		return nil, errors.Join(ErrEncrypted, f.Close())
	}
	if err == nil && w != nil {
		size, _, _ := w.watch()
		return limited{io.NewSectionReader(f, 0, size), f}, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return f, err
	}
	if f, err = r.openFile(where.packed(), os.O_RDONLY); errors.Is(err, os.ErrNotExist) {
		return r.openRemote(where)
	}
	if err != nil {
		return nil, err
	}
	if isSealedFrame(f) {
		return nil, errors.Join(ErrEncrypted, f.Close())
	}
	return unpack(f, f)
}

// limited reads as much of a file as an open recording had when it was opened.
type limited struct {
	io.Reader
	io.Closer
}

// unpack reads the asciicast from a packed file. Close closes the file too.
func unpack(src io.Reader, file io.Closer) (io.ReadCloser, error) {
	d, err := zstd.NewReader(src, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(2*maxPart))
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &unpacker{d, file}, nil
}

type unpacker struct {
	*zstd.Decoder
	file io.Closer
}

func (u *unpacker) Read(p []byte) (int, error) {
	n, err := u.Decoder.Read(p)
	var disk *os.PathError
	if err != nil && err != io.EOF && !errors.As(err, &disk) {
		err = fmt.Errorf("%w: unpacking it: %w", ErrDamaged, err)
	}
	return n, err
}

func (u *unpacker) Close() error {
	u.Decoder.Close()
	return u.file.Close()
}

// follower reads the file of an open recording and waits at its end.
type follower struct {
	ctx  context.Context
	w    *Recording
	f    *os.File
	pos  int64
	idle func() // see Reader.OnWait
}

func (f *follower) Close() error { return f.f.Close() }

func (f *follower) Read(p []byte) (int, error) {
	for {
		size, changed, closed := f.w.watch()
		if f.pos < size {
			n, err := f.f.ReadAt(p[:min(int64(len(p)), size-f.pos)], f.pos)
			f.pos += int64(n)
			return n, err
		}
		if closed {
			return 0, io.EOF
		}
		if f.idle != nil {
			f.idle()
		}
		select {
		case <-changed:
		case <-f.ctx.Done():
			return 0, f.ctx.Err()
		}
	}
}

// watch tells how many bytes of whole events there are, and gives a channel that is closed when
// there are more, or when there will be no more.
func (w *Recording) watch() (size int64, changed <-chan struct{}, closed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.changed == nil && !w.closed {
		w.changed = make(chan struct{})
	}
	return w.size, w.changed, w.closed
}

// newReader reads the header. It closes src if that fails.
func newReader(src io.ReadCloser) (*Reader, error) {
	r := &Reader{src: bufio.NewReaderSize(src, 64<<10), close: src.Close}
	line, err := r.readLine()
	if err == nil {
		r.header, r.node, err = parseHeader(line)
	} else if errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: it has no header", ErrDamaged)
	}
	if err != nil {
		return nil, errors.Join(err, src.Close())
	}
	r.whole = r.offset
	return r, nil
}

// Header is what was known when the recording began.
func (r *Reader) Header() Header { return r.header }

// Close closes the file.
func (r *Reader) Close() error { return r.close() }

// Next returns the next event, and io.EOF at the end. Half an event at the end, left by a process
// that died while it wrote, is no event. The memory of an Event is the caller's.
func (r *Reader) Next() (Event, error) {
	var exact []byte
	stderr, differ := false, false
	for {
		raw, err := r.nextRaw()
		if err != nil {
			return Event{}, err
		}
		isData := raw.code == codeOutput || raw.code == codeInput
		switch {
		case isData:
			e := r.event(raw)
			if stderr {
				e.Code = CodeStderr
			}
			if e.Data = exact; !differ {
				e.Data = []byte(raw.text)
			}
			r.whole = r.offset
			return e, nil
		case raw.code == codeStderr && !stderr && !differ:
			stderr = true
		case raw.code == codeExact && !differ:
			if exact, err = base64.StdEncoding.AppendDecode([]byte{}, []byte(raw.text)); err != nil {
				return Event{}, fmt.Errorf("%w: line %d: its exact bytes are not base64", ErrDamaged, r.line)
			}
			differ = true
		case stderr || differ:
			return Event{}, fmt.Errorf("%w: line %d: data was announced and does not follow", ErrDamaged, r.line)
		default:
			r.whole = r.offset
			return r.event(raw), nil
		}
	}
}

func (r *Reader) event(raw rawEvent) Event {
	return Event{At: time.Duration(r.at) * time.Microsecond, Code: Code([]byte{raw.code}), Text: raw.text}
}

// nextRaw reads the next line that is an event.
func (r *Reader) nextRaw() (rawEvent, error) {
	for {
		line, err := r.readLine()
		if err != nil {
			return rawEvent{}, err
		}
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		raw, err := parseEvent(line)
		if err != nil {
			return rawEvent{}, fmt.Errorf("%w: line %d: %w", ErrDamaged, r.line, err)
		}
		r.at = addMicros(r.at, raw.micros)
		return raw, nil
	}
}

// readLine reads a line without its newline. Its memory is good until the next call.
func (r *Reader) readLine() ([]byte, error) {
	r.long = r.long[:0]
	for {
		piece, err := r.src.ReadSlice('\n')
		r.end += int64(len(piece))
		if err == nil && len(r.long) == 0 {
			r.line++
			r.offset = r.end
			return piece[:len(piece)-1], nil
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
		if len(r.long)+len(piece) > maxLine {
			return nil, fmt.Errorf("%w: line %d has more than %d bytes", ErrDamaged, r.line+1, maxLine)
		}
		r.long = append(r.long, piece...)
		if err == nil {
			r.line++
			r.offset = r.end
			return bytes.TrimSuffix(r.long, []byte("\n")), nil
		}
	}
}
