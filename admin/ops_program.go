package admin

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
	"sallyport/otp"
	"sallyport/store"
)

// qrPixels is the side of the picture of a secret, large enough to be scanned from a screen.
const qrPixels = 400

// program finds the holder of an API key. path is what is called, for the log.
func (s *Server) program(ctx context.Context, secret string, source netip.Addr, path string) (Caller, error) {
	k, err := s.cfg.Engine.ProveKey(ctx, secret, source, path)
	if err != nil {
		return Caller{}, keyProblem(k, err)
	}
	return Caller{Actor: auth.KeyActor(k), Door: audit.DoorAPI, Source: source, Key: &k}, nil
}

// keyProblem says in words why a program is not let in; as little as possible of a wrong key.
func keyProblem(k store.APIKey, err error) error {
	var locked *auth.LockedError
	switch {
	case errors.As(err, &locked):
		return &Problem{
			Status: http.StatusTooManyRequests, Detail: "too many wrong API keys came from this address", retry: locked.Wait,
			Hint: "wait, or ask an operator: sallyport lockout clear '" + locked.Lock.ID + "'",
		}
	case errors.Is(err, store.ErrRateLimit):
		return &Problem{
			Status: http.StatusTooManyRequests, Detail: "this API key was used too often in the last minute", retry: max(time.Minute/time.Duration(max(k.PerMinute, 1)), time.Second),
			Hint: "call less often, or ask an operator for a key with more calls a minute",
		}
	case errors.Is(err, auth.ErrKey):
		return &Problem{
			Status: http.StatusUnauthorized, Detail: "this API key cannot be used here",
			Hint: "it is not known, has expired, was revoked, or belongs elsewhere; the audit log says which: sallyport audit list",
		}
	}
	return err
}

// may refuses a program whose key does not have a scope.
func (c Caller) may(scope string) error {
	switch {
	case c.Key == nil && c.Role == RoleAdmin, c.Key != nil && c.Key.Allows(scope):
		return nil
	case scope == "":
		return &Problem{Status: http.StatusForbidden, Detail: "API keys do not open this", Hint: "administrators and auditors use an API token (sallyport api-token add), or sign in"}
	}
	return &Problem{Status: http.StatusForbidden, Detail: "this API key does not have the scope " + scope, Hint: "make one that has: sallyport api-key add NAME --scope " + scope}
}

// enrolForProgram gives a person their first token. ask is the program's mark for a request that it may send again.
func (s *Server) enrolForProgram(ctx context.Context, by Caller, n NewEnrolment, ask string) (IssuedEnrolment, error) {
	if err := by.may(store.ScopeEnrol); err != nil {
		return IssuedEnrolment{}, err
	}
	if n.CreateUser != nil {
		if err := by.may(store.ScopeAddUsers); err != nil {
			return IssuedEnrolment{}, err
		}
	}
	if err := checkText("name", n.Name, 100); err != nil {
		return IssuedEnrolment{}, err
	}
	if n.Name == "" {
		n.Name = "token"
	}
	p := otp.DefaultParams()
	if err := applyParams(&p, NewToken{Algorithm: n.Algorithm, Digits: n.Digits, Period: n.Period}); err != nil {
		return IssuedEnrolment{}, err
	}
	u, err := s.enrolee(ctx, by, n)
	if err != nil {
		return IssuedEnrolment{}, err
	}
	if err := s.noOperator(ctx, by, u); err != nil {
		return IssuedEnrolment{}, err
	}
	mark := store.Ask{Key: ask}
	if by.Key == nil {
		mark.Key = "" // operators see what they have done
	} else {
		mark.KeyID = by.Key.ID
	}
	t, en, again, err := s.cfg.Engine.EnrolForProgram(ctx, u, n.Name, p, mark)
	switch {
	case errors.Is(err, store.ErrExists):
		return IssuedEnrolment{}, conflict("an operator takes it away first: sallyport token delete, or user enrol-link --reset", "%s has a token already", u.Login)
	case errors.Is(err, store.ErrOtherAsk):
		return IssuedEnrolment{}, invalid("use a new Idempotency-Key for each request", "another request had this Idempotency-Key")
	case errors.Is(err, store.ErrNotFound):
		return IssuedEnrolment{}, lockedPerson(u)
	case err != nil:
		return IssuedEnrolment{}, err
	}
	detail := map[string]string{"state": t.State(s.cfg.Now())}
	if again {
		detail["again"] = "yes"
	}
	s.changedToken(ctx, by, u, "enrolment.create", t, detail)
	png, err := otp.PNG(en.URI, qrPixels)
	if err != nil {
		return IssuedEnrolment{}, err
	}
	svg, err := otp.SVG(en.URI)
	if err != nil {
		return IssuedEnrolment{}, err
	}
	return IssuedEnrolment{ID: t.ID, Login: u.Login, State: t.State(s.cfg.Now()), Secret: en.Secret.Base32(), URI: en.URI, QRPNG: png, QRSVG: svg}, nil
}

