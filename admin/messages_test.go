package admin

import (
	"context"
	"strings"
	"testing"
	"time"

	"sallyport/store"
)

func TestContact(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.addUser("dave")
	set := func(s string) *string { return &s }
	u := do[User](f, 200, "PUT", "/users/dave/contact", NewContact{Email: set("dave@example.org"), Phone: set("+49 (0)151 / 12345678"), CodeBy: set("off")})
	if u.Email != "dave@example.org" || u.Phone != "+4915112345678" || u.CodeBy != "off" {
		t.Errorf("contact %+v", u)
	}
	if got := do[[]User](f, 200, "GET", "/users?query=dave%40example", nil); len(got) != 1 {
		t.Errorf("users of that address: %+v", got)
	}
	u = do[User](f, 200, "PUT", "/users/dave/contact", NewContact{Email: set("new@example.org")})
	if u.Email != "new@example.org" || u.Phone != "+4915112345678" || u.CodeBy != "off" {
		t.Errorf("what was not given should stay: %+v", u)
	}
	for _, bad := range []NewContact{
		{Email: set("dave")}, {Email: set("a@example.org, b@example.org")}, {Phone: set("12")}, {Phone: set("0151 12345678")}, {CodeBy: set("pigeon")},
	} {
		f.refused(422, "PUT", "/users/dave/contact", bad)
	}
	if p := f.refused(409, "PUT", "/users/dave/contact", NewContact{CodeBy: set("mail")}); !strings.Contains(p.Hint, "sent-codes") {
		t.Errorf("codes by mail where none are sent: %+v", p)
	}
	_, err := f.st.Users.SeenInDirectory(context.Background(), "uuid-1", "carol", "Carol", "carol@example.org", nil)
	noError(t, err)
	f.refused(409, "PUT", "/users/carol/contact", NewContact{Email: set("eve@example.org")})
	if u := do[User](f, 200, "PUT", "/users/carol/contact", NewContact{CodeBy: set("off")}); u.CodeBy != "off" {
		t.Errorf("contact %+v", u)
	}
	events, err := f.st.Audit.List(context.Background(), store.AuditFilter{Query: "user.contact"})
	noError(t, err)
	if len(events) != 2 || events[0].Detail["was"] != "dave@example.org" {
		t.Errorf("events %+v: the address before should be told, too", events)
	}
}

func TestOutbox(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := context.Background()
	for _, to := range []string{"a@example.org", "b@example.org"} {
		noError(t, f.st.Outbox.Add(ctx, store.OutMessage{Channel: store.ByMail, Kind: "test", User: "dave", Recipient: to, Subject: "secret", Text: "secret", Expires: time.Now().Add(time.Hour)}))
	}
	m, err := f.st.Outbox.Claim(ctx, time.Minute, store.ByMail)
	noError(t, err)
	noError(t, f.st.Outbox.Fail(ctx, m, "no such mailbox"))
	failed := do[[]OutboxMessage](f, 200, "GET", "/outbox?state=failed", nil)
	if len(failed) != 1 || failed[0].Recipient != "a@example.org" || failed[0].Error != "no such mailbox" || failed[0].Due != nil || failed[0].Done == nil {
		t.Fatalf("failed %+v", failed)
	}
	f.refused(422, "GET", "/outbox?state=lost", nil)
	if got := do[OutboxMessage](f, 200, "POST", "/outbox/"+m.ID+"/retry", nil); got.State != "waiting" || got.Due == nil {
		t.Errorf("retried %+v", got)
	}
	f.refused(404, "POST", "/outbox/nonsense/retry", nil)
	do[any](f, 204, "DELETE", "/outbox/"+m.ID, nil)
	f.refused(404, "DELETE", "/outbox/"+m.ID, nil)
	all := do[[]OutboxMessage](f, 200, "GET", "/outbox", nil)
	if len(all) != 1 || all[0].Recipient != "b@example.org" {
		t.Errorf("outbox %+v", all)
	}
	m, err = f.st.Outbox.Claim(ctx, time.Minute, store.ByMail)
	noError(t, err)
	noError(t, f.st.Outbox.Sent(ctx, m))
	f.refused(409, "POST", "/outbox/"+m.ID+"/retry", nil)
}
