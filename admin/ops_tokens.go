package admin

import (
	"context"

	"sallyport/audit"
	"sallyport/otp"
	"sallyport/store"
)

// kindTOTP is the kind of all tokens for now (RFC 6238).
const kindTOTP = "totp"

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
	if err := checkText("name", n.Name, 100); err != nil {
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
	name := n.Name
	if name == "" {
		name = "token"
	}
	t, err := s.cfg.Store.Tokens.Add(ctx, store.Token{
		UserID: u.ID, Name: name, Kind: kindTOTP, Algorithm: string(en.Params.Algorithm),
		Digits: en.Params.Digits, Period: en.Params.Period, Enabled: true,
	}, en.Secret)
	if err != nil {
		return issued{}, err
	}
	s.changed(ctx, by, "token.add", audit.Event{User: u.Login, Detail: map[string]string{"id": t.ID, "name": name}})
	return issued{Token: t, Secret: en.Secret, URI: s.cfg.Engine.TokenURI(u.Login, en.Secret, en.Params)}, nil
}

func applyParams(p *otp.Params, n NewToken) error {
	if n.Algorithm != "" {
		p.Algorithm = otp.Algorithm(n.Algorithm)
	}
	if n.Digits != 0 {
		p.Digits = n.Digits
	}
	if n.Period != 0 {
		p.Period = n.Period
	}
	if err := p.Validate(); err != nil {
		return invalid("use SHA1, SHA256 or SHA512, 6 or 8 digits, and 30 or 60 seconds", "%v", err)
	}
	return nil
}

// tokens lists the tokens of login.
func (s *Server) tokens(ctx context.Context, login string) ([]store.Token, error) {
	u, err := s.user(ctx, login)
	if err != nil {
		return nil, err
	}
	return s.cfg.Store.Tokens.List(ctx, u.ID)
}

// deleteToken takes a token from login. The id must be one of theirs, so that a slip of the pen
// cannot take another person's.
func (s *Server) deleteToken(ctx context.Context, by Caller, login, id string) error {
	u, err := s.user(ctx, login)
	if err != nil {
		return err
	}
	t, err := s.cfg.Store.Tokens.Get(ctx, id)
	if err == nil && t.UserID != u.ID {
		err = store.ErrNotFound
	}
	if err == nil {
		err = s.cfg.Store.Tokens.Delete(ctx, id)
	}
	if err := ifNotFound(err, "see: sallyport token list "+u.Login, "%s has no token of that id", u.Login); err != nil {
		return err
	}
	s.changed(ctx, by, "token.delete", audit.Event{User: u.Login, Detail: map[string]string{"id": id, "name": t.Name}})
	return nil
}
