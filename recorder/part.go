package recorder

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"

	"github.com/klauspost/compress/zstd"
)

// maxPart bounds a part on reading: a part is closed at the first event that reaches the part size.
const maxPart = maxPartSize + maxLine

// newEncoder makes the encoder that all recordings share. It has no state between frames.
func newEncoder() (*zstd.Encoder, error) {
	return zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderConcurrency(2),
		zstd.WithWindowSize(512<<10),
		zstd.WithLowerEncoderMem(true),
		zstd.WithEncoderCRC(true))
}

// partBuffers are lent to whoever packs a part.
type partBuffers struct {
	plain, packed []byte
}

// cut is the end of a part: its offset in the asciicast, and the time of the last event before it
// in microseconds.
type cut struct {
	offset int64
	at     int64
}

// packer appends parts to the packed file and the index of one recording. Both files are opened
// only while a part is added, so that an idle recording holds one descriptor.
type packer struct {
	r      *Recorder
	place  place
	plain  io.ReaderAt // the asciicast
	parts  int
	end    cut   // of the last part
	packed int64 // size of the packed file
	index  int64 // size of the index
	chain  digest

	encrypted bool
	vault     *vault // of an encrypted recording that is being written
}

// add packs the part from the end of the last one to c.
func (p *packer) add(c cut) error {
	dir, err := p.r.root.OpenRoot(p.place.dir())
	if err != nil {
		return fmt.Errorf("opening folder %s: %w", p.place.dir(), err)
	}
	defer dir.Close()
	buf := p.r.parts.Get().(*partBuffers)
	defer p.r.parts.Put(buf)

	length := c.offset - p.end.offset
	buf.plain = slices.Grow(buf.plain[:0], int(length))[:length]
	if _, err := p.plain.ReadAt(buf.plain, p.end.offset); err != nil {
		return fmt.Errorf("reading %s to pack it: %w", p.place.cast(), err)
	}
	buf.packed = p.r.encoder.EncodeAll(buf.plain, buf.packed[:0])
	part := partRecord{
		Part: p.parts + 1, Time: p.r.cfg.Now().UnixMilli(), At: p.end.at,
		Offset: p.end.offset, Length: length, SHA256: sha256.Sum256(buf.plain),
		PackedOffset: p.packed, PackedLength: int64(len(buf.packed)), PackedSHA256: sha256.Sum256(buf.packed),
	}
	if p.vault != nil {
		frame, err := p.vault.encrypt(buf.packed)
		if err != nil {
			return err
		}
		part.PackedLength, part.PackedSHA256 = int64(len(frame)), sha256.Sum256(frame)
		part.SHA256, part.Sealed = digest{}, sealedAge
		if err := p.write(dir, part, frame, c); err != nil {
			return err
		}
		p.vault.forget(c.offset)
		return nil
	}
	return p.write(dir, part, buf.packed, c)
}

// addTail adds chunks of the open file of an encrypted recording, as they stand, as a part.
func (p *packer) addTail(dir *os.Root, frame []byte, c cut) error {
	return p.write(dir, partRecord{
		Part: p.parts + 1, Time: p.r.cfg.Now().UnixMilli(), At: p.end.at, Offset: p.end.offset, Length: c.offset - p.end.offset,
		PackedOffset: p.packed, PackedLength: int64(len(frame)), PackedSHA256: sha256.Sum256(frame), Sealed: sealedTail,
	}, frame, c)
}

// write adds a part with its frame, after which the recording goes on at c.
func (p *packer) write(dir *os.Root, part partRecord, frame []byte, c cut) error {
	lines, chain, err := p.lines(indexEntry{Part: &part})
	if err != nil {
		return err
	}
	// The frame first: a line of the index never speaks of bytes that are not there.
	if err := p.r.writeAt(dir, p.place.packed(), p.packed, frame); err != nil {
		return err
	}
	if err := p.r.writeAt(dir, p.place.index(), p.index, lines); err != nil {
		return err
	}
	p.parts++
	p.end = c
	p.packed += int64(len(frame))
	p.index += int64(len(lines))
	p.chain = chain
	p.r.ship(p.place)
	return nil
}

// lines is what the index gets for an entry: its line, and before the first one the head.
func (p *packer) lines(e indexEntry) ([]byte, digest, error) {
	var head []byte
	chain := p.chain
	if p.index == 0 {
		var err error
		head, chain, err = headLine(indexHead{Index: indexVersion, Session: p.place.session, Channel: p.place.channel, Node: p.r.cfg.Node, Encrypted: p.encrypted})
		if err != nil {
			return nil, digest{}, err
		}
	}
	line, chain, err := signedLine(e, chain, p.r.signer.Load().private)
	return append(head, line...), chain, err
}

// seal writes the end, brings everything to the disk and only then removes the asciicast.
func (p *packer) seal(e endRecord) error {
	e.Parts, e.Bytes, e.Packed, e.Time = p.parts, p.end.offset, p.packed, p.r.cfg.Now().UnixMilli()
	line, chain, err := p.lines(indexEntry{End: &e})
	if err != nil {
		return err
	}
	dir, err := p.r.root.OpenRoot(p.place.dir())
	if err != nil {
		return fmt.Errorf("opening folder %s: %w", p.place.dir(), err)
	}
	defer dir.Close()
	if err := p.r.writeAt(dir, p.place.index(), p.index, line); err != nil {
		return err
	}
	p.index += int64(len(line))
	p.chain = chain
	if err := p.r.syncSealed(p.place); err != nil {
		return err
	}
	if err := p.r.remove(p.place.cast()); err != nil {
		return err
	}
	p.r.ship(p.place)
	return nil
}

// append adds an entry to the index.
func (p *packer) append(e indexEntry) error {
	lines, chain, err := p.lines(e)
	if err != nil {
		return err
	}
	dir, err := p.r.root.OpenRoot(p.place.dir())
	if err != nil {
		return fmt.Errorf("opening folder %s: %w", p.place.dir(), err)
	}
	defer dir.Close()
	if err := p.r.writeAt(dir, p.place.index(), p.index, lines); err != nil {
		return err
	}
	p.index += int64(len(lines))
	p.chain = chain
	return nil
}

// writeAt puts data at the offset of a file in a recording's folder and cuts off what follows: it
// may be the rest of an attempt that failed.
func (r *Recorder) writeAt(dir *os.Root, name string, offset int64, data []byte) error {
	if err := r.fault("open", name); err != nil {
		return err
	}
	f, err := dir.OpenFile(path.Base(name), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("opening %s: %w", name, err)
	}
	err = r.writeOpen(f, name, offset, data)
	return errors.Join(err, f.Close())
}

func (r *Recorder) writeOpen(f *os.File, name string, offset int64, data []byte) error {
	st, err := f.Stat()
	if err != nil {
		return fmt.Errorf("looking at %s: %w", name, err)
	}
	if st.Size() < offset {
		return fmt.Errorf("writing %s: it has %d bytes where %d were written", name, st.Size(), offset)
	}
	if st.Size() > offset {
		if err := r.fault("truncate", name); err != nil {
			return err
		}
		if err := f.Truncate(offset); err != nil {
			return fmt.Errorf("truncating %s: %w", name, err)
		}
	}
	if err := r.fault("write", name); err != nil {
		return err
	}
	if _, err := f.WriteAt(data, offset); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return nil
}

func (r *Recorder) remove(name string) error {
	if err := r.fault("remove", name); err != nil {
		return err
	}
	if err := r.root.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing %s: %w", name, err)
	}
	return nil
}
