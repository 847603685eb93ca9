package admin

import (
	"maps"
	"slices"
	"strings"
	"time"

	"sallyport/audit"
	"sallyport/internal/web"
	"sallyport/store"
)

// eventView is an audit event as the pages show it.
type eventView struct {
	Time        time.Time
	Type        string
	Result      string
	Door        string
	Who         string // user, or operator and the user it was done to
	Source      string
	Where       string // account@target
	Reason      string
	More        string // details by name
	SessionPath string
}

func viewEvents(events []audit.Event) []eventView {
	views := make([]eventView, len(events))
	for i, e := range events {
		v := eventView{
			Time: e.Time, Type: e.Type, Result: string(e.Result), Door: e.Door, Who: e.User, Source: e.Source,
			Where: e.Target, Reason: e.Reason,
		}
		if e.Actor != "" {
			v.Who = e.Actor
			if e.User != "" && e.User != e.Actor {
				v.Who += " → " + e.User
			}
		}
		if e.Account != "" && e.Target != "" {
			v.Where = e.Account + "@" + e.Target
		}
		if e.Session != "" {
			v.SessionPath = within("sessions", e.Session)
		}
		var more []string
		if e.Rule != "" {
			more = append(more, "rule "+e.Rule)
		}
		for _, key := range slices.Sorted(maps.Keys(e.Detail)) {
			if e.Detail[key] != "" && key != "client" {
				more = append(more, key+" "+clip(e.Detail[key], 120))
			}
		}
		if client := e.Detail["client"]; client != "" {
			more = append(more, clip(client, 40))
		}
		v.More = strings.Join(more, " · ")
		views[i] = v
	}
	return views
}

// auditQuery is the filter as it stands in the address of the page.
type auditQuery struct {
	Type, Result, User, Target, Session, Since, Until, Text, Before string
}

func (q auditQuery) any() bool {
	q.Before = ""
	return q != auditQuery{}
}

func (q auditQuery) address() string {
	return address("/audit", "type", q.Type, "result", q.Result, "user", q.User, "target", q.Target, "session", q.Session,
		"since", q.Since, "until", q.Until, "text", q.Text, "before", q.Before)
}

// auditData is the dot of the audit log.
type auditData struct {
	Query       auditQuery
	Filtered    bool
	Types       []string
	Results     []audit.Result
	Rows        []eventView
	First, Next string
}

// eventTypes are those that the filter offers.
var eventTypes = []string{
	audit.LoginAccepted, audit.LoginRefused, audit.CodeSent, audit.MessageFailed, audit.CodeReplayed, audit.TokenEnrolled, audit.LockoutSet, audit.AccessDecided,
	audit.SessionStarted, audit.SessionEnded, audit.ChannelStarted, audit.ChannelEnded, audit.ChannelRefused,
	audit.RecordLimit, audit.RecordFailed, audit.RecordSealed, audit.RecordDeleted, audit.BreakGlassUsed, audit.HostKeyTrusted, audit.HostKeyRefused,
	audit.OperatorChange, audit.OperatorView, audit.SessionWatched, audit.Moderation, audit.NodeStarted, audit.NodeStopped, audit.ConnRefused,
}

func (s *Server) auditPage(v *visit) error {
	q := auditQuery{
		Type: v.query("type"), Result: v.query("result"), User: v.query("user"), Target: v.query("target"), Session: v.query("session"),
		Since: v.query("since"), Until: v.query("until"), Text: v.query("text"), Before: v.query("before"),
	}
	d := auditData{Query: q, Filtered: q.any(), Types: eventTypes, Results: []audit.Result{audit.OK, audit.Refused, audit.Error}}
	f := store.AuditFilter{
		Type: q.Type, Result: q.Result, User: q.User, Target: q.Target, Session: q.Session, Query: q.Text, Before: q.Before, Limit: pageRows + 1,
	}
	var notice *web.Notice
	var err error
	if f.Since, f.Until, err = period(q.Since, q.Until); err != nil {
		notice = &web.Notice{Kind: "bad", Text: web.Sentence(v.problem(err).Detail), Next: web.Sentence(v.problem(err).Hint)}
	}
	events, err := s.cfg.Store.Audit.List(v.ctx(), f)
	if err != nil {
		return err
	}
	if len(events) > pageRows {
		events = events[:pageRows]
		older := q
		older.Before = events[pageRows-1].ID
		d.Next = older.address()
	}
	if q.Before != "" {
		first := q
		first.Before = ""
		d.First = first.address()
	}
	d.Rows = viewEvents(events)
	v.show("audit", web.Page{Title: "Audit log", Section: "audit", Wide: true, Refresh: q.Before == "", Notice: notice, Data: d})
	return nil
}
