package signin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/internal/web"
)

// maxSmallForm bounds the body of forms that are open to everybody, in bytes.
const maxSmallForm = 16 << 10

// Texts of the form. A refusal says the same whatever was wrong.
const (
	textRefused  = "That did not work."
	textRefused2 = "Check login and password, and take a fresh code: each is good for one sign-in."
	textNoToken  = "You have no token yet, so there is no code to type."
	textNoToken2 = "Ask an administrator for a link to set one up."
	textNoToken3 = "Set one up first: the link is below the form."
)

// formData is the dot of the sign-in form.
type formData struct {
	Login string
	Next  string
	Enrol string // where people without a token set one up with their password; "": nowhere
}

// form is the dot with what does not depend on the request.
func (s *Service) form(login, next string) formData {
	d := formData{Login: login, Next: next}
	if s.cfg.Engine.EnrolsByPassword() {
		d.Enrol = auth.EnrolHere
	}
	return d
}

func nextQuery(path string) string { return url.Values{"next": {path}}.Encode() }

// landing is where somebody goes who has signed in: where they wanted to, but people without a role to their own pages.
func landing(role, next string) string {
	next = web.LocalPath(next)
	if role == "" && next != OwnPages && !strings.HasPrefix(next, OwnPages+"/") {
		return OwnPages
	}
	return next
}

func (s *Service) showForm(w http.ResponseWriter, r *http.Request) {
	next := web.LocalPath(r.URL.Query().Get("next"))
	if u, err := s.User(r); err == nil {
		http.Redirect(w, r, landing(u.Role, next), http.StatusSeeOther)
		return
	}
	p := web.Page{Title: "Sign in", Data: s.form("", next)}
	if r.URL.Query().Has("out") {
		p.Notice = &web.Notice{Kind: "ok", Text: "You are signed out."}
	}
	s.pages.Render(w, r, http.StatusOK, "signin", p)
}

func (s *Service) signIn(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxSmallForm)
	if err := r.ParseForm(); err != nil {
		s.refuse(w, r, http.StatusBadRequest, textRefused, "The form could not be read.")
		return
	}
	a := auth.Attempt{
		Door: audit.DoorWeb, Login: r.PostFormValue("login"), Source: web.Source(r, s.cfg.Proxies), Client: client(r),
	}
	answers := formAnswers{auth.PromptPassword: r.PostFormValue("password"), auth.PromptCode: r.PostFormValue("code")}
	id, err := s.cfg.Engine.Begin(a).Run(r.Context(), answers)
	switch {
	case errors.Is(err, errEnrol):
		next := textNoToken2
		if s.cfg.Engine.EnrolsByPassword() {
			next = textNoToken3
		}
		s.refuse(w, r, http.StatusForbidden, textNoToken, next)
		return
	case errors.Is(err, auth.ErrUnavailable):
		var refused *auth.Refused
		text := "Sign-in is not possible just now."
		if errors.As(err, &refused) {
			text = refused.Public
		}
		s.refuse(w, r, http.StatusServiceUnavailable, text, "")
		return
	case err != nil:
		s.refuse(w, r, http.StatusForbidden, textRefused, textRefused2)
		return
	}
	role, err := s.role(r.Context(), id.UserID)
	if err == nil {
		err = s.Begin(r, id.UserID)
	}
	if err != nil {
		s.broken(w, r, err)
		return
	}
	http.Redirect(w, r, landing(role, r.PostFormValue("next")), http.StatusSeeOther)
}

// refuse shows the form again. Password and code are to be typed anew.
func (s *Service) refuse(w http.ResponseWriter, r *http.Request, status int, text, next string) {
	s.pages.Render(w, r, status, "signin", web.Page{
		Title: "Sign in", Notice: &web.Notice{Kind: "bad", Text: text, Next: next},
		Data: s.form(r.PostFormValue("login"), web.LocalPath(r.PostFormValue("next"))),
	})
}

func (s *Service) signOut(w http.ResponseWriter, r *http.Request) {
	if err := s.forget(r.Context()); !errors.Is(err, ErrNobody) {
		s.broken(w, r, err)
		return
	}
	http.Redirect(w, r, "/signin?out=1", http.StatusSeeOther)
}

// emit writes an audit event of this door. It is kept in memory while the database is away.
func (s *Service) emit(r *http.Request, e audit.Event) {
	e.Door, e.Source = audit.DoorWeb, web.Source(r, s.cfg.Proxies).String()
	if err := s.cfg.Audit.Emit(r.Context(), e); err != nil {
		s.cfg.Log.ErrorContext(r.Context(), "audit event waits in memory", "err", err)
	}
}

// formAnswers is the auth.Asker of a form that was filled in before anything is asked: prompts and
// what was typed.
type formAnswers map[string]string

// errEnrol: the conversation wants to enrol a token, which takes more than one page.
var errEnrol = errors.New("a form cannot enrol a token")

// Ask returns what was typed.
func (f formAnswers) Ask(_ context.Context, _ string, prompts []auth.Prompt) ([]string, error) {
	answers := make([]string, len(prompts))
	for i, p := range prompts {
		typed, ok := f[p.Text]
		if !ok {
			return nil, fmt.Errorf("the form has no field for %q", p.Text)
		}
		answers[i] = typed
	}
	return answers, nil
}

// Show is only used to show a new token's secret.
func (f formAnswers) Show(context.Context, string) error { return errEnrol }
