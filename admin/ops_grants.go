package admin

import (
	"context"
	"fmt"

	"sallyport/audit"
	"sallyport/store"
)

// grants lists what is remembered of people's codes: of one user, or of all if login is empty.
func (s *Server) grants(ctx context.Context, login string) ([]Grant, error) {
	id, names := "", map[string]string{}
	if login != "" {
		u, err := s.user(ctx, login)
		if err != nil {
			return nil, err
		}
		id, names[u.ID] = u.ID, u.Login
	}
	found, err := s.cfg.Store.Grants.List(ctx, id)
	if err != nil {
		return nil, err
	}
	out := make([]Grant, 0, len(found))
	for _, g := range found {
		if _, known := names[g.UserID]; !known {
			u, err := s.cfg.Store.Users.ByID(ctx, g.UserID)
			if err != nil {
				return nil, err
			}
			names[g.UserID] = u.Login
		}
		out = append(out, wireGrant(g, names[g.UserID]))
	}
	return out, nil
}

// revokeGrant ends one remembered code of a user.
func (s *Server) revokeGrant(ctx context.Context, by Caller, login, id string) error {
	u, err := s.user(ctx, login)
	if err != nil {
		return err
	}
	err = s.cfg.Store.Grants.Revoke(ctx, u.ID, id)
	if err := ifNotFound(err, "see: sallyport grant list --user "+u.Login, "%s has no grant of that id", u.Login); err != nil {
		return err
	}
	s.changed(ctx, by, "grant.revoke", audit.Event{User: u.Login, Detail: map[string]string{"id": id}})
	return nil
}

// revokeGrants ends all remembered codes of a user and tells how many there were.
func (s *Server) revokeGrants(ctx context.Context, by Caller, login string) (int, error) {
	u, err := s.user(ctx, login)
	if err != nil {
		return 0, err
	}
	n, err := s.cfg.Store.Grants.RevokeAll(ctx, u.ID)
	if err != nil {
		return 0, err
	}
	s.changed(ctx, by, "grant.revoke", audit.Event{User: u.Login, Detail: map[string]string{"all": fmt.Sprint(n)}})
	return n, nil
}

func wireGrant(g store.Grant, login string) Grant {
	return Grant{
		ID: g.ID, User: login, Door: g.Door, Network: g.Network, Source: g.Source.String(), FirstFactor: firstFactor(g.Evidence), Client: g.Client,
		Assurance: g.Assurance, Rule: g.Rule, CodeAt: timeOf(g.CodeAt), LastUsed: timeOf(g.LastUsed), Uses: g.Uses,
		Targets: append([]string{}, g.Targets...), Expires: timeOf(g.Expires),
	}
}

// firstFactor says by what a person proved themselves first; behind it stands what the password was.
func firstFactor(evidence string) string {
	for i := len(evidence) - 1; i >= 0; i-- {
		if evidence[i] == ' ' {
			return evidence[:i]
		}
	}
	return evidence
}
