package signin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/alexedwards/scs/v2"

	"sallyport/internal/web"
	"sallyport/store"
)

// ErrNobody: the request belongs to no web session of somebody who may still use it.
var ErrNobody = errors.New("nobody is signed in")

// Keys of a web session besides those that store.WebSessions knows.
const (
	keySeen       = "seen"        // unix seconds of the last activity
	keyNoticeKind = "notice_kind" // message for the next page
	keyNoticeText = "notice_text"
	keyNoticeNext = "notice_next"
)

// seenEvery is how exactly the time of the last activity is kept; each update is a write.
const seenEvery = time.Minute

// memo keeps the answer of User for one request.
type memo struct {
	asked bool
	user  User
	err   error
}

type memoKey struct{}

// User returns who sent the request. The error is ErrNobody, or that the database did not answer;
// whoever gets one must refuse. It may be called outside of [Service.Wrap] too, and then counts as
// no activity.
func (s *Service) User(r *http.Request) (User, error) {
	ctx := r.Context()
	m, wrapped := ctx.Value(memoKey{}).(*memo)
	if wrapped && m.asked {
		return m.user, m.err
	}
	if !wrapped {
		c, err := r.Cookie(s.sm.Cookie.Name)
		if err != nil {
			return User{}, ErrNobody
		}
		if ctx, err = s.sm.Load(ctx, c.Value); err != nil {
			return User{}, fmt.Errorf("reading web session: %w", err)
		}
		m = new(memo)
	}
	m.asked = true
	m.user, m.err = s.user(ctx, s.cfg.Now(), wrapped && r.Header.Get(RefreshHeader) == "")
	return m.user, m.err
}

// user reads the web session in ctx. Role and lock are asked of the database, not of the session.
func (s *Service) user(ctx context.Context, now time.Time, active bool) (User, error) {
	id := s.sm.GetString(ctx, store.WebUser)
	if id == "" {
		return User{}, ErrNobody
	}
	seen := time.Unix(s.sm.GetInt64(ctx, keySeen), 0)
	if now.Sub(seen) > s.cfg.Idle {
		return User{}, s.forget(ctx)
	}
	role, err := s.role(ctx, id)
	var u store.User
	if err == nil {
		u, err = s.cfg.Store.Users.ByID(ctx, id)
	}
	switch {
	case errors.Is(err, store.ErrNotFound):
		return User{}, s.forget(ctx)
	case err != nil:
		return User{}, fmt.Errorf("reading who is signed in: %w", err)
	case u.LockedNow(now):
		return User{}, s.forget(ctx)
	}
	if active && now.Sub(seen) >= seenEvery {
		s.sm.Put(ctx, keySeen, now.Unix())
	}
	return User{UserID: u.ID, Login: u.Login, Name: u.Name, Role: role}, nil
}

// role is the role of a user among the administrators, "" for most people and for anything unknown.
func (s *Service) role(ctx context.Context, userID string) (string, error) {
	role, err := s.cfg.Store.Admins.Role(ctx, userID)
	if errors.Is(err, store.ErrNotFound) || err == nil && role != store.RoleAdmin && role != store.RoleAuditor {
		return "", nil
	}
	return role, err
}

// forget ends the web session in ctx. It returns ErrNobody, or why it could not.
func (s *Service) forget(ctx context.Context) error {
	if err := s.sm.Destroy(ctx); err != nil {
		return fmt.Errorf("ending web session: %w", err)
	}
	return ErrNobody
}

// Begin makes a web session for a user who has proved both factors, under an id that nobody has seen before.
func (s *Service) Begin(r *http.Request, userID string) error {
	ctx := r.Context()
	// Whatever an earlier session of this browser held goes, and so does its age.
	if s.sm.Status(ctx) != scs.Destroyed && len(s.sm.Keys(ctx)) > 0 {
		if err := s.sm.Destroy(ctx); err != nil {
			return fmt.Errorf("ending the web session before: %w", err)
		}
	}
	if err := s.sm.RenewToken(ctx); err != nil {
		return fmt.Errorf("making a web session: %w", err)
	}
	s.sm.Put(ctx, store.WebUser, userID)
	s.sm.Put(ctx, store.WebSource, web.Source(r, s.cfg.Proxies).String())
	s.sm.Put(ctx, store.WebClient, client(r))
	s.sm.Put(ctx, keySeen, s.cfg.Now().Unix())
	return nil
}

// client is the browser's name for itself, cut to a sane length.
func client(r *http.Request) string {
	c := r.UserAgent()
	return c[:min(len(c), 200)]
}

// Tell keeps a notice for the next page that this browser opens.
func (s *Service) Tell(r *http.Request, n web.Notice) {
	ctx := r.Context()
	s.sm.Put(ctx, keyNoticeKind, n.Kind)
	s.sm.Put(ctx, keyNoticeText, n.Text)
	s.sm.Put(ctx, keyNoticeNext, n.Next)
}

// Told returns the notice kept for this page, nil if there is none. It is given once; a page that
// refreshes itself leaves it alone.
func (s *Service) Told(r *http.Request) *web.Notice {
	ctx := r.Context()
	if r.Header.Get(RefreshHeader) != "" || !s.sm.Exists(ctx, keyNoticeText) {
		return nil
	}
	return &web.Notice{
		Kind: s.sm.PopString(ctx, keyNoticeKind),
		Text: s.sm.PopString(ctx, keyNoticeText),
		Next: s.sm.PopString(ctx, keyNoticeNext),
	}
}
