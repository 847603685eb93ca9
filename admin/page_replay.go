package admin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"

	"sallyport/audit"
	"sallyport/internal/web"
	"sallyport/recorder"
	"sallyport/replay"
	"sallyport/signin"
	"sallyport/store"
)

// playerScript and playerStyle are what `make assets` brings.
const (
	playerScript = "vendor/asciinema-player.min.js"
	playerStyle  = "vendor/asciinema-player.css"
)

// contentsWait is how long the page waits to tell what is in a recording. Reading takes a second for
// some hundred megabytes; the player waits for the rest.
const contentsWait = 1500 * time.Millisecond

// Views of a recording.
const (
	viewReplay     = "replay"
	viewTranscript = "transcript"
)

// replayPage is the dot of one session's page.
type replayPage struct {
	sessionView
	Rows    []channelRow
	Keep    keepView
	Files   filesData
	Channel *channelRow // the one whose recording is shown; nil: none has any
	View    string
	Tabs    []tab

	Encrypted bool // only its recipients can read it

	// replay
	Player bool   // the scripts are there
	Base   string // address below which index, segments and pauses are
	Start  string // second to begin at; "": at the beginning
	Clock  string // the same as people read it
	Here   string // address of the page at Start
	Speed  string
	Speeds []string
	Idle   string // "", or seconds that a pause is cut to
	Idles  []string
	// What is in the recording, if it could be told in time.
	Poster  string // second at which there is something to see
	Lasts   string
	Open    bool   // more may come
	Rough   string // from here on screens are put together; "": never
	Markers []markerView
	Hidden  int // markers that the list leaves out

	Approval *store.Approval // that it has used; nil: nobody had to agree

	// transcript
	Passages []passage
	Next     string // address of the page that goes on; "": this is the last
	First    string // address of the first page; "": this is it

	Commands     []commandView
	CommandsMore int    // further ones
	IndexNote    string // why what was on the screen cannot be found; "": it can
}

// markerView is a marker as the page shows it.
type markerView struct {
	replay.Marker
	Clock, Second, Path string
}

// markersShown bounds the list on the page; the player's time line has all of them.
const markersShown = 200

type tab struct {
	Name, Path string
	Here       bool
}

// channelRow is one channel as the page shows it.
type channelRow struct {
	store.Channel
	Live bool
	Path string // of its recording, without the ending; "": there is none
	Show string // address that shows its recording
	Here bool
}

var (
	speeds = []string{"0.5", "1", "1.5", "2", "4", "8"}
	idles  = []string{"", "1", "2", "5"}
)

