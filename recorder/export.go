package recorder

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"
)

// Format is what Export writes.
type Format string

// Formats of Export.
const (
	// Asciicast3 is the recording byte for byte, followed by its index as comments, which players
	// skip and VerifyFile reads.
	Asciicast3 Format = "asciicast3"
	// Asciicast2 is for players that know no newer one: output, stderr as output, input, sizes, markers.
	Asciicast2 Format = "asciicast2"
	// Text is what was printed, without anything that moves a cursor.
	Text Format = "text"
	// JSON is one value: {"header": {…}, "events": [{"at": seconds, "code": "o", "text": "…"}, …]}.
	// Events whose bytes are not UTF-8 have them in "data" as base64.
	JSON Format = "json"
	// Encrypted is the files of an encrypted recording in one tar archive, as they are: for VerifyFile, and
	// for Decrypt where the key is.
	Encrypted Format = "encrypted"
)

// proofPrefix begins the comments that hold the index in an exported asciicast.
const proofPrefix = "# sallyport "

// Export writes a recording, finished or as far as it is there, in the given format.
func (r *Recorder) Export(w io.Writer, path string, f Format) error {
	where, err := parsePath(path)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(w, 64<<10)
	switch f {
	case Asciicast3:
		err = r.exportCast3(out, where)
	case Asciicast2:
		err = r.exportEvents(out, path, writeCast2)
	case Text:
		err = r.exportEvents(out, path, writeTranscript)
	case JSON:
		err = r.exportEvents(out, path, writeJSON)
	case Encrypted:
		err = r.exportArchive(out, where)
	default:
		return fmt.Errorf("exporting %s: unknown format %q", where.cast(), f)
	}
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		return fmt.Errorf("exporting %s: %w", where.cast(), err)
	}
	return nil
}

func (r *Recorder) exportEvents(out *bufio.Writer, path string, write func(*bufio.Writer, *Reader) error) error {
	reader, err := r.Open(path)
	if err != nil {
		return err
	}
	defer reader.Close()
	return write(out, reader)
}

func (r *Recorder) exportCast3(out *bufio.Writer, where place) error {
	src, err := r.openPlain(where)
	if err != nil {
		return err
	}
	defer src.Close()
	size, err := io.Copy(out, src)
	if err != nil {
		return err
	}
	index, err := r.openFile(where.index(), os.O_RDONLY)
	if errors.Is(err, os.ErrNotExist) && !r.isHere(where) {
		text, err := r.remoteIndex(r.ctx, where)
		if err != nil {
			return err
		}
		return writeProof(out, bytes.NewReader(text), size)
	}
	if errors.Is(err, os.ErrNotExist) { // nothing is packed yet
		return nil
	}
	if err != nil {
		return err
	}
	defer index.Close()
	return writeProof(out, index, size)
}

// writeProof writes the lines of an index that speak of the first size bytes of the recording as
// comments. Nothing is checked here: a damaged recording can be exported, and is still damaged.
func writeProof(out *bufio.Writer, index io.Reader, size int64) error {
	lines := bufio.NewReaderSize(index, maxIndexLine)
	for {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var e indexEntry
		if err := json.Unmarshal(line, &e); err == nil &&
			(e.Part != nil && e.Part.Offset+e.Part.Length > size || e.End != nil && e.End.Bytes != size) {
			return nil
		}
		out.WriteString(proofPrefix)
		out.Write(line)
	}
}

// findProof looks for the index in an exported asciicast. It returns a Reader of it and its offset,
// or nil if there is none.
func findProof(f *io.SectionReader) (io.Reader, int64, error) {
	lines := bufio.NewReaderSize(io.NewSectionReader(f, 0, f.Size()), 64<<10)
	var at int64
	begins := true // the next piece begins a line
	for {
		piece, err := lines.ReadSlice('\n')
		if begins && len(piece) > 0 && piece[0] == '#' {
			rest := io.NewSectionReader(f, at, 1<<62)
			return &uncomment{src: bufio.NewReaderSize(rest, maxIndexLine+len(proofPrefix))}, at, nil
		}
		at += int64(len(piece))
		begins = err == nil
		if errors.Is(err, io.EOF) {
			return nil, 0, nil
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return nil, 0, err
		}
	}
}

// uncomment takes the prefix off every line.
type uncomment struct {
	src  *bufio.Reader
	line []byte // not yet read
}

func (u *uncomment) Read(p []byte) (int, error) {
	if len(u.line) == 0 {
		line, err := u.src.ReadSlice('\n')
		if err != nil && (!errors.Is(err, io.EOF) || len(line) == 0) {
			return 0, err
		}
		var ok bool
		if u.line, ok = bytes.CutPrefix(line, []byte(proofPrefix)); !ok {
			return 0, fmt.Errorf("%w: the proof at its end was altered", ErrDamaged)
		}
	}
	n := copy(p, u.line)
	u.line = u.line[n:]
	return n, nil
}

// verifyExport checks an exported asciicast whose proof begins at the given offset.
func verifyExport(f *io.SectionReader, index io.Reader, at int64, keys Keyring) (Report, error) {
	check := &partCheck{plain: io.NewSectionReader(f, 0, at)}
	w, err := walkIndex(index, keys, check.part)
	report := w.report
	report.Bytes = at
	if err == nil && report.Sealed && report.Proved != at {
		err = fmt.Errorf("%w: it has %d bytes where %d were signed", ErrDamaged, at, report.Proved)
	}
	return report, err
}

