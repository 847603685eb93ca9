package admin

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

// radiusRoutes are about the machines that ask for people by RADIUS.
func (s *Server) radiusRoutes(api huma.API) {
	register(s, api, route(needAuditor, http.MethodGet, "/radius-clients", "radius-client-list", "List RADIUS clients"),
		func(ctx context.Context, _ Caller, _ *nothing) (*body[[]RadiusClient], error) {
			clients, err := s.cfg.Store.RadiusClients.List(ctx)
			if err != nil {
				return nil, err
			}
			return answer(list(clients, wireRadiusClient)), nil
		})
	register(s, api, route(needAdmin, http.MethodPost, "/radius-clients", "radius-client-add", "Add a RADIUS client; a secret that is made is shown this once"),
		func(ctx context.Context, by Caller, in *with[NewRadiusClient]) (*body[RadiusClientSecret], error) {
			c, err := s.addRadiusClient(ctx, by, in.Body)
			return answer(c), err
		})
	register(s, api, route(needAuditor, http.MethodGet, "/radius-clients/{name}", "radius-client-show", "Show a RADIUS client"),
		func(ctx context.Context, _ Caller, in *byName) (*body[RadiusClient], error) {
			c, err := s.radiusClient(ctx, in.Name)
			return answer(wireRadiusClient(c)), err
		})
	register(s, api, route(needAdmin, http.MethodPatch, "/radius-clients/{name}", "radius-client-update", "Change a RADIUS client; a secret that is made is shown this once"),
		func(ctx context.Context, by Caller, in *byNameWith[RadiusClientChange]) (*body[RadiusClientSecret], error) {
			c, err := s.changeRadiusClient(ctx, by, in.Name, in.Body)
			return answer(c), err
		})
	register(s, api, route(needAdmin, http.MethodDelete, "/radius-clients/{name}", "radius-client-remove", "Remove a RADIUS client"),
		func(ctx context.Context, by Caller, in *byName) (*nothing, error) {
			return &nothing{}, s.deleteRadiusClient(ctx, by, in.Name)
		})
	register(s, api, route(needAuditor, http.MethodGet, "/radius-clients/{name}/doctor", "radius-client-doctor", "Tell how a RADIUS client does, from what was heard of it"),
		func(ctx context.Context, _ Caller, in *byName) (*body[RadiusDoctor], error) {
			d, err := s.radiusDoctor(ctx, in.Name)
			return answer(d), err
		})
	register(s, api, route(needAuditor, http.MethodGet, "/radius-strangers", "radius-strangers", "Tell how often addresses have asked by RADIUS that are no client's"),
		func(ctx context.Context, _ Caller, _ *nothing) (*body[[]RadiusCount], error) {
			nobody := ""
			counts, err := s.cfg.Store.RadiusClients.Counts(ctx, &nobody)
			if err != nil {
				return nil, err
			}
			return answer(list(counts, wireRadiusCount)), nil
		})
}
