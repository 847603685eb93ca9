package admin

import (
	"strconv"
	"time"

	"sallyport/audit"
	"sallyport/internal/web"
	"sallyport/signin"
	"sallyport/store"
)

// searchQuery is the search as it stands in the address of the page.
type searchQuery struct {
	Text, User, Target, Since, Until, Before string
}

func (q searchQuery) address() string {
	return address("/search", "text", q.Text, "user", q.User, "target", q.Target, "since", q.Since, "until", q.Until, "before", q.Before)
}

// hitView is a hit as the page shows it.
type hitView struct {
	Time                time.Time
	User, Where         string
	Path                string // of the player at that second
	At                  string // in the recording, as 1:02:03
	Before, Text, After string // the line; Text is what was looked for
}

// searchData is the dot of the search.
type searchData struct {
	Query       searchQuery
	Off         bool
	Asked       bool // something was looked for
	Rows        []hitView
	Upto        time.Time // where the search gave up; zero: it did not
	First, Next string
	Pending     int // recordings that are not searchable yet
	Failed      int
	Unsearched  int
}

// hitPage is how many hits a page has.
const hitPage = 50

// lead is how much of the recording is played before a hit, in seconds.
const lead = 1

func (s *Server) searchPage(v *visit) error {
	q := searchQuery{
		Text: v.query("text"), User: v.query("user"), Target: v.query("target"), Since: v.query("since"), Until: v.query("until"), Before: v.query("before"),
	}
	d := searchData{Query: q, Off: !s.cfg.Search}
	p := web.Page{Title: "Search", Section: "search", Wide: true}
	counts, err := s.cfg.Store.Search.Counts(v.ctx())
	if err != nil {
		return err
	}
	d.Pending, d.Failed, d.Unsearched = counts[store.SearchPending], counts[store.SearchFailed], counts[store.SearchOff]
	if q.Text == "" || d.Off {
		p.Data = d
		v.show("search", p)
		return nil
	}
	f := store.SearchFilter{Text: q.Text, User: q.User, Target: q.Target, Before: q.Before, Limit: hitPage}
	if f.Since, f.Until, err = period(q.Since, q.Until); err == nil {
		err = s.fillSearch(v, f, &d)
	}
	p.Data = d
	if err != nil {
		if why := v.problem(err); why.Status >= 500 {
			return err
		}
		v.again(err, "search", p)
		return nil
	}
	v.show("search", p)
	return nil
}

func (s *Server) fillSearch(v *visit, f store.SearchFilter, d *searchData) error {
	page, err := s.search(v.ctx(), v.by, f)
	if err != nil {
		return err
	}
	d.Asked, d.Upto = true, page.Upto
	for _, h := range page.Hits {
		d.Rows = append(d.Rows, viewHit(h))
	}
	if d.Query.Before != "" {
		first := d.Query
		first.Before = ""
		d.First = first.address()
	}
	if page.Next != "" {
		older := d.Query
		older.Before = page.Next
		d.Next = older.address()
	}
	return nil
}

func viewHit(h store.SearchHit) hitView {
	view := hitView{Time: h.Time, User: h.User, Where: h.Target, Path: momentPath(h.Session, h.Channel, h.At), At: playTime(h.At)}
	if h.Account != "" {
		view.Where = h.Account + "@" + h.Target
	}
	// A long line is shown around the text.
	before, after := []rune(h.Line[:h.From]), []rune(h.Line[h.To:])
	if len(before) > 100 {
		before = append([]rune("…"), before[len(before)-80:]...)
	}
	view.Before, view.Text, view.After = audit.Escape(string(before)), audit.Escape(h.Line[h.From:h.To]), audit.Escape(clip(string(after), 160))
	return view
}

// momentPath is the address of the player at a moment of a recording; a little before, so that one sees it come.
func momentPath(session string, channel int, at time.Duration) string {
	second := max(int(at/time.Second)-lead, 0)
	return address(within("sessions", session), "channel", strconv.Itoa(channel), "t", strconv.Itoa(second))
}

// playTime is a time in a recording as players show it.
func playTime(at time.Duration) string {
	s := int(at / time.Second)
	two := func(n int) string { return strconv.Itoa(n/10) + strconv.Itoa(n%10) }
	if s < 3600 {
		return strconv.Itoa(s/60) + ":" + two(s%60)
	}
	return strconv.Itoa(s/3600) + ":" + two(s/60%60) + ":" + two(s%60)
}

// commandView is a command as the page of a session shows it.
type commandView struct {
	Command string
	At      string // in the recording
	Path    string
}

// maxCommandsShown bounds the commands on the page of a session.
const maxCommandsShown = 500

// fillCommands fills in what was found on the screen of the channel that is shown. Who reads it leaves an event.
func (s *Server) fillCommands(v *visit, x store.Session, d *replayPage) error {
	if v.r.Header.Get(signin.RefreshHeader) != "" {
		return nil
	}
	_, list, err := s.commands(v.ctx(), x.ID)
	if err != nil {
		return err
	}
	for _, c := range list {
		if c.Channel != d.Channel.ID || c.FoundBy == byRequest {
			continue
		}
		if len(d.Commands) == maxCommandsShown {
			d.CommandsMore++
			continue
		}
		at := time.Duration(c.Second * float64(time.Second))
		d.Commands = append(d.Commands, commandView{Command: c.Command, At: playTime(at), Path: momentPath(x.ID, c.Channel, at)})
	}
	if len(d.Commands) == 0 {
		return nil
	}
	return s.viewed(v.ctx(), v.by, x, d.Channel.ID, "commands")
}
