package admin

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

func (s *Server) enrolRoutes(api huma.API) {
	register(s, api, route(needAdmin, http.MethodPost, "/users/{login}/enrol-link", "user-enrol-link", "Make a one-time link by which a user sets up a token; it is shown this once"),
		func(ctx context.Context, by Caller, in *byLoginWith[NewEnrolLink]) (*body[EnrolLink], error) {
			url, expires, err := s.enrolLink(ctx, by, in.Login, in.Body.Reset)
			if err != nil {
				return nil, err
			}
			return answer(EnrolLink{Login: in.Login, URL: url, Expires: timeOf(expires)}), nil
		})
	register(s, api, route(needAdmin, http.MethodPost, "/enrolments/links", "enrolments-send", "Mail users a one-time link by which they set up a token"),
		func(ctx context.Context, by Caller, in *with[SendEnrolments]) (*body[[]SentEnrolment], error) {
			out, err := s.sendEnrolments(ctx, by, in.Body)
			if err != nil {
				return nil, err
			}
			return answer(append([]SentEnrolment{}, out...)), nil
		})
	register(s, api, route(needAuditor, http.MethodGet, "/enrolments/waiting", "enrolments-waiting", "List tokens that wait for approval, oldest first"),
		func(ctx context.Context, _ Caller, _ *struct{}) (*body[[]WaitingToken], error) {
			out, err := s.waitingTokens(ctx)
			if err != nil {
				return nil, err
			}
			return answer(out), nil
		})
	register(s, api, route(needAdmin, http.MethodPost, "/users/{login}/tokens/{id}/approve", "token-approve", "Approve a token that a user has enrolled"),
		func(ctx context.Context, by Caller, in *byToken) (*body[Token], error) {
			t, err := s.approveToken(ctx, by, in.Login, in.Token)
			if err != nil {
				return nil, err
			}
			return answer(s.wireToken(t)), nil
		})
	register(s, api, route(needAdmin, http.MethodPost, "/users/{login}/without-token", "user-without-token", "Grant a user the configured logins without a code anew"),
		func(ctx context.Context, by Caller, in *byLogin) (*body[User], error) {
			u, err := s.grantWithoutToken(ctx, by, in.Login)
			if err != nil {
				return nil, err
			}
			return answer(s.wireUser(u)), nil
		})
}