// noOperator refuses a program a token of an administrator or auditor: what such a one may do is worth more than what
// keys are given for, and names of a shop's people are not names of ours.
func (s *Server) noOperator(ctx context.Context, by Caller, u store.User) error {
	if by.Key == nil {
		return nil
	}
	switch _, err := s.admin(ctx, u); {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil:
		return err
	}
	return conflict("an operator gives them a token or a link: sallyport user enrol-link "+u.Login, "%s has a role here, and gets no token from a program", u.Login)
}

func lockedPerson(u store.User) error {
	return conflict("an operator lets them in again: sallyport user unlock "+u.Login, "%s is locked", u.Login)
}

// enrolee finds the person who gets a token, in the directory too, or makes them a user if that was asked for.
func (s *Server) enrolee(ctx context.Context, by Caller, n NewEnrolment) (store.User, error) {
	login, err := checkLogin(n.Login)
	if err != nil {
		return store.User{}, err
	}
	u, err := s.cfg.Engine.Person(ctx, login)
	if errors.Is(err, auth.ErrUnknownUser) && n.CreateUser != nil {
		c := *n.CreateUser
		u, err = s.addUser(ctx, by, NewUser{Login: login, Name: c.Name, Email: c.Email, Phone: c.Phone})
		var p *Problem
		if errors.As(err, &p) && p.Status == http.StatusConflict { // another request was faster
			u, err = s.cfg.Engine.Person(ctx, login)
		}
	}
	switch {
	case errors.Is(err, auth.ErrUnavailable):
		return u, err
	case errors.Is(err, auth.ErrUnknownUser):
		return u, notFound("add them first (sallyport user add), or send create_user with a key of the scope "+store.ScopeAddUsers, "there is no user %s", login)
	case errors.Is(err, auth.ErrDisabled):
		s.cfg.Log.WarnContext(ctx, "a program asked for a token", "login", login, "error", err)
		return u, conflict("why is in the server's log", "%s cannot log in", login)
	case err != nil:
		return u, err
	case u.LockedNow(s.cfg.Now()):
		return u, lockedPerson(u)
	}
	return u, nil
}

// validateCode comes to a verdict about a code in the order of every login, and says no more than that.
func (s *Server) validateCode(ctx context.Context, by Caller, in ValidateCode) (bool, error) {
	return s.validate(ctx, by, in.Login, in.Source, auth.Answers{Elsewhere: true, Code: in.Code})
}

func (s *Server) validate(ctx context.Context, by Caller, login, source string, in auth.Answers) (bool, error) {
	if err := by.may(store.ScopeValidate); err != nil {
		return false, err
	}
	a := auth.Attempt{Door: by.Door, Login: login, Client: by.Actor, Peer: by.Actor}
	if source != "" {
		if by.Key != nil && !by.Key.AssertsSource {
			return false, &Problem{
				Status: http.StatusForbidden, Detail: "this API key is not believed about a person's address",
				Hint: "leave source out, or make a key that is: sallyport api-key add NAME --scope validate --asserts-source",
			}
		}
		addr, err := netip.ParseAddr(source)
		if err != nil {
			return false, invalid("write it as 203.0.113.7 or 2001:db8::7", "%s is not an address", audit.Quote(source))
		}
		a.Source = addr.Unmap().WithZone("")
	}
	_, err := s.cfg.Engine.Begin(a).RunAnswers(ctx, in)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, auth.ErrUnavailable):
		return false, err
	}
	return false, nil
}

