package recorder

import (
	"errors"
	"fmt"
	"io"
	"time"
)

// finishEncrypted completes an encrypted recording that this node cannot read: the chunks that are not in a
// packed part become parts as they stand, and the end is signed over them.
func (m *remains) finishEncrypted() (Summary, int64, error) {
	head, err := readVaultHead(m.cast)
	if errors.Is(err, errTorn) && m.packed.report.Proved == 0 {
		return Summary{}, 0, errors.Join(errNothing, m.r.remove(m.where.cast()))
	}
	if err != nil {
		return Summary{}, 0, err
	}
	var chunks []chunk
	whole, plain, err := walkVault(m.cast, int64(len(head)), 0, func(c chunk) error { chunks = append(chunks, c); return nil })
	if errors.Is(err, ErrDamaged) {
		m.damage = errors.Join(m.damage, err)
	} else if err != nil {
		return Summary{}, 0, err
	}
	if len(chunks) == 0 && m.packed.report.Proved == 0 {
		return Summary{}, 0, errors.Join(errNothing, m.r.remove(m.where.cast()))
	}
	if m.damage != nil {
		if err := errors.Join(m.r.keepDamaged(m.where.index()), m.r.keepDamaged(m.where.cast())); err != nil {
			return Summary{}, 0, errors.Join(m.damage, err)
		}
	}
	if m.packed.end != nil {
		return m.finishSealedTail(plain)
	}
	p := packer{
		r: m.r, place: m.where, plain: m.cast, parts: len(m.packed.parts), encrypted: true,
		end:    cut{offset: m.packed.report.Proved, at: m.lastAt()},
		packed: m.packed.packed, index: m.packed.size, chain: m.packed.chain,
	}
	if err := p.addChunks(m.cast, head, chunks); err != nil {
		return Summary{}, 0, errors.Join(m.damage, err)
	}
	sum := Summary{Path: m.where.packed(), Duration: time.Duration(p.end.at) * time.Microsecond}
	torn := m.castSize - whole
	if err := m.witness(&p); err != nil {
		return sum, torn, errors.Join(m.damage, err)
	}
	err = p.seal(endRecord{Duration: p.end.at, Recovered: true, Torn: torn})
	if err == nil {
		sum.Root, sum.Bytes, sum.Packed, sum.Parts = p.chain.String(), p.end.offset, p.packed, p.parts
	}
	return sum, torn, errors.Join(m.damage, err)
}

// lastAt is the time of the last event that is known without reading the recording, in microseconds.
func (m *remains) lastAt() int64 {
	if n := len(m.packed.parts); n > 0 {
		return m.packed.parts[n-1].At
	}
	return 0
}

// addChunks makes parts of the chunks that stand behind the packed ones.
func (p *packer) addChunks(src io.ReaderAt, head []byte, chunks []chunk) error {
	for len(chunks) > 0 {
		if chunks[0].offset < p.end.offset { // it is in a packed part
			chunks = chunks[1:]
			continue
		}
		frame := append([]byte(nil), head...)
		end := p.end
		for len(chunks) > 0 && (end == p.end || end.offset-p.end.offset < p.r.cfg.PartSize) {
			c := chunks[0]
			at := len(frame)
			frame = append(frame, make([]byte, c.size)...)
			if _, err := src.ReadAt(frame[at:], c.at); err != nil {
				return fmt.Errorf("reading %s to pack it: %w", p.place.cast(), err)
			}
			end.offset = c.offset + c.length
			chunks = chunks[1:]
		}
		if err := p.addTail(frame, end); err != nil {
			return err
		}
	}
	return nil
}

// finishSealedTail ends the work of a process that died between sealing and removing the open file.
func (m *remains) finishSealedTail(plain int64) (Summary, int64, error) {
	sum := m.packed.report.Summary
	sum.Path, sum.Root = m.where.packed(), m.packed.report.Root
	if plain != m.packed.end.Bytes {
		m.damage = errors.Join(m.damage, fmt.Errorf("%w: the open file does not end where its signed parts do", ErrDamaged))
		if err := m.r.keepDamaged(m.where.cast()); err != nil {
			return sum, m.packed.end.Torn, errors.Join(m.damage, err)
		}
	}
	err := m.r.syncSealed((&packer{r: m.r, place: m.where}).sync)
	if err == nil {
		err = m.r.remove(m.where.cast())
	}
	if err == nil {
		m.r.ship(m.where)
	}
	return sum, m.packed.end.Torn, errors.Join(m.damage, err)
}
