package portal

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/identity"
	"sallyport/internal/web"
	"sallyport/otp"
	"sallyport/signin"
	"sallyport/store"
)

// purposeEnrolling is the purpose of the tickets that stand for a secret that was shown by way of a link.
const purposeEnrolling = "enrolling"

// enrolling is what such a ticket holds, sealed.
type enrolling struct {
	Link   string // the ticket of the link it was made by
	Secret string // base32
}

// enrolData is the dot of the pages of a link before the secret is shown.
type enrolData struct {
	Ticket, Login string
	Wrong         string
}

// link is a request by a one-time link: nobody is signed in.
type link struct {
	s       *Server
	w       http.ResponseWriter
	r       *http.Request
	ticket  string // of the link
	browser string // the secret that this browser keeps; "": none yet
}

func (s *Server) link(w http.ResponseWriter, r *http.Request) *link {
	l := &link{s: s, w: w, r: r, ticket: r.FormValue("ticket")}
	if c, err := r.Cookie(s.browserCookie()); err == nil && len(c.Value) == len(rand.Text()) {
		l.browser = c.Value
	}
	return l
}

// browserCookie is the name of the cookie by which a browser is known again.
func (s *Server) browserCookie() string {
	if s.cfg.Secure {
		return "__Host-sallyport-enrol"
	}
	return "sallyport-enrol"
}

// ctx is that of the request.
func (l *link) ctx() context.Context { return l.r.Context() }

func (l *link) render(status int, name, title string, data any) {
	l.s.pages.Render(l.w, l.r, status, name, web.Page{Title: title, Data: data})
}

func (l *link) sorry(status int, title, what, next string) {
	l.render(status, "sorry", title, &problem{Title: title, What: what, Next: next})
}

// refuse answers when a link cannot be used.
func (l *link) refuse(err error) {
	switch {
	case errors.Is(err, store.ErrOtherBrowser):
		l.emit("", audit.Refused, err.Error())
		l.sorry(http.StatusForbidden, "Opened elsewhere", "This link was opened in another browser first, and works only there.",
			"Go on in that browser. If that was not you, tell an operator at once: somebody else has your link. You need a new one.")
	case errors.Is(err, store.ErrNotFound):
		l.sorry(http.StatusGone, "Link not valid", "This link does not work any more.", "It is good once and for 24 hours. Ask an operator for a new one.")
	case errors.Is(err, store.ErrExists):
		l.sorry(http.StatusConflict, "Not needed", "You have a token already.", "Sign in with its code, and add another one on your own pages.")
	default:
		l.s.cfg.SignIn.Unavailable(l.w, l.r, err)
	}
}

// emit leaves an event about the use of a link.
func (l *link) emit(login string, result audit.Result, reason string) {
	e := audit.Event{
		Type: audit.AccountChanged, Result: result, Door: audit.DoorWeb, User: login, Source: web.Source(l.r, l.s.cfg.Proxies).String(),
		Reason: reason, Detail: map[string]string{"change": "enrol-link.opened", "client": client(l.r)},
	}
	if err := l.s.cfg.Audit.Emit(l.ctx(), e); err != nil {
		l.s.cfg.Log.ErrorContext(l.ctx(), "audit event waits in memory", "err", err)
	}
}

func client(r *http.Request) string {
	c := r.UserAgent()
	return audit.Escape(c[:min(len(c), 200)])
}

// person is whom the link is about, if it is this browser's.
func (l *link) person() (store.User, error) {
	if l.browser == "" {
		return store.User{}, store.ErrOtherBrowser
	}
	t, err := l.s.cfg.Store.Tickets.PeekBound(l.ctx(), auth.PurposeEnrol, l.ticket, l.browser)
	if err != nil {
		return store.User{}, err
	}
	u, err := l.s.cfg.Store.Users.ByID(l.ctx(), t.Subject)
	if err == nil && u.LockedNow(l.s.cfg.Now()) {
		err = store.ErrNotFound // a lock means no at every door, and says so nowhere
	}
	return u, err
}

