package admin

import (
	"context"
	"fmt"
	"html/template"
	"strings"
	"sync"
	"time"

	"sallyport/audit"
	"sallyport/internal/web"
	"sallyport/store"
)

// lowSpace is how much room for recordings is little, in bytes.
const lowSpace = 2 << 30

// shownLive and shownEvents bound the lists on the first page.
const (
	shownLive   = 8
	shownEvents = 8
)

// overview is the dot of the first page.
type overview struct {
	Counts store.SessionCounts
	Live   []sessionView

	Asking     []approvalView // who waits for an approval
	AskingMore int

	SignIns signIns
	Locks   int
	Waiting []waitingView // tokens that wait for approval
	Health  []healthLine
	Steps   []firstStep
	Done    int // how many of Steps are done
	Events  []eventView
}

// healthLine is the state of one thing the server needs.
type healthLine struct{ Name, State, Detail string }

// firstStep is one thing to do on a new server.
type firstStep struct {
	Done               bool
	Title, Why, Button string
	Path               string
}

func (s *Server) overviewPage(v *visit) error {
	ctx := v.ctx()
	var o overview
	var err error
	if o.Counts, err = s.cfg.Store.Sessions.Counts(ctx); err != nil {
		return err
	}
	live, err := s.sessionList(ctx, store.SessionFilter{State: store.Live, Limit: shownLive})
	if err != nil {
		return err
	}
	o.Live = s.viewSessions(live)
	if o.Asking, o.AskingMore, err = s.asking(ctx, "", ""); err != nil {
		return err
	}
	if o.SignIns, err = s.web.stats.signIns(ctx, s.cfg.Store, v.now()); err != nil {
		return err
	}
	locks, err := s.lockouts(ctx)
	if err != nil {
		return err
	}
	o.Locks = len(locks)
	waiting, err := s.waitingTokens(ctx)
	if err != nil {
		return err
	}
	o.Waiting = s.viewWaiting(waiting)
	rules, err := s.cfg.Store.Rules.Current(ctx)
	if err != nil {
		return err
	}
	o.Health = s.health(ctx, rules)
	if o.Steps, err = s.firstSteps(ctx, o.Counts, rules); err != nil {
		return err
	}
	for _, step := range o.Steps {
		if step.Done {
			o.Done++
		}
	}
	events, err := s.cfg.Store.Audit.List(ctx, store.AuditFilter{Limit: shownEvents})
	if err != nil {
		return err
	}
	o.Events = viewEvents(events)
	v.show("overview", web.Page{Title: "Overview", Section: "overview", Refresh: true, Data: o})
	return nil
}

// health tells how the things stand that the server needs. That the page is shown at all means that
// the database answers.
func (s *Server) health(ctx context.Context, rules store.RuleSet) []healthLine {
	lines := []healthLine{{"Database", "ok", s.cfg.Store.Engine() + " answers"}}
	if s.cfg.Recorder != nil {
		line := healthLine{"Recordings", "ok", ""}
		free, err := s.cfg.Recorder.Free()
		switch {
		case err != nil:
			line.State, line.Detail = "bad", "the folder cannot be read: "+audit.Escape(err.Error())
		case free < lowSpace:
			line.State, line.Detail = "warn", web.Size(free)+" left: move old recordings away or add space"
		default:
			line.Detail = web.Size(free) + " free"
		}
		lines = append(lines, line)
		if line, ok := s.storeHealth(ctx); ok {
			lines = append(lines, line)
		}
	}
	lines = append(lines, s.auditHealth(ctx))
	if line, ok := s.outboxHealth(ctx); ok {
		lines = append(lines, line)
	}
	if drifting, err := s.cfg.Store.Tokens.Drifting(ctx, s.cfg.Now().Add(-24*time.Hour)); err == nil {
		lines = append(lines, clockHealth(drifting))
	}
	if rules.Version == 0 {
		lines = append(lines, healthLine{"Rules", "bad", "there are none, so everybody is refused"})
	} else {
		lines = append(lines, healthLine{"Rules", "ok", fmt.Sprintf("version %d by %s", rules.Version, audit.Escape(rules.By))})
	}
	if len(s.cfg.Addresses) == 0 && !s.cfg.Demo {
		lines = append(lines, healthLine{"Addresses", "warn", "the configuration does not say from where targets see the bastion (ssh: addresses)"})
	}
	return lines
}

