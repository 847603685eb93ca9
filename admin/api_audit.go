package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/store"
)

type auditInput struct {
	Type    string    `query:"type" maxLength:"100"`
	User    string    `query:"user" maxLength:"255"`
	Target  string    `query:"target" maxLength:"255"`
	Result  string    `query:"result" enum:"ok,refused,error"`
	Session string    `query:"session" maxLength:"100"`
	Query   string    `query:"query" maxLength:"255" doc:"part of any text"`
	Since   time.Time `query:"since"`
	Until   time.Time `query:"until"`
	After   string    `query:"after" maxLength:"100" doc:"id: newer than this event"`
	Before  string    `query:"before" maxLength:"100" doc:"id: older than this event"`
	Limit   int       `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

func (s *Server) auditRoutes(api huma.API) {
	register(s, api, route(needAuditor, http.MethodGet, "/audit", "audit-list", "List audit events"),
		func(ctx context.Context, _ Caller, in *auditInput) (*body[[]AuditEvent], error) {
			events, err := s.cfg.Store.Audit.List(ctx, store.AuditFilter{
				Type: in.Type, User: in.User, Target: in.Target, Result: in.Result, Session: in.Session, Query: in.Query,
				Since: in.Since, Until: in.Until, After: in.After, Before: in.Before, Limit: in.Limit,
			})
			if err != nil {
				return nil, err
			}
			return answer(list(events, wireEvent)), nil
		})
	register(s, api, route(needAuditor, http.MethodGet, "/lockouts", "lockout-list", "List locks in force after failures"),
		func(ctx context.Context, _ Caller, _ *nothing) (*body[[]Lockout], error) {
			locks, err := s.lockouts(ctx)
			if err != nil {
				return nil, err
			}
			return answer(locks), nil
		})
	register(s, api, route(needAdmin, http.MethodPost, "/lockouts", "lockout-add", "Lock a source, for everybody or for one user"),
		func(ctx context.Context, by Caller, in *with[NewLockout]) (*body[Lockout], error) {
			l, err := s.addLockout(ctx, by, in.Body)
			if err != nil {
				return nil, err
			}
			return answer(l), nil
		})
	register(s, api, route(needAdmin, http.MethodDelete, "/lockouts/{id}", "lockout-clear", "Lift a lock and forget its failures"),
		func(ctx context.Context, by Caller, in *byID) (*nothing, error) {
			return &nothing{}, s.clearLockout(ctx, by, in.ID)
		})
}
