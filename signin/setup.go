package signin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/identity"
	"sallyport/internal/web"
	"sallyport/otp"
	"sallyport/store"
)

// Lengths of a password. Nothing else is asked of it: length is what makes one hard to guess
// (NIST SP 800-63B), and rules on its letters only make it hard to remember.
const (
	MinPassword = 12   // characters
	maxPassword = 1023 // bytes, what OpenSSH takes
)

// setupTime is how long a person may take between the two steps.
const setupTime = 30 * time.Minute

// purposePending is the purpose of the tickets that stand for a first step that was done.
const purposePending = "first-admin-pending"

// pending is what the first step leaves for the second. It is kept sealed, as the data of a ticket.
type pending struct {
	Ticket   string // of the link that it was made with
	Login    string
	Name     string
	Password string // hash
	Secret   string // base32
	URI      string
}

func (s *Service) keep(ctx context.Context, p pending) (ticket string, err error) {
	data, err := json.Marshal(p)
	if err == nil {
		ticket, err = s.cfg.Store.Tickets.Create(ctx, purposePending, p.Login, data, setupTime)
	}
	if err != nil {
		return "", fmt.Errorf("keeping the first step: %w", err)
	}
	return ticket, nil
}

// kept returns what the first step left, which may be asked for several times: a code can be wrong.
func (s *Service) kept(ctx context.Context, ticket, link string) (pending, error) {
	t, err := s.cfg.Store.Tickets.Peek(ctx, purposePending, ticket)
	var p pending
	if err == nil {
		err = json.Unmarshal(t.Data, &p)
	}
	if err == nil && p.Ticket != link {
		err = store.ErrNotFound
	}
	if err != nil {
		return pending{}, fmt.Errorf("reading the first step: %w", err)
	}
	return p, nil
}

// setupData is the dot of the first administrator's pages.
type setupData struct {
	Ticket      string
	Login, Name string
	Wrong       map[string]string // what is wrong with a field, in words

	// second step
	Pending string // ticket of what the first step left
	QR      template.HTML
	Secret  string // base32 in groups of four
}

const (
	textLinkGone  = "This link does not work any more."
	textLinkGone2 = "It is good once and for a limited time. If there is no administrator yet, ask whoever runs the server for a new one; otherwise sign in."
)

func (s *Service) showSetup(w http.ResponseWriter, r *http.Request) {
	ticket := r.URL.Query().Get("ticket")
	if !s.ticketGood(w, r, ticket) {
		return
	}
	s.renderSetup(w, r, http.StatusOK, "setup", setupData{Ticket: ticket, Login: "admin"})
}

// ticketGood tells whether the ticket can still be taken. If not, it has answered.
func (s *Service) ticketGood(w http.ResponseWriter, r *http.Request, ticket string) bool {
	_, err := s.cfg.Store.Tickets.Peek(r.Context(), PurposeFirstAdmin, ticket)
	switch {
	case errors.Is(err, store.ErrNotFound):
		s.linkGone(w, r)
	case err != nil:
		s.broken(w, r, err)
	}
	return err == nil
}

func (s *Service) linkGone(w http.ResponseWriter, r *http.Request) {
	s.pages.Render(w, r, http.StatusGone, "sorry", web.Page{Title: "Link not valid", Data: sorry{textLinkGone, textLinkGone2}})
}

func (s *Service) renderSetup(w http.ResponseWriter, r *http.Request, status int, page string, d setupData) {
	title := "First administrator"
	if page == "setup2" {
		title = "Your one-time codes"
	}
	s.pages.Render(w, r, status, page, web.Page{Title: title, Data: d})
}

// setup answers both steps: the second one brings the ticket of what the first one left.
func (s *Service) setup(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxSmallForm)
	ticket := r.PostFormValue("ticket")
	if !s.ticketGood(w, r, ticket) {
		return
	}
	if r.PostFormValue("pending") != "" {
		s.setupCode(w, r, ticket)
		return
	}
	s.setupAccount(w, r, ticket)
}

