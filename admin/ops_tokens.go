package admin

import (
	"context"
	"errors"
	"strconv"
	"time"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/otp"
	"sallyport/store"
)

// issued is a new token with what the person's device must know. It is shown once.
type issued struct {
	Token  store.Token
	Secret otp.Secret
	URI    string
}

// addToken makes a token for login, with a new secret unless one is given.
func (s *Server) addToken(ctx context.Context, by Caller, login string, n NewToken) (issued, error) {
	u, err := s.user(ctx, login)
	if err != nil {
		return issued{}, err
	}
	if err := errors.Join(checkText("name", n.Name, 100), checkText("serial", n.Serial, 100)); err != nil {
		return issued{}, err
	}
	en := s.cfg.Engine.NewEnrolment(u.Login)
	if n.Secret != "" {
		if en.Secret, err = otp.ParseSecret(n.Secret); err != nil {
			return issued{}, invalid("give base32 of at least 16 bytes, as an otpauth URI has it", "this is not the secret of a token")
		}
	}
	if err := applyParams(&en.Params, n); err != nil {
		return issued{}, err
	}
	t := store.Token{
		UserID: u.ID, Name: n.Name, Kind: string(en.Params.Kind), Algorithm: string(en.Params.Algorithm), Digits: en.Params.Digits,
		Period: en.Params.Period, Hardware: n.Serial != "", Serial: n.Serial, Enabled: true,
	}
	if t.Name == "" {
		t.Name = "token"
	}
	if n.Expires != nil {
		if t.Expires = n.Expires.UTC(); !t.Expires.After(s.cfg.Now()) {
			return issued{}, invalid("name a time to come", "the token would have expired already")
		}
	}
	switch {
	case en.Params.Kind == otp.HOTP:
		t.LastStep = n.Counter - 1
	case n.Counter != 0:
		return issued{}, invalid("leave it out", "a token that goes by time has no counter")
	}
	if t, err = s.cfg.Store.Tokens.Add(ctx, t, en.Secret); errors.Is(err, store.ErrExists) {
		return issued{}, conflict("a hardware token belongs to one person; take it from the other one first", "there is a token of serial %s already", audit.Escape(n.Serial))
	}
	if err != nil {
		return issued{}, err
	}
	s.changedToken(ctx, by, u, "token.add", t, nil)
	return issued{Token: t, Secret: en.Secret, URI: s.cfg.Engine.TokenURI(u.Login, en.Secret, en.Params)}, nil
}

func applyParams(p *otp.Params, n NewToken) error {
	p.Kind = otp.TOTP
	if n.Kind != "" {
		p.Kind = otp.Kind(n.Kind)
	}
	if n.Algorithm != "" {
		p.Algorithm = otp.Algorithm(n.Algorithm)
	}
	if n.Digits != 0 {
		p.Digits = n.Digits
	}
	switch {
	case n.Period != 0 && p.Kind == otp.HOTP:
		return invalid("leave it out", "a token that goes by a counter has no period")
	case p.Kind == otp.HOTP:
		p.Period = 0
	case n.Period != 0:
		p.Period = n.Period
	}
	if err := p.Validate(); err != nil {
		return invalid("use totp or hotp, SHA1, SHA256 or SHA512, 6 or 8 digits, and 30 or 60 seconds", "%v", err)
	}
	return nil
}

// changedToken leaves the event of a change of a token.
func (s *Server) changedToken(ctx context.Context, by Caller, u store.User, change string, t store.Token, more map[string]string) {
	detail := map[string]string{"id": t.ID, "name": t.Name}
	if t.Serial != "" {
		detail["serial"] = t.Serial
	}
	for k, v := range more {
		detail[k] = v
	}
	s.changed(ctx, by, change, audit.Event{User: u.Login, Detail: detail})
}

// tokens lists the tokens of login.
func (s *Server) tokens(ctx context.Context, login string) ([]store.Token, error) {
	u, err := s.user(ctx, login)
	if err != nil {
		return nil, err
	}
	return s.cfg.Store.Tokens.List(ctx, u.ID)
}

