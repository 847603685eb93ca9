package admin

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"sallyport/audit"
	"sallyport/internal/web"
	"sallyport/store"
)

// pageRows is how many rows a page of a list has.
const pageRows = 50

// searchRows bounds how many rows a search by text looks through for one page; older ones are
// reached by going on from there.
const searchRows = 2000

// sessionView is a session as the pages show it.
type sessionView struct {
	store.Session
	Path     string
	Where    string // account@target
	What     string // its channels in words
	In, Out  int64
	Took     time.Duration
	Recorded bool
	Waiting  string // for what it stands still; "": it goes on
}

func (s *Server) viewSessions(list []store.Session) []sessionView {
	views := make([]sessionView, len(list))
	for i, x := range list {
		views[i] = s.viewSession(x)
	}
	return views
}

func (s *Server) viewSession(x store.Session) sessionView {
	v := sessionView{Session: x, Path: within("sessions", x.ID), Where: x.Target, What: channelsInWords(x.Channels), Waiting: waitsFor(x)}
	if x.Account != "" {
		v.Where = x.Account + "@" + x.Target
	}
	for _, c := range x.Channels {
		v.In, v.Out = v.In+c.BytesIn, v.Out+c.BytesOut
		v.Recorded = v.Recorded || c.Recording != ""
	}
	end := x.Ended
	if end.IsZero() {
		end = s.cfg.Now()
	}
	v.Took = end.Sub(x.Started)
	return v
}

// channelsInWords is "shell", "exec: uptime", "shell, 2 sftp".
func channelsInWords(channels []store.Channel) string {
	if len(channels) == 1 && channels[0].Command != "" {
		return channels[0].Kind + ": " + clip(channels[0].Command, 80) + filesInWords(channels)
	}
	var order []string
	count := map[string]int{}
	for _, c := range channels {
		if count[c.Kind] == 0 {
			order = append(order, c.Kind)
		}
		count[c.Kind]++
	}
	for i, kind := range order {
		if n := count[kind]; n > 1 {
			order[i] = fmt.Sprintf("%d %s", n, kind)
		}
	}
	return strings.Join(order, ", ") + filesInWords(channels)
}

// filesInWords is " (3 files up, 1 down)", or nothing.
func filesInWords(channels []store.Channel) string {
	up, down := 0, 0
	for _, c := range channels {
		up, down = up+c.FilesWritten, down+c.FilesRead
	}
	unit := func(n int) string {
		return web.Plural(n, "file", "files")
	}
	switch {
	case up > 0 && down > 0:
		return fmt.Sprintf(" (%s up, %d down)", unit(up), down)
	case up > 0:
		return " (" + unit(up) + " up)"
	case down > 0:
		return " (" + unit(down) + " down)"
	}
	return ""
}

// clip shortens s to n runes at most.
func clip(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n]) + "…"
	}
	return s
}

// sessionQuery is the filter as it stands in the address of the page.
type sessionQuery struct {
	State, User, Target, Source, Since, Until, Text, Before string
}

func (q sessionQuery) any() bool {
	q.Before = ""
	return q != sessionQuery{}
}

// address is the page's address with this filter.
func (q sessionQuery) address() string {
	return address("/sessions", "state", q.State, "user", q.User, "target", q.Target, "source", q.Source,
		"since", q.Since, "until", q.Until, "text", q.Text, "before", q.Before)
}

// address makes an address with those of the pairs of name and value that have a value.
func address(path string, pairs ...string) string {
	values := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			values.Set(pairs[i], pairs[i+1])
		}
	}
	if len(values) == 0 {
		return path
	}
	return path + "?" + values.Encode()
}

// sessionListData is the dot of the list of sessions.
type sessionListData struct {
	Query       sessionQuery
	Filtered    bool
	States      []string
	Rows        []sessionView
	Asking      []approvalView // who waits for an approval: no sessions yet
	AskingMore  int
	Searched    int // rows that a search looked through; 0: no search, or all were seen
	First, Next string
}

