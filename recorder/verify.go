package recorder

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
)

// Report tells what Verify could prove.
type Report struct {
	Session   string
	Channel   int
	Node      string   // that recorded
	Sealed    bool     // the recording has its end
	Encrypted bool     // only its recipients can read it
	Recovered bool     // the end was made by Recover, not by the process that recorded
	Pending   bool     // the end was made by another node for what had reached the store: the tail is still missing
	Witnessed int      // parts that another node had sealed before the recording was finished
	Bytes     int64    // bytes of asciicast
	Proved    int64    // bytes of asciicast proved by signatures
	Parts     int      // parts proved
	Keys      []KeyUse // who signed
	Root      string   // hex, the last signed head of the chain
	Summary   Summary  // what the signed end says; its Path is empty
}

// KeyUse is a key, by KeyID, and the number of heads of the chain it signed.
type KeyUse struct {
	ID    string
	Heads int
}

// Complete tells whether the recording has ended and every byte of it is proved.
func (r Report) Complete() bool { return r.Sealed && !r.Pending && r.Proved == r.Bytes }

// Verify proves a recording with this node's key and the trusted ones. The error is ErrDamaged or
// ErrUnknownKey if something is wrong; the Report then tells what was proved before. A recording
// that is not sealed gives no error but is not Complete: its last part has no signature yet.
func (r *Recorder) Verify(path string) (Report, error) {
	where, err := parsePath(path)
	if err != nil {
		return Report{}, err
	}
	report, err := r.verify(where)
	if err != nil {
		return report, fmt.Errorf("verifying %s: %w", where.cast(), err)
	}
	return report, nil
}

func (r *Recorder) verify(where place) (Report, error) {
	if r.cfg.Store != nil && !r.isHere(where) {
		w, err := r.verifyRemote(r.ctx, where)
		return w.report, err
	}
	var files evidence
	defer files.close()
	// In this order: what is sealed meanwhile is found in the files that come later.
	for _, f := range []struct {
		name string
		to   **io.SectionReader
	}{{where.cast(), &files.plain}, {where.packed(), &files.packed}, {where.index(), &files.index}} {
		if err := files.open(r, f.name, f.to); err != nil {
			return Report{}, err
		}
	}
	// The index of a recording that is being written exists a moment before its first line does.
	if files.index == nil && r.cfg.Store != nil && !r.isHere(where) { // it went to the store a moment ago
		w, err := r.verifyRemote(r.ctx, where)
		return w.report, err
	}
	if files.index == nil || files.index.Size() == 0 && files.plain != nil {
		return noIndex(files.plain, where)
	}
	report, err := files.verify(r.signer.Load().ring)
	if err == nil && (report.Session != where.session || report.Channel != where.channel) {
		err = fmt.Errorf("%w: it is channel %d of session %q", ErrDamaged, report.Channel, report.Session)
	}
	return report, err
}

// noIndex is the Report on a recording of which no part is packed yet.
func noIndex(plain *io.SectionReader, where place) (Report, error) {
	if plain == nil {
		return Report{}, fmt.Errorf("%w: it has no index", ErrDamaged)
	}
	size, err := plainSize(plain)
	if err != nil {
		return Report{}, err
	}
	return Report{Session: where.session, Channel: where.channel, Bytes: size, Encrypted: isVault(plain)}, nil
}

// VerifyFile proves a file without a Recorder: an asciicast that Export wrote, or a packed
// recording (.cast.zst), or one left behind (.cast), with its index beside it. Errors are as those
// of Verify. Compare the Report's session with the one you mean: a file can be renamed.
func VerifyFile(file string, keys []ed25519.PublicKey) (Report, error) {
	return VerifyFileWith(file, NewKeyring(plainKeys(keys)...))
}

// VerifyFileWith is VerifyFile with keys of which more is known.
func VerifyFileWith(file string, keys Keyring) (Report, error) {
	report, err := verifyFile(file, keys)
	if err != nil {
		return report, fmt.Errorf("verifying %s: %w", file, err)
	}
	return report, nil
}

