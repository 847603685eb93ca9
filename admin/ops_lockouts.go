package admin

import (
	"context"
	"errors"
	"strings"

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
		case "source":
			l.Source = parts[i]
		case "target":
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
	default: // nobody of that name; what was typed
		return audit.Escape(id), nil
	}
	if errors.Is(err, store.ErrNotFound) {
		return audit.Escape(id), nil
	}
	return u.Login, err
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
