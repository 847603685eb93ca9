package recorder

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Part is a run of whole lines of a recording that can be read by itself.
type Part struct {
	Number int           // from 1
	At     time.Duration // time of the last event before the part: where a player that starts here is
	Offset int64         // in the asciicast, bytes
	Length int64         // bytes
	Packed int64         // bytes of it where it is packed; 0 = it is still being written, and may be longer next time

	record partRecord
}

// Parts lists the parts of a recording in order, whether it is open, sealed, here or in the store.
// What is written and not yet packed is the last one, with Packed 0; of another node's open recording
// that is not to be had. Nothing is verified here.
func (r *Recorder) Parts(ctx context.Context, path string) ([]Part, error) {
	where, err := parsePath(path)
	if err != nil {
		return nil, err
	}
	parts, err := r.listParts(ctx, where)
	if err != nil {
		return nil, fmt.Errorf("listing the parts of %s: %w", where.cast(), err)
	}
	return parts, nil
}

func (r *Recorder) listParts(ctx context.Context, where place) ([]Part, error) {
	size, err := r.castSize(where)
	if err != nil {
		return nil, err
	}
	index, err := r.openFile(where.index(), os.O_RDONLY)
	switch {
	case errors.Is(err, os.ErrNotExist) && size == 0:
		text, err := r.remoteIndex(ctx, where)
		if err != nil {
			return nil, err
		}
		return readParts(bytes.NewReader(text))
	case errors.Is(err, os.ErrNotExist):
		return []Part{{Number: 1, Length: size}}, nil
	case err != nil:
		return nil, err
	}
	defer index.Close()
	parts, err := readParts(index)
	if err != nil {
		return nil, err
	}
	return r.addOpen(ctx, where, parts, size)
}

// castSize is the number of bytes of whole events in the asciicast, 0 if there is none.
func (r *Recorder) castSize(where place) (int64, error) {
	r.mu.Lock()
	w := r.active[where.base]
	r.mu.Unlock()
	if w != nil {
		size, _, _ := w.watch()
		return size, nil
	}
	f, err := r.openFile(where.cast(), os.O_RDONLY)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return plainSize(io.NewSectionReader(f, 0, st.Size()))
}

// addOpen adds what is not packed yet.
func (r *Recorder) addOpen(ctx context.Context, where place, parts []Part, size int64) ([]Part, error) {
	open := Part{Number: len(parts) + 1}
	if n := len(parts); n > 0 {
		last := parts[n-1]
		if open.Offset = last.Offset + last.Length; size <= open.Offset {
			return parts, nil
		}
		plain, err := r.readPart(ctx, where, last)
		if err != nil && !errors.Is(err, ErrEncrypted) {
			return nil, err
		}
		open.At = last.At + span(plain) // of an encrypted one nobody here knows more
	}
	open.Length = size - open.Offset
	return append(parts, open), nil
}

// span is the time from before the first to the last event of a part.
func span(plain []byte) time.Duration {
	var micros int64
	for line := range bytes.Lines(plain) {
		if e, err := parseEvent(bytes.TrimSuffix(line, []byte("\n"))); err == nil {
			micros = addMicros(micros, e.micros)
		}
	}
	return time.Duration(micros) * time.Microsecond
}

// readParts takes the parts out of an index without verifying it.
func readParts(index io.Reader) ([]Part, error) {
	var parts []Part
	lines := bufio.NewReaderSize(index, maxIndexLine)
	for {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			return parts, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%w: its index cannot be read: %w", ErrDamaged, err)
		}
		var e indexEntry
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("%w: a line of its index is not JSON", ErrDamaged)
		}
		if e.Part == nil {
			continue
		}
		p := *e.Part
		if p.Part != len(parts)+1 || !p.sane() {
			return nil, fmt.Errorf("%w: part %d of its index does not follow the one before", ErrDamaged, p.Part)
		}
		parts = append(parts, Part{
			Number: p.Part, At: time.Duration(p.At) * time.Microsecond, Offset: p.Offset, Length: p.Length, Packed: p.PackedLength, record: p,
		})
	}
}

