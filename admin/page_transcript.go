package admin

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"sallyport/recorder"
	"sallyport/replay"
	"sallyport/store"
)

const (
	// transcriptShown bounds the text on one page in bytes.
	transcriptShown = 256 << 10
	// passagePause is from which pause on lines belong to another passage, and passageLines how many lines
	// are one passage at most.
	passagePause = 3 * time.Second
	passageLines = 200
)

// passage is a piece of a transcript that was printed without a pause. Its time is a link to the player.
type passage struct {
	Clock, Second string
	Path          string // of the player at this moment
	Notes         []string
	Text          string
}

// fillTranscript reads a page of the transcript, which begins at ?from=.
func (s *Server) fillTranscript(v *visit, x store.Session, d *replayPage) error {
	from, _ := readMoment(v.query("from"))
	// Lines that were printed at the same moment can be more than a page.
	skip, _ := strconv.Atoi(v.query("skip"))
	channel := strconv.Itoa(d.Channel.ID)
	t := transcriber{path: func(second string) string { return address(d.Path, "channel", channel, "t", second) }}
	if found, err := s.replays.Open(d.Channel.Recording).Contents(v.ctx()); err == nil {
		for _, m := range s.markers(v.ctx(), x, d.Channel.Channel, found) {
			if m.At >= from {
				t.markers = append(t.markers, m)
			}
		}
	}
	if d.First = ""; from > 0 || skip > 0 {
		d.First = address(d.Path, "channel", channel, "view", viewTranscript)
	}
	same := 0 // lines at this very moment
	var last time.Duration
	err := s.cfg.Recorder.Lines(d.Channel.Recording, func(l recorder.Line) bool {
		if l.At = l.At.Truncate(time.Millisecond); l.At != last {
			last, same = l.At, 0
		}
		same++
		if l.At < from || l.At == from && same <= skip {
			return true
		}
		if t.size >= transcriptShown {
			d.Next = address(d.Path, "channel", channel, "view", viewTranscript, "from", secondsOf(l.At), "skip", strconv.Itoa(same-1))
			return false
		}
		t.line(l)
		return true
	})
	if err != nil {
		return fmt.Errorf("reading the recording: %w", err)
	}
	if d.Next == "" {
		t.notes(1 << 62)
	}
	d.Passages = t.passages
	return nil
}

// transcriber puts lines and markers together.
type transcriber struct {
	path     func(second string) string
	markers  []replay.Marker // that are not in passages yet
	passages []passage
	text     strings.Builder
	lines    int
	last     time.Duration
	size     int
}

func (t *transcriber) line(l recorder.Line) {
	t.notes(l.At)
	if len(t.passages) == 0 || t.lines >= passageLines || l.At-t.last >= passagePause {
		t.begin(l.At)
	}
	text := plainText(l.Text) + "\n"
	t.text.WriteString(text)
	t.passages[len(t.passages)-1].Text = t.text.String()
	t.lines++
	t.last = l.At
	t.size += len(text)
}

func (t *transcriber) begin(at time.Duration) {
	second := secondsOf(at)
	t.passages = append(t.passages, passage{Clock: clockOf(at), Second: second, Path: t.path(second)})
	t.text.Reset()
	t.lines = 0
}

// notes puts the markers up to a moment between the lines.
func (t *transcriber) notes(until time.Duration) {
	for len(t.markers) > 0 && t.markers[0].At <= until {
		m := t.markers[0]
		t.markers = t.markers[1:]
		if n := len(t.passages); n == 0 || t.lines > 0 || m.At-t.last >= passagePause {
			t.begin(m.At)
			t.last = m.At
		}
		here := &t.passages[len(t.passages)-1]
		here.Notes = append(here.Notes, m.Label)
		t.size += len(m.Label)
	}
}