// checkAPIKey returns the key that n asks for, if there can be one.
func (s *Server) checkAPIKey(n NewAPIKey) (store.APIKey, error) {
	if n.Name == "" {
		return store.APIKey{}, invalid("call it after the program that will use it", "the name is missing")
	}
	if err := checkText("name", n.Name, 100); err != nil {
		return store.APIKey{}, err
	}
	k := store.APIKey{Name: n.Name, Scopes: tidy(n.Scopes), AssertsSource: n.AssertsSource, PerMinute: n.PerMinute}
	if k.PerMinute == 0 {
		k.PerMinute = 60
	}
	for _, scope := range k.Scopes {
		if !slices.Contains(store.Scopes, scope) {
			return k, invalid("the scopes are "+strings.Join(store.Scopes, ", "), "there is no scope %s", audit.Quote(scope))
		}
	}
	switch {
	case len(k.Scopes) == 0:
		return k, invalid("the scopes are "+strings.Join(store.Scopes, ", "), "a key without a scope opens nothing")
	case slices.Contains(k.Scopes, store.ScopeAddUsers) && !slices.Contains(k.Scopes, store.ScopeEnrol):
		return k, invalid("add the scope "+store.ScopeEnrol, "the scope %s does nothing alone", store.ScopeAddUsers)
	case k.AssertsSource && !slices.Contains(k.Scopes, store.ScopeValidate):
		return k, invalid("add the scope "+store.ScopeValidate, "a key says nothing about addresses without the scope %s", store.ScopeValidate)
	}
	for _, text := range n.Sources {
		p, err := parseSource(text)
		if err != nil {
			return k, err
		}
		k.Sources = append(k.Sources, p)
	}
	if n.Expires != nil {
		if k.Expires = n.Expires.UTC(); !k.Expires.After(s.cfg.Now()) {
			return k, invalid("give a time to come, such as --expires 90d", "the key would have expired already")
		}
	}
	return k, nil
}

// addAPIKey makes a key for a program. The secret is shown once and kept nowhere.
func (s *Server) addAPIKey(ctx context.Context, by Caller, n NewAPIKey) (store.APIKey, string, error) {
	k, err := s.checkAPIKey(n)
	if err != nil {
		return store.APIKey{}, "", err
	}
	k, secret, err := s.cfg.Store.APIKeys.Add(ctx, k)
	if errors.Is(err, store.ErrExists) {
		err = conflict("see: sallyport api-key list", "there is an API key %s already", audit.Escape(n.Name))
	}
	if err != nil {
		return k, "", err
	}
	detail := keyDetail(k)
	detail["sources"], detail["per-minute"] = strings.Join(k.Sources, ","), fmt.Sprint(k.PerMinute)
	if k.AssertsSource {
		detail["asserts-source"] = "yes"
	}
	s.changed(ctx, by, "api-key.add", audit.Event{Detail: detail})
	return k, secret, nil
}

func keyDetail(k store.APIKey) map[string]string {
	return map[string]string{"id": k.ID, "name": k.Name, "scopes": strings.Join(k.Scopes, ",")}
}

// parseSource returns an address or a network as a prefix.
func parseSource(text string) (string, error) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()).String(), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil || p != p.Masked() || p.Addr().Is4In6() {
		return "", invalid("write 192.0.2.7, 192.0.2.0/24 or 2001:db8::/48", "%s is neither an address nor a network", audit.Quote(text))
	}
	return p.String(), nil
}

// revokeAPIKey makes a key worthless from the next call on.
func (s *Server) revokeAPIKey(ctx context.Context, by Caller, id string) error {
	k, err := s.cfg.Store.APIKeys.Delete(ctx, id)
	if err := ifNotFound(err, "see: sallyport api-key list", "there is no API key of that id"); err != nil {
		return err
	}
	s.changed(ctx, by, "api-key.revoke", audit.Event{Detail: keyDetail(k)})
	return nil
}