// sane tells whether the lengths of a part are those that a recorder would write.
func (p partRecord) sane() bool {
	return p.Offset >= 0 && p.PackedOffset >= 0 && p.Length > 0 && p.Length <= maxPart && p.PackedLength > 0 && p.PackedLength <= 2*maxPart
}

// ReadPart returns the whole lines of the asciicast in a part that Parts has listed. Of a packed one
// the hashes in the index are compared, and ErrDamaged is the error if they differ. Of one that is
// still being written more may come than Parts said.
func (r *Recorder) ReadPart(ctx context.Context, path string, part Part) ([]byte, error) {
	where, err := parsePath(path)
	if err != nil {
		return nil, err
	}
	plain, err := r.readPart(ctx, where, part)
	if err != nil {
		return nil, fmt.Errorf("reading part %d of %s: %w", part.Number, where.cast(), err)
	}
	return plain, nil
}

func (r *Recorder) readPart(ctx context.Context, where place, part Part) ([]byte, error) {
	if part.Packed == 0 {
		plain, err := r.readOpen(where, part)
		if !errors.Is(err, os.ErrNotExist) {
			return plain, err
		}
		// It was packed in the meantime, alone or in several pieces.
		parts, err := r.listParts(ctx, where)
		if err != nil {
			return nil, err
		}
		var all []byte
		for _, p := range parts {
			if p.Offset < part.Offset || p.Packed == 0 {
				continue
			}
			more, err := r.readPart(ctx, where, p)
			if err != nil {
				return nil, err
			}
			all = append(all, more...)
		}
		return all, nil
	}
	packed, err := r.readPacked(ctx, where, part.record)
	if err != nil {
		return nil, err
	}
	return unpackPart(part.record, packed)
}

// readOpen reads what was not packed when Parts looked.
func (r *Recorder) readOpen(where place, part Part) ([]byte, error) {
	size, err := r.castSize(where)
	if err != nil {
		return nil, err
	}
	f, err := r.openFile(where.cast(), os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if isVault(f) {
		return nil, ErrEncrypted
	}
	// More than a few parts wait only while packing fails; whoever reads then reads in pieces.
	plain, err := readPart(f, part.Offset, min(max(size-part.Offset, 0), 8*maxPart), nil)
	if err != nil {
		return nil, err
	}
	return plain[:bytes.LastIndexByte(plain, '\n')+1], nil
}

// readPacked returns the frame of a part from the local file, or else from the store.
func (r *Recorder) readPacked(ctx context.Context, where place, p partRecord) ([]byte, error) {
	f, err := r.openFile(where.packed(), os.O_RDONLY)
	if errors.Is(err, os.ErrNotExist) {
		return r.remotePart(ctx, where, p)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readPart(f, p.PackedOffset, p.PackedLength, nil)
}

// unpackPart returns the bytes of a part from its frame, compared with its record.
func unpackPart(p partRecord, packed []byte) ([]byte, error) {
	if err := checkFrame(p, packed); err != nil {
		return nil, err
	}
	if p.Sealed != "" {
		return nil, ErrEncrypted
	}
	check := &partCheck{packed: at{packed, p.PackedOffset}}
	return check.unpack(p)
}

// checkFrame compares the frame of a part with its record.
func checkFrame(p partRecord, packed []byte) error {
	if int64(len(packed)) != p.PackedLength || sha256.Sum256(packed) != p.PackedSHA256 {
		return fmt.Errorf("%w: part %d was altered where it is packed", ErrDamaged, p.Part)
	}
	return nil
}

// checkPacked is checkFrame, and what is in the frame is compared, too, if this node can read it.
func checkPacked(p partRecord, packed []byte) error {
	if _, err := unpackPart(p, packed); !errors.Is(err, ErrEncrypted) {
		return err
	}
	return nil
}

// at is bytes that stand at an offset.
type at struct {
	bytes  []byte
	offset int64
}

func (a at) ReadAt(p []byte, offset int64) (int, error) {
	return bytes.NewReader(a.bytes).ReadAt(p, offset-a.offset)
}
