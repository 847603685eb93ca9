package recorder

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/zeebo/blake3"
)

// Summary is what is known when a recording has ended.
type Summary struct {
	Path      string        // of the sealed recording, for Open, Export and Verify
	Kept      int64         // bytes of output and stderr in the recording
	Counted   int64         // bytes of output and stderr that passed: Kept, beyond the limit, and lost ones
	Lost      int64         // bytes that were to be kept and could not be written, input included
	Input     int64         // bytes of input that passed
	SHA256    string        // hex, of counted output and stderr in order, up to the limit; "" if only a dead process knew it
	BLAKE3    string        // hex, of what was counted beyond the limit, 256 bits; "" if nothing was, or only a dead process knew it
	Truncated bool          // the limit was reached
	Duration  time.Duration // from Create to Close; of a recovered recording to its last event
	Root      string        // hex, the signed head of the chain
	Bytes     int64         // of asciicast, sealed
	Packed    int64         // bytes of the packed parts
	Parts     int
}

// clean stands for "nothing waits for the disk" where a time in microseconds is kept.
const clean = -1

// Recording is one channel being recorded. Its methods may be called from several goroutines;
// events stand in the file in the order of the calls.
type Recording struct {
	r        *Recorder
	place    place
	path     string // of the asciicast
	limit    int64
	begun    time.Time
	terminal bool // what is recorded is drawn on a terminal
	readable bool // may go into an index while it is open
	f        *os.File
	raw      syscall.RawConn
	failed   chan struct{} // closed at the first error
	done     chan struct{} // closed when Close has done its work
	vault    *vault        // nil: not encrypted

	truncated atomic.Bool
	placed    atomic.Bool // the folders are on the disk

	mu           sync.Mutex // guards the fields below
	synced       *sync.Cond // on mu; told when a sync has ended
	size         int64      // bytes of whole events
	fileSize     int64      // … as they are in the file
	last         int64      // µs from the beginning to the last event
	torn         bool       // half an event may stand behind size
	tails        [3]tail    // of output, stderr and input
	cols, rows   int        // last known size of the terminal
	sum          Summary
	keptInput    int64
	hash         hash.Hash      // of what comes up to the limit
	beyond       *blake3.Hasher // of what comes after that; nil: nothing has
	err          error          // why nothing is written now
	firstErr     error
	onFail       func()
	closed       bool
	abandoned    bool          // the Recorder was closed first
	changed      chan struct{} // closed at the next change, if somebody follows
	dirtySince   int64         // µs: first write that no sync has begun for
	syncingSince int64         // µs: first write of the sync under way
	partSince    int64         // µs: when the open part was begun
	partStart    int64         // offset of the open part
	cuts         []cut         // ends of closed parts that are not packed

	packMu sync.Mutex // guards packer; taken before mu
	packer packer

	closeErr error // valid when done is closed, as sum then is
}

// Create begins a recording: when it returns, the file is there with its header. It returns
// ErrReserve if too little space is free, ErrExists if this channel of this session has a recording,
// ErrPath if the session's id cannot be the name of a folder.
func (r *Recorder) Create(h Header) (*Recording, error) {
	now := r.cfg.Now()
	if h.Started.IsZero() {
		h.Started = now
	}
	h.Width, h.Height = side(h.Width, defaultCols), side(h.Height, defaultRows)
	where, err := newPlace(h.Session, h.Channel, h.Started)
	if err != nil {
		return nil, fmt.Errorf("creating a recording: %w", err)
	}
	header, err := headerLine(h, r.cfg.Node)
	if err != nil {
		return nil, fmt.Errorf("creating %s: %w", where.cast(), err)
	}
	if err := r.checkReserve(); err != nil {
		return nil, fmt.Errorf("creating %s: %w", where.cast(), err)
	}
	begin := header
	var v *vault
	if len(r.cfg.Recipients) > 0 {
		if v, err = newVault(r.cfg.Recipients); err != nil {
			return nil, fmt.Errorf("creating %s: %w", where.cast(), err)
		}
		begin = v.appendChunk(slices.Clone(v.head), header, 0)
		v.keep(header)
	}
	f, err := r.createFile(where, begin)
	if err != nil {
		return nil, fmt.Errorf("creating %s: %w", where.cast(), err)
	}
	raw, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("creating %s: %w", where.cast(), err)
	}

	w := &Recording{
		r: r, place: where, path: where.cast(), limit: h.Limit, begun: now, terminal: h.Term != "",
		readable: h.Term != "" && v == nil && !slices.Contains(h.Tags, TagUnsearched), f: f, raw: raw,
		failed: make(chan struct{}), done: make(chan struct{}),
		vault: v, fileSize: int64(len(begin)), size: int64(len(header)), cols: h.Width, rows: h.Height,
		hash: sha256.New(), dirtySince: clean, syncingSince: clean,
	}
	w.synced = sync.NewCond(&w.mu)
	w.packer = packer{r: r, place: where, plain: f}
	if v != nil {
		w.packer = packer{r: r, place: where, plain: v, vault: v, encrypted: true}
	}
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		f.Close()
		return nil, fmt.Errorf("creating %s: %w", where.cast(), ErrClosed)
	}
	r.active[where.base] = w
	r.mu.Unlock()
	w.mu.Lock()
	w.touch(0)
	w.mu.Unlock()
	return w, nil
}

