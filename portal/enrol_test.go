package portal_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/auth"
)

// A person without a token comes from the link to the first sign-in.
func TestEnrolByLink(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bob := w.bare("bob")
	ticket := w.link(bob)
	path := auth.EnrolPath(ticket)
	b := w.browser()

	// Looking at it changes nothing, however often something does.
	for range 3 {
		page := w.browser().get(path).want(t, "opening", http.StatusOK, "Go on in this browser")
		if strings.Contains(page.body, "bob") || len(page.Cookies()) > 0 {
			t.Error("a link that nobody has taken tells whose it is, or leaves a cookie")
		}
	}
	opened := b.post("/enrol/open", "ticket", ticket).want(t, "taking it", http.StatusSeeOther)
	if c := opened.Header.Get("Set-Cookie"); !strings.Contains(c, "HttpOnly") || !strings.Contains(c, "SameSite=Lax") {
		t.Errorf("the cookie is %q", c)
	}
	b.get(path).want(t, "the form", http.StatusOK, "Password of bob")

	other := w.browser()
	other.get(path).want(t, "another browser", http.StatusForbidden, "opened in another browser first")
	other.post("/enrol/open", "ticket", ticket).want(t, "another browser takes it", http.StatusForbidden)
	other.post("/enrol", "ticket", ticket, "password", password).want(t, "another browser with the password", http.StatusForbidden, "tell an operator")

	wrong := b.post("/enrol", "ticket", ticket, "password", "wrong horse").want(t, "a wrong password", http.StatusForbidden, "That did not work.")
	if findSecret.MatchString(wrong.body) {
		t.Fatal("a wrong password shows a secret")
	}
	shown := b.post("/enrol", "ticket", ticket, "password", password).want(t, "the password", http.StatusOK, "<svg")
	if shown.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("the secret may be kept: %q", shown.Header.Get("Cache-Control"))
	}
	secret, pending := shown.scanned(t)
	b.post("/enrol/code", "ticket", ticket, "pending", pending, "code", "000000").want(t, "a wrong code", http.StatusUnprocessableEntity, "does not fit")
	if left := w.mails("bob@example.org"); len(left) != 0 {
		t.Errorf("mails before anything was done: %v", left)
	}
	done := b.post("/enrol/code", "ticket", ticket, "pending", pending, "code", w.codeOf(secret)).want(t, "the code", http.StatusOK, "shown this once")
	codes := findCodes.FindAllStringSubmatch(done.body, -1)
	if len(codes) != 10 {
		t.Fatalf("%d recovery codes were shown, want 10\n%s", len(codes), done.body)
	}
	b.get(path).want(t, "the link afterwards", http.StatusGone, "does not work any more")
	b.post("/enrol/code", "ticket", ticket, "pending", pending, "code", w.codeOf(secret)).want(t, "the form afterwards", http.StatusGone)
	if mails := strings.Join(w.mails("bob@example.org"), ","); !strings.Contains(mails, audit.TokenEnrolled) || !strings.Contains(mails, "recovery-codes.new") {
		t.Errorf("bob got mails %q", mails)
	}
	w.secrets["bob"] = secret
	b.post("/signin", "login", "bob", "password", password, "code", w.codeOf(secret)).want(t, "the code of the enrolment again", http.StatusForbidden)
	w.signedIn("bob").get("/me").want(t, "his pages", http.StatusOK, "enrolled by link", "10 codes are left")
	w.browser().post("/signin", "login", "bob", "password", password, "code", codes[3][1]).want(t, "a recovery code", http.StatusSeeOther)
	if _, _, err := w.Engine.NewEnrolLink(context.Background(), bob); err == nil {
		t.Error("a link was made for somebody who has a token")
	}
}

// Of many browsers that open a link at once one has it, and of many forms that it sends one makes a token.
func TestEnrolRaces(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bob := w.bare("bob")
	ticket := w.link(bob)
	browsers := make([]*browser, 20)
	statuses := make([]int, len(browsers))
	var all sync.WaitGroup
	for i := range browsers {
		browsers[i] = w.browser()
		all.Go(func() { statuses[i] = browsers[i].post("/enrol/open", "ticket", ticket).StatusCode })
	}
	all.Wait()
	winner := -1
	for i, status := range statuses {
		switch {
		case status == http.StatusSeeOther && winner < 0:
			winner = i
		case status != http.StatusForbidden:
			t.Errorf("browser %d: status %d", i, status)
		}
	}
	if winner < 0 {
		t.Fatalf("no browser got the link: %v", statuses)
	}
	b := browsers[winner]
	secret, pending := b.post("/enrol", "ticket", ticket, "password", password).scanned(t)
	code := w.codeOf(secret)
	var mu sync.Mutex
	made := 0
	for range 20 {
		all.Go(func() {
			a := b.post("/enrol/code", "ticket", ticket, "pending", pending, "code", code)
			mu.Lock()
			defer mu.Unlock()
			if a.StatusCode == http.StatusOK {
				made++
			} else if a.StatusCode != http.StatusGone && a.StatusCode != http.StatusConflict && a.StatusCode != http.StatusUnprocessableEntity {
				t.Errorf("status %d\n%s", a.StatusCode, a.body)
			}
		})
	}
	all.Wait()
	tokens, err := w.Store.Tokens.List(context.Background(), bob.ID)
	must(t, err)
	if made != 1 || len(tokens) != 1 {
		t.Errorf("%d forms were taken and there are %d tokens, want one", made, len(tokens))
	}
}

