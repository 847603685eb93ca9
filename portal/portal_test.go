package portal_test

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/otp"
	"sallyport/store"
)

// typist is an auth.Asker that types password and code, as SSH would bring them.
type typist struct{ password, code string }

func (a typist) Ask(_ context.Context, _ string, prompts []auth.Prompt) ([]string, error) {
	answers := make([]string, len(prompts))
	for i, p := range prompts {
		if answers[i] = a.code; p.Text == auth.PromptPassword {
			answers[i] = a.password
		}
	}
	return answers, nil
}

func (typist) Show(context.Context, string) error { return nil }

// Everybody signs in to their own pages, and to nothing of the operators'.
func TestOwnPagesAreForEverybody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person("alice")
	for _, path := range []string{"/me", "/me/places", "/me/keys", "/me/activity", "/me/not-me"} {
		a := w.browser().get(path)
		if a.StatusCode != http.StatusSeeOther || !strings.HasPrefix(a.Header.Get("Location"), "/signin?next=") {
			t.Errorf("%s without a session: %d to %q", path, a.StatusCode, a.Header.Get("Location"))
		}
	}
	b := w.signedIn("alice")
	for _, path := range []string{"/me", "/me/places", "/me/keys", "/me/activity", "/me/not-me"} {
		a := b.get(path).want(t, path, http.StatusOK)
		if !strings.Contains(a.Header.Get("Content-Security-Policy"), "default-src 'none'") || a.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: headers %v", path, a.Header)
		}
	}
	if a := b.get("/"); a.Header.Get("Location") != "/me" {
		t.Errorf("the first page of operators: %d to %q", a.StatusCode, a.Header.Get("Location"))
	}
	b.get("/users").want(t, "a page of operators", http.StatusForbidden, "for administrators")
	b.get("/me/nothing").want(t, "no page", http.StatusNotFound)
	must(t, w.Store.Users.Lock(context.Background(), userID(t, w, "alice"), "", time.Time{}))
	if a := b.get("/me"); a.StatusCode != http.StatusSeeOther {
		t.Errorf("locked meanwhile: %d", a.StatusCode)
	}
}

func userID(t *testing.T, w *world, login string) string {
	u, err := w.Store.Users.ByLogin(context.Background(), login)
	must(t, err)
	return u.ID
}

// Nobody reads or changes what is another person's: ids of others give the same answer as ids of nothing.
func TestNothingOfOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := context.Background()
	w.person("alice")
	bob := w.person("bob")
	tokens, err := w.Store.Tokens.List(ctx, bob.ID)
	must(t, err)
	key, err := w.Store.UserKeys.Add(ctx, store.UserKey{UserID: bob.ID, Name: "bobs laptop", PublicKey: "ssh-ed25519 AAAA", Fingerprint: "SHA256:bob"})
	must(t, err)
	w.signedIn("bob")
	browsers, err := w.Store.WebSessions.List(ctx, bob.ID)
	must(t, err)
	grant := w.grant(bob)
	b := w.signedIn("alice")
	for _, path := range []string{"/me/tokens/" + tokens[0].ID, "/me/keys/" + key.ID + "/remove"} {
		theirs := b.get(path).want(t, path, http.StatusNotFound)
		nowhere := strings.Replace(path, path[14:33], "0000000000000000000", 1)
		if none := b.get(nowhere); strings.ReplaceAll(none.body, nowhere, path) != theirs.body {
			t.Errorf("GET %s can be told from what is not there", path)
		}
	}
	for path, pairs := range map[string][]string{
		"/me/tokens/" + tokens[0].ID + "/rename": {"name", "mine"},
		"/me/tokens/" + tokens[0].ID + "/resync": {"first", "111111", "second", "222222"},
		"/me/tokens/" + tokens[0].ID + "/lost":   nil,
		"/me/tokens/" + tokens[0].ID + "/remove": {"code", w.code("alice")},
		"/me/keys/" + key.ID + "/remove":         nil,
		"/me/places/forget":                      {"id", grant},
		"/me/activity/end":                       {"id", browsers[0].ID},
	} {
		b.post(path, pairs...).want(t, path, http.StatusNotFound)
	}
	after, err := w.Store.Tokens.List(ctx, bob.ID)
	must(t, err)
	if len(after) != 1 || after[0].Name != "phone" || !after[0].Enabled {
		t.Errorf("bob's tokens are %+v", after)
	}
	b.post("/me/places/forget").want(t, "forgetting all", http.StatusSeeOther)
	if grants, err := w.Store.Grants.List(ctx, bob.ID); err != nil || len(grants) != 1 {
		t.Errorf("bob's places are %v, %v", grants, err)
	}
	for _, path := range []string{"/me", "/me/keys", "/me/places", "/me/activity"} {
		if page := b.get(path); strings.Contains(page.body, "bob") {
			t.Errorf("%s tells of bob:\n%s", path, page.body)
		}
	}
}

