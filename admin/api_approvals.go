package admin

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/store"
)

type approvalsInput struct {
	State   string `query:"state" enum:"pending,approved,refused,withdrawn,expired,used"`
	User    string `query:"user" maxLength:"255"`
	Target  string `query:"target" maxLength:"255"`
	Session string `query:"session" maxLength:"100"`
	Before  string `query:"before" maxLength:"100" doc:"id: older than this request"`
	Limit   int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

type refusalInput struct {
	ID   string `path:"id" maxLength:"100"`
	Body Refusal
}

// approvalRoutes are about sessions that others have to agree to.
func (s *Server) approvalRoutes(api huma.API) {
	register(s, api, route(needAuditor, http.MethodGet, "/approvals", "approval-list", "List requests for approval"),
		func(ctx context.Context, _ Caller, in *approvalsInput) (*body[[]Approval], error) {
			found, err := s.cfg.Store.Approvals.List(ctx, store.ApprovalFilter{
				State: in.State, User: in.User, Target: in.Target, Session: in.Session, Before: in.Before, Limit: in.Limit,
			})
			if err != nil {
				return nil, err
			}
			return answer(list(found, wireApproval)), nil
		})
	register(s, api, route(needAuditor, http.MethodGet, "/approvals/{id}", "approval-show", "Show a request for approval, by id or by the code of a pending one"),
		func(ctx context.Context, _ Caller, in *byID) (*body[Approval], error) {
			a, err := s.approval(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			return answer(wireApproval(a)), nil
		})
	register(s, api, route(needAdmin, http.MethodPost, "/approvals/{id}/refuse", "approval-refuse", "Refuse a request for approval"),
		func(ctx context.Context, by Caller, in *refusalInput) (*body[Approval], error) {
			a, err := s.refuseApproval(ctx, by, in.ID, in.Body.Reason)
			if err != nil {
				return nil, err
			}
			return answer(wireApproval(a)), nil
		})
}
