// Package search finds what stood on the screens of recordings: it renders them, when they are sealed, into lines
// with times and into commands, and keeps the index in the store. It works in the background and one recording
// at a time; it reads output and stderr, never input.
//
// What it finds is an aid. Lines are what an emulator makes of the bytes, commands are what was echoed behind
// something that looks like a prompt; the recording alone is proof.
package search

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"sallyport/recorder"
	"sallyport/store"
)

// Bounds of what one recording puts into the index and takes of the machine.
const (
	maxLine     = 4 << 10 // bytes of a line; of a longer one the rest is left out
	maxLines    = 200_000
	maxBytes    = 64 << 20 // of output that is drawn; an emulator does 2 MiB in a second
	maxCommands = 5000
	maxTime     = 10 * time.Minute
	maxCols     = 500
	maxRows     = 200
)

// Limits of one recording; the zero value stands for the package's.
type limits struct {
	lines    int
	bytes    int
	commands int
	time     time.Duration
}

var standard = limits{lines: maxLines, bytes: maxBytes, commands: maxCommands, time: maxTime}

// errFull ends the reading of a recording of which the index has enough.
var errFull = errors.New("enough")

// stream tells lines that have scrolled off from those that were overwritten. The times of each do not run
// backwards, or not by much.
type stream int

const (
	scrolledOff stream = iota
	overwritten
)

// findings is what there is in one recording.
type findings struct {
	commands []store.Command
	note     string // what is not there
}

// read renders a recording. emit gets each line once it is known; an error of it is returned.
func read(r *recorder.Reader, most limits, emit func(stream, store.SearchLine) error) (f findings, err error) {
	lines := 0
	bounded := func(s stream, l store.SearchLine) error {
		if l.Text = legible(l.Text); l.Text == "" {
			return nil
		}
		if lines == most.lines {
			f.note = fullOfLines(most.lines)
			return errFull
		}
		lines++
		return emit(s, l)
	}
	if r.Header().Term == "" {
		err = r.EachLine(func(at time.Duration, text string) error {
			return bounded(scrolledOff, store.SearchLine{At: at, Text: text})
		})
	} else {
		f.commands, err = draw(r, most, bounded, &f.note)
	}
	if errors.Is(err, errFull) {
		err = nil
	}
	if f.note == "" && len(f.commands) == most.commands && most.commands > 0 {
		f.note = fmt.Sprintf("only the first %d commands are listed", most.commands)
	}
	return f, err
}

// draw renders what was drawn on a terminal.
func draw(r *recorder.Reader, most limits, emit func(stream, store.SearchLine) error, note *string) (commands []store.Command, err error) {
	h := r.Header()
	t := newTerminal(min(h.Width, maxCols), min(h.Height, maxRows), most.commands, emit)
	defer t.screen.Close()
	t.started = h.Command
	begun, left := time.Now(), most.bytes
	for t.err == nil {
		e, err := r.Next()
		if err != nil {
			t.end()
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return t.commands, errors.Join(err, t.err)
		}
		t.event(e, &left)
		if *note = enough(most, left, time.Since(begun), e.At, *note); *note == "" {
			continue
		}
		break
	}
	t.end()
	return t.commands, t.err
}

// event draws an event; left are the bytes that may still be drawn.
func (t *terminal) event(e recorder.Event, left *int) {
	switch e.Code {
	case recorder.CodeOutput, recorder.CodeStderr:
		n := min(len(e.Data), *left)
		t.output(e.At, e.Data[:n])
		*left -= n
	case recorder.CodeResize:
		var cols, rows int
		if n, _ := fmt.Sscanf(e.Text, "%dx%d", &cols, &rows); n == 2 {
			t.resize(e.At, min(cols, maxCols), min(rows, maxRows))
		}
	}
}

// enough says why nothing more of a recording is drawn, once the limits are reached; note is why before.
func enough(most limits, left int, spent, at time.Duration, note string) string {
	switch {
	case note != "":
		return note
	case left == 0:
		return fmt.Sprintf("only what was on the screen in the first %d MiB can be found", most.bytes>>20)
	case spent > most.time:
		return "only what could be drawn in " + most.time.String() + " can be found, up to " + at.Round(time.Second).String()
	}
	return ""
}

func fullOfLines(n int) string { return fmt.Sprintf("only the first %d lines can be found", n) }

// legible is a line as the index keeps it: nothing that controls a terminal, hides or reorders text. It is "" if
// there is nothing in it that could be searched for.
func legible(text string) string {
	words := false
	text = strings.Map(func(c rune) rune {
		switch {
		case c == '\t' || unicode.Is(unicode.Zs, c) && c != 0x3000:
			return ' '
		case unicode.IsControl(c), unicode.In(c, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co, unicode.Cs):
			return -1
		}
		words = words || unicode.IsLetter(c) || unicode.IsNumber(c)
		return c
	}, strings.ToValidUTF8(text, "\uFFFD"))
	if !words {
		return ""
	}
	return strings.TrimRight(clip(text, maxLine), " ")
}

// clip is the first n bytes of a text, without half a rune.
func clip(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}