// enrolPage opens a link. It changes nothing: whatever looks at links in mail, before the person does, must not use
// them up.
func (s *Server) enrolPage(w http.ResponseWriter, r *http.Request) {
	l := s.link(w, r)
	if l.ticket == "" && s.cfg.Engine.EnrolsByPassword() {
		l.beginPage(http.StatusOK, "", "")
		return
	}
	t, err := s.cfg.Store.Tickets.Peek(l.ctx(), auth.PurposeEnrol, l.ticket)
	if err != nil {
		l.refuse(err)
		return
	}
	if !t.Bound {
		l.render(http.StatusOK, "enrol_open", "Set up your one-time codes", enrolData{Ticket: l.ticket})
		return
	}
	l.passwordPage(http.StatusOK, "")
}

func (l *link) passwordPage(status int, wrong string) {
	u, err := l.person()
	if err != nil {
		l.refuse(err)
		return
	}
	l.render(status, "enrol", "Set up your one-time codes", enrolData{Ticket: l.ticket, Login: u.Login, Wrong: wrong})
}

// openEnrolForm gives the link to this browser, if it is the first.
func (s *Server) openEnrolForm(w http.ResponseWriter, r *http.Request) {
	l := s.link(w, r)
	t, err := l.take()
	if err != nil {
		l.refuse(err)
		return
	}
	if u, err := s.cfg.Store.Users.ByID(l.ctx(), t.Subject); err == nil {
		l.emit(u.Login, audit.OK, "")
	}
	http.Redirect(w, r, auth.EnrolPath(l.ticket), http.StatusSeeOther)
}

// take gives the link to this browser, if it is the first.
func (l *link) take() (store.Ticket, error) {
	if l.browser == "" {
		l.browser = rand.Text()
	}
	t, err := l.s.cfg.Store.Tickets.Bind(l.ctx(), auth.PurposeEnrol, l.ticket, l.browser)
	if err != nil {
		return t, err
	}
	// Lax, not Strict: the person may follow the link in the mail a second time.
	http.SetCookie(l.w, &http.Cookie{
		Name: l.s.browserCookie(), Path: "/", Value: l.browser, MaxAge: int(auth.EnrolLinkLife / time.Second),
		HttpOnly: true, Secure: l.s.cfg.Secure, SameSite: http.SameSiteLaxMode,
	})
	return t, nil
}

// enrolPasswordForm proves the password, and shows the secret.
func (s *Server) enrolPasswordForm(w http.ResponseWriter, r *http.Request) {
	l := s.link(w, r)
	u, err := l.person()
	if err != nil {
		l.refuse(err)
		return
	}
	a := auth.Attempt{Door: audit.DoorWeb, Login: u.Login, Source: web.Source(r, s.cfg.Proxies), Client: client(r)}
	id, err := s.cfg.Engine.ProvePassword(l.ctx(), a, identity.Password(r.PostFormValue("password")))
	switch {
	case errors.Is(err, auth.ErrUnavailable):
		l.refuse(err)
		return
	case err != nil || id.UserID != u.ID: // the name may have changed hands since the link was made
		l.passwordPage(http.StatusForbidden, "That did not work. Check the password; after several wrong ones nothing is looked at for a while.")
		return
	}
	l.begin(u)
}

// begin shows the person a new secret.
func (l *link) begin(u store.User) {
	en := l.s.cfg.Engine.NewEnrolment(u.Login)
	pending, err := l.s.keep(l.ctx(), purposeEnrolling, u.ID, enrolling{l.ticket, en.Secret.Base32()})
	if err != nil {
		l.refuse(err)
		return
	}
	l.scanPage(http.StatusOK, en, u.Login, pending, "")
}

func (l *link) scanPage(status int, en auth.Enrolment, login, pending, wrong string) {
	d, err := newScan(en, login, pending)
	if err != nil {
		l.refuse(err)
		return
	}
	d.Ticket, d.Wrong = l.ticket, wrong
	l.render(status, "enrol_scan", "Your one-time codes", d)
}

