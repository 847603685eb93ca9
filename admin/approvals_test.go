package admin

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/store"
)

// askApproval makes a request of user for a session on web1, which carol has approved once if approved says so.
func askApproval(t *testing.T, st *store.Store, user string, approved bool) store.Approval {
	t.Helper()
	ctx := context.Background()
	a, err := st.Approvals.Request(ctx, store.Approval{
		Session: "session-of-" + user, UserID: "u-" + user, Person: "user:u-" + user, User: user, Target: "web1", Account: "root", Source: "192.0.2.7",
		Asked: "exec: pg_dump \x1b[2J", Reason: "ticket <4711>", Rule: "eyes", RulesVersion: 2, Approvers: [][]string{{"group:dba", "carol"}}, Needed: 1, Node: "n1",
	}, 15*time.Minute)
	if err == nil && approved {
		a, err = st.Approvals.Decide(ctx, a.ID, store.ApprovalDecision{Person: "user:u-carol", User: "carol", Approve: true, Reason: "known", Door: "ssh", Source: "192.0.2.8"},
			func(a store.Approval) audit.Event {
				return audit.Event{Type: audit.ApprovalDecided, Result: audit.OK, User: user}
			})
	}
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// Ensure the API lists requests, shows one by id or code, and lets an administrator refuse, and nobody approve.
func TestApprovalsAPI(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	first, second := askApproval(t, f.st, "dave", true), askApproval(t, f.st, "erin", false)
	list := do[[]Approval](f, 200, "GET", "/approvals", nil)
	if len(list) != 2 || list[0].ID != second.ID || list[0].State != "pending" || list[1].State != "approved" || list[1].Given != 1 || list[1].Approvers[0][1] != "carol" {
		t.Fatalf("approvals %+v", list)
	}
	if d := list[1].Decisions; len(d) != 1 || d[0].User != "carol" || d[0].Verdict != "approve" || d[0].Reason != "known" {
		t.Errorf("decisions %+v", d)
	}
	for query, want := range map[string]string{"state=pending": second.ID, "user=dave": first.ID, "session=session-of-erin": second.ID, "before=" + second.ID: first.ID, "limit=1": second.ID} {
		if got := do[[]Approval](f, 200, "GET", "/approvals?"+query, nil); len(got) != 1 || got[0].ID != want {
			t.Errorf("approvals with %s: %+v", query, got)
		}
	}
	if got := do[Approval](f, 200, "GET", "/approvals/"+strings.ToLower(second.Code), nil); got.ID != second.ID {
		t.Errorf("by code: %+v", got)
	}
	f.refused(404, "GET", "/approvals/"+first.Code, nil) // it is not pending
	if w := f.request(f.auditor, "POST", "/approvals/"+second.ID+"/refuse", Refusal{}); w.Code != http.StatusForbidden {
		t.Errorf("an auditor refuses: %d", w.Code)
	}
	got := do[Approval](f, 200, "POST", "/approvals/"+second.Code+"/refuse", Refusal{Reason: "not on a Friday"})
	if got.State != "refused" || got.Why != "api-token robot: not on a Friday" {
		t.Errorf("refused: %+v", got)
	}
	f.refused(409, "POST", "/approvals/"+second.ID+"/refuse", Refusal{})
	if w := f.request(f.admin, "POST", "/approvals/"+first.ID+"/approve", nil); w.Code != http.StatusNotFound {
		t.Errorf("there is a way to approve: %d", w.Code)
	}
	events, err := f.st.Audit.List(context.Background(), store.AuditFilter{Type: audit.ApprovalDecided, Limit: 1})
	noError(t, err)
	if len(events) != 1 || events[0].Actor != "api-token robot" || events[0].Detail["verdict"] != "refuse" || events[0].Reason != "not on a Friday" {
		t.Errorf("event %+v", events)
	}
}

// Ensure the pages show requests and by whom a session was approved, that an auditor only reads, and that an
// administrator can refuse.
func TestApprovalPages(t *testing.T) {
	t.Parallel()
	w := newPageWorld(t)
	w.person("ada", store.RoleAdmin)
	w.person("ines", store.RoleAuditor)
	used, open := askApproval(t, w.Store, "dave", true), askApproval(t, w.Store, "erin", false)
	_, err := w.Store.Sessions.Open(context.Background(), store.Session{ID: used.Session, UserID: used.UserID, User: "dave", Target: "web1", Account: "root", Rule: "eyes", Approval: used.ID})
	must(t, err)
	reader := w.signedIn("ines")
	page := reader.shows("/approvals", `<a href="/users/dave">dave</a>`, "erin", `<a href="/users/carol">carol</a> approved: known`, "ticket <4711>", `pg_dump \u{1b}[2J`, "pending", "used")
	if strings.Contains(page, "/refuse") || strings.Contains(page, "<4711>") {
		t.Error("an auditor can refuse, or what was typed is markup")
	}
	if page := reader.shows("/approvals?state=pending", "erin"); strings.Contains(page, "dave") {
		t.Error("the filter does not filter")
	}
	reader.shows("/sessions/"+used.Session, "Approved by", "carol", "(known)", "asked for: ticket <4711>")
	if status, _, _ := reader.post("/approvals/"+open.ID+"/refuse", "message", "no"); status != http.StatusForbidden {
		t.Errorf("an auditor refuses: %d", status)
	}
	b := w.signedIn("ada")
	b.shows("/approvals/"+open.ID+"/refuse", "erin waits for web1 as root.")
	b.does("/approvals/"+open.ID+"/refuse", "message", "not today")
	b.shows("/approvals", "ada: not today", "refused")
}
