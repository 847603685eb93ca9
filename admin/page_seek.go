package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/audit"
	"sallyport/ledger"
	"sallyport/replay"
	"sallyport/store"
)

// A recording is replayed in segments: an index says where they begin, and each has the screen at its
// beginning (package replay). So a page that is opened at the fifth hour asks for the fifth hour.

// viewedFor is how long segments are given without a further audit event after the index was.
const viewedFor = time.Hour

// viewsKept is how many such views are remembered; of others there are more events than need be.
const viewsKept = 4096

// Kinds of markers that are not in the recording itself.
const (
	markCommand = "command"
	markFile    = "file"
)

// markerSource finds moments of a channel that are not in its recording. Markers of all sources come
// into one list; a source that fails takes nothing away from the others.
type markerSource func(ctx context.Context, x store.Session, c store.Channel) ([]replay.Marker, error)

// markerSources are all there are. Whoever keeps something about a channel, with times since its
// recording began, adds a function here.
func (s *Server) markerSources() []markerSource {
	return []markerSource{execMarker, s.commandMarkers, s.fileMarkers}
}

// execMarker is the command line of an exec channel.
func execMarker(_ context.Context, _ store.Session, c store.Channel) ([]replay.Marker, error) {
	if c.Command == "" {
		return nil, nil
	}
	return []replay.Marker{{Kind: markCommand, Label: c.Command}}, nil
}

// commandMarkers are the commands that were found on the screen of a channel.
func (s *Server) commandMarkers(ctx context.Context, x store.Session, c store.Channel) ([]replay.Marker, error) {
	list, err := s.cfg.Store.Search.Commands(ctx, x.ID)
	var found []replay.Marker
	for _, one := range list {
		if one.Channel == c.ID {
			found = append(found, replay.Marker{At: one.At, Kind: markCommand, Label: one.Text})
		}
	}
	return found, err
}

// filesMarked is how many files of a session are marked at most.
const filesMarked = 1000

// fileMarkers are the files that passed in any channel of the session while this one was recorded:
// what was copied beside a shell is seen on its time line.
func (s *Server) fileMarkers(ctx context.Context, x store.Session, c store.Channel) ([]replay.Marker, error) {
	list, err := s.cfg.Store.Transfers.List(ctx, store.TransferFilter{SessionID: x.ID, Limit: filesMarked})
	var found []replay.Marker
	for _, t := range list {
		if t.Started.Before(c.Started) || !c.Ended.IsZero() && t.Started.After(c.Ended) {
			continue
		}
		switch t.Op {
		case ledger.OpList, ledger.OpSetstat, ledger.OpNote: // many, and nothing to look for
			continue
		}
		label := fileVerbs[t.Op] + " " + t.Path
		if t.NewPath != "" {
			label += " → " + t.NewPath
		}
		found = append(found, replay.Marker{At: t.Started.Sub(c.Started), Kind: markFile, Label: label})
	}
	return found, err
}

// maxLabel bounds the label of a marker in bytes.
const maxLabel = 200

// markers are the moments of a channel worth jumping to, in order, with labels that are harmless.
func (s *Server) markers(ctx context.Context, x store.Session, c store.Channel, found replay.Contents) []replay.Marker {
	all := slices.Clone(found.Markers)
	for _, source := range s.markerSources() {
		more, err := source(ctx, x, c)
		if err != nil {
			s.cfg.Log.WarnContext(ctx, "finding markers", "session", x.ID, "channel", c.ID, "error", err)
		}
		all = append(all, more...)
	}
	for i := range all {
		all[i].Label = clip(audit.Escape(all[i].Label), maxLabel)
		all[i].At = min(max(all[i].At, 0), found.Duration)
	}
	slices.SortStableFunc(all, func(a, b replay.Marker) int { return int(min(max(a.At-b.At, -1), 1)) })
	return all
}

// replayIndex sends what the player asks for first. The event of the view is written before.
func (s *Server) replayIndex(v *visit) error {
	x, c, err := s.seekable(v)
	if err != nil {
		return err
	}
	if err := s.viewed(v.ctx(), v.by, x, c.ID, "replay"); err != nil {
		return err
	}
	s.views.Add(viewKey(v.by, x, c.ID), struct{}{})
	found, err := s.replays.Open(c.Recording).Contents(v.ctx())
	if err != nil {
		return fmt.Errorf("reading the recording of channel %d of session %s: %w", c.ID, x.ID, err)
	}
	data, err := found.Index(s.markers(v.ctx(), x, c, found), func(n int, until time.Duration) string {
		address := "replay/" + strconv.Itoa(n) + ".json"
		if until > 0 {
			address += "?until=" + strconv.FormatInt(until.Microseconds(), 10)
		}
		return address
	})
	if err != nil {
		return fmt.Errorf("encoding the index of a recording: %w", err)
	}
	return v.json(data)
}

