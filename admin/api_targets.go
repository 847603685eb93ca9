package admin

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

// Inputs of routes that name a target.
type (
	byName struct {
		Name string `path:"name" maxLength:"255"`
	}
	byNameWith[T any] struct {
		Name string `path:"name" maxLength:"255"`
		Body T
	}
	onboardingInput struct {
		Name    string `path:"name" maxLength:"255"`
		Account string `query:"account" maxLength:"64" doc:"one account only"`
	}
)

func (s *Server) targetRoutes(api huma.API) {
	register(s, api, route(needAuditor, http.MethodGet, "/targets", "target-list", "List targets"),
		func(ctx context.Context, _ Caller, _ *nothing) (*body[[]Target], error) {
			targets, err := s.targets(ctx)
			if err != nil {
				return nil, err
			}
			return answer(list(targets, wireTarget)), nil
		})
	register(s, api, route(needAdmin, http.MethodPost, "/targets", "target-add", "Put a host behind the bastion"),
		func(ctx context.Context, by Caller, in *with[NewTarget]) (*body[Target], error) {
			t, err := s.addTarget(ctx, by, in.Body)
			if err != nil {
				return nil, err
			}
			return answer(wireTarget(t)), nil
		})
	register(s, api, route(needAuditor, http.MethodGet, "/targets/{name}", "target-show", "Show a target"),
		func(ctx context.Context, _ Caller, in *byName) (*body[Target], error) {
			t, err := s.target(ctx, in.Name)
			if err != nil {
				return nil, err
			}
			return answer(wireTarget(t)), nil
		})
	register(s, api, route(needAdmin, http.MethodPatch, "/targets/{name}", "target-update", "Change a target"),
		func(ctx context.Context, by Caller, in *byNameWith[TargetChange]) (*body[Target], error) {
			t, err := s.changeTarget(ctx, by, in.Name, in.Body)
			if err != nil {
				return nil, err
			}
			return answer(wireTarget(t)), nil
		})
	register(s, api, route(needAdmin, http.MethodDelete, "/targets/{name}", "target-delete", "Delete a target and end the sessions on it"),
		func(ctx context.Context, by Caller, in *byName) (*nothing, error) {
			return &nothing{}, s.deleteTarget(ctx, by, in.Name)
		})
	s.targetToolRoutes(api)
	s.hostKeyRoutes(api)
	s.caRoutes(api)
}

// targetToolRoutes help to bring a target in. Those that make the bastion connect somewhere are for
// administrators.
func (s *Server) targetToolRoutes(api huma.API) {
	register(s, api, route(needAuditor, http.MethodGet, "/targets/{name}/onboarding", "target-onboard", "Tell how a target comes to trust the bastion"),
		func(ctx context.Context, _ Caller, in *onboardingInput) (*body[Onboarding], error) {
			o, err := s.onboarding(ctx, in.Name, in.Account)
			if err != nil {
				return nil, err
			}
			return answer(o), nil
		})
	register(s, api, route(needAdmin, http.MethodPost, "/targets/{name}/check", "target-check", "Try a target as a session would"),
		func(ctx context.Context, _ Caller, in *byNameWith[NewCheck]) (*body[Check], error) {
			c, err := s.checkTarget(ctx, in.Name, in.Body.Account)
			if err != nil {
				return nil, err
			}
			return answer(c), nil
		})
	register(s, api, route(needAdmin, http.MethodPost, "/scan", "scan", "Show the host keys of an address, unproved"),
		func(ctx context.Context, _ Caller, in *with[NewScan]) (*body[[]HostKey], error) {
			keys, err := s.scan(ctx, in.Body.Address, in.Body.Via)
			if err != nil {
				return nil, err
			}
			return answer(keys), nil
		})
}
