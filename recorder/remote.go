package recorder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"sallyport/recorder/blob"
)

// Names of the objects of a recording, below the path of its files without suffix:
//
//	part-000001.zst … the frames of the parts, each as it stands in the packed file
//	index             the index as far as it goes, with its end when the recording is sealed
//	index.pending     the same as far as it had come when the node was lost, sealed by another node
const (
	remoteIndexName   = "/index"
	remotePendingName = "/index.pending"
)

func (p place) remotePart(n int) string { return fmt.Sprintf("%s/part-%06d.zst", p.base, n) }
func (p place) remoteIndex() string     { return p.base + remoteIndexName }
func (p place) remotePending() string   { return p.base + remotePendingName }

// maxRemoteIndex bounds what is read of an index in the store: 30 days of parts of 30 seconds.
const maxRemoteIndex = 64 << 20

// errNoStore stands for a recording that is neither here nor, since there is none, in the store.
var errNoStore = fmt.Errorf("%w on this node, and it has no store that all nodes share", os.ErrNotExist)

// remoteIndex reads the index of a recording in the store: the one with an end if there is one, else
// the one that goes further.
func (r *Recorder) remoteIndex(ctx context.Context, where place) ([]byte, error) {
	index, err := r.fetch(ctx, where.remoteIndex())
	if err == nil && hasEnd(index) {
		return index, nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	pending, notPending := r.fetch(ctx, where.remotePending())
	if errors.Is(notPending, os.ErrNotExist) {
		return index, err
	}
	if notPending == nil && bytes.Count(index, []byte("\n")) >= bytes.Count(pending, []byte("\n")) {
		return index, nil // the node was not lost, and has gone on
	}
	return pending, notPending
}

// hasEnd tells whether the last line of an index is its end.
func hasEnd(index []byte) bool {
	last := bytes.TrimSuffix(index, []byte("\n"))
	return bytes.HasPrefix(last[bytes.LastIndexByte(last, '\n')+1:], []byte(`{"end":`))
}

// fetch reads a small object; os.ErrNotExist if there is none.
func (r *Recorder) fetch(ctx context.Context, key string) ([]byte, error) {
	if r.cfg.Store == nil {
		return nil, errNoStore
	}
	data, err := r.cfg.Store.GetRange(ctx, key, 0, maxRemoteIndex)
	if errors.Is(err, blob.ErrNotFound) {
		return nil, fmt.Errorf("%w: neither here nor in the store as %s", os.ErrNotExist, key)
	}
	return data, err
}

// remotePart reads the frame of a part from the store.
func (r *Recorder) remotePart(ctx context.Context, where place, p partRecord) ([]byte, error) {
	if r.cfg.Store == nil {
		return nil, errNoStore
	}
	packed, err := r.cfg.Store.GetRange(ctx, where.remotePart(p.Part), 0, p.PackedLength+1)
	if errors.Is(err, blob.ErrNotFound) {
		return nil, fmt.Errorf("%w: part %d is not there", ErrDamaged, p.Part)
	}
	if err == nil && int64(len(packed)) > p.PackedLength {
		return nil, fmt.Errorf("%w: part %d is longer than its record says", ErrDamaged, p.Part)
	}
	return packed, err
}

// openRemote reads the asciicast of a recording in the store, one part after the other.
func (r *Recorder) openRemote(where place) (io.ReadCloser, error) {
	index, err := r.remoteIndex(r.ctx, where)
	if err != nil {
		return nil, err
	}
	parts, err := readParts(bytes.NewReader(index))
	if err != nil {
		return nil, err
	}
	if len(parts) > 0 && parts[0].record.Sealed != "" {
		return nil, ErrEncrypted
	}
	return &remoteReader{r: r, where: where, parts: parts}, nil
}

type remoteReader struct {
	r     *Recorder
	where place
	parts []Part // not yet read
	plain []byte // of the last one, not yet read
}

func (s *remoteReader) Close() error { return nil }

func (s *remoteReader) Read(p []byte) (int, error) {
	for len(s.plain) == 0 {
		if len(s.parts) == 0 {
			return 0, io.EOF
		}
		packed, err := s.r.remotePart(s.r.ctx, s.where, s.parts[0].record)
		if err != nil {
			return 0, err
		}
		if s.plain, err = unpackPart(s.parts[0].record, packed); err != nil {
			return 0, err
		}
		s.parts = s.parts[1:]
	}
	n := copy(p, s.plain)
	s.plain = s.plain[n:]
	return n, nil
}

// verifyRemote proves a recording in the store: every object is read.
func (r *Recorder) verifyRemote(ctx context.Context, where place) (walked, error) {
	index, err := r.remoteIndex(ctx, where)
	if err != nil {
		return walked{}, err
	}
	w, err := walkIndex(bytes.NewReader(index), r.signer.Load().ring, func(p partRecord) error {
		packed, err := r.remotePart(ctx, where, p)
		if err != nil {
			return err
		}
		return checkPacked(p, packed)
	})
	if err == nil && (w.report.Session != where.session || w.report.Channel != where.channel) {
		err = fmt.Errorf("%w: it is channel %d of session %q", ErrDamaged, w.report.Channel, w.report.Session)
	}
	return w, err
}

// isHere tells whether a recording is on this node. Of one that goes to the store the index is
// removed first.
func (r *Recorder) isHere(where place) bool {
	for _, name := range []string{where.cast(), where.index()} {
		if _, err := r.root.Lstat(name); err == nil {
			return true
		}
	}
	return false
}

// Here tells whether a recording is on this node, and not only in the store.
func (r *Recorder) Here(path string) bool {
	where, err := parsePath(path)
	return err == nil && r.isHere(where)
}

// remoteBase is the prefix of all objects of a recording.
func (p place) remoteBase() string { return strings.TrimSuffix(p.base, "/") + "/" }

// ErrLocked is the error of deleting what the store has locked. Nothing was deleted then.
var ErrLocked = blob.ErrLocked

// ErrPartlyDeleted is the error of a deletion that has begun, and failed. What is left can be neither proved nor
// replayed; it is to be deleted.
var ErrPartlyDeleted = errors.New("a part of it is deleted already")

// Ships tells whether a recording waits to be brought to the store.
func (r *Recorder) Ships(path string) bool {
	where, err := parsePath(path)
	if err != nil || r.shipper == nil {
		return false
	}
	r.shipper.mu.Lock()
	defer r.shipper.mu.Unlock()
	return r.shipper.waiting[where.base] != nil
}

// Delete deletes a recording, here and in the store. The index in the store goes first: it was locked
// last, so that if it may go all the rest may, too. A recording that is being written is not deleted. After
// ErrPartlyDeleted it is to be tried again; after other errors everything is there.
func (r *Recorder) Delete(ctx context.Context, path string) error {
	where, err := parsePath(path)
	if err != nil {
		return err
	}
	if err := r.delete(ctx, where); err != nil {
		return fmt.Errorf("deleting %s: %w", where.cast(), err)
	}
	return nil
}

func (r *Recorder) delete(ctx context.Context, where place) error {
	r.mu.Lock()
	active := r.active[where.base] != nil
	r.mu.Unlock()
	if active {
		return errors.New("it is being written")
	}
	if r.cfg.Store != nil {
		defer r.shipper.forgo(where)()
		if err := r.deleteRemote(ctx, where); err != nil {
			return err
		}
	}
	begun := r.cfg.Store != nil
	for _, name := range []string{where.screens(), where.screens() + newEnding, where.index(), where.packed(), where.cast()} {
		if err := r.remove(name); err != nil {
			return partly(err, begun)
		}
		begun = begun || name == where.index()
	}
	if err := r.removeBeside(where, true); err != nil {
		return partly(err, true)
	}
	_ = r.root.Remove(where.dir()) // if it was the last of its session
	return nil
}

// removeBeside removes what lies beside the files of a recording: what was made of it, and, if that is
// wanted too, what was found damaged.
func (r *Recorder) removeBeside(where place, damaged bool) error {
	dir, err := r.root.Open(where.dir())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	names, err := dir.Readdirnames(-1)
	if err = errors.Join(err, dir.Close()); err != nil {
		return fmt.Errorf("looking through %s: %w", where.dir(), err)
	}
	begin := path.Base(where.cast()) + "."
	for _, name := range names {
		if !strings.HasPrefix(name, begin) || strings.HasSuffix(name, damagedSuffix) && !damaged {
			continue
		}
		if err := r.remove(where.dir() + "/" + name); err != nil {
			return err
		}
	}
	return nil
}

func (r *Recorder) deleteRemote(ctx context.Context, where place) error {
	for _, key := range []string{where.remoteIndex(), where.remotePending()} {
		if err := r.cfg.Store.Delete(ctx, key); err != nil {
			return partly(err, key != where.remoteIndex())
		}
	}
	objects, err := r.cfg.Store.List(ctx, where.remoteBase())
	if err != nil {
		return partly(err, true)
	}
	for _, o := range objects {
		if err := r.cfg.Store.Delete(ctx, o.Key); err != nil {
			return partly(err, true)
		}
	}
	return nil
}

// partly is the error of a deletion, which had begun or not.
func partly(err error, begun bool) error {
	if begun {
		return fmt.Errorf("%w: %w", ErrPartlyDeleted, err)
	}
	return err
}

// Refuse has Create refuse with err from now on; nil ends it.
func (r *Recorder) Refuse(err error) {
	if err == nil {
		r.refusal.Store(nil)
		return
	}
	r.refusal.Store(&err)
}

// openStored gives the files of a recording in the store.
func (r *Recorder) openStored(where place, e *evidence) error {
	index, err := r.remoteIndex(r.ctx, where)
	if err != nil {
		return err
	}
	parts, err := readParts(bytes.NewReader(index))
	if err != nil {
		return err
	}
	var size int64
	if n := len(parts); n > 0 {
		size = parts[n-1].record.PackedOffset + parts[n-1].Packed
	}
	e.plain = nil
	e.packed = io.NewSectionReader(&remotePacked{r: r, where: where, parts: parts}, 0, size)
	e.index = io.NewSectionReader(bytes.NewReader(index), 0, int64(len(index)))
	return nil
}

// remotePacked is the packed file of a recording in the store. It serves one goroutine.
type remotePacked struct {
	r     *Recorder
	where place
	parts []Part

	have  int // number of the part in frame
	frame []byte
}

// ReadAt implements io.ReaderAt.
func (s *remotePacked) ReadAt(p []byte, offset int64) (int, error) {
	done := 0
	for _, part := range s.parts {
		if done == len(p) {
			break
		}
		begin := offset + int64(done) - part.record.PackedOffset
		if begin < 0 || begin >= part.Packed {
			continue
		}
		if s.have != part.Number {
			frame, err := s.r.remotePart(s.r.ctx, s.where, part.record)
			if err == nil {
				err = checkFrame(part.record, frame)
			}
			if err != nil {
				return done, err
			}
			s.have, s.frame = part.Number, frame
		}
		done += copy(p[done:], s.frame[begin:])
	}
	if done < len(p) {
		return done, io.EOF
	}
	return done, nil
}
