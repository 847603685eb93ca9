package portal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"time"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/internal/web"
	"sallyport/otp"
	"sallyport/signin"
	"sallyport/store"
)

// scanTime is how long a person may take to scan a secret and type a code.
const scanTime = 30 * time.Minute

// purposeOwnToken is the purpose of the tickets that stand for a secret that was shown and not yet proved.
const purposeOwnToken = "own-token"

// pendingToken is what such a ticket holds, sealed.
type pendingToken struct {
	Name   string
	Secret string // base32
}

// tokenView is a token as the person sees it.
type tokenView struct {
	store.Token
	Path, State, Makes, Drift string
}

func (v *visit) view(t store.Token) tokenView {
	x := tokenView{Token: t, Path: signin.OwnPages + "/tokens/" + url.PathEscape(t.ID), State: t.State(v.now())}
	by := "by counter"
	if t.Kind != string(otp.HOTP) {
		by = "by time"
	}
	x.Makes = fmt.Sprintf("%s, %d digits", by, t.Digits)
	switch {
	case t.Drift < 0:
		x.Drift = fmt.Sprintf("its clock is %d s behind", -t.Drift*t.Period)
	case t.Drift > 0:
		x.Drift = fmt.Sprintf("its clock is %d s ahead", t.Drift*t.Period)
	}
	return x
}

// tokensData is the dot of the first page.
type tokensData struct {
	Rows     []tokenView
	Recovery int
	Local    bool
	Name     string // typed
}

func (v *visit) tokensPage() (web.Page, error) {
	d := tokensData{Name: v.typed("name")}
	list, err := v.s.cfg.Store.Tokens.List(v.ctx(), v.me.ID)
	if err != nil {
		return web.Page{}, err
	}
	for _, t := range list {
		d.Rows = append(d.Rows, v.view(t))
	}
	d.Recovery, err = v.s.cfg.Store.SpareCodes.Left(v.ctx(), v.me.ID)
	return web.Page{Title: "Tokens", Section: "tokens", Data: d}, err
}

func (s *Server) tokensPage(v *visit) error {
	p, err := v.tokensPage()
	if err != nil {
		return err
	}
	return v.show("tokens", p)
}

// tokensAgain shows the first page once more with why a form on it was not taken.
func (v *visit) tokensAgain(why error) error {
	p, err := v.tokensPage()
	if err != nil {
		return err
	}
	return v.again(why, "tokens", p)
}

// scan is the dot of a page that shows a secret this once and asks a code back.
type scan struct {
	Login, Pending, Ticket string
	QR                     template.HTML
	Secret                 string // base32 in groups of four
	Wrong                  string
}

func newScan(en auth.Enrolment, login, pending string) (scan, error) {
	qr, err := otp.SVG(en.URI)
	// The picture is drawn by package otp out of black squares; no text of the URI is in it.
	return scan{Login: login, Pending: pending, QR: template.HTML(qr), Secret: web.Groups(en.Secret.Base32())}, err
}

// newTokenForm proves a code of what the person has, and shows the secret of one more token.
func (s *Server) newTokenForm(v *visit) error {
	name := v.typed("name")
	if name == "" {
		name = "token"
	}
	if err := checkName(name); err != nil {
		return v.tokensAgain(err)
	}
	if err := v.prove("token.add"); err != nil {
		return v.tokensAgain(err)
	}
	en := s.cfg.Engine.NewEnrolment(v.me.Login)
	pending, err := s.keep(v.ctx(), purposeOwnToken, v.me.ID, pendingToken{name, en.Secret.Base32()})
	if err != nil {
		return err
	}
	d, err := newScan(en, v.me.Login, pending)
	if err != nil {
		return err
	}
	return v.show("scan", web.Page{Title: "A new token", Section: "tokens", Data: d})
}

// keep makes a ticket about a person in the place of any before.
func (s *Server) keep(ctx context.Context, purpose, userID string, what any) (string, error) {
	data, err := json.Marshal(what)
	if err != nil {
		return "", fmt.Errorf("keeping a secret that is not proved: %w", err)
	}
	if err := s.cfg.Store.Tickets.Drop(ctx, purpose, userID); err != nil {
		return "", err
	}
	return s.cfg.Store.Tickets.Create(ctx, purpose, userID, data, scanTime)
}

func (s *Server) confirmTokenForm(v *visit) error {
	pending := v.r.PostFormValue("pending")
	late := &problem{http.StatusGone, "Not done", "That took too long, or was done already.", "Begin again on your first page; the secret that was shown is worth nothing."}
	t, err := s.cfg.Store.Tickets.Peek(v.ctx(), purposeOwnToken, pending)
	if errors.Is(err, store.ErrNotFound) || err == nil && t.Subject != v.me.ID {
		return late
	}
	if err != nil {
		return err
	}
	var p pendingToken
	if err := json.Unmarshal(t.Data, &p); err != nil {
		return fmt.Errorf("reading a secret that is not proved: %w", err)
	}
	secret, err := otp.ParseSecret(p.Secret)
	if err != nil {
		return err
	}
	en, code := s.cfg.Engine.EnrolmentOf(v.me.Login, secret), v.r.PostFormValue("code")
	if !s.cfg.Engine.ProvesEnrolment(en, code) {
		d, err := newScan(en, v.me.Login, pending)
		if err != nil {
			return err
		}
		d.Wrong = textNewCode
		v.render(http.StatusUnprocessableEntity, "scan", web.Page{Title: "A new token", Section: "tokens", Data: d})
		return nil
	}
	// Taking the ticket decides among several forms that were sent at once.
	if _, err := s.cfg.Store.Tickets.Take(v.ctx(), purposeOwnToken, pending); errors.Is(err, store.ErrNotFound) {
		return late
	} else if err != nil {
		return err
	}
	added, err := s.cfg.Engine.AddOwn(v.ctx(), v.me, en, p.Name, code)
	if err != nil {
		return err
	}
	s.enrolled(v.ctx(), added, v.me, v.source().String())
	if added.Waiting {
		return v.done(signin.OwnPages, "The token is set up. Its codes are accepted once an operator has approved it.")
	}
	return v.done(signin.OwnPages, "The token was added. The code you typed is used; the next one signs in.")
}