// token finds a token of login by its id, its name or its serial. It must be one of theirs, so that a slip
// of the pen cannot take another person's.
func (s *Server) token(ctx context.Context, login, ref string) (store.User, store.Token, error) {
	u, err := s.user(ctx, login)
	if err != nil {
		return u, store.Token{}, err
	}
	list, err := s.cfg.Store.Tokens.List(ctx, u.ID)
	if err != nil {
		return u, store.Token{}, err
	}
	var named []store.Token
	for _, t := range list {
		switch ref {
		case t.ID:
			return u, t, nil
		case t.Name, t.Serial:
			named = append(named, t)
		}
	}
	see := "see: sallyport token list " + u.Login
	switch {
	case len(named) == 0 || ref == "":
		return u, store.Token{}, notFound(see, "%s has no token %s", u.Login, audit.Escape(ref))
	case len(named) > 1:
		return u, store.Token{}, conflict("name it by its id; "+see, "%s has %d tokens %s", u.Login, len(named), audit.Escape(ref))
	}
	return u, named[0], nil
}

func (s *Server) tokenDetail(ctx context.Context, login, ref string) (TokenDetail, error) {
	_, t, err := s.token(ctx, login, ref)
	if err != nil {
		return TokenDetail{}, err
	}
	uses, err := s.cfg.Store.Tokens.Uses(ctx, t.ID)
	if err != nil {
		return TokenDetail{}, err
	}
	return TokenDetail{Token: s.wireToken(t), Uses: list(uses, func(u store.PastUse) TokenUse {
		return TokenUse{Step: u.Step, At: timeOf(u.At), Door: u.Door, Source: u.Source}
	})}, nil
}

// renameToken and what follows return the token as it is afterwards.
func (s *Server) renameToken(ctx context.Context, by Caller, login, ref, name string) (store.Token, error) {
	if name == "" {
		return store.Token{}, invalid("give one", "a token needs a name")
	}
	if err := checkText("name", name, 100); err != nil {
		return store.Token{}, err
	}
	u, t, err := s.token(ctx, login, ref)
	if err != nil {
		return t, err
	}
	if err := s.cfg.Store.Tokens.Rename(ctx, t.ID, name); err != nil {
		return t, err
	}
	s.changedToken(ctx, by, u, "token.rename", t, map[string]string{"to": name})
	return s.cfg.Store.Tokens.Get(ctx, t.ID)
}

func (s *Server) setTokenState(ctx context.Context, by Caller, login, ref, state string) (store.Token, error) {
	if state != store.TokenEnabled && state != store.TokenDisabled && state != store.TokenLost {
		return store.Token{}, invalid("use enabled, disabled or lost", "%s is not a state of a token", audit.Quote(state))
	}
	u, t, err := s.token(ctx, login, ref)
	if err != nil {
		return t, err
	}
	if t.Waiting && state == store.TokenEnabled {
		return s.approveToken(ctx, by, login, t.ID)
	}
	if err := s.cfg.Store.Tokens.SetState(ctx, t.ID, state); err != nil {
		return t, err
	}
	s.changedToken(ctx, by, u, "token."+map[string]string{"enabled": "enable", "disabled": "disable", "lost": "lost"}[state], t, nil)
	return s.cfg.Store.Tokens.Get(ctx, t.ID)
}

func (s *Server) resyncToken(ctx context.Context, by Caller, login, ref, first, second string) (store.Token, error) {
	u, t, err := s.token(ctx, login, ref)
	if err != nil {
		return t, err
	}
	fresh, err := s.cfg.Engine.ResyncToken(ctx, t.ID, first, second, by.Door)
	if errors.Is(err, auth.ErrCode) {
		return t, invalid("wait until the device shows a new code, and give that one and the one after it",
			"these are not two codes in a row of this token, newer than the last one used")
	}
	if err != nil {
		return t, err
	}
	s.changedToken(ctx, by, u, "token.resync", fresh, map[string]string{"drift": strconv.Itoa(fresh.Drift)})
	return fresh, nil
}