func verifyFile(file string, keys Keyring) (Report, error) {
	files, err := openEvidence(file)
	if err != nil {
		return Report{}, err
	}
	defer files.close()
	if files.plain != nil && !isVault(files.plain) {
		if embedded, at, err := findProof(files.plain); err != nil || embedded != nil {
			if err != nil {
				return Report{}, err
			}
			return verifyExport(files.plain, embedded, at, keys)
		}
	}
	if files.index == nil {
		return Report{}, fmt.Errorf("%w: there is no proof in it and no %s beside it", ErrDamaged, strings.TrimSuffix(strings.TrimSuffix(file, castSuffix), packedSuffix)+indexSuffix)
	}
	return files.verify(keys)
}

// evidence is the files of one recording. Of plain and packed one may be missing.
type evidence struct {
	plain, packed, index *io.SectionReader
	opened               []*os.File
	archived             string // name of the files in an archive; "": there is none
}

// open opens a file of the folder, if it is there.
func (e *evidence) open(r *Recorder, name string, to **io.SectionReader) error {
	f, err := r.openFile(name, os.O_RDONLY)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return e.take(f, to)
}

func (e *evidence) take(f *os.File, to **io.SectionReader) error {
	e.opened = append(e.opened, f)
	st, err := f.Stat()
	if err == nil {
		*to = io.NewSectionReader(f, 0, st.Size())
	}
	return err
}

// openEvidence opens a file that somebody has, and what lies beside it: a packed recording with its index, an
// open one, an export, or an archive with the files of an encrypted one.
func openEvidence(file string) (*evidence, error) {
	e := &evidence{}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	base, isPacked := strings.CutSuffix(file, packedSuffix)
	archived := false
	if isPacked {
		err = e.take(f, &e.packed)
	} else if err = e.take(f, &e.plain); err == nil {
		base = strings.TrimSuffix(file, castSuffix)
		archived, err = e.unarchive()
	}
	if err == nil && !archived {
		var index *os.File
		if index, err = os.Open(base + indexSuffix); err == nil {
			err = e.take(index, &e.index)
		} else if errors.Is(err, os.ErrNotExist) {
			err = nil
		}
		if packed, perr := os.Open(base + packedSuffix); perr == nil && e.packed == nil && e.index != nil && isVault(e.plain) {
			err = errors.Join(err, e.take(packed, &e.packed)) // the open file of an encrypted recording cannot be held against its parts
		} else if perr == nil {
			packed.Close()
		}
	}
	if err == nil && isPacked && e.index == nil {
		err = fmt.Errorf("%w: there is no %s beside it", ErrDamaged, base+indexSuffix)
	}
	if err != nil {
		e.close()
		return nil, err
	}
	return e, nil
}

func (e *evidence) close() {
	for _, f := range e.opened {
		f.Close()
	}
}

func (e *evidence) verify(keys Keyring) (Report, error) {
	check := &partCheck{}
	if e.plain != nil && !isVault(e.plain) {
		check.plain = e.plain
	}
	if e.packed != nil {
		check.packed = e.packed
	}
	w, err := walkIndex(e.index, keys, check.part)
	report := w.report
	if err == nil && e.archived != "" && e.archived != archiveName(report.Session, report.Channel) {
		err = fmt.Errorf("%w: the archive says %q, and it is channel %d of session %q", ErrDamaged, e.archived, report.Channel, report.Session)
	}
	if err != nil {
		return report, err
	}
	if e.plain != nil {
		size, err := plainSize(e.plain)
		report.Bytes = max(size, report.Proved)
		return report, err
	}
	if !report.Sealed {
		return report, fmt.Errorf("%w: its end is missing", ErrDamaged)
	}
	if e.packed == nil || e.packed.Size() != w.packed {
		return report, fmt.Errorf("%w: its packed file has not the %d bytes that were signed", ErrDamaged, w.packed)
	}
	return report, nil
}

// partCheck compares parts with their records, in the asciicast, in the packed file, or in both.
type partCheck struct {
	plain, packed io.ReaderAt // nil = not there
	decoder       *zstd.Decoder
	buf           partBuffers
}

func (c *partCheck) part(p partRecord) error {
	if p.Sealed != "" {
		return c.sealed(p)
	}
	if c.plain == nil && c.packed == nil {
		return fmt.Errorf("%w: part %d is not there", ErrDamaged, p.Part)
	}
	if c.plain != nil {
		var err error
		if c.buf.plain, err = readPart(c.plain, p.Offset, p.Length, c.buf.plain); err != nil {
			return fmt.Errorf("part %d: %w", p.Part, err)
		}
		if sha256.Sum256(c.buf.plain) != p.SHA256 {
			return fmt.Errorf("%w: part %d was altered", ErrDamaged, p.Part)
		}
	}
	if c.packed != nil {
		_, err := c.unpack(p)
		return err
	}
	return nil
}