// createFile makes the file with its header. If the header cannot be written there is no file.
func (r *Recorder) createFile(where place, header []byte) (*os.File, error) {
	if err := r.fault("create", where.cast()); err != nil {
		return nil, err
	}
	dir, err := r.makeDir(where)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	if _, err := dir.Lstat(path.Base(where.packed())); err == nil {
		return nil, ErrExists
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	name := path.Base(where.cast())
	f, err := dir.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil, ErrExists
	}
	if err != nil {
		return nil, err
	}
	if err = r.fault("write", where.cast()); err == nil {
		_, err = f.Write(header)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close(), dir.Remove(name))
	}
	return f, nil
}

// Output records bytes of stdout. When it returns nil they are in the file, and may be forwarded.
// After an error nothing is written (what comes counts as lost) until Gap succeeds.
func (w *Recording) Output(p []byte) error { return w.data(codeOutput, p) }

// Stderr records bytes of stderr, as Output does.
func (w *Recording) Stderr(p []byte) error { return w.data(codeStderr, p) }

// Input records bytes that the client sent, as Output does.
func (w *Recording) Input(p []byte) error { return w.data(codeInput, p) }

func (w *Recording) data(code byte, p []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	now, err := w.await()
	if w.closed {
		return ErrClosed
	}
	if code == codeInput {
		w.sum.Input += int64(len(p))
	} else {
		w.sum.Counted += int64(len(p))
	}
	all, over := p, false
	if room := w.limit - w.sum.Kept - w.keptInput; w.limit > 0 && int64(len(p)) > room {
		p, over = p[:max(room, 0)], true
	}
	if code != codeInput {
		w.hashed(all, len(p))
	}
	for len(p) > 0 && err == nil {
		n := len(p)
		if n > maxPiece {
			n = wholeRunes(p[:maxPiece])
		}
		if err = w.piece(now, code, p[:n]); err == nil {
			p = p[n:]
		}
	}
	if err != nil {
		w.sum.Lost += int64(len(p))
		return err
	}
	if over && !w.truncated.Load() {
		if err := w.put(now, codeLimit, strconv.FormatInt(w.limit, 10)); err != nil {
			return err
		}
		w.truncated.Store(true)
	}
	return nil
}

// hashed adds output to the hashes: the first n bytes are within the limit. Bulk that is only counted makes up
// most of what passes on a busy node, and BLAKE3 costs half of SHA-256 there.
func (w *Recording) hashed(p []byte, n int) {
	if w.beyond == nil {
		w.hash.Write(p[:n])
		if p = p[n:]; len(p) == 0 {
			return
		}
		w.beyond = blake3.New()
	}
	_, _ = w.beyond.Write(p)
}

// piece writes the events of up to maxPiece bytes with one write(2).
func (w *Recording) piece(now int64, code byte, p []byte) error {
	buf := w.r.lines.Get().(*[]byte)
	defer w.r.lines.Put(buf)
	t := w.tail(code)
	var events []byte
	var rest tail // of a rune that binary data follows nothing is shown
	if !w.terminal && isBinary(p) {
		events = appendBinary((*buf)[:0], now-w.last, code, p)
	} else {
		events, rest = appendChunk((*buf)[:0], now-w.last, code, *t, p)
	}
	*buf = events
	if err := w.commit(events, now); err != nil {
		return err
	}
	*t = rest
	if code == codeInput {
		w.keptInput += int64(len(p))
	} else {
		w.sum.Kept += int64(len(p))
	}
	return nil
}