// replaySegment sends one segment.
func (s *Server) replaySegment(v *visit) error {
	name, ok := strings.CutSuffix(v.path("segment"), ".json")
	n, err := strconv.Atoi(name)
	if !ok || err != nil || n < 0 {
		return notFound("", "there is no such segment")
	}
	until := time.Duration(0)
	if text := v.query("until"); text != "" {
		micros, err := strconv.ParseInt(text, 10, 52)
		if err != nil || micros < 1 {
			return notFound("", "there is no such segment")
		}
		until = time.Duration(micros) * time.Microsecond
	}
	x, c, err := s.seekable(v)
	if err != nil {
		return err
	}
	if _, seen := s.views.Get(viewKey(v.by, x, c.ID)); !seen {
		if err := s.viewed(v.ctx(), v.by, x, c.ID, "replay"); err != nil {
			return err
		}
		s.views.Add(viewKey(v.by, x, c.ID), struct{}{})
	}
	data, err := s.segment(v.ctx(), c.Recording, n, until)
	if errors.Is(err, replay.ErrNoSegment) {
		return notFound("", "there is no such segment")
	}
	if err != nil {
		return fmt.Errorf("reading segment %d of channel %d of session %s: %w", n, c.ID, x.ID, err)
	}
	return v.json(data)
}

func (s *Server) segment(ctx context.Context, path string, n int, until time.Duration) ([]byte, error) {
	r := s.replays.Open(path)
	segment, err := r.Segment(ctx, n, until)
	if err != nil {
		return nil, err
	}
	if until == 0 {
		found, err := r.Contents(ctx)
		if err != nil {
			return nil, err
		}
		if n == len(found.Starts)-1 {
			until = found.Duration
		}
	}
	return segment.JSON(until)
}

func viewKey(by Caller, x store.Session, channel int) string {
	return by.Actor + "\n" + x.ID + "\n" + strconv.Itoa(channel)
}

// replayPauses sends the pauses of at least ?idle= seconds (else 1): for each the milliseconds since the end of
// the one before, and how many it lasts. It tells nothing of what was shown.
func (s *Server) replayPauses(v *visit) error {
	idle := 1.0
	if text := v.query("idle"); text != "" {
		var err error
		if idle, err = strconv.ParseFloat(text, 64); err != nil || !(idle >= 1 && idle < 1e6) {
			return notFound("", "pauses are at least a second")
		}
	}
	x, c, err := s.seekable(v)
	if err != nil {
		return err
	}
	found, err := s.replays.Open(c.Recording).Contents(v.ctx())
	if err != nil {
		return fmt.Errorf("reading the recording of channel %d of session %s: %w", c.ID, x.ID, err)
	}
	list := []int64{}
	var end time.Duration
	for _, p := range found.Pauses {
		if p.To-p.From >= time.Duration(idle*float64(time.Second)) {
			list = append(list, (p.From - end).Milliseconds(), (p.To - p.From).Milliseconds())
			end = (end + (p.From - end).Truncate(time.Millisecond)) + (p.To - p.From).Truncate(time.Millisecond)
		}
	}
	data, err := json.Marshal(list)
	if err != nil {
		return fmt.Errorf("encoding the pauses of a recording: %w", err)
	}
	return v.json(data)
}

// seekable is the channel that an address below /sessions/ID/channels/N names.
func (s *Server) seekable(v *visit) (store.Session, store.Channel, error) {
	id, err := strconv.Atoi(v.path("channel"))
	if err != nil {
		return store.Session{}, store.Channel{}, notFound("", "there is no such channel")
	}
	x, err := s.session(v.ctx(), v.path("id"))
	if err != nil {
		return store.Session{}, store.Channel{}, err
	}
	c, ok := recordedChannel(x, id)
	if !ok {
		return store.Session{}, store.Channel{}, notFound("", "this channel has no recording")
	}
	if s.cfg.Recorder.IsEncrypted(c.Recording) {
		return store.Session{}, store.Channel{}, notFound("", "this recording is encrypted, and only its recipients can read it")
	}
	return x, c, nil
}

// json sends JSON that scripts of our pages ask for. It is data, whatever a browser is made to think.
func (v *visit) json(data []byte) error {
	h := v.w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Disposition", `attachment; filename="replay.json"`)
	h.Set("Content-Length", strconv.Itoa(len(data)))
	_, _ = v.w.Write(data) // the browser may be gone
	return nil
}

// readMoment reads a moment of a recording: seconds such as 73 or 73.5, or 1:02:03.
func readMoment(text string) (time.Duration, bool) {
	seconds := 0.0
	for i, field := range strings.Split(text, ":") {
		n, err := strconv.ParseFloat(field, 64)
		if err != nil || !(n >= 0 && n < 1e7) || i > 2 || i > 0 && n >= 60 {
			return 0, false
		}
		seconds = seconds*60 + n
	}
	return time.Duration(min(seconds, 1e7) * float64(time.Second)), true
}

// clockOf writes a moment of a recording: 1:02:03, or 2:03 in the first hour.
func clockOf(d time.Duration) string {
	s := int(d.Seconds())
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

// secondsOf writes a moment of a recording for an address.
func secondsOf(d time.Duration) string {
	return strconv.FormatFloat(d.Truncate(time.Millisecond).Seconds(), 'f', -1, 64)
}
