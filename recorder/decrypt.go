package recorder

import (
	"archive/tar"
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
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
		h := archiveHeader(archiveName(where.session, where.channel)+suffix, src.Size())
		if err := archive.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.Copy(archive, src); err != nil {
			return err
		}
	}
	return archive.Close()
}

// archiveName is the name of the files in an archive, without their suffixes.
func archiveName(session string, channel int) string { return fmt.Sprintf("%s-%d", session, channel) }

// archiveBlock is the size in which a tar archive counts.
const archiveBlock = 512

// archiveHeader is the header of one file of an archive, as exportArchive writes it.
func archiveHeader(name string, size int64) *tar.Header {
	return &tar.Header{Name: name, Mode: 0o600, Size: size, Format: tar.FormatUSTAR}
}

// unarchive finds the files in a tar archive that exportArchive wrote. It is false if e.plain is none. Every byte of
// the archive is either of a file, which is proved, or must be what exportArchive writes there.
func (e *evidence) unarchive() (bool, error) {
	src := e.plain
	block := make([]byte, archiveBlock)
	if _, err := src.ReadAt(block, 0); err != nil || string(block[257:262]) != "ustar" {
		return false, nil
	}
	e.plain = nil
	damaged := func(format string, args ...any) (bool, error) {
		return true, fmt.Errorf("%w: the archive "+format, append([]any{ErrDamaged}, args...)...)
	}
	suffixes := []string{castSuffix, packedSuffix, indexSuffix} // in this order
	to := []**io.SectionReader{&e.plain, &e.packed, &e.index}
	for at, next := int64(0), 0; ; {
		if _, err := src.ReadAt(block, at); err != nil {
			return damaged("is cut: %w", err)
		}
		if next > 0 && len(bytes.Trim(block, "\x00")) == 0 {
			return true, archiveEnd(src, at)
		}
		h, err := tar.NewReader(bytes.NewReader(block)).Next()
		if err != nil {
			return damaged("has a broken header: %w", err)
		}
		i := slices.IndexFunc(suffixes, func(s string) bool { return strings.HasSuffix(h.Name, s) })
		if i < next {
			return damaged("has a file %q, which is none of its own, or not in its place", h.Name)
		}
		name := strings.TrimSuffix(h.Name, suffixes[i])
		if next > 0 && name != e.archived {
			return damaged("has files of two recordings, %q and %q", e.archived, name)
		}
		var want bytes.Buffer
		if err := tar.NewWriter(&want).WriteHeader(archiveHeader(h.Name, h.Size)); err != nil || !bytes.Equal(want.Bytes(), block) {
			return damaged("has an altered header of %q", h.Name)
		}
		at += archiveBlock
		if h.Size > src.Size()-at {
			return damaged("is cut")
		}
		*to[i], e.archived, next = io.NewSectionReader(src, at, h.Size), name, i+1
		at += h.Size
		if rest := at % archiveBlock; rest > 0 {
			padding := block[:archiveBlock-rest]
			if _, err := src.ReadAt(padding, at); err != nil || len(bytes.Trim(padding, "\x00")) > 0 {
				return damaged("has something between its files")
			}
			at += int64(len(padding))
		}
	}
}

// archiveEnd sees to it that two empty blocks end the archive.
func archiveEnd(src *io.SectionReader, at int64) error {
	end := make([]byte, 2*archiveBlock)
	if _, err := src.ReadAt(end, at); err != nil || len(bytes.Trim(end, "\x00")) > 0 || src.Size() != at+int64(len(end)) {
		return fmt.Errorf("%w: the archive does not end as it should", ErrDamaged)
	}
	return nil
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