// tail is the unfinished rune of a stream.
func (w *Recording) tail(code byte) *tail {
	switch code {
	case codeOutput:
		return &w.tails[0]
	case codeStderr:
		return &w.tails[1]
	}
	return &w.tails[2]
}

// event writes one event that is not data.
func (w *Recording) event(code byte, text string) error {
	now, err := w.await()
	if err != nil {
		return err
	}
	return w.put(now, code, text)
}

func (w *Recording) put(now int64, code byte, text string) error {
	buf := w.r.lines.Get().(*[]byte)
	defer w.r.lines.Put(buf)
	*buf = appendEvent((*buf)[:0], now-w.last, code, []byte(text[:min(len(text), maxPiece)]))
	return w.commit(*buf, now)
}

// micros is the time since the beginning in microseconds, never before the last event. It is
// measured by the monotonic clock; the events' intervals are differences of these whole numbers, so
// that rounding does not add up.
func (w *Recording) micros() int64 {
	return max(w.r.cfg.Now().Sub(w.begun).Microseconds(), w.last)
}

// await returns the time, or the error that stops the recording. While events wait for the disk too
// long, it waits too: a slow disk slows the session down, nothing is dropped.
func (w *Recording) await() (now int64, err error) {
	for {
		now = w.micros()
		if w.closed {
			return now, ErrClosed
		}
		if w.err != nil || w.truncated.Load() {
			return now, w.err
		}
		oldest := w.dirtySince
		if w.syncingSince != clean {
			oldest = w.syncingSince
		}
		if oldest == clean || now-oldest < w.r.cfg.Sync.Microseconds()*5/2 {
			return now, nil
		}
		w.synced.Wait()
	}
}

// commit writes whole events. On an error the file is cut back to the events before.
func (w *Recording) commit(lines []byte, now int64) error {
	written := lines
	err := w.r.fault("write", w.path)
	if w.vault != nil && err == nil {
		if w.vault.full() {
			err = errors.New("too much of it waits to be packed")
		}
		buf := w.r.lines.Get().(*[]byte)
		defer w.r.lines.Put(buf)
		written = w.vault.appendChunk((*buf)[:0], lines, w.size)
		*buf = written
	}
	if err == nil {
		_, err = w.f.Write(written)
	}
	if err != nil {
		w.fail(fmt.Errorf("writing %s: %w", w.path, err))
		w.torn = true
		_ = w.mend() // if it fails, Gap tries again, and readers tolerate a torn end
		return w.err
	}
	if w.vault != nil {
		w.vault.keep(lines)
	}
	w.size += int64(len(lines))
	w.fileSize += int64(len(written))
	w.last = now
	w.touch(now)
	if w.size-w.partStart >= w.r.cfg.PartSize {
		w.closePart()
		w.r.markFull(w)
	}
	return nil
}

// touch has what was written brought to the disk, and wakes who follows.
func (w *Recording) touch(now int64) {
	if w.dirtySince == clean {
		w.dirtySince = now
		w.r.markDirty(w)
	}
	w.tellFollowers()
}

func (w *Recording) tellFollowers() {
	if w.changed != nil {
		close(w.changed)
		w.changed = nil
	}
}

// closePart ends the open part, if there is anything in it.
func (w *Recording) closePart() {
	w.partSince = w.micros()
	if w.size == w.partStart {
		return
	}
	w.cuts = append(w.cuts, cut{offset: w.size, at: w.last})
	w.partStart = w.size
}

// fail stops the recording.
func (w *Recording) fail(err error) {
	w.err = err
	w.tails = [3]tail{}
	if w.firstErr == nil {
		w.firstErr = err
		close(w.failed)
		if w.onFail != nil {
			go w.onFail()
		}
	}
	w.synced.Broadcast()
}

// mend removes half an event at the end of the file.
func (w *Recording) mend() error {
	if !w.torn {
		return nil
	}
	if err := w.r.fault("truncate", w.path); err != nil {
		return err
	}
	if err := w.f.Truncate(w.fileSize); err != nil {
		return fmt.Errorf("truncating %s: %w", w.path, err)
	}
	w.torn = false
	return nil
}

