package admin

import (
	"context"
	"net"
	"net/http"
	"reflect"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
)

var problemType = reflect.TypeFor[Problem]()

type healthAnswer struct {
	Status int
	Body   Health
}

// serverRoutes tell about the server itself.
func (s *Server) serverRoutes(api huma.API) {
	register(s, api, route(needNobody, http.MethodGet, "/health", "health", "Tell whether logins can be decided"),
		func(ctx context.Context, _ Caller, _ *nothing) (*healthAnswer, error) {
			if err := s.cfg.Store.Ping(ctx); err != nil {
				s.cfg.Log.WarnContext(ctx, "health", "error", err)
				return &healthAnswer{http.StatusServiceUnavailable, Health{"failing", "unreachable"}}, nil
			}
			return &healthAnswer{http.StatusOK, Health{"ok", "ok"}}, nil
		})
	register(s, api, route(needAuditor, http.MethodGet, "/version", "version", "Tell what runs"),
		func(ctx context.Context, _ Caller, _ *nothing) (*body[Version], error) {
			schema, err := s.cfg.Store.SchemaVersion(ctx)
			if err != nil {
				return nil, err
			}
			return answer(Version{s.cfg.Version, s.cfg.Node, s.cfg.Store.Engine(), schema}), nil
		})
	register(s, api, route(needAuditor, http.MethodGet, "/door", "door", "Tell where the SSH door is"),
		func(context.Context, Caller, *nothing) (*body[Door], error) {
			host, port, err := net.SplitHostPort(s.cfg.SSHAddress)
			if err != nil {
				return nil, err
			}
			n, err := strconv.Atoi(port)
			if err != nil {
				return nil, err
			}
			return answer(Door{host, n}), nil
		})
	register(s, api, route(needAuditor, http.MethodGet, "/recording-keys", "recording-keys", "List the keys by which recordings are verified"),
		func(context.Context, Caller, *nothing) (*body[[]RecordingKey], error) {
			keys, err := s.keys()
			if err != nil {
				return nil, err
			}
			return answer(keys), nil
		})
}
