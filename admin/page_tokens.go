package admin

import (
	"fmt"
	"strconv"
	"time"

	"sallyport/audit"
	"sallyport/internal/web"
	"sallyport/otp"
	"sallyport/store"
)

// tokenView is a token as the pages show it.
type tokenView struct {
	store.Token
	Login, Owner, Path string
	State              string
	Makes              string // what its codes are
	Clock              string // how it goes, in words
	Trend              string
	DriftText          string // "" unless there is something to tell
	Counts             bool   // it goes by a counter
	Next               int64  // that counter
	Uses               []store.PastUse
}

func (s *Server) viewToken(login string, t store.Token) tokenView {
	owner := within("users", login)
	v := tokenView{
		Token: t, Login: login, Owner: owner, Path: owner + within("tokens", t.ID), State: t.State(s.cfg.Now()),
		Makes: makes(t), Clock: "agrees with this server's", Trend: trend(t), Counts: t.Kind == string(otp.HOTP), Next: t.LastStep + 1,
	}
	if t.LastUsed.IsZero() {
		v.Clock = "not known before it is used"
	}
	if t.Drift != 0 {
		v.DriftText = driftText(t.Drift, t.Period)
		v.Clock = v.DriftText
	}
	return v
}

// makes tells what the codes of a token are.
func makes(t store.Token) string {
	by := "by counter"
	if t.Kind != string(otp.HOTP) {
		by = fmt.Sprintf("by time (%d s)", t.Period)
	}
	return fmt.Sprintf("%s, %s, %d digits", by, t.Algorithm, t.Digits)
}

// driftText says how far a token's clock is off.
func driftText(drift, period int) string {
	if drift < 0 {
		return fmt.Sprintf("clock %d s behind", -drift*period)
	}
	return fmt.Sprintf("clock %d s ahead", drift*period)
}

func (s *Server) tokenPage(v *visit) error {
	u, t, err := s.token(v.ctx(), v.path("login"), v.path("id"))
	if err != nil {
		return err
	}
	d := s.viewToken(u.Login, t)
	if d.Uses, err = s.cfg.Store.Tokens.Uses(v.ctx(), t.ID); err != nil {
		return err
	}
	d.Uses = d.Uses[:min(len(d.Uses), 10)]
	v.show("token_show", web.Page{Title: "Token " + audit.Escape(t.Name), Section: "users", Data: d})
	return nil
}

// tokenChanged leads back to the token's page.
func (v *visit) tokenChanged(t store.Token, text string) error {
	return v.done(within("users", v.path("login"), "tokens", t.ID), "%s", text)
}

func (s *Server) renameTokenForm(v *visit) error {
	t, err := s.renameToken(v.ctx(), v.by, v.path("login"), v.path("id"), v.typed("name"))
	if err != nil {
		return err
	}
	return v.tokenChanged(t, "The token has a new name.")
}

func (s *Server) tokenStateForm(v *visit) error {
	t, err := s.setTokenState(v.ctx(), v.by, v.path("login"), v.path("id"), v.typed("state"))
	if err != nil {
		return err
	}
	return v.tokenChanged(t, "The token is "+t.State(v.now())+" now.")
}

func (s *Server) resyncTokenForm(v *visit) error {
	t, err := s.resyncToken(v.ctx(), v.by, v.path("login"), v.path("id"), v.typed("first"), v.typed("second"))
	if err != nil {
		return err
	}
	return v.tokenChanged(t, "The token is found again. Both codes are used; the next one signs in.")
}

// issuedCodes is the dot of the page that shows new spare codes this once.
type issuedCodes struct {
	Title, Login, Path, Text string
	Codes                    []string
}

func (s *Server) newRecoveryCodesForm(v *visit) error {
	login := v.path("login")
	codes, err := s.newRecoveryCodes(v.ctx(), v.by, login)
	if err != nil {
		return err
	}
	v.show("codes", web.Page{Title: "Recovery codes", Section: "users", Data: issuedCodes{
		Title: "Recovery codes", Login: login, Path: within("users", login), Codes: codes,
		Text: "Each of them is good once, in the place of a token's code. Print them and keep them where the token is not. Any that there were before are worthless now.",
	}})
	return nil
}

func (s *Server) removeRecoveryCodesForm(v *visit) error {
	if err := s.removeRecoveryCodes(v.ctx(), v.by, v.path("login")); err != nil {
		return err
	}
	return v.done(within("users", v.path("login")), "The recovery codes are worthless now.")
}

func (s *Server) newBypassCodeForm(v *visit) error {
	login := v.path("login")
	life, err := time.ParseDuration(v.typed("life"))
	if err != nil {
		return invalid("choose one of the list", "%s is not a length of time", audit.Quote(v.typed("life")))
	}
	code, expires, err := s.newBypassCode(v.ctx(), v.by, login, v.typed("reason"), life)
	if err != nil {
		return err
	}
	v.show("codes", web.Page{Title: "Bypass code", Section: "users", Data: issuedCodes{
		Title: "Bypass code", Login: login, Path: within("users", login), Codes: []string{code},
		Text: "It is good once, in the place of a token's code, until " + expires.UTC().Format("2006-01-02 15:04") + " UTC. Give it to the person by a way on which you know each other.",
	}})
	return nil
}

func (s *Server) removeBypassCodesForm(v *visit) error {
	if err := s.removeBypassCodes(v.ctx(), v.by, v.path("login")); err != nil {
		return err
	}
	return v.done(within("users", v.path("login")), "Unused bypass codes are worthless now.")
}

// clockHealth tells what the tokens say of this server's clock.
func clockHealth(d store.Drifting) healthLine {
	switch {
	case d.Together() != 0:
		return healthLine{"Clock", "bad", d.String() + "; set it by NTP"}
	case d.Used == 0:
		return healthLine{"Clock", "ok", "no token was used in the last day"}
	}
	return healthLine{"Clock", "ok", "not doubted by the tokens used in the last day: " + strconv.Itoa(d.Used)}
}