// sealed compares an encrypted part with its record as far as that is possible for who cannot read it: not a
// bit of what is there is another one.
func (c *partCheck) sealed(p partRecord) error {
	if c.packed == nil {
		return fmt.Errorf("%w: part %d is not there", ErrDamaged, p.Part)
	}
	var err error
	if c.buf.packed, err = readPart(c.packed, p.PackedOffset, p.PackedLength, c.buf.packed); err != nil {
		return fmt.Errorf("part %d: %w", p.Part, err)
	}
	if sha256.Sum256(c.buf.packed) != p.PackedSHA256 {
		return fmt.Errorf("%w: part %d was altered", ErrDamaged, p.Part)
	}
	return nil
}

// unpack returns the bytes of a part from the packed file, compared with its record.
func (c *partCheck) unpack(p partRecord) ([]byte, error) {
	var err error
	if c.buf.packed, err = readPart(c.packed, p.PackedOffset, p.PackedLength, c.buf.packed); err != nil {
		return nil, fmt.Errorf("part %d: %w", p.Part, err)
	}
	if sha256.Sum256(c.buf.packed) != p.PackedSHA256 {
		return nil, fmt.Errorf("%w: part %d was altered where it is packed", ErrDamaged, p.Part)
	}
	if c.decoder == nil {
		if c.decoder, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecodeAllCapLimit(true)); err != nil {
			return nil, err
		}
	}
	room := slices.Grow(c.buf.plain[:0], int(p.Length))
	if c.buf.plain, err = c.decoder.DecodeAll(c.buf.packed, room[:0:p.Length]); err != nil {
		return nil, fmt.Errorf("%w: part %d: %w", ErrDamaged, p.Part, err)
	}
	if int64(len(c.buf.plain)) != p.Length || sha256.Sum256(c.buf.plain) != p.SHA256 {
		return nil, fmt.Errorf("%w: part %d was altered before it was packed", ErrDamaged, p.Part)
	}
	return c.buf.plain, nil
}

func readPart(src io.ReaderAt, offset, length int64, buf []byte) ([]byte, error) {
	buf = slices.Grow(buf[:0], int(length))[:length]
	n, err := src.ReadAt(buf, offset)
	if n < len(buf) && errors.Is(err, io.EOF) {
		return buf, fmt.Errorf("%w: it ends %d bytes early", ErrDamaged, len(buf)-n)
	}
	if n < len(buf) {
		return buf, err
	}
	return buf, nil
}

// walked is how far an index was found right.
type walked struct {
	report Report
	parts  []partRecord
	heads  []digest // the chain after each part
	end    *endRecord
	packed int64 // bytes of the packed file that the parts cover
	size   int64 // bytes of the index
	chain  digest
}

// maxIndexLine bounds a line of an index; the node's name is the only thing in it of any length.
const maxIndexLine = 64 << 10

// walkIndex reads an index, checks all that can be checked without the recording, and calls part
// for each part in order. It stops at the first error; what it returns then is good up to there.
// An incomplete line at the end of an index without end is left out: it was being written.
func walkIndex(src io.Reader, keys Keyring, part func(partRecord) error) (walked, error) {
	var w walked
	lines := bufio.NewReaderSize(src, maxIndexLine)
	for {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, io.EOF) && len(line) > 0 && w.end != nil {
			return w, fmt.Errorf("%w: its index goes on behind the end", ErrDamaged)
		}
		if errors.Is(err, io.EOF) {
			return w, nil
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			return w, fmt.Errorf("%w: a line of its index is too long", ErrDamaged)
		}
		if err != nil {
			return w, err
		}
		if err := w.line(bytes.TrimSuffix(line, []byte("\n")), keys, part); err != nil {
			return w, err
		}
		w.size += int64(len(line))
	}
}

