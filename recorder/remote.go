package recorder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
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
	w, err := walkIndex(bytes.NewReader(index), r.trusted, func(p partRecord) error {
		packed, err := r.remotePart(ctx, where, p)
		if err != nil {
			return err
		}
		_, err = unpackPart(p, packed)
		return err
	})
	if err == nil && (w.report.Session != where.session || w.report.Channel != where.channel) {
		err = fmt.Errorf("%w: it is channel %d of session %q", ErrDamaged, w.report.Channel, w.report.Session)
	}
	return w, err
}

// isHere tells whether any file of a recording is on this node.
func (r *Recorder) isHere(where place) bool {
	for _, name := range []string{where.cast(), where.packed(), where.index()} {
		if _, err := r.root.Lstat(name); err == nil {
			return true
		}
	}
	return false
}

// Here tells whether any file of a recording is on this node.
func (r *Recorder) Here(path string) bool {
	where, err := parsePath(path)
	return err == nil && r.isHere(where)
}

// remoteBase is the prefix of all objects of a recording.
func (p place) remoteBase() string { return strings.TrimSuffix(p.base, "/") + "/" }