// grant lets a place be remembered for a user, as a login does.
func (w *world) grant(u store.User) string {
	w.t.Helper()
	ctx := context.Background()
	r, _, _, err := w.Store.Attempts.Reserve(ctx, []store.Counter{{Kind: "user", Key: "user:" + u.ID, Limit: 100, Window: time.Minute, Lock: time.Minute}})
	must(w.t, err)
	source := netip.MustParseAddr("192.0.2.7")
	must(w.t, w.Store.Attempts.Accept(ctx, &store.Acceptance{Reservation: r, UserID: u.ID, Source: source, Remember: &store.Grant{
		GrantKey: store.GrantKey{UserID: u.ID, Door: audit.DoorSSH, Network: "192.0.2.7", Evidence: "password 00", Client: "SSH-2.0-" + u.Login},
		Source:   source, Assurance: store.FromToken, Expires: w.now().Add(time.Hour),
	}}))
	list, err := w.Store.Grants.List(ctx, u.ID)
	must(w.t, err)
	return list[0].ID
}

// A second token is added with a code of the first, is proved, and then the first one can go; the last one stays.
func TestTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := context.Background()
	alice := w.person("alice")
	b := w.signedIn("alice")
	b.post("/me/tokens/new", "name", "second", "code", "000000").want(t, "without a right code", http.StatusForbidden, "does not fit")
	b.post("/me/tokens/new", "name", "second").want(t, "without any", http.StatusForbidden)
	b.post("/me/tokens/new", "name", "a\x1b[2Jb", "code", "000000").want(t, "a hostile name", http.StatusUnprocessableEntity, "cannot be kept")
	shown := b.post("/me/tokens/new", "name", "second <b>", "code", w.code("alice")).want(t, "with one", http.StatusOK)
	if shown.Header.Get("Cache-Control") != "no-store" {
		t.Error("the secret may be kept by the browser")
	}
	secret, pending := shown.scanned(t)
	b.post("/me/tokens", "pending", pending, "code", "000000").want(t, "a wrong code of the new one", http.StatusUnprocessableEntity, "does not fit")
	if list, _ := w.Store.Tokens.List(ctx, alice.ID); len(list) != 1 {
		t.Fatal("a token was added that is not proved")
	}
	w.person("bob")
	w.signedIn("bob").post("/me/tokens", "pending", pending, "code", w.codeOf(secret)).want(t, "by somebody else", http.StatusGone)
	code := w.codeOf(secret)
	var added atomic.Int64
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			if b.post("/me/tokens", "pending", pending, "code", code).StatusCode == http.StatusSeeOther {
				added.Add(1)
			}
		})
	}
	all.Wait()
	list, err := w.Store.Tokens.List(ctx, alice.ID)
	must(t, err)
	if added.Load() != 1 || len(list) != 2 {
		t.Fatalf("sent ten times at once it was added %d times; there are %d tokens", added.Load(), len(list))
	}
	if page := b.get("/me"); strings.Contains(page.body, "second <b>") {
		t.Error("a name is taken for HTML")
	}
	first, second := list[1], list[0]
	b.post("/me/tokens/"+second.ID+"/rename", "name", "tablet").want(t, "renaming", http.StatusSeeOther)
	b.get("/me/tokens/"+second.ID).want(t, "its page", http.StatusOK, "tablet")
	grant := w.grant(alice)
	b.post("/me/tokens/"+first.ID+"/remove", "code", "000000").want(t, "removing without a right code", http.StatusForbidden)
	b.post("/me/tokens/"+first.ID+"/remove", "code", w.code("alice")).want(t, "removing", http.StatusSeeOther)
	if list, _ := w.Store.Grants.List(ctx, alice.ID); len(list) != 0 {
		t.Errorf("place %s is still trusted after a token was removed", grant)
	}
	w.secrets["alice"] = secret
	b.post("/me/tokens/"+second.ID+"/remove", "code", w.code("alice")).want(t, "removing the last one", http.StatusUnprocessableEntity, "last token")
	b.post("/me/tokens/"+second.ID+"/lost").want(t, "losing it", http.StatusSeeOther)
	b.post("/me/recovery-codes", "code", w.code("alice")).want(t, "with a code of a lost token", http.StatusForbidden)
	mails := strings.Join(w.mails("alice@example.org"), ",")
	for _, kind := range []string{"token.enrolled", "account.changed token.rename", "account.changed token.delete", "account.changed token.lost"} {
		if !strings.Contains(mails, kind) {
			t.Errorf("there is no mail of %s, only %s", kind, mails)
		}
	}
}

