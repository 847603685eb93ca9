package recorder

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"
)

// Line is a line of what was printed, as in Format Text, with its time.
type Line struct {
	At   time.Duration // when it was begun, since the recording began
	Text string        // without newline, and without anything that moves a cursor or reorders text
}

// maxTranscriptLine is from which length on a line is given in pieces, in bytes.
const maxTranscriptLine = 64 << 10

// Lines calls each with the lines of a recording in order, until it returns false. Of an open
// recording these are the lines until now.
func (r *Recorder) Lines(path string, each func(Line) bool) error {
	reader, err := r.Open(path)
	if err != nil {
		return err
	}
	defer reader.Close()
	if err := writeLines(reader, each); err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	return nil
}

func writeLines(r *Reader, each func(Line) bool) error {
	var b bytes.Buffer
	out := bufio.NewWriter(&b)
	t := &eventTranscript{transcript: transcript{out: out}}
	begun, last := time.Duration(-1), time.Duration(0) // of the line that is not whole; of the last event
	for {
		e, err := r.Next()
		ended := errors.Is(err, io.EOF)
		switch {
		case ended:
			t.finish()
		case err != nil:
			return err
		default:
			t.event(e)
			last = e.At
		}
		out.Flush() // to memory
		for b.Len() > 0 {
			line, whole := takeLine(&b, ended)
			if !whole {
				break
			}
			at := last
			if begun >= 0 {
				at, begun = begun, -1
			}
			if !each(Line{At: at, Text: line}) {
				return nil
			}
		}
		if ended {
			return nil
		}
		if begun < 0 && (b.Len() > 0 || len(t.line) > 0) {
			begun = last
		}
	}
}

// takeLine takes a whole line out of b, or what there is if nothing more comes or it is too long.
func takeLine(b *bytes.Buffer, ended bool) (string, bool) {
	n := bytes.IndexByte(b.Bytes(), '\n')
	switch {
	case n >= 0:
		return string(bytes.TrimSuffix(b.Next(n+1), []byte("\n"))), true
	case ended || b.Len() >= maxTranscriptLine:
		return string(b.Next(b.Len())), true
	}
	return "", false
}
