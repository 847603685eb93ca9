package portal

import (
	"errors"
	"fmt"
	"time"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/internal/web"
	"sallyport/signin"
	"sallyport/store"
)

const approvalsPath = signin.OwnPages + "/approvals"

// approvalsData is the dot of the page of requests that the person may decide.
type approvalsData struct {
	Rows   []approvalView
	Typed  string // code of the request whose form was sent
	Reason string // typed
}

// approvalView is a request as an approver sees it.
type approvalView struct {
	store.Approval
	Path string
	Left time.Duration
}

func (v *visit) approvalsPage() (web.Page, error) {
	list, err := v.s.cfg.Engine.WaitingFor(v.ctx(), v.identity())
	d := approvalsData{Typed: v.r.PathValue("code"), Reason: v.typed("reason")}
	for _, a := range list {
		d.Rows = append(d.Rows, approvalView{a, approvalsPath + "/" + a.Code, a.Expires.Sub(v.now())})
	}
	// The page reads itself again until there are forms on it: what was typed would be lost.
	return web.Page{Title: "Approvals", Section: "approvals", Refresh: len(list) == 0, Data: d}, err
}

func (s *Server) approvalsPage(v *visit) error {
	p, err := v.approvalsPage()
	if err != nil {
		return err
	}
	return v.show("approvals", p)
}

// decideForm counts what the person says of a request, after a fresh code of theirs.
func (s *Server) decideForm(v *visit) error {
	again := func(why error) error {
		p, err := v.approvalsPage()
		if err != nil {
			return err
		}
		return v.again(why, "approvals", p)
	}
	verdict := v.r.PostFormValue("verdict")
	if verdict != "approve" && verdict != "refuse" {
		return again(wrong("It was not said whether to approve or to refuse.", "Press one of the two buttons."))
	}
	a, err := s.cfg.Engine.DecideApproval(v.ctx(), v.identity(), v.r.PathValue("code"),
		auth.Verdict{Approve: verdict == "approve", Reason: v.typed("reason"), Code: v.typed("code"), ID: v.typed("id")})
	switch {
	case errors.Is(err, auth.ErrNeedsCode):
		return again(wrong("A fresh code is needed.", "Others trust that it is you: type a code of your token."))
	case err != nil:
		return again(err)
	}
	what := fmt.Sprintf("%s as %s on %s", audit.Escape(a.User), audit.Escape(a.Account), audit.Escape(a.Target))
	switch {
	case verdict == "refuse":
		return v.done(approvalsPath, "Refused: %s.", what)
	case a.State == store.ApprovalPending:
		return v.done(approvalsPath, "Approved, %d of %d: %s. Others have to agree as well.", a.Given, a.Needed, what)
	}
	return v.done(approvalsPath, "Approved: %s. The session starts now.", what)
}

// waiting is the section of approvals, with how many wait for the person.
func (v *visit) waiting(item web.NavItem) web.NavItem {
	list, err := v.s.cfg.Engine.WaitingFor(v.ctx(), v.identity())
	if err == nil && len(list) > 0 {
		item.Title = fmt.Sprintf("%s (%d)", item.Title, len(list))
	}
	return item
}