// A code is good once whatever it is good for: used at SSH and in the portal at the same moment, one wins.
func TestCodeAtTwoDoors(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person("alice")
	b := w.signedIn("alice")
	for range 5 {
		code := w.code("alice")
		var portal, ssh atomic.Bool
		var all sync.WaitGroup
		all.Go(func() { portal.Store(b.post("/me/recovery-codes", "code", code).StatusCode == http.StatusOK) })
		all.Go(func() {
			_, err := w.Engine.Begin(auth.Attempt{Door: audit.DoorSSH, Login: "alice", Source: netip.MustParseAddr("192.0.2.9")}).Run(context.Background(), typist{password, code})
			ssh.Store(err == nil)
		})
		all.Wait()
		if portal.Load() == ssh.Load() {
			t.Errorf("portal took the code: %t; SSH took it: %t; want one", portal.Load(), ssh.Load())
		}
	}
	if len(w.events(audit.CodeReplayed)) == 0 {
		t.Error("nobody is told of a code that was used twice")
	}
}

// Codes typed in the portal count like those of a login: guessing locks.
func TestGuessingInThePortalLocks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person("alice")
	b := w.signedIn("alice")
	for i := range 5 {
		b.post("/me/recovery-codes", "code", []string{"000001", "000002", "000003", "000004", "000005"}[i]).want(t, "a guess", http.StatusForbidden)
	}
	b.post("/me/recovery-codes", "code", w.code("alice")).want(t, "the right one while the lock holds", http.StatusForbidden, "nothing is looked at")
	if codes := w.events(audit.CodeProved); len(codes) != 6 || codes[0].Result != audit.Refused || codes[0].Detail["for"] != "recovery-codes.new" {
		t.Errorf("events are %+v", codes)
	}
}

// Ten recovery codes are shown once; new ones make the old ones void; each opens once, here too.
func TestRecoveryCodes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person("alice")
	b := w.signedIn("alice")
	b.get("/me").want(t, "before", http.StatusOK, "You have none.")
	first := findCodes.FindAllStringSubmatch(b.post("/me/recovery-codes", "code", w.code("alice")).want(t, "making them", http.StatusOK).body, -1)
	if len(first) != 10 {
		t.Fatalf("%d codes were shown", len(first))
	}
	second := findCodes.FindAllStringSubmatch(b.post("/me/recovery-codes", "code", first[0][1]).want(t, "by a recovery code", http.StatusOK).body, -1)
	b.post("/me/recovery-codes", "code", first[1][1]).want(t, "by an old one", http.StatusForbidden)
	shown := b.post("/me/tokens/new", "code", second[0][1]).want(t, "a token by a recovery code", http.StatusOK)
	shown.scanned(t)
	b.get("/me").want(t, "after", http.StatusOK, "9 codes are left")
}