// setupAccount takes login, name and password, and shows the secret of the token.
func (s *Service) setupAccount(w http.ResponseWriter, r *http.Request, ticket string) {
	d := setupData{Ticket: ticket, Login: r.PostFormValue("login"), Name: r.PostFormValue("name")}
	password := r.PostFormValue("password")
	login, err := s.checkAccount(r, &d, password)
	if err != nil {
		s.broken(w, r, err)
		return
	}
	if len(d.Wrong) > 0 {
		s.renderSetup(w, r, http.StatusUnprocessableEntity, "setup", d)
		return
	}
	hash, err := identity.HashPassword(r.Context(), identity.Password(password))
	if err != nil {
		s.broken(w, r, err)
		return
	}
	en := s.cfg.Engine.NewEnrolment(login)
	p := pending{Ticket: ticket, Login: login, Name: d.Name, Password: hash, Secret: en.Secret.Base32(), URI: en.URI}
	d = setupData{Ticket: ticket}
	if d.Pending, err = s.keep(r.Context(), p); err != nil {
		s.broken(w, r, err)
		return
	}
	s.askCode(w, r, http.StatusOK, d, p)
}

// checkAccount notes in d what is wrong with the fields, and returns the canonical login.
func (s *Service) checkAccount(r *http.Request, d *setupData, password string) (login string, err error) {
	d.Wrong = map[string]string{}
	login, err = identity.CanonicalLogin(d.Login)
	if err != nil {
		d.Wrong["login"] = "Use 1 to 64 of a–z, 0–9, dot, hyphen and underscore; begin with a letter, a digit or an underscore."
	} else {
		_, err = s.cfg.Store.Users.ByLogin(r.Context(), login)
		switch {
		case err == nil:
			d.Wrong["login"] = "There is a user of this name already. Choose another."
		case !errors.Is(err, store.ErrNotFound):
			return "", fmt.Errorf("looking up login: %w", err)
		}
	}
	if utf8.RuneCountInString(d.Name) > 100 {
		d.Wrong["name"] = "Use at most 100 characters."
	}
	switch {
	case utf8.RuneCountInString(password) < MinPassword:
		d.Wrong["password"] = fmt.Sprintf("Use at least %d characters. A few words in a row do well.", MinPassword)
	case strings.TrimSpace(password) == "" || strings.ContainsFunc(password, unicode.IsControl):
		d.Wrong["password"] = "Use printable characters, not blanks alone: it must be typed at a prompt."
	case len(password) > maxPassword:
		d.Wrong["password"] = fmt.Sprintf("Use at most %d bytes.", maxPassword)
	case password != r.PostFormValue("again"):
		d.Wrong["again"] = "The two passwords differ."
	}
	return login, nil
}

// askCode shows the secret of the token and asks a code back.
func (s *Service) askCode(w http.ResponseWriter, r *http.Request, status int, d setupData, p pending) {
	qr, err := otp.SVG(p.URI)
	if err != nil {
		s.broken(w, r, err)
		return
	}
	// The picture is drawn by package otp out of black squares; no text of the URI is in it.
	d.QR = template.HTML(qr)
	d.Login, d.Name, d.Secret = p.Login, p.Name, web.Groups(p.Secret)
	s.renderSetup(w, r, status, "setup2", d)
}

