package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/store"
)

// Inputs of routes that name a person.
type (
	byLogin struct {
		Login string `path:"login" maxLength:"64"`
	}
	byLoginID struct {
		Login string `path:"login" maxLength:"64"`
		ID    string `path:"id" maxLength:"100"`
	}
	byLoginWith[T any] struct {
		Login string `path:"login" maxLength:"64"`
		Body  T
	}
	with[T any] struct{ Body T }
)

type grantsInput struct {
	User string `query:"user" maxLength:"255" doc:"login; absent: everybody"`
}

type usersInput struct {
	Query string `query:"query" maxLength:"255" doc:"part of login, name or e-mail address"`
	Limit int    `query:"limit" minimum:"0" maximum:"10000" doc:"0: all"`
}

func (s *Server) userRoutes(api huma.API) {
	register(s, api, route(needAuditor, http.MethodGet, "/users", "user-list", "List users"),
		func(ctx context.Context, _ Caller, in *usersInput) (*body[[]User], error) {
			users, err := s.cfg.Store.Users.List(ctx, store.UserFilter{Query: in.Query, Limit: in.Limit})
			if err != nil {
				return nil, err
			}
			return answer(list(users, s.wireUser)), nil
		})
	register(s, api, route(needAdmin, http.MethodPost, "/users", "user-add", "Add a local user"),
		func(ctx context.Context, by Caller, in *with[NewUser]) (*body[User], error) {
			u, err := s.addUser(ctx, by, in.Body)
			if err != nil {
				return nil, err
			}
			return answer(s.wireUser(u)), nil
		})
	register(s, api, route(needAuditor, http.MethodGet, "/users/{login}", "user-show", "Show a user"),
		func(ctx context.Context, _ Caller, in *byLogin) (*body[User], error) {
			u, err := s.user(ctx, in.Login)
			if err != nil {
				return nil, err
			}
			return answer(s.wireUser(u)), nil
		})
	register(s, api, route(needAdmin, http.MethodDelete, "/users/{login}", "user-delete", "Delete a user with tokens, keys and role, and end their sessions"),
		func(ctx context.Context, by Caller, in *byLogin) (*nothing, error) {
			return &nothing{}, s.deleteUser(ctx, by, in.Login)
		})
	register(s, api, route(needAuditor, http.MethodGet, "/users/{login}/places", "user-places", "List the addresses from which a user signed in, or was refused"),
		func(ctx context.Context, _ Caller, in *byLogin) (*body[UserPlaces], error) {
			p, err := s.userPlaces(ctx, in.Login)
			if err != nil {
				return nil, err
			}
			return answer(p), nil
		})
	s.userChangeRoutes(api)
	s.userKeyRoutes(api)
	s.grantRoutes(api)
}

func (s *Server) grantRoutes(api huma.API) {
	register(s, api, route(needAuditor, http.MethodGet, "/grants", "grant-list", "List codes that are remembered, the last used first"),
		func(ctx context.Context, _ Caller, in *grantsInput) (*body[[]Grant], error) {
			grants, err := s.grants(ctx, in.User)
			if err != nil {
				return nil, err
			}
			return answer(grants), nil
		})
	register(s, api, route(needAdmin, http.MethodDelete, "/users/{login}/grants/{id}", "grant-revoke", "End a remembered code of a user"),
		func(ctx context.Context, by Caller, in *byLoginID) (*nothing, error) {
			return &nothing{}, s.revokeGrant(ctx, by, in.Login, in.ID)
		})
	register(s, api, route(needAdmin, http.MethodPost, "/users/{login}/grants/revoke", "grant-revoke-all", "End all remembered codes of a user"),
		func(ctx context.Context, by Caller, in *byLogin) (*body[Revoked], error) {
			n, err := s.revokeGrants(ctx, by, in.Login)
			if err != nil {
				return nil, err
			}
			return answer(Revoked{n}), nil
		})
}

// userChangeRoutes answer with the user as it is afterwards.
func (s *Server) userChangeRoutes(api huma.API) {
	after := func(ctx context.Context, login string, err error) (*body[User], error) {
		if err != nil {
			return nil, err
		}
		u, err := s.user(ctx, login)
		if err != nil {
			return nil, err
		}
		return answer(s.wireUser(u)), nil
	}
	register(s, api, route(needAdmin, http.MethodPut, "/users/{login}/lock", "user-lock", "Lock a user and end their sessions"),
		func(ctx context.Context, by Caller, in *byLoginWith[NewLock]) (*body[User], error) {
			var until time.Time
			if in.Body.Until != nil {
				until = *in.Body.Until
			}
			return after(ctx, in.Login, s.lockUser(ctx, by, in.Login, in.Body.Reason, until))
		})
	register(s, api, route(needAdmin, http.MethodPut, "/users/{login}/lockout", "user-lockout", "Set when failures lock a user, stricter than for everybody"),
		func(ctx context.Context, by Caller, in *byLoginWith[UserLockout]) (*body[User], error) {
			return after(ctx, in.Login, s.setUserLockout(ctx, by, in.Login, in.Body))
		})
	register(s, api, route(needAdmin, http.MethodPost, "/users/{login}/unlock", "user-unlock", "Unlock a user"),
		func(ctx context.Context, by Caller, in *byLogin) (*body[User], error) {
			return after(ctx, in.Login, s.unlockUser(ctx, by, in.Login))
		})
	register(s, api, route(needAdmin, http.MethodPut, "/users/{login}/password", "user-password", "Replace a local user's password"),
		func(ctx context.Context, by Caller, in *byLoginWith[NewPassword]) (*body[User], error) {
			return after(ctx, in.Login, s.setPassword(ctx, by, in.Login, in.Body.Password))
		})
	register(s, api, route(needAdmin, http.MethodPut, "/users/{login}/groups", "user-groups", "Replace a local user's groups"),
		func(ctx context.Context, by Caller, in *byLoginWith[NewGroups]) (*body[User], error) {
			return after(ctx, in.Login, s.setGroups(ctx, by, in.Login, in.Body.Groups))
		})
}

func (s *Server) userKeyRoutes(api huma.API) {
	register(s, api, route(needAuditor, http.MethodGet, "/users/{login}/keys", "user-key-list", "List a user's public keys"),
		func(ctx context.Context, _ Caller, in *byLogin) (*body[[]UserKey], error) {
			u, err := s.user(ctx, in.Login)
			if err != nil {
				return nil, err
			}
			keys, err := s.cfg.Store.UserKeys.List(ctx, u.ID)
			if err != nil {
				return nil, err
			}
			return answer(list(keys, wireKey)), nil
		})
	register(s, api, route(needAdmin, http.MethodPost, "/users/{login}/keys", "user-key-add", "Let a public key stand for a user's password"),
		func(ctx context.Context, by Caller, in *byLoginWith[NewUserKey]) (*body[UserKey], error) {
			k, err := s.addUserKey(ctx, by, in.Login, in.Body)
			if err != nil {
				return nil, err
			}
			return answer(wireKey(k)), nil
		})
	register(s, api, route(needAdmin, http.MethodDelete, "/users/{login}/keys/{id}", "user-key-delete", "Take a public key from a user"),
		func(ctx context.Context, by Caller, in *byLoginID) (*nothing, error) {
			return &nothing{}, s.deleteUserKey(ctx, by, in.Login, in.ID)
		})
}