// Resize records that the terminal has a new size. A size of 0 is one that the client does not know.
func (w *Recording) Resize(cols, rows int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	cols, rows = side(cols, w.cols), side(rows, w.rows)
	if cols == w.cols && rows == w.rows && w.err == nil && !w.closed {
		return nil
	}
	if err := w.event(codeResize, strconv.Itoa(cols)+"x"+strconv.Itoa(rows)); err != nil {
		return err
	}
	w.cols, w.rows = cols, rows
	return nil
}

// Mark records a marker, which players show in their time line.
func (w *Recording) Mark(label string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.event(codeMark, label)
}

// ExitStatus records the exit status of the program.
func (w *Recording) ExitStatus(n int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.event(codeExit, strconv.Itoa(n))
}

// ExitSignal records the name of the signal that ended the program, without SIG (RFC 4254, section 6.10).
func (w *Recording) ExitSignal(name string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.event(codeSignal, name)
}

// Gap records that bytes are missing here, and why. It is also how a recording that need not be
// complete goes on after an error: if it succeeds, Output writes again.
func (w *Recording) Gap(bytes int64, reason string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return ErrClosed
	}
	before := w.err
	w.err = nil
	if err := w.mend(); err != nil {
		w.err = before
		return err
	}
	err := w.event(codeGap, strconv.FormatInt(bytes, 10)+" "+strings.TrimSpace(reason))
	if err != nil && w.err == nil {
		w.err = before
	}
	return err
}

// Path is the recording's path inside Config.Dir. It stays good for Open, Export and Verify when
// the recording is sealed.
func (w *Recording) Path() string { return w.path }

// Failed is closed at the first error of a write or of the background sync.
func (w *Recording) Failed() <-chan struct{} { return w.failed }

// OnFail has f called, in a goroutine of its own, when Failed is closed. Only the last f is.
func (w *Recording) OnFail(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.firstErr != nil {
		go f()
		return
	}
	w.onFail = f
}

// Err is the first error of a write or of the background sync.
func (w *Recording) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.firstErr
}

// Truncated tells whether the limit was reached.
func (w *Recording) Truncated() bool { return w.truncated.Load() }

// Close ends the recording and seals it. On an error the asciicast stays as it is, for Recover.
// Errors of earlier writes are not repeated: see Err and Summary.Lost.
func (w *Recording) Close() (Summary, error) {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		<-w.done
		return w.sum, w.closeErr
	}
	w.closed = true
	w.sum.Path = w.place.packed()
	w.sum.SHA256 = hex.EncodeToString(w.hash.Sum(nil))
	if w.beyond != nil {
		w.sum.BLAKE3 = hex.EncodeToString(w.beyond.Sum(nil))
	}
	w.sum.Truncated = w.truncated.Load()
	w.sum.Duration = time.Duration(w.micros()) * time.Microsecond
	w.closePart()
	w.synced.Broadcast()
	w.tellFollowers()
	w.mu.Unlock()

	defer close(w.done)
	err := w.seal()
	if err != nil {
		w.closeErr = fmt.Errorf("sealing %s: %w", w.path, err)
	}
	w.r.mu.Lock()
	delete(w.r.active, w.place.base)
	w.r.mu.Unlock()
	w.f.Close()
	if err == nil && w.r.cfg.OnSealed != nil {
		w.r.cfg.OnSealed(w.sum)
	}
	return w.sum, w.closeErr
}

// seal packs what is left, and takes the asciicast away. On an error that is at least on the disk.
func (w *Recording) seal() error {
	w.packMu.Lock()
	defer w.packMu.Unlock()
	defer w.packer.hold()()
	err := w.packLocked()
	if err == nil {
		err = w.packer.seal(endRecord{
			Duration: w.sum.Duration.Microseconds(), Kept: w.sum.Kept, Counted: w.sum.Counted, Lost: w.sum.Lost,
			Input: w.sum.Input, SHA256: w.sum.SHA256, BLAKE3: w.sum.BLAKE3, Truncated: w.sum.Truncated,
		})
	}
	if err != nil {
		return errors.Join(err, w.syncFile())
	}
	w.sum.Root, w.sum.Bytes, w.sum.Packed, w.sum.Parts = w.packer.chain.String(), w.packer.end.offset, w.packer.packed, w.packer.parts
	return nil
}

// abandon is Close for a Recorder that is closed first.
func (w *Recording) abandon() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	w.closed, w.abandoned = true, true
	w.closeErr = ErrClosed
	w.fail(ErrClosed)
	w.tellFollowers()
	close(w.done)
}