// cast2Header is the first line of asciicast v2.
type cast2Header struct {
	Version   int               `json:"version"`
	Width     int               `json:"width"`
	Height    int               `json:"height"`
	Timestamp int64             `json:"timestamp"`
	Command   string            `json:"command,omitempty"`
	Title     string            `json:"title,omitempty"`
	Env       map[string]string `json:"env,omitempty"`
}

// writeCast2 writes asciicast v2, whose times count from the beginning.
func writeCast2(out *bufio.Writer, r *Reader) error {
	h := r.Header()
	c := cast2Header{Version: 2, Width: h.Width, Height: h.Height, Timestamp: h.Started.Unix(), Command: h.Command, Title: h.Title}
	if h.Term != "" {
		c.Env = map[string]string{"TERM": h.Term}
	}
	line, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("encoding the header: %w", err)
	}
	line = append(escapeControls(line), '\n')
	for {
		if _, err := out.Write(line); err != nil {
			return err
		}
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		line = line[:0]
		switch e.Code {
		case CodeOutput, CodeStderr:
			line = appendEvent(line, e.At.Microseconds(), codeOutput, []byte(e.Text))
		case CodeInput, CodeResize, CodeMark:
			line = appendEvent(line, e.At.Microseconds(), e.Code[0], []byte(e.Text))
		}
	}
}

// jsonHeader is the header in Format JSON.
type jsonHeader struct {
	Session string   `json:"session"`
	Channel int      `json:"channel"`
	Node    string   `json:"node,omitempty"`
	Kind    string   `json:"kind,omitempty"`
	Started string   `json:"started"` // RFC 3339, UTC
	Width   int      `json:"width"`
	Height  int      `json:"height"`
	Term    string   `json:"term,omitempty"`
	Title   string   `json:"title,omitempty"`
	Command string   `json:"command,omitempty"`
	Tags    []string `json:"tags,omitempty"`
	Limit   int64    `json:"limit,omitempty"`
}

// jsonEvent is an event in Format JSON.
type jsonEvent struct {
	At   json.RawMessage `json:"at"` // s
	Code Code            `json:"code"`
	Text string          `json:"text"`
	Data *[]byte         `json:"data,omitempty"`
}

func writeJSON(out *bufio.Writer, r *Reader) error {
	h := r.Header()
	header, err := json.Marshal(jsonHeader{
		Session: h.Session, Channel: h.Channel, Node: r.node, Kind: h.Kind, Started: h.Started.UTC().Format("2006-01-02T15:04:05.999999Z"),
		Width: h.Width, Height: h.Height, Term: h.Term, Title: h.Title, Command: h.Command, Tags: h.Tags, Limit: h.Limit,
	})
	if err != nil {
		return fmt.Errorf("encoding the header: %w", err)
	}
	fmt.Fprintf(out, "{\"header\":%s,\"events\":[", escapeControls(header))
	for separator := "\n"; ; separator = ",\n" {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			_, err = out.WriteString("\n]}\n")
			return err
		}
		if err != nil {
			return err
		}
		j := jsonEvent{At: appendSeconds(nil, e.At.Microseconds()), Code: e.Code, Text: e.Text}
		if e.Data != nil && string(e.Data) != e.Text {
			j.Data = &e.Data
		}
		line, err := json.Marshal(j)
		if err != nil {
			return fmt.Errorf("encoding an event: %w", err)
		}
		out.WriteString(separator)
		if _, err := out.Write(escapeControls(line)); err != nil {
			return err
		}
	}
}

// escapeControls escapes the control characters that encoding/json leaves in strings, DEL and C1, so
// that the file is harmless on a terminal.
func escapeControls(line []byte) []byte {
	isControl := func(r rune) bool { return r >= 0x7f && r <= 0x9f }
	if bytes.IndexFunc(line, isControl) < 0 {
		return line
	}
	var b []byte
	for _, r := range string(line) {
		if isControl(r) {
			b = append(b, '\\', 'u', '0', '0', hexDigits[r>>4], hexDigits[r&15])
			continue
		}
		b = utf8.AppendRune(b, r)
	}
	return b
}

// writeTranscript writes what was printed as plain text.
func writeTranscript(out *bufio.Writer, r *Reader) error {
	t := &eventTranscript{transcript: transcript{out: out}}
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			t.finish()
			return nil
		}
		if err != nil {
			return err
		}
		t.event(e)
	}
}

// eventTranscript is the transcript of events.
type eventTranscript struct {
	transcript
	binary int // bytes of a run of events that show nothing
}

func (t *eventTranscript) event(e Event) {
	if e.Text == "" && len(e.Data) >= minBinary && e.Code != CodeInput {
		t.binary += len(e.Data)
		return
	}
	t.noteBinary()
	switch e.Code {
	case CodeOutput, CodeStderr:
		t.write(e.Text)
	case CodeGap:
		n, why, _ := strings.Cut(e.Text, " ")
		t.note(n + " bytes are missing here: " + why)
	case CodeLimit:
		t.note("the limit of " + e.Text + " bytes was reached, what followed was counted and not kept")
	}
}

func (t *eventTranscript) noteBinary() {
	if t.binary > 0 {
		t.note(fmt.Sprintf("%d bytes that are not text", t.binary))
		t.binary = 0
	}
}

func (t *eventTranscript) finish() {
	t.noteBinary()
	t.end()
}
