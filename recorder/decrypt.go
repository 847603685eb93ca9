package recorder

import (
	"archive/tar"
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
)

// exportArchive writes the files of an encrypted recording as a tar archive: the open one, if there is one, the
// packed one and the index.
func (r *Recorder) exportArchive(out io.Writer, where place) error {
	var files evidence
	defer files.close()
	names := []string{where.cast(), where.packed(), where.index()}
	to := []**io.SectionReader{&files.plain, &files.packed, &files.index}
	for i, name := range names { // in this order: see verify
		if err := files.open(r, name, to[i]); err != nil {
			return err
		}
	}
	if files.index == nil && r.cfg.Store != nil && !r.isHere(where) {
		if err := r.openStored(where, &files); err != nil {
			return err
		}
	}
	if files.plain == nil && files.packed == nil {
		return os.ErrNotExist
	}
	if files.plain != nil && !isVault(files.plain) || files.plain == nil && !isSealedFrame(files.packed) {
		return errors.New("the recording is not encrypted; take another format")
	}
	archive := tar.NewWriter(out)
	for i, suffix := range []string{castSuffix, packedSuffix, indexSuffix} {
		src := *to[i]
		if src == nil {
			continue
		}
		h := tar.Header{Name: fmt.Sprintf("%s-%d%s", where.session, where.channel, suffix), Mode: 0o600, Size: src.Size(), Format: tar.FormatUSTAR}
		if err := archive.WriteHeader(&h); err != nil {
			return err
		}
		if _, err := io.Copy(archive, src); err != nil {
			return err
		}
	}
	return archive.Close()
}

// unarchive finds the files in a tar archive that exportArchive wrote. It is false if e.plain is none.
func (e *evidence) unarchive() (bool, error) {
	src := e.plain
	begin := make([]byte, 512)
	if _, err := src.ReadAt(begin, 0); err != nil || string(begin[257:262]) != "ustar" {
		return false, nil
	}
	e.plain = nil
	counter := &position{src: io.NewSectionReader(src, 0, src.Size())}
	for archive := tar.NewReader(counter); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return true, e.archiveEnd(src, counter.at)
		}
		if err != nil {
			return true, fmt.Errorf("%w: it is no archive of a recording: %w", ErrDamaged, err)
		}
		// The same header again: nothing in the archive may be outside of what is proved.
		file := io.NewSectionReader(src, counter.at, h.Size)
		if counter.at+h.Size > src.Size() {
			return true, fmt.Errorf("%w: the archive is cut", ErrDamaged)
		}
		to := &e.index
		switch {
		case strings.HasSuffix(h.Name, indexSuffix):
		case strings.HasSuffix(h.Name, packedSuffix):
			to = &e.packed
		case strings.HasSuffix(h.Name, castSuffix):
			to = &e.plain
		default:
			return true, fmt.Errorf("%w: the archive has a file %q", ErrDamaged, h.Name)
		}
		if *to != nil || h.Typeflag != tar.TypeReg {
			return true, fmt.Errorf("%w: the archive has a file %q twice, or as something else", ErrDamaged, h.Name)
		}
		*to = file
	}
}

// archiveEnd sees to it that nothing but zeros follows.
func (e *evidence) archiveEnd(src *io.SectionReader, at int64) error {
	rest, err := io.ReadAll(io.LimitReader(io.NewSectionReader(src, at, src.Size()), 1<<20))
	if err == nil && len(bytes.Trim(rest, "\x00")) > 0 {
		err = fmt.Errorf("%w: something stands behind the archive", ErrDamaged)
	}
	return err
}

// position counts what was read.
type position struct {
	src io.ReadSeeker
	at  int64
}

func (p *position) Read(b []byte) (int, error) {
	n, err := p.src.Read(b)
	p.at += int64(n)
	return n, err
}

// Seek lets the archive be read without the content of its files.
func (p *position) Seek(offset int64, whence int) (int64, error) {
	at, err := p.src.Seek(offset, whence)
	p.at = at
	return at, err
}

// ParseIdentities reads the secret keys of a file that age-keygen made.
func ParseIdentities(file io.Reader) ([]age.Identity, error) {
	ids, err := age.ParseIdentities(file)
	if err != nil {
		return nil, fmt.Errorf("reading the keys of an identity file: %w", err)
	}
	return ids, nil
}

