package admin

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

// robotRoutes are about robots and the authorities of people's certificates: who else may come in.
func (s *Server) robotRoutes(api huma.API) {
	register(s, api, route(needAuditor, http.MethodGet, "/robots", "robot-list", "List robots"),
		func(ctx context.Context, _ Caller, _ *nothing) (*body[[]Robot], error) {
			robots, err := s.cfg.Store.Robots.List(ctx)
			if err != nil {
				return nil, err
			}
			return answer(list(robots, s.wireRobot)), nil
		})
	register(s, api, route(needAdmin, http.MethodPost, "/robots", "robot-add", "Let a program run the commands listed, by a key of its own"),
		func(ctx context.Context, by Caller, in *with[NewRobot]) (*body[Robot], error) {
			r, err := s.addRobot(ctx, by, in.Body)
			if err != nil {
				return nil, err
			}
			return answer(s.wireRobot(r)), nil
		})
	register(s, api, route(needAuditor, http.MethodGet, "/robots/{name}", "robot-show", "Show a robot"),
		func(ctx context.Context, _ Caller, in *byName) (*body[Robot], error) {
			r, err := s.robot(ctx, in.Name)
			if err != nil {
				return nil, err
			}
			return answer(s.wireRobot(r)), nil
		})
	register(s, api, route(needAdmin, http.MethodPatch, "/robots/{name}", "robot-update", "Change a robot; sessions end if that takes anything away"),
		func(ctx context.Context, by Caller, in *byNameWith[RobotChange]) (*body[Robot], error) {
			r, err := s.changeRobot(ctx, by, in.Name, in.Body)
			if err != nil {
				return nil, err
			}
			return answer(s.wireRobot(r)), nil
		})
	register(s, api, route(needAdmin, http.MethodDelete, "/robots/{name}", "robot-remove", "Remove a robot and end its sessions"),
		func(ctx context.Context, by Caller, in *byName) (*nothing, error) {
			return &nothing{}, s.deleteRobot(ctx, by, in.Name)
		})
	s.userCARoutes(api)
}

func (s *Server) userCARoutes(api huma.API) {
	register(s, api, route(needAuditor, http.MethodGet, "/user-cas", "user-ca-list", "List the authorities whose certificates people may log in with"),
		func(ctx context.Context, _ Caller, _ *nothing) (*body[[]LoginCA], error) {
			cas, err := s.loginCAs(ctx)
			if err != nil {
				return nil, err
			}
			return answer(cas), nil
		})
	register(s, api, route(needAdmin, http.MethodPost, "/user-cas", "user-ca-add", "Let the certificates of an authority stand for the password of the people they name"),
		func(ctx context.Context, by Caller, in *with[NewLoginCA]) (*body[LoginCA], error) {
			c, err := s.addUserCA(ctx, by, in.Body)
			if err != nil {
				return nil, err
			}
			return answer(wireLoginCA(c, nil)), nil
		})
	register(s, api, route(needAdmin, http.MethodPatch, "/user-cas/{name}", "user-ca-update", "Enable or disable an authority"),
		func(ctx context.Context, by Caller, in *byNameWith[LoginCAChange]) (*body[LoginCA], error) {
			c, err := s.setUserCA(ctx, by, in.Name, in.Body.Enabled)
			if err != nil {
				return nil, err
			}
			w, err := s.loginCA(ctx, c)
			return answer(w), err
		})
	register(s, api, route(needAdmin, http.MethodPost, "/user-cas/{name}/revocations", "user-ca-revoke", "Revoke certificates of an authority, by serial number or key id"),
		func(ctx context.Context, by Caller, in *byNameWith[NewRevocation]) (*body[LoginCA], error) {
			c, err := s.revokeCertificate(ctx, by, in.Name, in.Body)
			if err != nil {
				return nil, err
			}
			w, err := s.loginCA(ctx, c)
			return answer(w), err
		})
	register(s, api, route(needAdmin, http.MethodDelete, "/user-cas/{name}", "user-ca-remove", "Remove an authority, and what it has revoked"),
		func(ctx context.Context, by Caller, in *byName) (*nothing, error) {
			return &nothing{}, s.removeUserCA(ctx, by, in.Name)
		})
}
