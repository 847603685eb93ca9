package admin

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

func (s *Server) caRoutes(api huma.API) {
	register(s, api, route(needAuditor, http.MethodGet, "/ca", "ca-show", "Show the keys by whose certificates the bastion logs in to targets"),
		func(ctx context.Context, _ Caller, _ *nothing) (*body[UserCA], error) {
			ca, err := s.userCA(ctx)
			if err != nil {
				return nil, err
			}
			return answer(ca), nil
		})
	register(s, api, route(needAdmin, http.MethodPost, "/ca/drop", "ca-drop", "Remove the next key; the one of now goes on"),
		func(ctx context.Context, by Caller, in *with[DropKey]) (*body[UserCA], error) {
			if err := s.dropCA(ctx, by, in.Body); err != nil {
				return nil, err
			}
			ca, err := s.userCA(ctx)
			if err != nil {
				return nil, err
			}
			return answer(ca), nil
		})
	for _, c := range []struct {
		path, id, summary string
		do                func(context.Context, Caller) error
	}{
		{"/ca/rotate", "ca-rotate", "Make the key that is to sign next, for targets to trust; nothing else changes", s.rotateCA},
		{"/ca/activate", "ca-activate", "Have the next key sign from now on; the one before is an old one", s.activateCA},
		{"/ca/retire", "ca-retire", "Remove the old key for ever", s.retireCA},
	} {
		register(s, api, route(needAdmin, http.MethodPost, c.path, c.id, c.summary),
			func(ctx context.Context, by Caller, _ *nothing) (*body[UserCA], error) {
				if err := c.do(ctx, by); err != nil {
					return nil, err
				}
				ca, err := s.userCA(ctx)
				if err != nil {
					return nil, err
				}
				return answer(ca), nil
			})
	}
}