// storeHealth tells how it stands with what is kept, and with what waits for the bucket.
func (s *Server) storeHealth(ctx context.Context) (healthLine, bool) {
	st, err := s.recordingStatus(ctx)
	if err != nil {
		return healthLine{"Kept recordings", "bad", "they cannot be counted"}, true
	}
	line := healthLine{"Kept recordings", "ok", fmt.Sprintf("%d with %s", st.Kept, web.Size(st.KeptBytes))}
	if st.QuotaBytes > 0 {
		line.Detail += ", of " + web.Size(st.QuotaBytes) + " allowed"
	}
	worse := func(state, format string, args ...any) {
		if state == "bad" || line.State == "ok" {
			line.State = state
		}
		line.Detail += fmt.Sprintf(format, args...)
	}
	switch {
	case st.Refusing != "":
		worse("bad", "; no recording is begun: %s", st.Refusing)
	case st.QuotaBytes > 0 && st.KeptBytes > st.QuotaBytes/10*9:
		worse("warn", ": nine tenths are used")
	}
	if st.TailPending > 0 {
		worse("warn", "; %d wait for lost nodes to come back", st.TailPending)
	}
	if !st.Store {
		return line, st.Kept > 0 || line.State != "ok"
	}
	switch {
	case st.Problem != "":
		worse("bad", "; the bucket fails, %d wait here (%s): %s", st.Waiting, web.Size(st.WaitingBytes), st.Problem)
	case st.WaitingSince != nil && s.cfg.Now().Sub(*st.WaitingSince) > lateUpload:
		worse("warn", "; %d wait here for the bucket since %s", st.Waiting, st.WaitingSince.UTC().Format("15:04"))
	default:
		line.Detail += fmt.Sprintf("; %d wait here for the bucket (%s)", st.Waiting, web.Size(st.WaitingBytes))
	}
	return line, true
}

// outboxHealth tells how mail and short messages stand, if any are sent.
func (s *Server) outboxHealth(ctx context.Context) (healthLine, bool) {
	c, err := s.cfg.Store.Outbox.Counts(ctx)
	switch {
	case err != nil:
		return healthLine{"Mail and SMS", "bad", "the outbox cannot be read"}, true
	case c.Failed > 0:
		return healthLine{"Mail and SMS", "bad", fmt.Sprintf("%d given up in the last week, %d wait (sallyport outbox list)", c.Failed, c.Waiting)}, true
	case c.Retried > 0:
		return healthLine{"Mail and SMS", "warn", fmt.Sprintf("%d wait, %d of them after a failed try (sallyport outbox list)", c.Waiting, c.Retried)}, true
	case c.Waiting > 0 && !s.cfg.Messages:
		return healthLine{"Mail and SMS", "warn", fmt.Sprintf("%d wait for another node: this one sends none", c.Waiting)}, true
	case s.cfg.Messages:
		return healthLine{"Mail and SMS", "ok", fmt.Sprintf("%d wait, none was given up", c.Waiting)}, true
	}
	return healthLine{}, false
}

