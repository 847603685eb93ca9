package recorder

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// ErrNothingStored is returned for a recording of which nothing has reached the store.
var ErrNothingStored = errors.New("nothing of the recording has reached the store")

// PendingSeal is what a node has sealed of a recording whose own node is lost.
type PendingSeal struct {
	Line    []byte // the end as it stands in the index, without newline: the node that comes back needs it
	Summary Summary
	Sealed  bool // the lost node had finished it itself: there is nothing to wait for, and Line is empty
}

// SealPending seals what has reached the store of a recording that another node was writing, in the
// name of this one: the parts are proved, and the index with an end that says that the tail is
// pending goes to the store beside the other. ErrNothingStored if there is nothing to seal. Of two
// nodes that do it the later one counts; let one do it.
func (r *Recorder) SealPending(ctx context.Context, path string) (PendingSeal, error) {
	where, err := parsePath(path)
	if err != nil {
		return PendingSeal{}, err
	}
	p, err := r.sealPending(ctx, where)
	if err != nil {
		return p, fmt.Errorf("sealing what has reached the store of %s: %w", where.cast(), err)
	}
	return p, nil
}

func (r *Recorder) sealPending(ctx context.Context, where place) (PendingSeal, error) {
	index, err := r.fetch(ctx, where.remoteIndex())
	if errors.Is(err, os.ErrNotExist) {
		return PendingSeal{}, ErrNothingStored
	}
	if err != nil {
		return PendingSeal{}, err
	}
	var plain bytes.Buffer // of one part, and what the part before left of a line
	t := newTally()
	at := int64(0)
	w, err := walkIndex(bytes.NewReader(index), r.signer.Load().ring, func(p partRecord) error {
		packed, err := r.remotePart(ctx, where, p)
		if err != nil {
			return err
		}
		text, err := unpackPart(p, packed)
		if errors.Is(err, ErrEncrypted) { // it is proved, and what is in it only its recipients know
			at = p.At
			return nil
		}
		if err != nil {
			return err
		}
		plain.Reset()
		if p.Part > 1 { // a Reader wants a header
			plain.WriteString(headerOfNothing)
		}
		plain.Write(text)
		at, err = t.part(&plain, at)
		return err
	})
	if err != nil {
		return PendingSeal{}, err
	}
	if w.report.Session != where.session || w.report.Channel != where.channel {
		return PendingSeal{}, fmt.Errorf("%w: it is channel %d of session %q", ErrDamaged, w.report.Channel, w.report.Session)
	}
	if w.end != nil {
		sum := w.report.Summary
		sum.Path, sum.Root = where.packed(), w.report.Root
		return PendingSeal{Summary: sum, Sealed: true}, nil
	}
	if len(w.parts) == 0 {
		return PendingSeal{}, ErrNothingStored
	}
	sum := t.summary(at)
	if w.report.Encrypted {
		sum = Summary{Duration: sum.Duration}
	}
	end := endRecord{
		Parts: len(w.parts), Time: r.cfg.Now().UnixMilli(), Bytes: w.report.Proved, Packed: w.packed,
		Duration: sum.Duration.Microseconds(), Kept: sum.Kept, Counted: sum.Counted, Lost: sum.Lost, Input: sum.Input, SHA256: sum.SHA256,
		Truncated: sum.Truncated, Recovered: true, Pending: true,
	}
	line, chain, err := signedLine(indexEntry{End: &end}, w.chain, r.signer.Load().private)
	if err != nil {
		return PendingSeal{}, err
	}
	if err := r.cfg.Store.Put(ctx, where.remotePending(), append(index[:w.size:w.size], line...), true); err != nil {
		return PendingSeal{}, err
	}
	sum.Path, sum.Root, sum.Bytes, sum.Packed, sum.Parts = where.packed(), chain.String(), end.Bytes, end.Packed, end.Parts
	return PendingSeal{Line: bytes.TrimSuffix(line, []byte("\n")), Summary: sum}, nil
}

// headerOfNothing stands before the events of a part that is read by itself.
const headerOfNothing = `{"version":3,"term":{"cols":80,"rows":24}}` + "\n"

// part counts the events of a part that begins at the given time, and returns when it ends. Parts
// hold whole events.
func (t *tally) part(src io.Reader, at int64) (int64, error) {
	reader, err := newReader(io.NopCloser(src))
	if err != nil {
		return at, err
	}
	for {
		e, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return addMicros(at, reader.at), nil
		}
		if err != nil {
			return at, err
		}
		t.count(e)
	}
}

// pendingOf is the end that another node signed while this one was away, nil if none did.
func (r *Recorder) pendingOf(ctx context.Context, where place) (*pendingRecord, error) {
	if r.cfg.Pending == nil {
		return nil, nil
	}
	line, err := r.cfg.Pending(ctx, where.session, where.channel)
	if err != nil || len(line) == 0 {
		return nil, err
	}
	var e indexEntry
	if err := json.Unmarshal(line, &e); err != nil || e.End == nil || e.Chain == nil || !e.End.Pending || e.End.Parts < 1 {
		return nil, fmt.Errorf("%w: the seal of another node is not one", ErrDamaged)
	}
	return &pendingRecord{End: *e.End, Chain: *e.Chain, Key: e.Key, Sig: e.Sig}, nil
}

// fetchMissing brings parts back that have reached the store, and not the disk of this node before
// its power was cut.
func (r *Recorder) fetchMissing(ctx context.Context, where place, pending pendingRecord) error {
	index, err := r.readIndex(where)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	var here walked
	if len(index) > 0 {
		check := &partCheck{}
		packed, err := r.openFile(where.packed(), os.O_RDONLY)
		if err == nil {
			defer packed.Close()
			check.packed = packed
		} else if !errors.Is(err, os.ErrNotExist) {
			return err
		}
		here, _ = walkIndex(bytes.NewReader(index), r.signer.Load().ring, check.part) // as far as it is right
	}
	if len(here.parts) >= pending.End.Parts {
		return nil
	}
	text, err := r.fetch(ctx, where.remotePending())
	if err != nil {
		return err
	}
	return r.restore(ctx, where, text, here)
}

// restore writes the parts of an index in the store that are not here behind those that are.
func (r *Recorder) restore(ctx context.Context, where place, text []byte, here walked) error {
	var frames []byte
	there, err := walkIndex(bytes.NewReader(text), r.signer.Load().ring, func(p partRecord) error {
		if p.Part <= len(here.parts) {
			return nil
		}
		packed, err := r.remotePart(ctx, where, p)
		if err != nil {
			return err
		}
		if err := checkPacked(p, packed); err != nil {
			return err
		}
		frames = append(frames, packed...)
		return nil
	})
	if err != nil {
		return err
	}
	if n := len(here.parts); n > 0 && (n > len(there.heads) || there.heads[n-1] != here.heads[n-1]) {
		return fmt.Errorf("%w: what is in the store is not what this node wrote there", ErrDamaged)
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	lines = lines[:len(there.parts)+1] // the head and the parts, without the end of the other node
	dir, err := r.openDir(where)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := r.writeAt(dir, where.packed(), here.packed, frames); err != nil {
		return err
	}
	return r.writeAt(dir, where.index(), 0, slices.Concat(lines...))
}
