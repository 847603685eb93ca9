package replay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"sallyport/recorder"
)

// Kinds of markers that a recording has of itself. Doors add others, such as commands and files.
const (
	MarkNote   = "note"   // a marker in the recording: why the session was ended, that a node died
	MarkResize = "resize" // the terminal had another size from here on
	MarkGap    = "gap"    // bytes are missing here, or were counted only
	MarkEnd    = "end"    // exit status or signal
)

// Marker is a moment that is worth jumping to.
type Marker struct {
	At    time.Duration `json:"at"` // since the recording began
	Kind  string        `json:"kind"`
	Label string        `json:"label"` // not escaped
}

// Pause is a time in which nothing was shown.
type Pause struct {
	From time.Duration `json:"from"` // since the recording began: when the last thing was shown
	To   time.Duration `json:"to"`   // when the next one was
}

const (
	minPause   = time.Second
	maxPauses  = 100_000
	maxMarkers = 5_000
	// resizesTogether is how close sizes follow each other while somebody drags the corner of a window:
	// only the last of them is marked.
	resizesTogether = time.Second
)

// outline is what reading all events of a recording once has told.
type outline struct {
	Parts    []part        `json:"parts"`
	Markers  []Marker      `json:"markers"`
	Pauses   []Pause       `json:"pauses"`
	Duration time.Duration `json:"duration"` // of the last event
	Shown    time.Duration `json:"shown"`    // when there was something to see first; -1: never
	// What is known behind the last part.
	end place
}

// part is one part of the recording with what was known at its beginning.
type part struct {
	Part    recorder.Part `json:"-"`
	Bytes   int64         `json:"bytes"` // of the asciicast
	Output  int64         `json:"output"`
	Place   place         `json:"place"`
	Markers int           `json:"markers"` // found before it
	Pauses  int           `json:"pauses"`
}

// place is a moment between two events: what a reader must know to go on from there.
type place struct {
	At     time.Duration `json:"at"` // of the last event
	Seen   time.Duration `json:"seen"`
	Cols   int           `json:"cols"`
	Rows   int           `json:"rows"`
	Filter Carry         `json:"filter"`
}

// keep returns how many of the outline's parts are the first of a list, whole.
func (o *outline) keep(list []recorder.Part) int {
	n := 0
	for n < len(o.Parts) && n < len(list) {
		had, now := o.Parts[n].Part, list[n]
		if had.Packed == 0 || now.Packed == 0 || had.Offset != now.Offset || had.Length != now.Length {
			break
		}
		n++
	}
	return n
}

// cut forgets the parts from the n-th on.
func (o *outline) cut(n int) {
	if n == len(o.Parts) {
		return
	}
	p := o.Parts[n]
	o.end = p.Place
	o.Markers, o.Pauses, o.Parts = o.Markers[:p.Markers], o.Pauses[:p.Pauses], o.Parts[:n]
	if o.Duration = p.Place.At; o.Shown > o.Duration {
		o.Shown = -1
	}
}

// add reads one more part.
func (o *outline) add(ctx context.Context, src Source, p recorder.Part) error {
	events, err := readEvents(ctx, src, p)
	if err != nil {
		return err
	}
	if len(o.Parts) == 0 {
		o.Shown = -1
		o.end = place{Cols: events.header.Width, Rows: events.header.Height}
	}
	this := part{Part: p, Bytes: p.Length, Place: o.end, Markers: len(o.Markers), Pauses: len(o.Pauses)}
	filter := NewFilter(o.end.Filter)
	var drawn []byte
	for _, e := range events.list {
		o.end.At = e.At
		o.Duration = e.At
		switch e.Code {
		case recorder.CodeOutput, recorder.CodeStderr:
			drawn = filter.Append(drawn[:0], e.Text)
			this.Output += int64(len(drawn))
			if len(drawn) > 0 {
				o.seen(e.At)
			}
		case recorder.CodeResize:
			if cols, rows, ok := size(e.Text); ok {
				o.end.Cols, o.end.Rows = cols, rows
				o.seen(e.At)
			}
		}
		o.mark(this.Markers, e)
	}
	o.end.Filter = filter.Carry()
	o.Parts = append(o.Parts, this)
	return nil
}

// seen notes that something was shown, and the pause before it.
func (o *outline) seen(at time.Duration) {
	if o.Shown < 0 {
		o.Shown = at
	}
	if at-o.end.Seen >= minPause && len(o.Pauses) < maxPauses {
		o.Pauses = append(o.Pauses, Pause{o.end.Seen, at})
	}
	o.end.Seen = at
}

// mark adds the marker that an event is. The first so many markers are of parts before this one.
func (o *outline) mark(before int, e recorder.Event) {
	m := Marker{At: e.At}
	switch e.Code {
	case recorder.CodeMark:
		m.Kind, m.Label = MarkNote, e.Text
	case recorder.CodeExit:
		m.Kind, m.Label = MarkEnd, "exit status "+e.Text
	case recorder.CodeSignal:
		m.Kind, m.Label = MarkEnd, "ended by signal "+e.Text
	case recorder.CodeGap:
		n, why, _ := strings.Cut(e.Text, " ")
		m.Kind, m.Label = MarkGap, n+" bytes are missing: "+why
	case recorder.CodeLimit:
		m.Kind, m.Label = MarkGap, "the limit of "+e.Text+" bytes was reached"
	case recorder.CodeResize:
		cols, rows, ok := size(e.Text)
		if !ok {
			return
		}
		m.Kind, m.Label = MarkResize, fmt.Sprintf("%d × %d", cols, rows)
		if n := len(o.Markers); n > before && o.Markers[n-1].Kind == MarkResize && m.At-o.Markers[n-1].At < resizesTogether {
			o.Markers[n-1] = m
			return
		}
	default:
		return
	}
	// Room is kept for what happens once: sizes, which a program can ask for without end, get half of it.
	if n := len(o.Markers); n >= maxMarkers || m.Kind == MarkResize && n >= maxMarkers/2 {
		return
	}
	o.Markers = append(o.Markers, m)
}

// size reads the text of a resize event.
func size(text string) (cols, rows int, ok bool) {
	c, r, _ := strings.Cut(text, "x")
	cols, err1 := strconv.Atoi(c)
	rows, err2 := strconv.Atoi(r)
	return min(cols, maxSide), min(rows, maxSide), err1 == nil && err2 == nil && cols > 0 && rows > 0
}

// maxSide is what a recorder writes at most; of a file from elsewhere it bounds the memory.
const maxSide = 1000

// events are those of one part.
type events struct {
	header recorder.Header // of the first part
	list   []recorder.Event
}

func readEvents(ctx context.Context, src Source, p recorder.Part) (events, error) {
	plain, err := src.ReadPart(ctx, p)
	if err != nil {
		return events{}, err
	}
	reader, err := p.Events(plain)
	if err != nil {
		return events{}, err
	}
	defer reader.Close()
	got := events{header: reader.Header()}
	got.header.Width, got.header.Height = side(got.header.Width, 80), side(got.header.Height, 24)
	for {
		e, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return got, nil
		}
		if err != nil {
			return events{}, fmt.Errorf("part %d: %w", p.Number, err)
		}
		got.list = append(got.list, e)
	}
}

func side(n, whenZero int) int {
	if n <= 0 {
		return whenZero
	}
	return min(n, maxSide)
}
