package admin

import (
	"context"
	"fmt"

	"sallyport/audit"
	"sallyport/internal/web"
	"sallyport/store"
)

// approvalQuery is the filter as it stands in the address of the page.
type approvalQuery struct{ State, User, Target, Before string }

func (q approvalQuery) address() string {
	return address("/approvals", "state", q.State, "user", q.User, "target", q.Target, "before", q.Before)
}

// approvalView is a request as the pages show it.
type approvalView struct {
	store.Approval
	Path string // of its session; "": it did not start
	Open bool   // it can still be refused
}

type approvalsData struct {
	Query       approvalQuery
	Filtered    bool
	States      []string
	Rows        []approvalView
	First, Next string
}

func viewApproval(a store.Approval) approvalView {
	v := approvalView{Approval: a, Open: a.State == store.ApprovalPending}
	if a.State == store.ApprovalUsed {
		v.Path = within("sessions", a.Session)
	}
	return v
}

// askingRows is how many requests stand above a list of sessions.
const askingRows = 5

// asking lists who waits for an approval, the newest first, and tells how many more do.
func (s *Server) asking(ctx context.Context, user, target string) (rows []approvalView, more int, err error) {
	list, err := s.cfg.Store.Approvals.List(ctx, store.ApprovalFilter{State: store.ApprovalPending, User: user, Target: target, Limit: 1000})
	for _, a := range list[:min(len(list), askingRows)] {
		rows = append(rows, viewApproval(a))
	}
	return rows, len(list) - len(rows), err
}

func (s *Server) approvalsPage(v *visit) error {
	q := approvalQuery{v.query("state"), v.query("user"), v.query("target"), v.query("before")}
	d := approvalsData{Query: q, Filtered: q.State != "" || q.User != "" || q.Target != "", States: store.ApprovalStates}
	rows, err := s.cfg.Store.Approvals.List(v.ctx(), store.ApprovalFilter{State: q.State, User: q.User, Target: q.Target, Before: q.Before, Limit: pageRows + 1})
	if err != nil {
		return err
	}
	if q.Before != "" {
		first := q
		first.Before = ""
		d.First = first.address()
	}
	if len(rows) > pageRows {
		rows = rows[:pageRows]
		older := q
		older.Before = rows[pageRows-1].ID
		d.Next = older.address()
	}
	for _, a := range rows {
		d.Rows = append(d.Rows, viewApproval(a))
	}
	v.show("approvals", web.Page{Title: "Approvals", Section: "approvals", Wide: true, Refresh: q.Before == "", Data: d})
	return nil
}

func (s *Server) confirmRefusePage(v *visit) error {
	a, err := s.approval(v.ctx(), v.path("id"))
	if err != nil {
		return err
	}
	if a.State != store.ApprovalPending {
		return conflict("", "this request is not pending any more: it is %s", a.State)
	}
	return v.confirm("approvals", "Refuse this session?", confirmation{
		Question:    fmt.Sprintf("%s waits for %s as %s.", audit.Escape(a.User), audit.Escape(a.Target), audit.Escape(a.Account)),
		Consequence: "They read that it was refused, and may ask again.",
		Action:      within("approvals", a.ID, "refuse"), Button: "Refuse the session", Cancel: "/approvals", Message: true,
	})
}

func (s *Server) refuseForm(v *visit) error {
	if _, err := s.refuseApproval(v.ctx(), v.by, v.path("id"), v.typed("message")); err != nil {
		return err
	}
	return v.done("/approvals", "The request is refused.")
}