const textNewCode = "This code does not fit. Wait for the next one; if it stays so, the clock of your device is wrong."

// enrolled leaves the event of a token that a person has proved.
func (s *Server) enrolled(ctx context.Context, t store.Token, u store.User, source string) {
	e := audit.Event{
		Type: audit.TokenEnrolled, Result: audit.OK, Door: audit.DoorWeb, User: u.Login, Source: source,
		Detail: map[string]string{"id": t.ID, "name": audit.Escape(t.Name)},
	}
	if t.Waiting {
		e.Detail["state"] = store.TokenWaiting
	}
	if err := s.cfg.Audit.Emit(ctx, e); err != nil {
		s.cfg.Log.ErrorContext(ctx, "audit event waits in memory", "err", err)
	}
}

// token finds one of the person's tokens.
func (v *visit) token() (store.Token, error) {
	t, err := v.s.cfg.Store.Tokens.Get(v.ctx(), v.r.PathValue("id"))
	if errors.Is(err, store.ErrNotFound) || err == nil && t.UserID != v.me.ID {
		return store.Token{}, errNotYours
	}
	return t, err
}

func (v *visit) tokenPage(t store.Token) web.Page {
	return web.Page{Title: "Token " + audit.Escape(t.Name), Section: "tokens", Data: v.view(t)}
}

func (s *Server) tokenPage(v *visit) error {
	t, err := v.token()
	if err != nil {
		return err
	}
	return v.show("token", v.tokenPage(t))
}

func (s *Server) renameTokenForm(v *visit) error {
	t, err := v.token()
	if err != nil {
		return err
	}
	name := v.typed("name")
	if err := checkName(name); err != nil || name == "" {
		if err == nil {
			err = wrong("A token needs a name.", "")
		}
		return v.again(err, "token", v.tokenPage(t))
	}
	if err := s.cfg.Store.Tokens.Rename(v.ctx(), t.ID, name); err != nil {
		return err
	}
	v.changed("token.rename", map[string]string{"id": t.ID, "name": audit.Escape(t.Name), "to": name})
	return v.done(v.view(t).Path, "The token has a new name.")
}

func (s *Server) resyncTokenForm(v *visit) error {
	t, err := v.token()
	if err != nil {
		return err
	}
	if _, err := s.cfg.Engine.Resync(v.ctx(), v.identity(), t.ID, v.r.PostFormValue("first"), v.r.PostFormValue("second")); err != nil {
		return v.again(err, "token", v.tokenPage(t))
	}
	return v.done(v.view(t).Path, "The token is found again. Both codes are used; the next one signs in.")
}

// lostTokenForm asks for no code: whoever has lost a token must be quick, and it takes a way in away.
func (s *Server) lostTokenForm(v *visit) error {
	t, err := v.token()
	if err != nil {
		return err
	}
	if err := s.cfg.Store.Tokens.SetState(v.ctx(), t.ID, store.TokenLost); err != nil {
		return err
	}
	v.changed("token.lost", map[string]string{"id": t.ID, "name": audit.Escape(t.Name)})
	return v.done(signin.OwnPages, "The token counts as lost: its codes are refused from now on, and every place asks for a code again.")
}

func (s *Server) removeTokenForm(v *visit) error {
	t, err := v.token()
	if err != nil {
		return err
	}
	if err := v.prove("token.delete"); err != nil {
		return v.again(err, "token", v.tokenPage(t))
	}
	err = s.cfg.Store.Tokens.DeleteOwn(v.ctx(), v.me.ID, t.ID)
	if errors.Is(err, store.ErrLastToken) {
		return v.again(wrong("There is no other token whose codes are accepted, so this last token stays.", "Add the new one first, then remove this one. If it is in strange hands, mark it as lost."), "token", v.tokenPage(t))
	}
	if err != nil {
		return err
	}
	v.changed("token.delete", map[string]string{"id": t.ID, "name": audit.Escape(t.Name)})
	return v.done(signin.OwnPages, "The token was removed.")
}

// issuedCodes is the dot of a page that shows recovery codes this once.
type issuedCodes struct {
	Codes []string
	Next  string // address of the page after it
	Words string
}

func (s *Server) newRecoveryCodesForm(v *visit) error {
	if err := v.prove("recovery-codes.new"); err != nil {
		return v.tokensAgain(err)
	}
	codes, err := s.cfg.Engine.NewRecoveryCodes(v.ctx(), v.me, v.me.Login)
	if err != nil {
		return err
	}
	v.changed("recovery-codes.new", nil)
	return v.show("codes", web.Page{Title: "Recovery codes", Section: "tokens", Data: issuedCodes{Codes: codes, Next: signin.OwnPages, Words: "Any that there were before are worthless now."}})
}