// Two codes in a row find a token again whose clock is off, in the portal as at SSH.
func TestResync(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.person("alice")
	b := w.signedIn("alice")
	secret := otp.NewSecret()
	off := w.token(alice, "clock is off", secret)
	p := otp.DefaultParams()
	step := p.StepAt(w.now()) + 7
	path := "/me/tokens/" + off.ID
	b.post(path+"/resync", "first", "111111", "second", "222222").want(t, "guesses", http.StatusForbidden, "not two codes in a row")
	b.post(path+"/resync", "first", p.Code(secret, step), "second", p.Code(secret, step+1)).want(t, "two codes", http.StatusSeeOther)
	b.get(path).want(t, "its page", http.StatusOK, "s ahead")
}

func TestPlacesAndKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := context.Background()
	alice := w.person("alice")
	b := w.signedIn("alice")
	id := w.grant(alice)
	b.get("/me/places").want(t, "places", http.StatusOK, "192.0.2.7", "SSH-2.0-alice", "127.0.0.1")
	b.post("/me/places/forget", "id", id).want(t, "forgetting one", http.StatusSeeOther)
	w.grant(alice)
	b.post("/me/places/forget").want(t, "forgetting all", http.StatusSeeOther)
	if list, _ := w.Store.Grants.List(ctx, alice.ID); len(list) != 0 || len(w.events(audit.GrantsRevoked)) != 2 {
		t.Errorf("places are %v, events %d", list, len(w.events(audit.GrantsRevoked)))
	}

	const line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl lap<i>top"
	code := w.code("alice")
	b.post("/me/keys", "key", "no key", "code", code).want(t, "no key", http.StatusUnprocessableEntity, "cannot be used")
	b.post("/me/keys", "key", `command="id" `+line, "code", code).want(t, "with options", http.StatusUnprocessableEntity)
	b.post("/me/keys", "key", line).want(t, "without a code", http.StatusForbidden)
	b.post("/me/keys", "key", line, "code", code).want(t, "a key", http.StatusSeeOther) // the tries before cost no code
	page := b.get("/me/keys").want(t, "keys", http.StatusOK, "lap<i>top")
	if strings.Contains(page.body, "lap<i>top") {
		t.Error("the comment of a key is taken for HTML")
	}
	b.post("/me/keys", "key", line, "code", w.code("alice")).want(t, "the same again", http.StatusUnprocessableEntity, "on file already")
	keys, err := w.Store.UserKeys.List(ctx, alice.ID)
	must(t, err)
	path := "/me/keys/" + keys[0].ID + "/remove"
	b.get(path).want(t, "asking", http.StatusOK, "Remove the key")
	b.post(path).want(t, "removing", http.StatusSeeOther)
	if keys, _ = w.Store.UserKeys.List(ctx, alice.ID); len(keys) != 0 {
		t.Error("the key is still there")
	}
	mails := strings.Join(w.mails("alice@example.org"), ",")
	if !strings.Contains(mails, "key.add") || !strings.Contains(mails, "key.delete") || !strings.Contains(mails, "grants.revoked") {
		t.Errorf("mails are %s", mails)
	}
}

