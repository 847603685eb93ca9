package admin

import (
	"context"
	"errors"
	"time"

	"sallyport/audit"
	"sallyport/store"
)

// setRole makes a user an administrator or an auditor.
func (s *Server) setRole(ctx context.Context, by Caller, login string, role Role) (store.Admin, error) {
	u, err := s.user(ctx, login)
	if err != nil {
		return store.Admin{}, err
	}
	if role != RoleAdmin && role != RoleAuditor {
		return store.Admin{}, invalid("the roles are admin and auditor", "there is no role %s", audit.Quote(string(role)))
	}
	if err := s.cfg.Store.Admins.Set(ctx, u.ID, string(role)); err != nil {
		return store.Admin{}, lastAdmin(err, u.Login)
	}
	s.changed(ctx, by, "admin.set", audit.Event{User: u.Login, Detail: map[string]string{"role": string(role)}})
	return s.admin(ctx, u)
}

// admin finds the role of a user.
func (s *Server) admin(ctx context.Context, u store.User) (store.Admin, error) {
	all, err := s.cfg.Store.Admins.List(ctx)
	if err != nil {
		return store.Admin{}, err
	}
	for _, a := range all {
		if a.UserID == u.ID {
			return a, nil
		}
	}
	return store.Admin{}, store.ErrNotFound
}

// removeRole takes a user's role, and with it their web sessions on operators' pages.
func (s *Server) removeRole(ctx context.Context, by Caller, login string) error {
	u, err := s.user(ctx, login)
	if err != nil {
		return err
	}
	err = s.cfg.Store.Admins.Remove(ctx, u.ID)
	if err := ifNotFound(err, "see: sallyport admin list", "%s has no role", u.Login); err != nil {
		return lastAdmin(err, u.Login)
	}
	s.changed(ctx, by, "admin.remove", audit.Event{User: u.Login})
	_, err = s.cfg.Store.WebSessions.EndAll(ctx, u.ID)
	return err
}

// lastAdmin says in words that the store keeps the last administrator.
func lastAdmin(err error, login string) error {
	if errors.Is(err, store.ErrLastAdmin) {
		return conflict("make somebody else administrator first: sallyport admin add LOGIN", "%s is the last administrator", login)
	}
	return err
}

// addAPIToken makes a token for programs. The secret is shown once and kept nowhere.
func (s *Server) addAPIToken(ctx context.Context, by Caller, n NewAPIToken) (store.APIToken, string, error) {
	if err := checkText("name", n.Name, 100); err != nil {
		return store.APIToken{}, "", err
	}
	var expires time.Time
	if n.Expires != nil {
		if expires = *n.Expires; !expires.After(s.cfg.Now()) {
			return store.APIToken{}, "", invalid("give a time to come, such as --for 2160h", "the token would have expired already")
		}
	}
	t, secret, err := s.cfg.Store.APITokens.Add(ctx, n.Name, string(n.Role), expires)
	if errors.Is(err, store.ErrExists) {
		err = conflict("see: sallyport api-token list", "there is an API token %s already", audit.Escape(n.Name))
	}
	if err != nil {
		return store.APIToken{}, "", err
	}
	s.changed(ctx, by, "api-token.add", audit.Event{Detail: map[string]string{"id": t.ID, "name": t.Name, "role": t.Role}})
	return t, secret, nil
}

// deleteAPIToken closes the API to a token from the next request on.
func (s *Server) deleteAPIToken(ctx context.Context, by Caller, id string) error {
	err := s.cfg.Store.APITokens.Delete(ctx, id)
	if err := ifNotFound(err, "see: sallyport api-token list", "there is no API token of that id"); err != nil {
		return err
	}
	s.changed(ctx, by, "api-token.delete", audit.Event{Detail: map[string]string{"id": id}})
	return nil
}
