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
	Recovered bool     // the end was made by Recover, not by the process that recorded
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
func (r Report) Complete() bool { return r.Sealed && r.Proved == r.Bytes }

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
	var err error
	if files.plain, err = r.openFile(where.cast(), os.O_RDONLY); err != nil && !errors.Is(err, os.ErrNotExist) {
		return Report{}, err
	}
	if files.packed, err = r.openFile(where.packed(), os.O_RDONLY); err != nil && !errors.Is(err, os.ErrNotExist) {
		return Report{}, err
	}
	if files.index, err = r.openFile(where.index(), os.O_RDONLY); errors.Is(err, os.ErrNotExist) {
		return noIndex(files.plain, where)
	} else if err != nil {
		return Report{}, err
	}
	// The index of a recording that is being written exists a moment before its first line does.
	if st, err := files.index.Stat(); err != nil {
		return Report{}, err
	} else if st.Size() == 0 && files.plain != nil {
		return noIndex(files.plain, where)
	}
	report, err := files.verify(r.trusted)
	if err == nil && (report.Session != where.session || report.Channel != where.channel) {
		err = fmt.Errorf("%w: it is channel %d of session %q", ErrDamaged, report.Channel, report.Session)
	}
	return report, err
}

// noIndex is the Report on a recording of which no part is packed yet.
func noIndex(plain *os.File, where place) (Report, error) {
	if plain == nil {
		return Report{}, fmt.Errorf("%w: it has no index", ErrDamaged)
	}
	st, err := plain.Stat()
	if err != nil {
		return Report{}, err
	}
	return Report{Session: where.session, Channel: where.channel, Bytes: st.Size()}, nil
}

// VerifyFile proves a file without a Recorder: an asciicast that Export wrote, or a packed
// recording (.cast.zst), or one left behind (.cast), with its index beside it. Errors are as those
// of Verify. Compare the Report's session with the one you mean: a file can be renamed.
func VerifyFile(file string, keys []ed25519.PublicKey) (Report, error) {
	report, err := verifyFile(file, keySet(keys))
	if err != nil {
		return report, fmt.Errorf("verifying %s: %w", file, err)
	}
	return report, nil
}

func verifyFile(file string, keys map[string]ed25519.PublicKey) (Report, error) {
	var files evidence
	defer files.close()
	f, err := os.Open(file)
	if err != nil {
		return Report{}, err
	}
	base, isPacked := strings.CutSuffix(file, packedSuffix)
	if isPacked {
		files.packed = f
	} else {
		files.plain = f
		base = strings.TrimSuffix(file, castSuffix)
		if embedded, at, err := findProof(f); err != nil || embedded != nil {
			if err != nil {
				return Report{}, err
			}
			return verifyExport(f, embedded, at, keys)
		}
	}
	if files.index, err = os.Open(base + indexSuffix); errors.Is(err, os.ErrNotExist) {
		return Report{}, fmt.Errorf("%w: there is no proof in it and no %s beside it", ErrDamaged, base+indexSuffix)
	} else if err != nil {
		return Report{}, err
	}
	return files.verify(keys)
}

// evidence is the files of one recording. Of plain and packed one may be missing.
type evidence struct {
	plain, packed, index *os.File
}

func (e *evidence) close() {
	for _, f := range []*os.File{e.plain, e.packed, e.index} {
		if f != nil {
			f.Close()
		}
	}
}

func (e *evidence) verify(keys map[string]ed25519.PublicKey) (Report, error) {
	check := &partCheck{}
	if e.plain != nil {
		check.plain = e.plain
	}
	if e.packed != nil {
		check.packed = e.packed
	}
	w, err := walkIndex(e.index, keys, check.part)
	report := w.report
	if err != nil {
		return report, err
	}
	if e.plain != nil {
		st, err := e.plain.Stat()
		if err != nil {
			return report, err
		}
		report.Bytes = max(st.Size(), report.Proved)
		return report, nil
	}
	if !report.Sealed {
		return report, fmt.Errorf("%w: its end is missing", ErrDamaged)
	}
	st, err := e.packed.Stat()
	if err != nil {
		return report, err
	}
	if st.Size() != w.packed {
		return report, fmt.Errorf("%w: it has %d bytes where %d were signed", ErrDamaged, st.Size(), w.packed)
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
func walkIndex(src io.Reader, keys map[string]ed25519.PublicKey, part func(partRecord) error) (walked, error) {
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

func (w *walked) line(line []byte, keys map[string]ed25519.PublicKey, part func(partRecord) error) error {
	if w.size == 0 {
		head, chain, err := parseHead(line)
		if err != nil {
			return err
		}
		w.report.Session, w.report.Channel, w.report.Node = head.Session, head.Channel, head.Node
		w.chain = chain
		return nil
	}
	e, err := parseEntry(line, w.chain, keys)
	if err != nil {
		return err
	}
	if w.end != nil {
		return fmt.Errorf("%w: its index goes on behind the end", ErrDamaged)
	}
	if e.Part != nil {
		if err := w.part(*e.Part, part); err != nil {
			return err
		}
	} else if err := w.ending(*e.End); err != nil {
		return err
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

func (w *walked) ending(e endRecord) error {
	if e.Parts != len(w.parts) || e.Bytes != w.report.Proved || e.Packed != w.packed {
		return fmt.Errorf("%w: the end of its index speaks of other parts", ErrDamaged)
	}
	w.end = &e
	w.report.Sealed, w.report.Recovered = true, e.Recovered
	w.report.Summary = Summary{
		Kept: e.Kept, Counted: e.Counted, Lost: e.Lost, Input: e.Input, SHA256: e.SHA256, BLAKE3: e.BLAKE3, Truncated: e.Truncated,
		Duration: time.Duration(e.Duration) * time.Microsecond,
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