func (s *Server) sessionPage(v *visit) error {
	x, err := s.session(v.ctx(), v.path("id"))
	if err != nil {
		return err
	}
	d := replayPage{sessionView: s.viewSession(x), View: viewReplay, Speeds: speeds, Idles: idles}
	switch a, err := s.cfg.Store.Approvals.OfSession(v.ctx(), x.ID); {
	case err == nil:
		d.Approval = &a
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	if v.query("view") == viewTranscript {
		d.View = viewTranscript
	}
	if d.Keep, err = s.viewKeep(v, x); err != nil {
		return err
	}
	d.choose(v)
	if d.Files, err = v.sessionFiles(x.ID, "", filesShown); err != nil {
		return err
	}
	if d.Channel != nil {
		if err := s.fillRecording(v, x, &d); err != nil {
			return err
		}
		if err := s.fillCommands(v, x, &d); err != nil {
			return err
		}
		notes, err := s.indexNotes(v.ctx(), x.ID)
		if err != nil {
			return err
		}
		d.IndexNote = notes[d.Channel.ID]
	}
	v.show("session", web.Page{Title: "Session of " + audit.Escape(x.User), Section: "sessions", Wide: true,
		Refresh: x.State == store.Live, Data: d})
	return nil
}

// choose fills in the channels and which of them is shown: the one named in the address, else the
// first that has a recording.
func (d *replayPage) choose(v *visit) {
	wanted := v.query("channel")
	for _, c := range d.Channels {
		row := channelRow{Channel: c, Live: c.Ended.IsZero() && d.State == store.Live}
		if c.Recording != "" {
			row.Path = within("sessions", d.ID, "recordings", strconv.Itoa(c.ID))
			row.Show = address(d.Path, "channel", strconv.Itoa(c.ID), "view", d.View)
		}
		d.Rows = append(d.Rows, row)
	}
	for i := range d.Rows {
		row := &d.Rows[i]
		if row.Path != "" && (wanted == strconv.Itoa(row.ID) || wanted == "" && d.Channel == nil) {
			row.Here, d.Channel = true, row
		}
	}
}

func (s *Server) fillRecording(v *visit, x store.Session, d *replayPage) error {
	channel := strconv.Itoa(d.Channel.ID)
	d.Tabs = []tab{
		{"Replay", address(d.Path, "channel", channel), d.View == viewReplay},
		{"Transcript", address(d.Path, "channel", channel, "view", viewTranscript), d.View == viewTranscript},
	}
	d.Player = s.web.player
	if s.cfg.Recorder.IsEncrypted(d.Channel.Recording) {
		d.Encrypted, d.Player, d.Tabs = true, false, d.Tabs[:1]
		return nil
	}
	d.Base = within("sessions", d.ID, "channels", channel)
	start, _ := readMoment(v.query("t"))
	if start > 0 {
		d.Start, d.Clock = secondsOf(start), clockOf(start)
	}
	d.Here = address(d.Path, "channel", channel, "t", d.Start)
	d.Speed, d.Idle = oneOf(v.query("speed"), speeds, "1"), oneOf(v.query("idle"), idles, "2")
	if v.r.URL.Query().Has("idle") && v.query("idle") == "" {
		d.Idle = ""
	}
	if v.r.Header.Get(signin.RefreshHeader) != "" {
		return nil
	}
	if d.View == viewTranscript {
		if err := s.viewed(v.ctx(), v.by, x, d.Channel.ID, "transcript"); err != nil {
			return err
		}
		return s.fillTranscript(v, x, d)
	}
	s.fillContents(v, x, d)
	return nil
}

// fillContents tells what is in the recording, if that is known soon. The page is of use without.
func (s *Server) fillContents(v *visit, x store.Session, d *replayPage) {
	ctx, cancel := context.WithTimeout(v.ctx(), contentsWait)
	defer cancel()
	found, err := s.replays.Open(d.Channel.Recording).Contents(ctx)
	if err != nil {
		if ctx.Err() == nil { // the player will say it, too
			s.cfg.Log.WarnContext(v.ctx(), "reading a recording", "session", x.ID, "channel", d.Channel.ID, "error", err)
		}
		return
	}
	d.Lasts, d.Open = clockOf(found.Duration), found.Open
	if d.Poster = d.Start; d.Start == "" || d.Start == "0" {
		// Rounded up: a moment before there is something to see shows nothing.
		d.Poster = secondsOf(max(min(found.Duration, posterAt), found.Shown) + time.Millisecond - 1)
	}
	if found.Exact < found.Duration {
		d.Rough = clockOf(found.Exact)
	}
	for _, m := range s.markers(v.ctx(), x, d.Channel.Channel, found) {
		if m.Kind == markCommand && d.Channel.Term {
			continue // the page has a table of the commands that were found on a terminal
		}
		if len(d.Markers) == markersShown {
			d.Hidden++
			continue
		}
		second := secondsOf(m.At)
		d.Markers = append(d.Markers, markerView{m, clockOf(m.At), second, address(d.Path, "channel", strconv.Itoa(d.Channel.ID), "t", second)})
	}
}

// posterAt is a moment at which most programs have shown something.
const posterAt = 2 * time.Second

func oneOf(typed string, allowed []string, otherwise string) string {
	for _, a := range allowed {
		if typed == a && typed != "" {
			return a
		}
	}
	return otherwise
}

// fileFormats are the endings of the files that a recording is sent as.
var fileFormats = map[string]struct {
	format recorder.Format
	mime   string
}{
	"cast":    {recorder.Asciicast3, mimeCast},
	"v2.cast": {recorder.Asciicast2, mimeCast},
	"txt":     {recorder.Text, mimeText},
	"json":    {recorder.JSON, mimeJSON},
	"tar":     {recorder.Encrypted, mimeTar},
}

// recordingFile sends a recording: "3.cast" with its proof, "3.v2.cast" for older players, "3.txt" as
// text, "3.json" for programs. The event of the view is written first; without it nothing is shown.
func (s *Server) recordingFile(v *visit) error {
	name, ending, _ := strings.Cut(v.path("file"), ".")
	file, ok := fileFormats[ending]
	id, err := strconv.Atoi(name)
	if err != nil || !ok {
		return notFound("", "there is no such recording")
	}
	x, err := s.session(v.ctx(), v.path("id"))
	if err != nil {
		return err
	}
	c, ok := recordedChannel(x, id)
	if !ok {
		return notFound("", "this channel has no recording")
	}
	how := "replay"
	download := v.r.URL.Query().Has("download")
	if download {
		how = "download " + ending
	}
	if err := s.viewed(v.ctx(), v.by, x, c.ID, how); err != nil {
		return err
	}
	h := v.w.Header()
	h.Set("Content-Type", file.mime)
	if download {
		h.Set("Content-Disposition", fmt.Sprintf(`attachment; filename="%s-%d.%s"`, x.ID, c.ID, ending))
	}
	out := &counted{to: v.w}
	buffered := bufio.NewWriterSize(out, 64<<10)
	if err = s.cfg.Recorder.Export(buffered, c.Recording, file.format); err == nil {
		err = buffered.Flush()
	}
	switch {
	case err == nil:
		return nil
	case out.n == 0:
		h.Del("Content-Disposition")
		return fmt.Errorf("reading the recording of channel %d of session %s: %w", c.ID, x.ID, err)
	}
	// The status is out by now: the answer can only be cut short, so that nobody takes it for whole.
	s.cfg.Log.ErrorContext(v.ctx(), "sending a recording", "session", x.ID, "channel", c.ID, "error", err)
	panic(http.ErrAbortHandler)
}

// counted counts what passes.
type counted struct {
	to io.Writer
	n  int64
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.to.Write(p)
	c.n += int64(n)
	return n, err
}

func recordedChannel(x store.Session, id int) (store.Channel, bool) {
	for _, c := range x.Channels {
		if c.ID == id && c.Recording != "" {
			return c, true
		}
	}
	return store.Channel{}, false
}

// plainText leaves of a transcript what can do nothing to a page: no controls but line breaks and
// tabs, nothing that reorders or hides text.
func plainText(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\t':
			return r
		case r == '\r':
			return -1
		case unicode.IsControl(r), unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp):
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// Exit is the exit status; templates ask it only where there is one.
func (c channelRow) Exit() int {
	if c.ExitStatus == nil {
		return -1
	}
	return *c.ExitStatus
}
