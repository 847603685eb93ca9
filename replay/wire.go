package replay

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// The JSON that asciinema-player 3.17 reads as {url, format: "segmented"}. It is not documented
// there; what it insists on is that the first segment starts at 0 and each later one after the one
// before; that the first event of each later one is at its start, none is at or after the next start,
// and the last of all is at the duration; and that markers are in order.

// seconds is written as seconds with up to six decimals.
type seconds time.Duration

func (s seconds) MarshalJSON() ([]byte, error) {
	micros := time.Duration(s).Microseconds()
	text := strconv.AppendInt(nil, micros/1e6, 10)
	if rest := micros % 1e6; rest != 0 {
		text = fmt.Appendf(text, ".%06d", rest)
	}
	return text, nil
}

type indexJSON struct {
	Version  int           `json:"version"`
	Duration seconds       `json:"duration"`
	Term     termJSON      `json:"term"`
	Segments []segmentJSON `json:"segments"`
	Markers  [][2]any      `json:"markers"`
}

type termJSON struct {
	Cols int `json:"cols"`
	Rows int `json:"rows"`
}

type segmentJSON struct {
	Start seconds `json:"start"`
	URL   string  `json:"url"`
}

// Index encodes the index of a recording for the player. Address gives the address of a segment,
// relative to that of the index; until is not zero for the last one of an open recording, and is for
// Segment. Markers are in order; those behind the end are put there.
func (c Contents) Index(markers []Marker, address func(segment int, until time.Duration) string) ([]byte, error) {
	index := indexJSON{
		Version: 1, Duration: seconds(c.Duration), Term: termJSON{c.Cols, c.Rows},
		Segments: make([]segmentJSON, len(c.Starts)), Markers: make([][2]any, len(markers)),
	}
	for i, start := range c.Starts {
		until := time.Duration(0)
		if c.Open && i == len(c.Starts)-1 {
			until = c.Duration
		}
		index.Segments[i] = segmentJSON{seconds(start), address(i, until)}
	}
	for i, m := range markers {
		index.Markers[i] = [2]any{seconds(min(max(m.At, 0), c.Duration)), m.Label}
	}
	return json.Marshal(index)
}

type contentJSON struct {
	Snapshot snapshotJSON `json:"snapshot"`
	Events   [][3]any     `json:"events"`
}

type snapshotJSON struct {
	Cols int    `json:"cols"`
	Rows int    `json:"rows"`
	Init string `json:"init"`
}

// nothing is the code of an event that the player passes over.
const nothing = "x"

// JSON encodes a segment for the player. Last is the duration of the recording if it is the last one,
// else 0.
func (s Segment) JSON(last time.Duration) ([]byte, error) {
	j := contentJSON{Snapshot: snapshotJSON{s.Cols, s.Rows, s.Init}, Events: make([][3]any, 0, len(s.Events)+2)}
	j.Events = append(j.Events, [3]any{seconds(s.Start), nothing, ""})
	for _, e := range s.Events {
		if e.Cols > 0 {
			j.Events = append(j.Events, [3]any{seconds(e.At), "r", fmt.Sprintf("%dx%d", e.Cols, e.Rows)})
			continue
		}
		j.Events = append(j.Events, [3]any{seconds(e.At), "o", e.Output})
	}
	if last > 0 {
		j.Events = append(j.Events, [3]any{seconds(last), nothing, ""})
	}
	return json.Marshal(j)
}