// setupCode proves the token, takes the ticket and makes the administrator.
func (s *Service) setupCode(w http.ResponseWriter, r *http.Request, ticket string) {
	d := setupData{Ticket: ticket, Pending: r.PostFormValue("pending")}
	p, err := s.kept(r.Context(), d.Pending, ticket)
	switch {
	case errors.Is(err, store.ErrUnavailable):
		s.broken(w, r, err)
		return
	case err != nil:
		d.Login = "admin"
		d.Wrong = map[string]string{"login": "That took too long. Please begin again."}
		s.renderSetup(w, r, http.StatusUnprocessableEntity, "setup", d)
		return
	}
	secret, err := otp.ParseSecret(p.Secret)
	if err != nil {
		s.broken(w, r, err)
		return
	}
	en := auth.Enrolment{Secret: secret, Params: otp.DefaultParams(), URI: p.URI}
	code := r.PostFormValue("code")
	if !s.proves(en, code) {
		d.Wrong = map[string]string{"code": "This code does not fit. Wait for the next one; if it stays so, the clock of your device is wrong."}
		s.askCode(w, r, http.StatusUnprocessableEntity, d, p)
		return
	}
	user, err := s.makeAdmin(r, ticket, p, en, code)
	switch {
	case errors.Is(err, errTaken):
		s.linkGone(w, r)
		return
	case err != nil:
		s.halfMade(w, r, p.Login, err)
		return
	}
	if err := s.Begin(r, user.ID); err != nil {
		s.broken(w, r, err)
		return
	}
	s.Tell(r, web.Notice{
		Kind: "ok", Text: "Welcome, " + user.Login + ". You are the first administrator.",
		Next: "From now on you sign in with your password and a code from your device.",
	})
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// halfMade answers when something failed after the ticket was taken.
func (s *Service) halfMade(w http.ResponseWriter, r *http.Request, login string, err error) {
	s.cfg.Log.ErrorContext(r.Context(), "making the first administrator", "login", login, "err", err)
	s.pages.Render(w, r, http.StatusInternalServerError, "sorry", web.Page{Title: "Not finished", Data: sorry{
		"The administrator could not be made, and the link is used up.",
		"The server's log has the cause. Whoever runs the server can go on there: sallyport user show " + login + ", then sallyport admin add " + login + ".",
	}})
}

// proves tells whether code comes from a device that holds the secret, before anything is written.
func (s *Service) proves(en auth.Enrolment, code string) bool {
	digits, err := otp.Normalise(code, en.Params.Digits)
	if err != nil {
		return false
	}
	return en.Params.Match(en.Secret, digits, en.Params.StepAt(s.cfg.Now()), 0, otp.Window{Behind: 1, Ahead: 1}).OK
}

var errTaken = errors.New("the ticket was taken by somebody else")

// makeAdmin turns the holder of the ticket into an administrator. Taking the ticket decides among
// several who try at once.
func (s *Service) makeAdmin(r *http.Request, ticket string, p pending, en auth.Enrolment, code string) (store.User, error) {
	ctx := r.Context()
	_, err := s.cfg.Store.Tickets.Take(ctx, PurposeFirstAdmin, ticket)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return store.User{}, errTaken
	case err != nil:
		return store.User{}, fmt.Errorf("taking the ticket: %w", err)
	}
	user, err := s.cfg.Store.Users.Add(ctx, store.User{Login: p.Login, Name: p.Name, Source: store.Local}, p.Password)
	if err != nil {
		return user, fmt.Errorf("adding user %s: %w", p.Login, err)
	}
	s.emit(r, audit.Event{Type: audit.OperatorChange, Result: audit.OK, User: user.Login, Actor: "first-admin link", Detail: map[string]string{"change": "user.add"}})
	if _, err = s.cfg.Engine.ConfirmEnrolment(ctx, user, en, "first token", code); err != nil {
		return user, fmt.Errorf("adding the token of %s: %w", user.Login, err)
	}
	s.emit(r, audit.Event{Type: audit.TokenEnrolled, Result: audit.OK, User: user.Login})
	if err := s.cfg.Store.Admins.Set(ctx, user.ID, store.RoleAdmin); err != nil {
		return user, fmt.Errorf("making %s an administrator: %w", user.Login, err)
	}
	if err := s.cfg.Store.Tickets.Drop(ctx, purposePending, p.Login); err != nil {
		s.cfg.Log.ErrorContext(ctx, "dropping the first step", "login", p.Login, "err", err) // it expires by itself
	}
	s.emit(r, audit.Event{
		Type: audit.OperatorChange, Result: audit.OK, User: user.Login, Actor: "first-admin link",
		Detail: map[string]string{"change": "admin.add", "role": store.RoleAdmin},
	})
	return user, nil
}