// "This was not me" ends everything at once and tells the operators; nobody signs in as that person any more.
func TestNotMe(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := context.Background()
	alice := w.person("alice")
	thief, b := w.signedIn("alice"), w.signedIn("alice")
	w.grant(alice)
	b.get("/me/not-me").want(t, "asking", http.StatusOK, "Yes, lock my account")
	if u, _ := w.Store.Users.ByID(ctx, alice.ID); u.Locked {
		t.Fatal("asking locks")
	}
	b.post("/me/not-me").want(t, "saying so", http.StatusOK, "Your account is locked")
	u, err := w.Store.Users.ByID(ctx, alice.ID)
	must(t, err)
	if !u.Locked || !u.LockedUntil.IsZero() || !strings.Contains(u.LockReason, "somebody else") {
		t.Errorf("the row is %+v", u)
	}
	for name, x := range map[string]*browser{"the thief's browser": thief, "the person's": b} {
		if a := x.get("/me"); a.StatusCode != http.StatusSeeOther {
			t.Errorf("%s is still signed in: %d", name, a.StatusCode)
		}
	}
	if list, _ := w.Store.Grants.List(ctx, alice.ID); len(list) != 0 {
		t.Error("a place is still trusted")
	}
	if list, _ := w.Store.WebSessions.List(ctx, alice.ID); len(list) != 0 {
		t.Error("a web session is left")
	}
	w.browser().post("/signin", "login", "alice", "password", password, "code", w.code("alice")).want(t, "signing in", http.StatusForbidden)
	if e := w.events(audit.AccountAlarm); len(e) != 1 || e[0].User != "alice" {
		t.Errorf("events are %+v", e)
	}
	if m := w.mails("ops@example.org"); len(m) != 1 {
		t.Errorf("operators got %v", m)
	}
	if m := strings.Join(w.mails("alice@example.org"), ","); !strings.Contains(m, audit.AccountAlarm) {
		t.Errorf("alice got %s", m)
	}
}

// The page shows what was tried with the person's name, in no other form than text, and nothing of an earlier
// holder of the login.
func TestActivity(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := context.Background()
	must(t, w.Store.Audit.Append(ctx, audit.Event{Type: audit.LoginAccepted, Result: audit.OK, Door: audit.DoorSSH, User: "alice", Source: "203.0.113.99"}))
	w.ahead.Add(int64(time.Minute))
	w.person("alice")
	w.ahead.Add(int64(time.Minute))
	w.browser().post("/signin", "login", "alice", "password", "wrong horse", "code", "000000")
	b := w.signedIn("alice")
	_, err := w.Engine.Begin(auth.Attempt{Door: audit.DoorSSH, Login: "alice", Source: netip.MustParseAddr("192.0.2.66"), Client: "SSH-2.0-<script>\x1b[2J"}).
		Run(ctx, typist{password, "123456"})
	if !errors.Is(err, auth.ErrCode) {
		t.Fatal(err)
	}
	page := b.get("/me/activity").want(t, "the page", http.StatusOK, "192.0.2.66", "refused", `SSH-2.0-<script>\u{1b}[2J`, "This was not me")
	if strings.Contains(page.body, "<script>\\") || strings.Contains(page.body, "203.0.113.99") {
		t.Errorf("the page shows HTML of a stranger, or somebody else's past:\n%s", page.body)
	}
	other := w.signedIn("alice")
	list, err := w.Store.WebSessions.List(ctx, userID(t, w, "alice"))
	must(t, err)
	b.post("/me/activity/end", "id", list[0].ID).want(t, "ending the other browser", http.StatusSeeOther)
	if a := other.get("/me"); a.StatusCode != http.StatusSeeOther {
		t.Errorf("the other browser is still signed in: %d", a.StatusCode)
	}
	b.get("/me").want(t, "this one", http.StatusOK)
}

// A page of another site can send nothing here.
func TestFormsOfOtherSites(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.person("alice")
	b := w.signedIn("alice")
	ticket := w.link(w.bare("bob"))
	for _, path := range []string{"/me/not-me", "/me/places/forget", "/enrol/open?ticket=" + ticket} {
		r, err := http.NewRequest(http.MethodPost, w.URL+path, nil)
		must(t, err)
		r.Header.Set("Origin", "https://evil.example")
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		a, err := b.Do(r)
		must(t, err)
		a.Body.Close()
		if a.StatusCode != http.StatusForbidden {
			t.Errorf("%s from elsewhere: %d", path, a.StatusCode)
		}
	}
	if u, _ := w.Store.Users.ByID(context.Background(), alice.ID); u.Locked {
		t.Error("another site has locked a person")
	}
	if x, err := w.Store.Tickets.Peek(context.Background(), auth.PurposeEnrol, ticket); err != nil || x.Bound {
		t.Errorf("another site has used a link: %+v, %v", x, err)
	}
}