// Decrypt writes the asciicast of an encrypted recording: of an archive that Export wrote, of a packed file with
// its index beside it, or of an open file that a process left. It reads as far as everything is whole, and says
// so if that is not the end. Whether the recording is the one that was made is proved by VerifyFile.
func Decrypt(w io.Writer, file string, ids ...age.Identity) error {
	files, err := openEvidence(file)
	if err != nil {
		return fmt.Errorf("decrypting %s: %w", file, err)
	}
	defer files.close()
	out := bufio.NewWriterSize(w, 64<<10)
	sealed, err := files.sealed()
	switch {
	case err != nil:
	case files.plain != nil && isVault(files.plain) && !sealed:
		err = openChunks(out, files.plain, 0, ids)
	case files.packed != nil && files.index != nil && isSealedFrame(files.packed):
		err = files.decryptParts(out, ids)
	default:
		err = errors.New("it is not an encrypted recording")
	}
	if err = errors.Join(err, out.Flush()); err != nil {
		return fmt.Errorf("decrypting %s: %w", file, err)
	}
	return nil
}

// sealed tells whether the recording has its end. Then it is its signed parts, and nothing of an open file beside them
// counts: anybody can encrypt one to the recipients.
func (e *evidence) sealed() (bool, error) {
	if e.index == nil {
		return false, nil
	}
	text, err := io.ReadAll(io.NewSectionReader(e.index, 0, e.index.Size()))
	return hasEnd(text), err
}

// decryptParts writes the parts in their order.
func (e *evidence) decryptParts(w io.Writer, ids []age.Identity) error {
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return err
	}
	defer decoder.Close()
	lines := bufio.NewReaderSize(e.index, maxIndexLine)
	for {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: its index: %w", ErrDamaged, err)
		}
		p, ok := partOf(line)
		if !ok {
			continue
		}
		if p.PackedLength <= 0 || p.PackedLength > 2*maxPart || p.Length <= 0 || p.Length > maxPart {
			return fmt.Errorf("%w: part %d of its index is too long", ErrDamaged, p.Part)
		}
		frame := io.NewSectionReader(e.packed, p.PackedOffset, p.PackedLength)
		if p.Sealed == sealedTail {
			err = openChunks(w, frame, p.Offset, ids)
		} else {
			err = decryptPart(w, decoder, frame, p, ids)
		}
		if err != nil {
			return fmt.Errorf("part %d: %w", p.Part, err)
		}
	}
}

func decryptPart(w io.Writer, decoder *zstd.Decoder, frame *io.SectionReader, p partRecord, ids []age.Identity) error {
	file, err := io.ReadAll(frame)
	if err != nil {
		return err
	}
	packed, err := openAge(file, ids)
	if err != nil {
		return err
	}
	plain, err := decoder.DecodeAll(packed, make([]byte, 0, p.Length))
	if err != nil || int64(len(plain)) != p.Length {
		return fmt.Errorf("%w: it is not the part that was packed", ErrDamaged)
	}
	_, err = w.Write(plain)
	return err
}

// Convert writes an asciicast that was decrypted in another format. It closes src.
func Convert(w io.Writer, src io.ReadCloser, f Format) error {
	write := map[Format]func(*bufio.Writer, *Reader) error{Asciicast2: writeCast2, Text: writeTranscript, JSON: writeJSON}[f]
	if write == nil {
		src.Close()
		return fmt.Errorf("converting a recording: unknown format %q", f)
	}
	reader, err := newReader(src)
	if err != nil {
		return fmt.Errorf("converting a recording: %w", err)
	}
	defer reader.Close()
	out := bufio.NewWriterSize(w, 64<<10)
	if err := errors.Join(write(out, reader), out.Flush()); err != nil {
		return fmt.Errorf("converting a recording: %w", err)
	}
	return nil
}

// IsEncrypted tells whether a recording is there that only its recipients can read.
func (r *Recorder) IsEncrypted(path string) bool {
	src, err := r.Open(path)
	if err == nil {
		src.Close()
	}
	return errors.Is(err, ErrEncrypted)
}
