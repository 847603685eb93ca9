package replay

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"sallyport/recorder"
)

const (
	filePart = 256 << 10 // bytes of a part of a file
	fileLine = 2 << 20   // bytes of its longest line
)

// file is an asciicast v3 in a file, such as an exported recording.
type file struct {
	f     io.ReaderAt
	parts []recorder.Part
}

// OpenFile reads an asciicast v3 of so many bytes once, and returns it as a Source. The file must stay
// as it is.
func OpenFile(f io.ReaderAt, size int64) (Source, error) {
	src := &file{f: f}
	lines := bufio.NewReaderSize(io.NewSectionReader(f, 0, size), fileLine)
	part := recorder.Part{Number: 1}
	var at time.Duration
	var offset int64
	for {
		line, err := lines.ReadSlice('\n')
		offset += int64(len(line))
		if part.Length += int64(len(line)); part.Length >= filePart || err != nil && part.Length > 0 {
			// Data and what announces it stay together: a part ends behind an event that is whole.
			if err != nil || !announces(line) {
				src.parts = append(src.parts, part)
				part = recorder.Part{Number: part.Number + 1, Offset: offset}
			}
		}
		at += interval(line)
		if part.Length == 0 {
			part.At = at
		}
		switch {
		case errors.Is(err, io.EOF):
			if len(src.parts) == 0 {
				return nil, errors.New("the recording is empty")
			}
			return src, nil
		case errors.Is(err, bufio.ErrBufferFull):
			return nil, fmt.Errorf("a line has more than %d bytes", fileLine)
		case err != nil:
			return nil, fmt.Errorf("reading the recording: %w", err)
		}
	}
}

// announces tells whether an event belongs to the next one.
func announces(line []byte) bool {
	_, rest, _ := bytes.Cut(line, []byte(","))
	rest = bytes.TrimLeft(rest, " ")
	return bytes.HasPrefix(rest, []byte(`"e"`)) || bytes.HasPrefix(rest, []byte(`"b"`))
}

// interval is the time of an event since the one before, 0 of a line that is none.
func interval(line []byte) time.Duration {
	rest, ok := bytes.CutPrefix(line, []byte("["))
	if !ok {
		return 0
	}
	number, _, _ := bytes.Cut(rest, []byte(","))
	seconds, err := strconv.ParseFloat(string(bytes.TrimSpace(number)), 64)
	if err != nil || !(seconds > 0 && seconds < 1e9) {
		return 0
	}
	return time.Duration(seconds*1e6+0.5) * time.Microsecond
}

func (s *file) Parts(context.Context) ([]recorder.Part, error) { return s.parts, nil }

func (s *file) ReadPart(_ context.Context, p recorder.Part) ([]byte, error) {
	plain := make([]byte, p.Length)
	if n, err := s.f.ReadAt(plain, p.Offset); n < len(plain) {
		return nil, fmt.Errorf("reading the recording: %w", err)
	}
	return plain, nil
}

func (s *file) Sealed(context.Context) (bool, error) { return true, nil }
