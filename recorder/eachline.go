package recorder

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"time"
)

// TagUnsearched in Header.Tags says that what was on the screen is kept out of any index.
const TagUnsearched = "search-off"

// EachLine reads the recording to its end and calls f with each line of output and of stderr as it was complete:
// text without escape sequences, line breaks or anything else that moves a cursor or reorders text. A line of more
// than 4 KiB comes in pieces. What is not text, and what is missing, is passed over. It is meant for what was not
// drawn on a terminal. An error of f ends it.
func (r *Reader) EachLine(f func(at time.Duration, line string) error) error {
	var streams [2]*lineSplitter
	for i := range streams {
		streams[i] = newLineSplitter(f)
	}
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			for _, s := range streams {
				s.text.end()
				if err := s.flush(); err != nil {
					return err
				}
			}
			return nil
		}
		if err != nil {
			return err
		}
		if e.Code != CodeOutput && e.Code != CodeStderr {
			continue
		}
		s := streams[0]
		if e.Code == CodeStderr {
			s = streams[1]
		}
		s.at = e.At
		s.text.write(e.Text)
		if err := s.flush(); err != nil {
			return err
		}
	}
}

// lineSplitter gives the lines of a transcript to f.
type lineSplitter struct {
	f    func(time.Duration, string) error
	out  *bufio.Writer
	text *transcript
	at   time.Duration
	line []byte
}

func newLineSplitter(f func(time.Duration, string) error) *lineSplitter {
	s := &lineSplitter{f: f}
	s.out = bufio.NewWriterSize(s, maxLineText)
	s.text = &transcript{out: s.out}
	return s
}

func (s *lineSplitter) flush() error { return s.out.Flush() }

// Write takes what the transcript is sure of.
func (s *lineSplitter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		piece, rest, whole := bytes.Cut(p, []byte("\n"))
		room := maxLineText - len(s.line)
		if len(piece) > room {
			piece = piece[:wholeRunes(piece[:room])]
			rest, whole = p[len(piece):], true
		}
		s.line = append(s.line, piece...)
		if whole || len(s.line) == maxLineText {
			if err := s.f(s.at, string(s.line)); err != nil {
				return 0, err
			}
			s.line = s.line[:0]
		}
		p = rest
	}
	return n, nil
}