// Wrong passwords behind a link count like those of a login, a lock holds there, and a locked person gets nowhere.
func TestEnrolCountsAndLocks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bob := w.bare("bob")
	ticket := w.link(bob)
	b := w.browser()
	b.post("/enrol/open", "ticket", ticket)
	for range 5 {
		b.post("/enrol", "ticket", ticket, "password", "wrong horse").want(t, "wrong", http.StatusForbidden)
	}
	b.post("/enrol", "ticket", ticket, "password", password).want(t, "while the lock holds", http.StatusForbidden, "That did not work.")
	if len(w.events(audit.LockoutSet)) == 0 {
		t.Error("no lockout was reported")
	}
	w.ahead.Add(int64(16 * time.Minute))
	secret, pending := b.post("/enrol", "ticket", ticket, "password", password).want(t, "after it", http.StatusOK).scanned(t)
	must(t, w.Store.Users.Lock(context.Background(), bob.ID, "", time.Time{}))
	b.post("/enrol/code", "ticket", ticket, "pending", pending, "code", w.codeOf(secret)).want(t, "locked meanwhile", http.StatusGone)
	must(t, w.Store.Users.Unlock(context.Background(), bob.ID))
	w.ahead.Add(int64(25 * time.Hour))
	b.get(auth.EnrolPath(ticket)).want(t, "a day later", http.StatusGone)
	b.get("/enrol").want(t, "no ticket", http.StatusGone)
}

// A link of one person, and what it has begun, opens nothing of another's.
func TestEnrolLinksAreApart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := w.link(w.bare("bob")), w.link(w.bare("carol"))
	b := w.browser()
	b.post("/enrol/open", "ticket", one).want(t, "bob's", http.StatusSeeOther)
	b.post("/enrol/open", "ticket", two).want(t, "carol's", http.StatusSeeOther)
	secret, pending := b.post("/enrol", "ticket", one, "password", password).scanned(t)
	b.post("/enrol/code", "ticket", two, "pending", pending, "code", w.codeOf(secret)).want(t, "crossed", http.StatusUnprocessableEntity, "That took too long")
	b.post("/enrol/code", "ticket", one, "pending", pending, "code", w.codeOf(secret)).want(t, "straight", http.StatusOK)
}

// What a person enrols is worth nothing until an operator approves it, and brings no recovery codes before.
func TestEnrolmentWaitsForApproval(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *auth.Config) { c.ApproveEnrolments = true })
	bob := w.bare("bob")
	ticket := w.link(bob)
	b := w.browser()
	b.post("/enrol/open", "ticket", ticket)
	secret, pending := b.post("/enrol", "ticket", ticket, "password", password).scanned(t)
	done := b.post("/enrol/code", "ticket", ticket, "pending", pending, "code", w.codeOf(secret)).want(t, "the code", http.StatusOK, "once an operator has approved it")
	if findCodes.MatchString(done.body) {
		t.Error("recovery codes were shown before the approval")
	}
	w.secrets["bob"] = secret
	w.browser().post("/signin", "login", "bob", "password", password, "code", w.code("bob")).want(t, "before the approval", http.StatusForbidden)
	waiting, err := w.Store.Tokens.Waiting(context.Background())
	must(t, err)
	if len(waiting) != 1 {
		t.Fatalf("waiting are %v", waiting)
	}
	must(t, w.Store.Tokens.Approve(context.Background(), waiting[0].ID))
	me := w.signedIn("bob")
	more, pending := me.post("/me/tokens/new", "name", "second", "code", w.code("bob")).scanned(t)
	me.post("/me/tokens", "pending", pending, "code", w.codeOf(more)).want(t, "one more", http.StatusSeeOther)
	me.get("/me").want(t, "his pages", http.StatusOK, "waits for approval")
	if mails := strings.Join(w.mails("bob@example.org"), ","); !strings.Contains(mails, "token.enrolled waiting") {
		t.Errorf("bob got mails %q", mails)
	}
}