// enrolCodeForm proves the token and uses the link up. Of several that are sent at once one makes a token.
func (s *Server) enrolCodeForm(w http.ResponseWriter, r *http.Request) {
	l := s.link(w, r)
	u, err := l.person()
	if err != nil {
		l.refuse(err)
		return
	}
	pending := r.PostFormValue("pending")
	en, err := s.begun(l, u, pending)
	if errors.Is(err, store.ErrNotFound) {
		l.passwordPage(http.StatusUnprocessableEntity, "That took too long. Type the password again; a new secret is shown.")
		return
	}
	if err != nil {
		l.refuse(err)
		return
	}
	use := store.TicketUse{Purpose: auth.PurposeEnrol, Secret: l.ticket, Browser: l.browser}
	t, err := s.cfg.Engine.EnrolByLink(l.ctx(), u, en, "enrolled by link", r.PostFormValue("code"), use)
	switch {
	case errors.Is(err, auth.ErrCode):
		l.scanPage(http.StatusUnprocessableEntity, en, u.Login, pending, textNewCode)
		return
	case err != nil:
		l.refuse(err)
		return
	}
	s.enrolled(l.ctx(), t, u, web.Source(r, s.cfg.Proxies).String())
	if err := s.cfg.Store.Tickets.Drop(l.ctx(), purposeEnrolling, u.ID); err != nil {
		s.cfg.Log.ErrorContext(l.ctx(), "dropping a secret that is proved", "err", err) // it expires by itself
	}
	s.finish(l, u, t)
}

// begun is the enrolment that the password form began by this link.
func (s *Server) begun(l *link, u store.User, pending string) (auth.Enrolment, error) {
	t, err := s.cfg.Store.Tickets.Peek(l.ctx(), purposeEnrolling, pending)
	if err != nil {
		return auth.Enrolment{}, err
	}
	var p enrolling
	if err := json.Unmarshal(t.Data, &p); err != nil {
		return auth.Enrolment{}, fmt.Errorf("reading a secret that is not proved: %w", err)
	}
	if t.Subject != u.ID || p.Link != l.ticket {
		return auth.Enrolment{}, store.ErrNotFound
	}
	secret, err := otp.ParseSecret(p.Secret)
	return s.cfg.Engine.EnrolmentOf(u.Login, secret), err
}

// finish shows ten recovery codes, this once.
func (s *Server) finish(l *link, u store.User, t store.Token) {
	d := issuedCodes{Next: "/signin?next=" + signin.OwnPages, Words: "Your token is set up. The code you typed is used; sign in with the next one."}
	if t.Waiting {
		// No recovery codes: they would open the account before anybody approved anything.
		l.sorry(http.StatusOK, "Your token is set up", "Its codes are accepted once an operator has approved it.",
			"You get a mail then, if your address is on file. Then sign in, and make recovery codes on your own pages.")
		return
	}
	codes, err := s.cfg.Engine.NewRecoveryCodes(l.ctx(), u, u.Login)
	if err != nil {
		s.cfg.Log.ErrorContext(l.ctx(), "making recovery codes", "user", u.Login, "err", err)
		l.sorry(http.StatusOK, "Your token is set up", d.Words, "There are no recovery codes yet: make them on your own pages.")
		return
	}
	d.Codes = codes
	e := audit.Event{Type: audit.AccountChanged, Result: audit.OK, Door: audit.DoorWeb, User: u.Login, Source: web.Source(l.r, s.cfg.Proxies).String(),
		Detail: map[string]string{"change": "recovery-codes.new"}}
	if err := s.cfg.Audit.Emit(l.ctx(), e); err != nil {
		s.cfg.Log.ErrorContext(l.ctx(), "audit event waits in memory", "err", err)
	}
	l.render(http.StatusOK, "codes", "Your token is set up", d)
}
