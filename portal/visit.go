package portal

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/internal/web"
	"sallyport/signin"
	"sallyport/store"
)

// visit is one request to a page by the person it is about.
type visit struct {
	s    *Server
	w    http.ResponseWriter
	r    *http.Request
	me   store.User
	role string // among the administrators, "" for most people
}

// problem is why something was not done, in words for the person.
type problem struct {
	status int
	Title  string
	What   string
	Next   string
}

func (p *problem) Error() string { return p.What }

// errNotYours is the one answer for what is not there and for what is another person's.
var errNotYours = &problem{http.StatusNotFound, "Nothing here", "There is nothing of yours at this address.", "It may have been removed meanwhile."}

func wrong(what, next string) error {
	return &problem{http.StatusUnprocessableEntity, "Not done", what, next}
}

// open lets in whoever is signed in, and finds their row: it is the one place where it is decided whose pages
// these are.
func (s *Server) open(serve func(*visit) error) http.HandlerFunc {
	return s.cfg.SignIn.RequireAnybody(func(w http.ResponseWriter, r *http.Request, u signin.User) {
		me, err := s.cfg.Store.Users.ByID(r.Context(), u.UserID)
		if err != nil {
			s.cfg.SignIn.Unavailable(w, r, err)
			return
		}
		v := &visit{s: s, w: w, r: r, me: me, role: u.Role}
		// A form that was cut off must not be taken for what was meant.
		if err := r.ParseForm(); err != nil {
			v.fail(&problem{http.StatusBadRequest, "Not done", "The form could not be read.", "Go back and send it again."})
			return
		}
		if err := serve(v); err != nil {
			v.fail(err)
		}
	})
}

func (s *Server) nothingHere(*visit) error {
	return &problem{http.StatusNotFound, "Nothing here", "There is no page at this address.", ""}
}

func (v *visit) ctx() context.Context     { return v.r.Context() }
func (v *visit) now() time.Time           { return v.s.cfg.Now() }
func (v *visit) source() netip.Addr       { return web.Source(v.r, v.s.cfg.Proxies) }
func (v *visit) typed(name string) string { return strings.TrimSpace(v.r.PostFormValue(name)) }

// identity is who the web session says this is.
func (v *visit) identity() auth.Identity { return auth.Returning(v.me, audit.DoorWeb, v.source()) }

// prove asks for the fresh code that the form must bring. purpose is for the audit log.
func (v *visit) prove(purpose string) error {
	return v.s.cfg.Engine.ProveCode(v.ctx(), v.identity(), v.r.PostFormValue("code"), purpose)
}

// changed leaves the audit event of a change that was made.
func (v *visit) changed(change string, detail map[string]string) {
	d := map[string]string{"change": change}
	for k, value := range detail {
		d[k] = value
	}
	v.emit(audit.Event{Type: audit.AccountChanged, Detail: d})
}

// emit is for what was done already: an event that cannot be written now waits in memory.
func (v *visit) emit(e audit.Event) {
	e.Result, e.Door, e.User, e.Source = audit.OK, audit.DoorWeb, v.me.Login, v.source().String()
	if err := v.s.cfg.Audit.Emit(v.ctx(), e); err != nil {
		v.s.cfg.Log.ErrorContext(v.ctx(), "audit event waits in memory", "err", err)
	}
}

// render writes a page in the frame of the person's own pages.
func (v *visit) render(status int, name string, p web.Page) {
	nav := slices.Clone(sections)
	for i := range nav {
		if nav[i].Path == approvalsPath {
			nav[i] = v.waiting(nav[i])
		}
	}
	if v.role != "" {
		nav = append(nav, operators)
	}
	p.Account = &web.Account{Login: v.me.Login, Role: v.role, CanWrite: v.role == store.RoleAdmin, Nav: nav}
	if p.Notice == nil {
		p.Notice = v.s.cfg.SignIn.Told(v.r)
	}
	v.s.pages.Render(v.w, v.r, status, name, p)
}

func (v *visit) show(name string, p web.Page) error {
	v.render(http.StatusOK, name, p)
	return nil
}

// done tells what was done on the page it leads to.
func (v *visit) done(path, format string, args ...any) error {
	v.s.cfg.SignIn.Tell(v.r, web.Notice{Kind: "ok", Text: fmt.Sprintf(format, args...)})
	http.Redirect(v.w, v.r, path, http.StatusSeeOther)
	return nil
}

// problemOf turns an error into what the person may read.
func (v *visit) problemOf(err error) *problem {
	var p *problem
	var refused *auth.Refused
	switch {
	case errors.As(err, &p):
		return p
	case errors.Is(err, auth.ErrUnavailable), errors.Is(err, store.ErrUnavailable):
		v.s.cfg.Log.ErrorContext(v.ctx(), "own page", "path", v.r.URL.Path, "err", err)
		return &problem{http.StatusServiceUnavailable, "Not possible just now", "Sallyport cannot reach what it needs for this.", "Try again in a minute; if it stays so, tell an operator."}
	case errors.As(err, &refused):
		return &problem{http.StatusForbidden, "Not done", refused.Public, ""}
	case errors.Is(err, store.ErrNotFound):
		return errNotYours
	}
	v.s.cfg.Log.ErrorContext(v.ctx(), "own page", "path", v.r.URL.Path, "err", err)
	return &problem{http.StatusInternalServerError, "Not done", "Something is wrong here.", "The server's log has the cause: tell an operator."}
}

func (v *visit) fail(err error) {
	p := v.problemOf(err)
	v.render(p.status, "problem", web.Page{Title: p.Title, Data: p})
}

// again shows a page once more with why its form was not taken.
func (v *visit) again(err error, name string, p web.Page) error {
	why := v.problemOf(err)
	if why == errNotYours {
		return err
	}
	p.Notice = &web.Notice{Kind: "bad", Text: why.What, Next: why.Next}
	v.render(why.status, name, p)
	return nil
}

// confirmation asks before something is taken away; it needs no script.
type confirmation struct {
	Question, Consequence string
	Action, Button        string
	Cancel                string
}

// checkName accepts one line of text, at most 100 bytes.
func checkName(name string) error {
	if len(name) > 100 || audit.Escape(name) != name {
		return wrong("This name cannot be kept.", "Use one line of at most 100 bytes, without control or invisible characters.")
	}
	return nil
}
