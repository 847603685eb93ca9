package admin

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/store"
)

// A link is for people without a usable token; a reset takes everything away first, and is an event.
func TestEnrolLink(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.s.cfg.URL = "https://bastion.example.org"
	ctx := context.Background()
	do[User](f, http.StatusOK, http.MethodPost, "/users", NewUser{Login: "bob", Password: "correct horse battery"})
	link := do[EnrolLink](f, http.StatusOK, http.MethodPost, "/users/bob/enrol-link", NewEnrolLink{})
	ticket, ok := strings.CutPrefix(link.URL, "https://bastion.example.org/enrol?ticket=")
	if !ok || link.Expires == nil || time.Until(*link.Expires) > 24*time.Hour {
		t.Fatalf("the link is %+v", link)
	}
	again := do[EnrolLink](f, http.StatusOK, http.MethodPost, "/users/bob/enrol-link", NewEnrolLink{})
	if _, err := f.st.Tickets.Peek(ctx, auth.PurposeEnrol, ticket); err == nil {
		t.Error("the first link is good beside the second")
	}
	if strings.Contains(again.URL, ticket) {
		t.Error("both are the same")
	}
	do[IssuedToken](f, http.StatusOK, http.MethodPost, "/users/bob/tokens", NewToken{Name: "phone"})
	do[IssuedRecoveryCodes](f, http.StatusOK, http.MethodPost, "/users/bob/recovery-codes", nil)
	f.refused(http.StatusConflict, http.MethodPost, "/users/bob/enrol-link", NewEnrolLink{})
	do[EnrolLink](f, http.StatusOK, http.MethodPost, "/users/bob/enrol-link", NewEnrolLink{Reset: true})
	u, err := f.st.Users.ByLogin(ctx, "bob")
	noError(t, err)
	left, err := f.st.SpareCodes.Left(ctx, u.ID)
	noError(t, err)
	if u.Tokens != 0 || left != 0 {
		t.Errorf("after the reset there are %d tokens and %d recovery codes", u.Tokens, left)
	}
	changes, err := f.st.Audit.List(ctx, store.AuditFilter{Type: audit.OperatorChange})
	noError(t, err)
	if changes[0].Detail["change"] != "user.enrol-link" || changes[1].Detail["change"] != "token.reset" {
		t.Errorf("events are %v, %v", changes[0].Detail, changes[1].Detail)
	}
	do[User](f, http.StatusOK, http.MethodPost, "/users", NewUser{Login: "keys"})
	f.refused(http.StatusConflict, http.MethodPost, "/users/keys/enrol-link", NewEnrolLink{})
}

// Links are mailed to people, a group or all without a token, and what cannot be sent is told.
func TestSendEnrolments(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.s.cfg.URL, f.s.cfg.Name = "https://bastion.example.org", "Test"
	f.refused(http.StatusConflict, http.MethodPost, "/enrolments/links", SendEnrolments{Logins: []string{"ann"}})
	f.s.cfg.Mail = true
	for _, n := range []NewUser{{Login: "ann", Email: "ann@example.org", Groups: []string{"ops"}}, {Login: "bob", Groups: []string{"ops"}}, {Login: "cem", Email: "cem@example.org"}} {
		n.Password = "correct horse battery"
		do[User](f, http.StatusOK, http.MethodPost, "/users", n)
	}
	do[IssuedToken](f, http.StatusOK, http.MethodPost, "/users/cem/tokens", NewToken{Name: "phone"})
	for name, in := range map[string]SendEnrolments{"nobody": {}, "both": {Logins: []string{"ann"}, Group: "ops"}, "two": {Group: "ops", AllWithoutToken: true}} {
		if p := f.refused(http.StatusUnprocessableEntity, http.MethodPost, "/enrolments/links", in); p.Detail == "" {
			t.Errorf("%s: %+v", name, p)
		}
	}
	sent := map[string]bool{}
	for _, in := range []SendEnrolments{{Group: "ops"}, {Logins: []string{"cem"}}} {
		for _, s := range do[[]SentEnrolment](f, http.StatusOK, http.MethodPost, "/enrolments/links", in) {
			if sent[s.Login] = s.Sent; s.Sent == (s.Reason != "") {
				t.Errorf("%+v", s)
			}
		}
	}
	if len(sent) != 3 || !sent["ann"] || sent["bob"] || sent["cem"] {
		t.Errorf("sent: %v", sent)
	}
	if all := do[[]SentEnrolment](f, http.StatusOK, http.MethodPost, "/enrolments/links", SendEnrolments{AllWithoutToken: true}); len(all) != 2 {
		t.Errorf("all without a token are %+v", all)
	}
	m, err := f.st.Outbox.Claim(context.Background(), time.Minute, store.ByMail)
	noError(t, err)
	if m.Recipient != "ann@example.org" || m.Kind != store.KindEnrolment || !strings.Contains(m.Text, "https://bastion.example.org/enrol?ticket=") || strings.Contains(m.Subject, "ticket") {
		t.Errorf("the mail is %+v", m)
	}
}

// What a person has enrolled is listed and approved, on the page too, and not by themselves.
func TestApproveTokens(t *testing.T) {
	t.Parallel()
	w := newPageWorld(t)
	ada := w.person("ada", store.RoleAdmin)
	bob := w.person("bob", "")
	ctx := context.Background()
	add := func(u store.User) store.Token {
		x, err := w.Store.Tokens.Add(ctx, store.Token{UserID: u.ID, Name: "new <b>", Waiting: true}, []byte("0123456789abcdef0123"))
		must(t, err)
		return x
	}
	own, theirs := add(ada), add(bob)
	b := w.signedIn("ada")
	if page := b.shows("/", "Tokens that wait for approval", "set up by bob"); strings.Contains(page, "new <b>") {
		t.Error("a name is taken for HTML")
	}
	path := "/users/bob/tokens/" + theirs.ID
	b.shows(path, "Waits for approval")
	if page := b.does(path + "/approve"); !strings.Contains(page, "The token is approved") {
		t.Errorf("the page says\n%s", page)
	}
	for _, try := range []string{"/approve", "/state"} {
		if status, body, _ := b.post("/users/ada/tokens/"+own.ID+try, "state", "enabled"); status != http.StatusConflict || !strings.Contains(body, "your own") {
			t.Errorf("approving one's own by %s: %d", try, status)
		}
	}
	if status, _, _ := b.post(path + "/approve"); status != http.StatusConflict {
		t.Errorf("a second time: %d", status)
	}
}

// Whoever is signed in without a role has no API.
func TestNoAPIWithoutARole(t *testing.T) {
	t.Parallel()
	w := newPageWorld(t)
	w.person("alice", "")
	b := w.signedIn("alice")
	for _, path := range []string{"/api/v1/users", "/api/v1/users/alice", "/api/v1/grants"} {
		if status, body, _ := b.get(path); status != http.StatusUnauthorized {
			t.Errorf("%s: %d\n%s", path, status, body)
		}
	}
}