func (w *walked) line(line []byte, keys Keyring, part func(partRecord) error) error {
	if w.size == 0 {
		head, chain, err := parseHead(line)
		if err != nil {
			return err
		}
		w.report.Session, w.report.Channel, w.report.Node = head.Session, head.Channel, head.Node
		w.report.Encrypted = head.Encrypted
		w.chain = chain
		return nil
	}
	e, err := parseEntry(line, w.report.Node, w.chain, keys)
	if err != nil {
		return err
	}
	if w.end != nil {
		return fmt.Errorf("%w: its index goes on behind the end", ErrDamaged)
	}
	switch {
	case e.Part != nil:
		if err := w.part(*e.Part, part); err != nil {
			return err
		}
		w.heads = append(w.heads, *e.Chain)
	case e.Pending != nil:
		if err := w.witness(*e.Pending, keys); err != nil {
			return err
		}
	default:
		if err := w.ending(*e.End); err != nil {
			return err
		}
	}
	w.chain = *e.Chain
	w.report.Root = w.chain.String()
	w.report.signedBy(e.Key)
	return nil
}

func (w *walked) part(p partRecord, check func(partRecord) error) error {
	if p.Part != len(w.parts)+1 || p.Offset != w.report.Proved || p.PackedOffset != w.packed ||
		p.Length <= 0 || p.Length > maxPart || p.PackedLength <= 0 || p.PackedLength > 2*maxPart {
		return fmt.Errorf("%w: part %d of its index does not follow the one before", ErrDamaged, p.Part)
	}
	if w.report.Encrypted != (p.Sealed != "") || p.Sealed != "" && (p.Sealed != sealedAge && p.Sealed != sealedTail || p.SHA256 != digest{}) {
		return fmt.Errorf("%w: part %d of its index is not encrypted as the others are", ErrDamaged, p.Part)
	}
	if err := check(p); err != nil {
		return err
	}
	w.parts = append(w.parts, p)
	w.packed += p.PackedLength
	w.report.Parts++
	w.report.Proved += p.Length
	w.report.Bytes = w.report.Proved
	return nil
}

// witness checks an end that another node signed while the tail was missing: it must be the one for
// exactly these parts.
func (w *walked) witness(p pendingRecord, keys Keyring) error {
	n := p.End.Parts
	if !p.End.Pending || n < 1 || n > len(w.parts) {
		return fmt.Errorf("%w: the earlier seal in its index speaks of other parts", ErrDamaged)
	}
	last := w.parts[n-1]
	if p.End.Bytes != last.Offset+last.Length || p.End.Packed != last.PackedOffset+last.PackedLength {
		return fmt.Errorf("%w: the earlier seal in its index speaks of other parts", ErrDamaged)
	}
	chain, err := indexEntry{End: &p.End}.chained(w.heads[n-1])
	if err != nil {
		return err
	}
	if chain != p.Chain {
		return fmt.Errorf("%w: the earlier seal in its index is that of another recording", ErrDamaged)
	}
	if err := keys.checkAny(p.Key, time.UnixMilli(p.End.Time), signedText(chain), p.Sig); err != nil {
		return fmt.Errorf("the earlier seal in its index: %w", err)
	}
	w.report.Witnessed = max(w.report.Witnessed, n)
	w.report.signedBy(p.Key)
	return nil
}

func (w *walked) ending(e endRecord) error {
	if e.Parts != len(w.parts) || e.Bytes != w.report.Proved || e.Packed != w.packed {
		return fmt.Errorf("%w: the end of its index speaks of other parts", ErrDamaged)
	}
	w.end = &e
	w.report.Sealed, w.report.Recovered, w.report.Pending = true, e.Recovered, e.Pending
	w.report.Summary = Summary{
		Kept: e.Kept, Counted: e.Counted, Lost: e.Lost, Input: e.Input, SHA256: e.SHA256, BLAKE3: e.BLAKE3, Truncated: e.Truncated,
		Duration: time.Duration(e.Duration) * time.Microsecond, Bytes: e.Bytes, Packed: e.Packed, Parts: e.Parts,
	}
	return nil
}

// signedBy counts a signature.
func (r *Report) signedBy(id string) {
	if n := len(r.Keys); n > 0 && r.Keys[n-1].ID == id {
		r.Keys[n-1].Heads++
		return
	}
	r.Keys = append(r.Keys, KeyUse{ID: id, Heads: 1})
}
