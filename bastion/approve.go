package bastion

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/store"
)

// waitingRequest is a line of approvals.
type waitingRequest struct {
	Code    string    `json:"code"`
	User    string    `json:"user"`
	Account string    `json:"account"`
	Target  string    `json:"target"`
	Source  string    `json:"source"`
	Asked   string    `json:"asked"`
	Reason  string    `json:"reason"`
	Rule    string    `json:"rule"`
	Given   int       `json:"given"`
	Needed  int       `json:"needed"`
	Expires time.Time `json:"expires"`
}

// approvalsCommand lists the requests that the person may decide.
func (r *reception) approvalsCommand(ctx context.Context, _ []string, asJSON bool) uint32 {
	waiting, err := r.c.s.cfg.Engine.WaitingFor(ctx, r.c.id)
	if err != nil {
		return r.failed("listing requests for approval", err)
	}
	list, rows := []waitingRequest{}, [][]string{{"CODE", "WHO", "WHERE", "FROM", "WHAT", "REASON", "APPROVED", "UNTIL"}}
	for _, a := range waiting {
		list = append(list, waitingRequest{a.Code, a.User, a.Account, a.Target, a.Source, a.Asked, a.Reason, a.Rule, a.Given, a.Needed, a.Expires.UTC().Truncate(time.Second)})
		rows = append(rows, []string{a.Code, a.User, a.Account + "@" + a.Target, a.Source, a.Asked, a.Reason, fmt.Sprintf("%d of %d", a.Given, a.Needed), a.Expires.UTC().Format("15:04:05 UTC")})
	}
	switch {
	case asJSON:
		return r.printJSON(list)
	case len(list) == 0:
		return r.fail(statusOK, "nobody waits for you.")
	}
	r.table(rows...)
	return statusOK
}

// approveCommand agrees to somebody's session.
func (r *reception) approveCommand(_ context.Context, args []string, _ bool) uint32 {
	return r.decideCommand(args, true)
}

// refuseCommand refuses it.
func (r *reception) refuseCommand(_ context.Context, args []string, _ bool) uint32 {
	return r.decideCommand(args, false)
}

// decideCommand tells others what the person says of the request with the code of args[0]. A code of their own
// is asked for, unless they have typed one at this very login.
func (r *reception) decideCommand(args []string, approve bool) uint32 {
	engine, v := r.c.s.cfg.Engine, auth.Verdict{Approve: approve, Reason: strings.Join(args[1:], " ")}
	a, err := engine.DecideApproval(context.Background(), r.c.id, args[0], v)
	if errors.Is(err, auth.ErrNeedsCode) {
		r.fail(statusOK, "%s", describe(a))
		timer := time.AfterFunc(resyncTime, func() { _ = r.ch.Close() })
		defer timer.Stop()
		if v.Code, err = r.asker()("A fresh code of yours: "); err != nil || v.Code == "" {
			return r.fail(statusUsage, "a code is needed: others trust that it is you.")
		}
		a, err = engine.DecideApproval(context.Background(), r.c.id, args[0], v)
	}
	var refused *auth.Refused
	switch {
	case errors.As(err, &refused):
		return r.fail(statusNo, "%s", refused.Public)
	case err != nil:
		return r.failed("deciding about a request for approval", err)
	case !approve:
		return r.fail(statusOK, "refused. %s", describe(a))
	case a.State == store.ApprovalPending:
		return r.fail(statusOK, "approved, %d of %d: others have to agree as well. %s", a.Given, a.Needed, describe(a))
	}
	return r.fail(statusOK, "approved. %s", describe(a))
}

// describe says on one line what a request is about.
func describe(a store.Approval) string {
	text := fmt.Sprintf("%s: %s as %s on %s, from %s, %s", a.Code, a.User, a.Account, a.Target, a.Source, a.Asked)
	if a.Reason != "" {
		text += ", reason: " + a.Reason
	}
	return audit.Escape(text) + "."
}