// firstSteps is what a new server still needs, each with the page where it is done.
func (s *Server) firstSteps(ctx context.Context, counts store.SessionCounts, rules store.RuleSet) ([]firstStep, error) {
	targets, err := s.cfg.Store.Targets.List(ctx)
	if err != nil {
		return nil, err
	}
	users, err := s.cfg.Store.Users.List(ctx, store.UserFilter{Limit: 2})
	if err != nil {
		return nil, err
	}
	admins, err := s.cfg.Store.Admins.List(ctx)
	if err != nil {
		return nil, err
	}
	count := 0
	for _, a := range admins {
		if a.Role == store.RoleAdmin {
			count++
		}
	}
	return []firstStep{
		{len(targets) > 0, "Add a target", "A host behind the bastion, and the line by which it trusts the bastion.", "Add a target", "/targets/new"},
		{len(users) > 1, "Add a user", "Give them a password, and a token or let them enrol at their first login.", "Add a user", "/users/new"},
		{rules.Version > 0, "Write the rules", "Until a rule allows something, everybody is refused.", "Write rules", "/rules"},
		{counts.Live+counts.Ended+counts.Lost > 0, "Open a session", "ssh user@target@bastion, with password and code.", "See how", "/targets"},
		{count > 1, "Make a second administrator", "So that a lost token does not lock everybody out of these pages.", "Administrators", "/administrators"},
	}, nil
}

// signIns counts the sign-ins at all doors in the last 24 hours.
type signIns struct {
	OK, Failed int
	Hours      []signInHour // oldest first, the last one is the hour that runs
	Bars       template.HTML
}

type signInHour struct {
	Start      time.Time
	OK, Failed int
}

// statsCache keeps the counts for a short while: a page that refreshes itself must not count a day
// of events every few seconds.
type statsCache struct {
	mu   sync.Mutex // guards the fields below
	made time.Time
	last signIns
}

const statsAge = 15 * time.Second

func (c *statsCache) signIns(ctx context.Context, st *store.Store, now time.Time) (signIns, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if age := now.Sub(c.made); age >= 0 && age < statsAge {
		return c.last, nil
	}
	first := now.UTC().Truncate(time.Hour).Add(-23 * time.Hour)
	counts, err := st.Audit.PerHour(ctx, []string{audit.LoginAccepted, audit.LoginRefused}, first)
	if err != nil {
		return signIns{}, err
	}
	c.last, c.made = countSignIns(counts, first), now
	return c.last, nil
}

func countSignIns(counts []store.HourCount, first time.Time) signIns {
	x := signIns{Hours: make([]signInHour, 24)}
	for i := range x.Hours {
		x.Hours[i].Start = first.Add(time.Duration(i) * time.Hour)
	}
	for _, c := range counts {
		i := int(c.Hour.Sub(first) / time.Hour)
		if i < 0 || i >= len(x.Hours) {
			continue
		}
		if c.Type == audit.LoginAccepted {
			x.OK, x.Hours[i].OK = x.OK+c.Count, x.Hours[i].OK+c.Count
		} else {
			x.Failed, x.Hours[i].Failed = x.Failed+c.Count, x.Hours[i].Failed+c.Count
		}
	}
	x.Bars = bars(x)
	return x
}

// bars draws one column an hour, accepted below and refused on top. The numbers are in the table
// beside it.
func bars(x signIns) template.HTML {
	const height, column = 72, 10
	top := 1
	for _, h := range x.Hours {
		top = max(top, h.OK+h.Failed)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="bars" viewBox="0 0 %d %d" preserveAspectRatio="none" role="img" aria-label="Sign-ins of each hour: %d accepted, %d refused in 24 hours">`,
		len(x.Hours)*column, height, x.OK, x.Failed)
	for i, h := range x.Hours {
		ok := float64(h.OK) / float64(top) * (height - 4)
		bad := float64(h.Failed) / float64(top) * (height - 4)
		if h.OK > 0 {
			fmt.Fprintf(&b, `<rect class="okbar" x="%d" y="%.1f" width="%d" height="%.1f"/>`, i*column+1, height-1-ok, column-2, ok)
		}
		if h.Failed > 0 {
			fmt.Fprintf(&b, `<rect class="badbar" x="%d" y="%.1f" width="%d" height="%.1f"/>`, i*column+1, height-1-ok-bad, column-2, bad)
		}
	}
	fmt.Fprintf(&b, `<path class="base" d="M0 %d.5H%d" vector-effect="non-scaling-stroke"/></svg>`, height-1, len(x.Hours)*column)
	return template.HTML(b.String())
}
