package admin

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"unicode"

	"sallyport/audit"
	"sallyport/internal/web"
	"sallyport/recorder"
	"sallyport/signin"
	"sallyport/store"
)

// playerScript and playerStyle are what `make assets` brings.
const (
	playerScript = "vendor/asciinema-player.min.js"
	playerStyle  = "vendor/asciinema-player.css"
)

// transcriptShown bounds the text on the page in bytes; the file has all of it.
const transcriptShown = 512 << 10

// Views of a recording.
const (
	viewReplay     = "replay"
	viewTranscript = "transcript"
)

// replay is the dot of one session's page.
type replay struct {
	sessionView
	Rows    []channelRow
	Keep    keepView
	Files   filesData
	Channel *channelRow // the one whose recording is shown; nil: none has any
	View    string
	Tabs    []tab

	Encrypted bool // only its recipients can read it

	// replay
	Player bool // the scripts are there
	Start  int  // second to begin at
	Speed  string
	Speeds []string
	Idle   string // "", or seconds that a pause is cut to
	Idles  []string

	Approval *store.Approval // that it has used; nil: nobody had to agree

	// transcript
	Text string
	More bool // the file has more than Text

	Commands     []commandView
	CommandsMore int    // further ones
	IndexNote    string // why what was on the screen cannot be found; "": it can
}

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
	d := replay{sessionView: s.viewSession(x), View: viewReplay, Speeds: speeds, Idles: idles}
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
func (d *replay) choose(v *visit) {
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

func (s *Server) fillRecording(v *visit, x store.Session, d *replay) error {
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
	if start, err := strconv.ParseFloat(v.query("t"), 64); err == nil && start > 0 && start < 1e7 {
		d.Start = int(start)
	}
	d.Speed, d.Idle = oneOf(v.query("speed"), speeds, "1"), oneOf(v.query("idle"), idles, "2")
	if v.r.URL.Query().Has("idle") && v.query("idle") == "" {
		d.Idle = ""
	}
	if d.View != viewTranscript || v.r.Header.Get(signin.RefreshHeader) != "" {
		return nil
	}
	if err := s.viewed(v.ctx(), v.by, x, d.Channel.ID, "transcript"); err != nil {
		return err
	}
	out := limitedBuffer{left: transcriptShown}
	err := s.cfg.Recorder.Export(&out, d.Channel.Recording, recorder.Text)
	if err != nil && !errors.Is(err, errFull) {
		return fmt.Errorf("reading the recording: %w", err)
	}
	d.Text, d.More = plainText(out.String()), errors.Is(err, errFull)
	return nil
}

func oneOf(typed string, allowed []string, otherwise string) string {
	for _, a := range allowed {
		if typed == a && typed != "" {
			return a
		}
	}
	return otherwise
}

// recordingFile sends a recording: "3.cast" for players, "3.txt" as text. The event of the view is
// written first; without it nothing is shown.
func (s *Server) recordingFile(v *visit) error {
	name, ending, _ := strings.Cut(v.path("file"), ".")
	format, ok := map[string]recorder.Format{"cast": recorder.Asciicast3, "txt": recorder.Text, "tar": recorder.Encrypted}[ending]
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
	h.Set("Content-Type", map[string]string{"cast": "application/x-asciicast", "txt": "text/plain; charset=utf-8", "tar": mimeTar}[ending])
	if download {
		h.Set("Content-Disposition", fmt.Sprintf(`attachment; filename="%s-%d.%s"`, x.ID, c.ID, ending))
	}
	out := &counted{to: v.w}
	buffered := bufio.NewWriterSize(out, 64<<10)
	if err = s.cfg.Recorder.Export(buffered, c.Recording, format); err == nil {
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

var errFull = errors.New("enough")

// limitedBuffer takes so many bytes and then refuses.
type limitedBuffer struct {
	bytes.Buffer
	left int
}

func (b *limitedBuffer) Write(p []byte) (int, error) {
	n := min(len(p), b.left)
	b.left -= n
	b.Buffer.Write(p[:n])
	if n < len(p) {
		return n, errFull
	}
	return n, nil
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