func (s *Server) sessionsPage(v *visit) error {
	q := sessionQuery{
		State: v.query("state"), User: v.query("user"), Target: v.query("target"), Source: v.query("source"),
		Since: v.query("since"), Until: v.query("until"), Text: v.query("text"), Before: v.query("before"),
	}
	d := sessionListData{Query: q, Filtered: q.any(), States: []string{store.Live, store.Ended, store.Lost}}
	f := store.SessionFilter{State: q.State, User: q.User, Target: q.Target, Source: q.Source, Before: q.Before}
	var notice *web.Notice
	var err error
	if f.Since, f.Until, err = period(q.Since, q.Until); err != nil {
		notice = &web.Notice{Kind: "bad", Text: web.Sentence(v.problem(err).Detail), Next: web.Sentence(v.problem(err).Hint)}
	}
	rows, next, searched, err := s.searchSessions(v.ctx(), f, q.Text)
	if err != nil {
		return err
	}
	d.Rows, d.Searched = s.viewSessions(rows), searched
	if q.Before == "" && q.Source == "" && q.Text == "" && q.Since == "" && q.Until == "" && (q.State == "" || q.State == store.Live) {
		if d.Asking, d.AskingMore, err = s.asking(v.ctx(), q.User, q.Target); err != nil {
			return err
		}
	}
	if q.Before != "" {
		first := q
		first.Before = ""
		d.First = first.address()
	}
	if next != "" {
		older := q
		older.Before = next
		d.Next = older.address()
	}
	v.show("sessions", web.Page{Title: "Sessions", Section: "sessions", Wide: true, Refresh: q.Before == "", Notice: notice, Data: d})
	return nil
}

// searchSessions returns a page of sessions and the id from which the next page goes on. With text,
// only those in which it occurs; the search gives up after searchRows and tells so.
func (s *Server) searchSessions(ctx context.Context, f store.SessionFilter, text string) (rows []store.Session, next string, searched int, err error) {
	f.Limit = pageRows + 1
	if text != "" {
		f.Limit = 200
	}
	for seen := 0; ; {
		list, err := s.sessionList(ctx, f)
		if err != nil {
			return nil, "", 0, err
		}
		for _, x := range list {
			if len(rows) == pageRows {
				return rows, rows[pageRows-1].ID, 0, nil
			}
			if matches(x, text) {
				rows = append(rows, x)
			}
		}
		seen += len(list)
		switch {
		case len(list) < f.Limit:
			return rows, "", 0, nil
		case seen >= searchRows:
			return rows, list[len(list)-1].ID, seen, nil
		}
		f.Before = list[len(list)-1].ID
	}
}

// matches tells whether text occurs in what a person would look for: names, addresses, commands.
func matches(x store.Session, text string) bool {
	if text == "" {
		return true
	}
	fields := []string{x.ID, x.User, x.Target, x.Address, x.Account, x.Source, x.Client, x.Rule, x.Reason, x.KeyFingerprint}
	for _, c := range x.Channels {
		fields = append(fields, c.Kind, c.Command)
	}
	text = strings.ToLower(text)
	return slices.ContainsFunc(fields, func(field string) bool { return strings.Contains(strings.ToLower(field), text) })
}

// period reads the bounds of a time as dates or moments; a date as the end takes in that day.
func period(since, until string) (from, to time.Time, err error) {
	if from, _, err = moment(since); err != nil {
		return time.Time{}, time.Time{}, err
	}
	to, day, err := moment(until)
	if err != nil {
		return time.Time{}, time.Time{}, err
	}
	if day {
		to = to.AddDate(0, 0, 1)
	}
	return from, to, nil
}

// moment reads "2006-01-02", "2006-01-02T15:04" or RFC 3339; times without a zone are UTC.
func moment(typed string) (t time.Time, day bool, err error) {
	if typed == "" {
		return time.Time{}, false, nil
	}
	for _, layout := range []string{time.DateOnly, "2006-01-02T15:04", time.RFC3339, "2006-01-02 15:04"} {
		if t, err := time.Parse(layout, typed); err == nil {
			return t, layout == time.DateOnly, nil
		}
	}
	return time.Time{}, false, invalid("write it like 2026-01-31 or 2026-01-31T18:00, in UTC", "%s is not a time", audit.Quote(typed))
}

func (s *Server) confirmEndPage(v *visit) error {
	x, err := s.session(v.ctx(), v.path("id"))
	if err != nil {
		return err
	}
	if x.State != store.Live {
		return conflict("", "this session is over already")
	}
	view := s.viewSession(x)
	return v.confirm("sessions", "End this session?", confirmation{
		Question:    fmt.Sprintf("%s on %s, open for %s.", audit.Escape(x.User), audit.Escape(view.Where), web.Span(view.Took)),
		Consequence: "Both sides of the connection are closed at once. The recording is kept.",
		Action:      view.Path + "/end", Button: "End the session", Cancel: view.Path, Message: true,
	})
}

func (s *Server) endSessionForm(v *visit) error {
	id := v.path("id")
	if err := s.endSession(v.ctx(), v.by, id, v.typed("message")); err != nil {
		return err
	}
	return v.done(within("sessions", id), "The session is being ended.")
}
