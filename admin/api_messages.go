package admin

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

type outboxInput struct {
	State string `query:"state" enum:"waiting,sent,failed" doc:"absent: all"`
	Limit int    `query:"limit" minimum:"0" maximum:"10000" doc:"0: 100"`
}

// messageRoutes are about mail and short messages, and where those of a person go.
func (s *Server) messageRoutes(api huma.API) {
	register(s, api, route(needAuditor, http.MethodGet, "/outbox", "outbox-list", "List mails and short messages of the last week, without what is in them"),
		func(ctx context.Context, _ Caller, in *outboxInput) (*body[[]OutboxMessage], error) {
			messages, err := s.outbox(ctx, in.State, in.Limit)
			if err != nil {
				return nil, err
			}
			return answer(list(messages, wireMessage)), nil
		})
	register(s, api, route(needAdmin, http.MethodPost, "/outbox/{id}/retry", "outbox-retry", "Send a message now, also one that was given up"),
		func(ctx context.Context, by Caller, in *byID) (*body[OutboxMessage], error) {
			m, err := s.retryMessage(ctx, by, in.ID)
			if err != nil {
				return nil, err
			}
			return answer(wireMessage(m)), nil
		})
	register(s, api, route(needAdmin, http.MethodDelete, "/outbox/{id}", "outbox-drop", "Delete a message"),
		func(ctx context.Context, by Caller, in *byID) (*nothing, error) {
			return &nothing{}, s.dropMessage(ctx, by, in.ID)
		})
	register(s, api, route(needAdmin, http.MethodPut, "/users/{login}/contact", "user-contact", "Change where a user's messages and codes go"),
		func(ctx context.Context, by Caller, in *byLoginWith[NewContact]) (*body[User], error) {
			u, err := s.setContact(ctx, by, in.Login, in.Body)
			if err != nil {
				return nil, err
			}
			return answer(s.wireUser(u)), nil
		})
}
