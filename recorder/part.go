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

// packer appends parts to the packed file and the index of one recording. Both files are open
// only while a part is added or the end is written, so that an idle recording holds one descriptor.
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

	held  bool                // what is opened stays open until release
	dir   *os.Root            // the recording's folder; nil: not open
	files map[string]*os.File // of those two, what is open
}

// add packs the part from the end of the last one to c.
func (p *packer) add(c cut) error {
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
		if err := p.write(part, frame, c); err != nil {
			return err
		}
		p.vault.forget(c.offset)
		return nil
	}
	return p.write(part, buf.packed, c)
}

// addTail adds chunks of the open file of an encrypted recording, as they stand, as a part.
func (p *packer) addTail(frame []byte, c cut) error {
	return p.write(partRecord{
		Part: p.parts + 1, Time: p.r.cfg.Now().UnixMilli(), At: p.end.at, Offset: p.end.offset, Length: c.offset - p.end.offset,
		PackedOffset: p.packed, PackedLength: int64(len(frame)), PackedSHA256: sha256.Sum256(frame), Sealed: sealedTail,
	}, frame, c)
}

// write adds a part with its frame, after which the recording goes on at c.
func (p *packer) write(part partRecord, frame []byte, c cut) error {
	defer p.done()
	lines, chain, err := p.lines(indexEntry{Part: &part})
	if err != nil {
		return err
	}
	// The frame first: a line of the index never speaks of bytes that are not there.
	if err := p.writeAt(p.place.packed(), p.packed, frame); err != nil {
		return err
	}
	if err := p.writeAt(p.place.index(), p.index, lines); err != nil {
		return err
	}
	if err := p.done(); err != nil {
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
	defer p.hold()()
	if err := p.writeAt(p.place.index(), p.index, line); err != nil {
		return err
	}
	p.index += int64(len(line))
	p.chain = chain
	if err := p.r.syncSealed(p.sync); err != nil {
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
	defer p.done()
	if err := p.writeAt(p.place.index(), p.index, lines); err != nil {
		return err
	}
	if err := p.done(); err != nil {
		return err
	}
	p.index += int64(len(lines))
	p.chain = chain
	return nil
}

// hold keeps open what is opened, until what it returns is called.
func (p *packer) hold() (release func()) {
	if p.held {
		return func() {}
	}
	p.held = true
	return func() {
		p.held = false
		_ = p.done() // what was written was synced, or is not relied on
	}
}

// done closes what is open, unless it is held.
func (p *packer) done() error {
	if p.held {
		return nil
	}
	var errs []error
	for _, f := range p.files {
		errs = append(errs, f.Close())
	}
	if p.dir != nil {
		errs = append(errs, p.dir.Close())
	}
	p.files, p.dir = nil, nil
	return errors.Join(errs...)
}

// writeAt is that of the Recorder for one of the two files, which stays open until done.
func (p *packer) writeAt(name string, offset int64, data []byte) (err error) {
	f := p.files[name]
	if f == nil {
		if p.dir == nil {
			if p.dir, err = p.r.openDir(p.place); err != nil {
				return err
			}
			p.files = make(map[string]*os.File, 2)
		}
		if f, err = p.r.openIn(p.dir, name); err != nil {
			return err
		}
		p.files[name] = f
	}
	return p.r.writeOpen(f, name, offset, data)
}

// sync brings the packed file, the index and the entries that lead to them to the disk.
func (p *packer) sync() error {
	for _, name := range []string{p.place.packed(), p.place.index()} {
		f := p.files[name]
		if f == nil {
			if err := p.r.syncPath(name); err != nil {
				return err
			}
			continue
		}
		if err := p.r.fault("sync", name); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return fmt.Errorf("syncing %s: %w", name, err)
		}
	}
	return p.r.syncDirs(p.place)
}

// writeAt puts data at the offset of a file in a recording's folder and cuts off what follows: it
// may be the rest of an attempt that failed.
func (r *Recorder) writeAt(dir *os.Root, name string, offset int64, data []byte) error {
	f, err := r.openIn(dir, name)
	if err != nil {
		return err
	}
	err = r.writeOpen(f, name, offset, data)
	return errors.Join(err, f.Close())
}

// openIn opens a file of a recording in its folder for writing.
func (r *Recorder) openIn(dir *os.Root, name string) (*os.File, error) {
	if err := r.fault("open", name); err != nil {
		return nil, err
	}
	f, err := dir.OpenFile(path.Base(name), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", name, err)
	}
	return f, nil
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
