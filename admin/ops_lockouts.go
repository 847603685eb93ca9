package admin

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"sallyport/audit"
	"sallyport/store"
)

// lockouts lists the locks in force after failures, newest first.
func (s *Server) lockouts(ctx context.Context) ([]Lockout, error) {
	locks, err := s.cfg.Store.Attempts.Locks(ctx)
	if err != nil {
		return nil, err
	}
	found := make([]Lockout, 0, len(locks))
	for _, l := range locks {
		w := wireLock(l)
		if err := s.nameLock(ctx, &w); err != nil {
			return nil, err
		}
		found = append(found, w)
	}
	return found, nil
}

// nameLock says in words whom a lock holds. Its key is made of a person, a source and a target, as far
// as its kind ("user+source") says.
func (s *Server) nameLock(ctx context.Context, l *Lockout) error {
	parts := strings.Split(l.Key, "|")
	for i, what := range strings.Split(l.Kind, "+") {
		if i >= len(parts) {
			break
		}
		switch what {
		case "user":
			login, err := s.lockedLogin(ctx, parts[i])
			if err != nil {
				return err
			}
			l.User = login
		case "source", "api-key": // the latter: a source of wrong API keys
			l.Source = parts[i]
		case "target", "client": // the latter: a machine that asks for people
			l.Target = parts[i]
		}
	}
	return nil
}

// lockedLogin is the login behind the key under which a person's failures are counted.
func (s *Server) lockedLogin(ctx context.Context, key string) (string, error) {
	kind, id, _ := strings.Cut(key, ":")
	var u store.User
	var err error
	switch kind {
	case "user":
		u, err = s.cfg.Store.Users.ByID(ctx, id)
	case "directory":
		u, err = s.cfg.Store.Users.ByExternalID(ctx, id)
	case "robot":
		r, err := s.cfg.Store.Robots.ByID(ctx, id)
		if errors.Is(err, store.ErrNotFound) {
			return audit.Escape(id), nil
		}
		return r.Name, err
	default: // nobody of that name; what was typed
		return audit.Escape(id), nil
	}
	if errors.Is(err, store.ErrNotFound) {
		return audit.Escape(id), nil
	}
	return u.Login, err
}

// addLockout locks a source by hand.
func (s *Server) addLockout(ctx context.Context, by Caller, n NewLockout) (Lockout, error) {
	source, err := netip.ParseAddr(n.Source)
	if err != nil || source.Zone() != "" {
		return Lockout{}, invalid("give an address such as 203.0.113.7", "%s is no address", audit.Quote(n.Source))
	}
	if err := checkText("reason", n.Reason, 500); err != nil {
		return Lockout{}, err
	}
	var until time.Time
	if n.Until != nil {
		if until = *n.Until; !until.After(s.cfg.Now()) {
			return Lockout{}, invalid("give a time to come, such as --for 8h", "the lock would have ended already")
		}
	}
	if by.Source.IsValid() && by.Source.Unmap() == source.Unmap() {
		return Lockout{}, conflict("do it from another address", "you would lock yourself out")
	}
	var user *store.User
	if n.User != "" {
		u, err := s.user(ctx, n.User)
		if err != nil {
			return Lockout{}, err
		}
		user = &u
	}
	lock, err := s.cfg.Engine.Block(ctx, user, source, by.Actor, n.Reason, until)
	if err != nil {
		return Lockout{}, err
	}
	w := wireLock(lock)
	if err := s.nameLock(ctx, &w); err != nil {
		return Lockout{}, err
	}
	detail := map[string]string{"id": lock.ID}
	if !until.IsZero() {
		detail["until"] = until.UTC().Format(time.RFC3339)
	}
	s.changed(ctx, by, "lockout.add", audit.Event{User: w.User, Reason: n.Reason, Detail: detail})
	return w, nil
}

// setUserLockout sets when failures lock a user, where that is to be stricter than for everybody.
func (s *Server) setUserLockout(ctx context.Context, by Caller, login string, l UserLockout) error {
	u, err := s.user(ctx, login)
	if err != nil {
		return err
	}
	err = s.cfg.Store.Users.SetLockout(ctx, u.ID, store.UserLockout{
		Failures: l.Failures, Window: time.Duration(l.Window) * time.Second, Lock: time.Duration(l.Lock) * time.Second})
	if err != nil {
		return err
	}
	s.changed(ctx, by, "user.lockout", audit.Event{User: u.Login, Detail: map[string]string{
		"failures": fmt.Sprint(l.Failures), "window": fmt.Sprint(l.Window), "lock": fmt.Sprint(l.Lock)}})
	return nil
}

// clearLockout lifts a lock and forgets the failures that led to it.
func (s *Server) clearLockout(ctx context.Context, by Caller, id string) error {
	err := s.cfg.Store.Attempts.Clear(ctx, id)
	if err := ifNotFound(err, "see: sallyport lockout list", "no lock of that id is in force"); err != nil {
		return err
	}
	s.changed(ctx, by, "lockout.clear", audit.Event{Detail: map[string]string{"id": id}})
	return nil
}
