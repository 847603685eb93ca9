package admin

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

type byID struct {
	ID string `path:"id" maxLength:"300"`
}

// adminRoutes are about who may use the operators' pages and the API.
func (s *Server) adminRoutes(api huma.API) {
	register(s, api, route(needAuditor, http.MethodGet, "/admins", "admin-list", "List administrators and auditors"),
		func(ctx context.Context, _ Caller, _ *nothing) (*body[[]Admin], error) {
			admins, err := s.cfg.Store.Admins.List(ctx)
			if err != nil {
				return nil, err
			}
			return answer(list(admins, wireAdmin)), nil
		})
	register(s, api, route(needAdmin, http.MethodPut, "/admins/{login}", "admin-set", "Make a user administrator or auditor"),
		func(ctx context.Context, by Caller, in *byLoginWith[NewRole]) (*body[Admin], error) {
			a, err := s.setRole(ctx, by, in.Login, in.Body.Role)
			if err != nil {
				return nil, err
			}
			return answer(wireAdmin(a)), nil
		})
	register(s, api, route(needAdmin, http.MethodDelete, "/admins/{login}", "admin-remove", "Take a user's role"),
		func(ctx context.Context, by Caller, in *byLogin) (*nothing, error) {
			return &nothing{}, s.removeRole(ctx, by, in.Login)
		})
	register(s, api, route(needAuditor, http.MethodGet, "/api-tokens", "api-token-list", "List API tokens"),
		func(ctx context.Context, _ Caller, _ *nothing) (*body[[]APIToken], error) {
			tokens, err := s.cfg.Store.APITokens.List(ctx)
			if err != nil {
				return nil, err
			}
			return answer(list(tokens, wireAPIToken)), nil
		})
	register(s, api, route(needAdmin, http.MethodPost, "/api-tokens", "api-token-add", "Make an API token; the secret is shown this once"),
		func(ctx context.Context, by Caller, in *with[NewAPIToken]) (*body[IssuedAPIToken], error) {
			t, secret, err := s.addAPIToken(ctx, by, in.Body)
			if err != nil {
				return nil, err
			}
			return answer(IssuedAPIToken{wireAPIToken(t), secret}), nil
		})
	register(s, api, route(needAdmin, http.MethodDelete, "/api-tokens/{id}", "api-token-delete", "Delete an API token"),
		func(ctx context.Context, by Caller, in *byID) (*nothing, error) {
			return &nothing{}, s.deleteAPIToken(ctx, by, in.ID)
		})
}
