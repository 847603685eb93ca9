package portal_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"sallyport/audit"
	"sallyport/store"
)

// asks makes a request of login for a session that carol and people of dba may approve.
func (w *world) asks(u store.User, needed int) store.Approval {
	w.t.Helper()
	a, err := w.Store.Approvals.Request(context.Background(), store.Approval{
		Session: "s-" + u.Login, UserID: u.ID, Person: "user:" + u.ID, User: u.Login, Target: "vault", Account: "root", Source: "192.0.2.7",
		Asked: "exec: <b>pg_dump</b>", Reason: "ticket 4711 \x1b[31m", Rule: "vault", Approvers: [][]string{{"group:dba", "carol"}}, Needed: needed, Node: "n1",
	}, time.Hour)
	must(w.t, err)
	return a
}

func (w *world) state(a store.Approval) store.Approval {
	w.t.Helper()
	a, err := w.Store.Approvals.Get(context.Background(), a.ID)
	must(w.t, err)
	return a
}

// Ensure an approver sees what waits for them and nobody else does, that nothing counts without a fresh code of their
// own, and that approving and refusing do what they say.
func TestApprovals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, dave := w.person("alice"), w.person("dave")
	w.person("carol")
	must(t, w.Store.Users.SetGroups(context.Background(), dave.ID, []string{"dba"}))
	b := w.signedIn("carol")
	b.get("/me/approvals").want(t, "nothing waits", http.StatusOK, "Nobody waits for you")
	a := w.asks(alice, 2)
	path := "/me/approvals/" + a.Code
	b.get("/me").want(t, "the count", http.StatusOK, "Approvals (1)")
	page := b.get("/me/approvals").want(t, "a request", http.StatusOK, a.Code, "alice", "root@vault", "exec: <b>pg_dump</b>", `ticket 4711 \u{1b}[31m`, "192.0.2.7", "0 of 2")
	if strings.Contains(page.body, "<b>pg_dump") {
		t.Error("what was typed is markup")
	}

	mine := w.signedIn("alice")
	mine.get("/me/approvals").want(t, "their own", http.StatusOK, "Nobody waits for you")
	mine.post(path, "verdict", "approve", "code", w.code("alice")).want(t, "their own", http.StatusForbidden, "is your own request")

	b.post(path, "verdict", "approve", "reason", "fine").want(t, "without a code", http.StatusUnprocessableEntity, "A fresh code is needed", `value="fine"`)
	b.post(path, "verdict", "approve", "code", "000000").want(t, "a wrong code", http.StatusForbidden, "This code does not fit")
	b.post(path, "code", w.code("carol")).want(t, "neither", http.StatusUnprocessableEntity, "It was not said whether")
	b.post("/me/approvals/ZZZZ", "verdict", "approve", "code", w.code("carol")).want(t, "no request", http.StatusForbidden, "There is no request ZZZZ")
	b.post(path, "id", "other", "verdict", "approve", "code", w.code("carol")).want(t, "another request of that code", http.StatusForbidden, "There is no request")
	if got := w.state(a); got.Given != 0 || len(got.Decisions) != 0 {
		t.Fatalf("counted: %+v", got)
	}
	if got := b.post(path, "verdict", "approve", "id", a.ID, "reason", "fine", "code", w.code("carol")); got.StatusCode != http.StatusSeeOther {
		t.Fatalf("approving: %d %s", got.StatusCode, got.body)
	}
	b.get("/me/approvals").want(t, "afterwards", http.StatusOK, "Approved, 1 of 2: alice as root on vault.", "Nobody waits for you")
	b.post(path, "verdict", "approve", "code", w.code("carol")).want(t, "twice", http.StatusForbidden, "it counts once")

	d := w.signedIn("dave")
	d.get("/me/approvals").want(t, "of two", http.StatusOK, "1 of 2, by carol")
	must(t, w.Store.Users.SetGroups(context.Background(), dave.ID, nil))
	d.post(path, "verdict", "approve", "code", w.code("dave")).want(t, "no longer a member", http.StatusForbidden, "There is no request")
	must(t, w.Store.Users.SetGroups(context.Background(), dave.ID, []string{"dba"}))
	if got := d.post(path, "verdict", "refuse", "reason", "not today", "code", w.code("dave")); got.StatusCode != http.StatusSeeOther {
		t.Fatalf("refusing: %d %s", got.StatusCode, got.body)
	}
	got := w.state(a)
	if got.State != store.ApprovalRefused || len(got.Decisions) != 2 || got.Decisions[1].Reason != "not today" || got.Decisions[1].Door != audit.DoorWeb {
		t.Errorf("in the end: %+v", got)
	}
	b.post(path, "verdict", "approve", "code", w.code("carol")).want(t, "too late", http.StatusForbidden, "There is no request")
	ok := 0
	for _, e := range w.events(audit.ApprovalDecided) {
		if e.Result == audit.OK {
			ok++
		}
	}
	if ok != 2 {
		t.Errorf("%d decisions in the log", ok)
	}
}

// TestApprovalsInChromium approves in a real browser.
func TestApprovalsInChromium(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.person("alice")
	w.person("carol")
	c := newChromium(t, w.URL)
	c.do(chromedp.EmulateViewport(390, 844))
	c.open("/me/approvals")
	c.do(chromedp.SendKeys("#login", "carol"), chromedp.SendKeys("#password", password), chromedp.SendKeys("#code", w.code("carol")))
	c.press("form.card button")
	c.do(chromedp.WaitVisible("#requests"))
	a, other := w.asks(alice, 1), w.asks(w.person("erin"), 2)
	c.do(chromedp.WaitVisible("#code-" + a.Code)) // it appears by itself
	c.do(chromedp.SendKeys("#reason-"+other.Code, "typed"), chromedp.Evaluate[chromedp.Void](`document.activeElement.blur()`))
	c.good("approvals-phone-light")
	if typed := ask[string](c, `document.querySelector("#reason-`+other.Code+`").value`); typed != "typed" {
		t.Errorf("what was typed is %q by now", typed)
	}
	c.do(chromedp.EmulateViewport(1280, 800))
	c.press(`.theme button[value="dark"]`)
	c.open("/me/approvals")
	c.good("approvals-dark")
	c.do(chromedp.SendKeys("#reason-"+a.Code, "go on"), chromedp.SendKeys("#code-"+a.Code, w.code("carol")))
	c.press(`button[value="approve"]`)
	if text := ask[string](c, `document.querySelector("main").textContent`); !strings.Contains(text, "Approved: alice as root on vault.") {
		t.Errorf("the page says %q", text)
	}
	c.good("approvals-one-dark")
	if got := w.state(a); got.State != store.ApprovalApproved || got.Decisions[0].Reason != "go on" {
		t.Errorf("in the end: %+v", got)
	}
}
