package portal

import (
	"errors"
	"net/http"
	"slices"
	"time"

	"sallyport/audit"
	"sallyport/internal/web"
	"sallyport/signin"
	"sallyport/store"
)

// How much of the past is shown.
const (
	shownSignIns  = 50
	shownSessions = 25
)

// activityData is the dot of the page of what was done in the person's name.
type activityData struct {
	SignIns  []audit.Event
	Sessions []store.Session
	Web      []store.WebSession
}

func (s *Server) activityPage(v *visit) error {
	d := activityData{}
	// Events name a login. Another person may have had it before: nothing from before this row is shown.
	for _, kind := range []string{audit.LoginAccepted, audit.LoginRefused, audit.CodeReplayed} {
		list, err := s.cfg.Store.Audit.List(v.ctx(), store.AuditFilter{Type: kind, User: v.me.Login, Since: v.me.Created, Limit: shownSignIns})
		if err != nil {
			return err
		}
		d.SignIns = append(d.SignIns, list...)
	}
	slices.SortFunc(d.SignIns, func(a, b audit.Event) int { return b.Time.Compare(a.Time) })
	d.SignIns = d.SignIns[:min(len(d.SignIns), shownSignIns)]
	sessions, err := s.cfg.Store.Sessions.List(v.ctx(), store.SessionFilter{User: v.me.Login, Since: v.me.Created, Limit: shownSessions})
	if err != nil {
		return err
	}
	d.Sessions = sessions
	if d.Web, err = s.cfg.Store.WebSessions.List(v.ctx(), v.me.ID); err != nil {
		return err
	}
	return v.show("activity", web.Page{Title: "Sessions and sign-ins", Section: "activity", Data: d})
}

func (s *Server) endWebSessionForm(v *visit) error {
	if err := s.cfg.Store.WebSessions.End(v.ctx(), v.me.ID, v.r.PostFormValue("id")); err != nil {
		return err
	}
	v.changed("web-session.end", nil)
	return v.done(signin.OwnPages+"/activity", "That browser is signed out.")
}

func (s *Server) confirmAlarmPage(v *visit) error {
	return v.show("confirm", web.Page{Title: "This was not me", Section: "activity", Data: confirmation{
		Question:    "Has somebody else signed in as you?",
		Consequence: "Your account is locked at once, here too: all your sessions and browsers are ended, no place is trusted any more, and the operators are told. Only they can unlock it.",
		Action:      signin.OwnPages + "/not-me", Button: "Yes, lock my account", Cancel: signin.OwnPages + "/activity",
	}})
}

// alarmReason is why the account is locked, for operators.
const alarmReason = "the person says that somebody else has signed in as them"

// alarmForm locks the person first, so that whatever is ended afterwards cannot come back.
func (s *Server) alarmForm(v *visit) error {
	if err := s.cfg.Store.Users.Lock(v.ctx(), v.me.ID, alarmReason, time.Time{}); err != nil {
		return err
	}
	v.emit(audit.Event{Type: audit.AccountAlarm, Reason: alarmReason})
	ended, err := s.cfg.Store.WebSessions.EndAll(v.ctx(), v.me.ID)
	if err != nil {
		s.cfg.Log.ErrorContext(v.ctx(), "ending web sessions of a locked person", "user", v.me.Login, "sessions", ended, "err", err) // the lock refuses them anyway
	}
	s.endSessions(v)
	s.pages.Render(v.w, v.r, http.StatusOK, "locked", web.Page{Title: "Your account is locked"})
	return nil
}

// endSessions ends the person's live SSH sessions. The lock has told every node of them already: what fails here
// ends when the connection is looked at next.
func (s *Server) endSessions(v *visit) {
	f := store.SessionFilter{State: store.Live, User: v.me.Login}
	for {
		list, err := s.cfg.Store.Sessions.List(v.ctx(), f)
		if err != nil {
			s.cfg.Log.ErrorContext(v.ctx(), "listing sessions to end", "err", err)
			return
		}
		for _, x := range list {
			if err := s.cfg.Sessions.End(v.ctx(), x.ID, v.me.Login, "your account was locked"); err != nil && !errors.Is(err, store.ErrNotFound) {
				s.cfg.Log.ErrorContext(v.ctx(), "ending a session", "session", x.ID, "err", err)
			}
		}
		if len(list) == 0 {
			return
		}
		f.Before = list[len(list)-1].ID
	}
}
