package admin

import (
	"context"
	"errors"

	"sallyport/store"
)

const seeApprovals = "see: sallyport approval list"

// approval finds a request by its id, or by its code while it is pending.
func (s *Server) approval(ctx context.Context, id string) (store.Approval, error) {
	a, err := s.cfg.Store.Approvals.Get(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		a, err = s.cfg.Store.Approvals.Pending(ctx, id)
	}
	return a, ifNotFound(err, seeApprovals, "there is no request for approval of that id, and none of that code is pending")
}

// refuseApproval ends a request in the name of an operator. Operators refuse and do not approve: who may do that, the
// rules say.
func (s *Server) refuseApproval(ctx context.Context, by Caller, id, reason string) (store.Approval, error) {
	a, err := s.approval(ctx, id)
	if err != nil {
		return a, err
	}
	if err := checkText("reason", reason, 500); err != nil {
		return a, err
	}
	a, err = s.cfg.Engine.RefuseApproval(ctx, a.ID, by.Actor, by.Door, reason)
	if errors.Is(err, store.ErrConflict) {
		return a, conflict(seeApprovals, "this request was %s before", a.State)
	}
	return a, err
}

func wireApproval(a store.Approval) Approval {
	w := Approval{
		ID: a.ID, Code: a.Code, State: a.State, Why: a.Why, Session: a.Session, User: a.User, Target: a.Target, Account: a.Account, Source: a.Source,
		Asked: a.Asked, Reason: a.Reason, Rule: a.Rule, RulesVersion: a.RulesVersion, Approvers: a.Approvers, Needed: a.Needed, Given: a.Given,
		Decisions: []ApprovalDecision{}, Node: a.Node, Requested: timeOf(a.Requested), Expires: timeOf(a.Expires), Settled: timeOf(a.Settled),
	}
	for _, d := range a.Decisions {
		verdict := "refuse"
		if d.Approve {
			verdict = "approve"
		}
		w.Decisions = append(w.Decisions, ApprovalDecision{User: d.User, Verdict: verdict, Reason: d.Reason, Door: d.Door, Source: d.Source, At: timeOf(d.At)})
	}
	return w
}
