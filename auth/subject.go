package auth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"

	"sallyport/identity"
	"sallyport/store"
)

// subject is the person that an attempt names, as far as store and directory know. It is looked up
// before anything is asked and tells the person nothing.
type subject struct {
	key    string              // canonical key of the failure counters: one per person, whatever was typed
	login  string              // canonical login, or an escaped form of what was typed
	user   *store.User         // nil: no row yet
	person *identity.Person    // nil: not in the directory
	robot  *store.Robot        // not nil: a robot, and nobody else
	tokens []store.TokenSecret // read when they are judged
	err    error               // why this person cannot sign in whatever they answer; nil: they may try
}

// lookup finds the person behind a typed login. It never fails: what went wrong is in subject.err.
func (e *Engine) lookup(ctx context.Context, typed string) subject {
	ctx, cancel := context.WithTimeout(ctx, e.cfg.Budget)
	defer cancel()
	login, err := identity.CanonicalLogin(typed)
	if err != nil {
		sum := sha256.Sum256([]byte(typed))
		return subject{key: "malformed:" + hex.EncodeToString(sum[:8]), login: typed, err: fmt.Errorf("%w: %w", ErrUnknownUser, err)}
	}
	s := subject{key: "login:" + login, login: login}
	switch u, err := e.cfg.Store.Users.ByLogin(ctx, login); {
	case err == nil:
		s.user = &u
	case !errors.Is(err, store.ErrNotFound):
		s.err = fmt.Errorf("%w: looking up user: %w", ErrUnavailable, err)
		return s
	}
	switch r, err := e.cfg.Store.Robots.ByName(ctx, login); {
	case err == nil && s.user != nil:
		s.err = fmt.Errorf("%w: the name is both a user and a robot; delete one of them", ErrDisabled)
		return s
	case err == nil:
		s.robot = &r
	case !errors.Is(err, store.ErrNotFound):
		s.err = fmt.Errorf("%w: looking up robot: %w", ErrUnavailable, err)
		return s
	}
	if e.cfg.Directory != nil {
		e.lookupDirectory(ctx, &s)
	}
	if s.err != nil {
		return s
	}
	switch {
	case s.robot != nil:
		s.key = "robot:" + s.robot.ID
	case s.user == nil && s.person == nil:
		s.err = ErrUnknownUser
		return s
	case s.person != nil:
		s.key = "directory:" + s.person.ID
	default:
		s.key = personKey(*s.user)
	}
	return s
}

// lookupDirectory asks the directory, which is read at every login. A local user and a robot do not depend
// on it, except that a name known in both places is refused.
func (e *Engine) lookupDirectory(ctx context.Context, s *subject) {
	p, err := e.cfg.Directory.Lookup(ctx, s.login)
	local := s.robot != nil || s.user != nil && s.user.Source == store.Local
	switch {
	case errors.Is(err, identity.ErrUnavailable) && local:
		return // the person's password and token are here
	case errors.Is(err, identity.ErrUnknown) && local:
		return
	case errors.Is(err, identity.ErrUnknown) && s.user != nil:
		s.key = "directory:" + s.user.ExternalID
		s.err = fmt.Errorf("%w: no longer in the directory", ErrDisabled)
		return
	case errors.Is(err, identity.ErrUnknown), errors.Is(err, identity.ErrAmbiguous):
		s.err = fmt.Errorf("%w: %w", ErrUnknownUser, err)
		return
	case err != nil:
		s.err = fmt.Errorf("%w: %w", ErrUnavailable, err)
		return
	case local:
		s.err = fmt.Errorf("%w: the name is both a local user, or a robot, and in the directory; delete one of them", ErrDisabled)
		return
	}
	s.person, s.login = &p, p.Login
	s.user = nil // the row is found by the directory's immutable id, never by name
	switch u, err := e.cfg.Store.Users.ByExternalID(ctx, p.ID); {
	case err == nil:
		s.user = &u
	case !errors.Is(err, store.ErrNotFound):
		s.err = fmt.Errorf("%w: looking up user: %w", ErrUnavailable, err)
		return
	}
	if p.Disabled {
		s.key = "directory:" + p.ID
		s.err = fmt.Errorf("%w: in the directory: %s", ErrDisabled, p.Status)
	}
}

func (e *Engine) loadTokens(ctx context.Context, s *subject) error {
	tokens, err := e.cfg.Store.Tokens.Usable(ctx, s.user.ID)
	if err != nil {
		return fmt.Errorf("%w: reading tokens: %w", ErrUnavailable, err)
	}
	s.tokens = tokens
	return nil
}

// groups are the directory's as of now, else those of the local row.
func (s subject) groups() []string {
	switch {
	case s.person != nil:
		return s.person.Groups
	case s.user != nil:
		return s.user.Groups
	}
	return nil
}

func (s subject) name() string {
	switch {
	case s.person != nil:
		return s.person.Name
	case s.user != nil:
		return s.user.Name
	}
	return ""
}

// counterSource is what failures from an address are counted under: the address itself for IPv4, the
// /64 for IPv6, because one host there can use every address of it.
func counterSource(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}