// deleteToken takes a token away from login.
func (s *Server) deleteToken(ctx context.Context, by Caller, login, ref string) error {
	u, t, err := s.token(ctx, login, ref)
	if err != nil {
		return err
	}
	if err := s.cfg.Store.Tokens.Delete(ctx, t.ID); err != nil {
		return ifNotFound(err, "see: sallyport token list "+u.Login, "%s has no such token any more", u.Login)
	}
	s.changedToken(ctx, by, u, "token.delete", t, nil)
	return nil
}

func (s *Server) recoveryCodesLeft(ctx context.Context, login string) (int, error) {
	u, err := s.user(ctx, login)
	if err != nil {
		return 0, err
	}
	return s.cfg.Store.SpareCodes.Left(ctx, u.ID)
}

// newRecoveryCodes returns ten codes, which are shown this once.
func (s *Server) newRecoveryCodes(ctx context.Context, by Caller, login string) ([]string, error) {
	u, err := s.user(ctx, login)
	if err != nil {
		return nil, err
	}
	codes, err := s.cfg.Engine.NewRecoveryCodes(ctx, u, by.Actor)
	if err != nil {
		return nil, err
	}
	s.changed(ctx, by, "recovery-codes.new", audit.Event{User: u.Login})
	return codes, nil
}

func (s *Server) removeRecoveryCodes(ctx context.Context, by Caller, login string) error {
	u, err := s.user(ctx, login)
	if err != nil {
		return err
	}
	if err := s.cfg.Store.SpareCodes.ReplaceRecovery(ctx, u.ID, by.Actor, nil); err != nil {
		return err
	}
	s.changed(ctx, by, "recovery-codes.remove", audit.Event{User: u.Login})
	return nil
}

func (s *Server) bypassCodes(ctx context.Context, login string) ([]store.SpareCode, error) {
	u, err := s.user(ctx, login)
	if err != nil {
		return nil, err
	}
	return s.cfg.Store.SpareCodes.Bypasses(ctx, u.ID)
}

// Bounds of the life of a bypass code.
const (
	bypassLife    = time.Hour // unless another one is asked for
	minBypassLife = time.Minute
	maxBypassLife = 7 * 24 * time.Hour
)

func (s *Server) newBypassCode(ctx context.Context, by Caller, login, reason string, life time.Duration) (code string, expires time.Time, err error) {
	u, err := s.user(ctx, login)
	if err != nil {
		return "", time.Time{}, err
	}
	if reason == "" {
		return "", time.Time{}, invalid("say why, such as 'telephone is being repaired'", "a bypass code needs a reason")
	}
	if err := checkText("reason", reason, 500); err != nil {
		return "", time.Time{}, err
	}
	if life == 0 {
		life = bypassLife
	}
	if life < minBypassLife || life > maxBypassLife {
		return "", time.Time{}, invalid("use a minute to seven days", "a bypass code does not live for %s", life)
	}
	if code, expires, err = s.cfg.Engine.NewBypassCode(ctx, u, by.Actor, reason, life); err != nil {
		return "", time.Time{}, err
	}
	s.changed(ctx, by, "bypass-code.new", audit.Event{User: u.Login, Reason: reason, Detail: map[string]string{"expires": expires.Format(time.RFC3339)}})
	return code, expires, nil
}

func (s *Server) removeBypassCodes(ctx context.Context, by Caller, login string) error {
	u, err := s.user(ctx, login)
	if err != nil {
		return err
	}
	n, err := s.cfg.Store.SpareCodes.DropBypasses(ctx, u.ID)
	if err != nil {
		return err
	}
	s.changed(ctx, by, "bypass-code.remove", audit.Event{User: u.Login, Detail: map[string]string{"dropped": strconv.Itoa(n)}})
	return nil
}
