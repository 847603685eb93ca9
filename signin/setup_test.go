package signin_test

import (
	"context"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/otp"
	"sallyport/signin"
	"sallyport/store"
)

func (w *world) ticket() string {
	w.t.Helper()
	secret, err := w.Store.Tickets.Create(context.Background(), signin.PurposeFirstAdmin, "", nil, time.Hour)
	check(w.t, err)
	return secret
}

var (
	pendingField = regexp.MustCompile(`name="pending" value="([^"]+)"`)
	secretText   = regexp.MustCompile(`class="secret">([A-Z2-7 ]+)<`)
)

// firstStep fills in the first form and returns the ticket of the second and the token's secret.
func (b *browser) firstStep(ticket, login string) (pending string, secret otp.Secret) {
	b.w.t.Helper()
	got := b.do(http.MethodPost, "/setup", url.Values{"ticket": {ticket}, "login": {login}, "name": {"Ada L."}, "password": {password}, "again": {password}})
	p, s := pendingField.FindStringSubmatch(got.body), secretText.FindStringSubmatch(got.body)
	if got.StatusCode != http.StatusOK || p == nil || s == nil || !strings.Contains(got.body, "<svg") {
		b.w.t.Fatalf("the first step: %d\n%s", got.StatusCode, got.body)
	}
	for group := range strings.FieldsSeq(s[1]) {
		if len(group) > 4 {
			b.w.t.Errorf("the secret is not in groups of four: %s", s[1])
		}
	}
	secret, err := otp.ParseSecret(strings.ReplaceAll(s[1], " ", ""))
	check(b.w.t, err)
	return p[1], secret
}

func (b *browser) secondStep(ticket, pending, code string) answer {
	b.w.t.Helper()
	return b.do(http.MethodPost, "/setup", url.Values{"ticket": {ticket}, "pending": {pending}, "code": {code}})
}

func (w *world) codeOf(secret otp.Secret) string {
	p := otp.DefaultParams()
	return p.Code(secret, p.StepAt(w.now()))
}

func TestFirstAdministrator(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ticket := w.ticket()
	b := w.browser()
	for range 2 { // looking does not use the link up
		if page := b.get("/setup?ticket=" + ticket); page.StatusCode != http.StatusOK || !strings.Contains(page.body, "Welcome to Sallyport") {
			t.Fatalf("the link: %d\n%s", page.StatusCode, page.body)
		}
	}
	pending, secret := b.firstStep(ticket, "Ada")
	if users, err := w.Store.Users.List(context.Background(), store.UserFilter{}); err != nil || len(users) > 0 {
		t.Errorf("after the first step there are users: %v %v", users, err)
	}
	wrong := b.secondStep(ticket, pending, "000000")
	if wrong.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(wrong.body, "does not fit") || secretText.FindStringSubmatch(wrong.body) == nil {
		t.Fatalf("a wrong code: %d\n%s", wrong.StatusCode, wrong.body)
	}
	if again := strings.ReplaceAll(secretText.FindStringSubmatch(wrong.body)[1], " ", ""); again != secret.Base32() {
		t.Error("after a wrong code the page shows another secret")
	}
	code := w.codeOf(secret)
	done := b.secondStep(ticket, pending, code[:3]+" "+code[3:])
	if done.StatusCode != http.StatusSeeOther || done.Header.Get("Location") != "/" {
		t.Fatalf("the second step: %d\n%s", done.StatusCode, done.body)
	}
	if page := b.get("/"); page.body != "hello ada, admin" {
		t.Errorf("afterwards: %d %q", page.StatusCode, page.body)
	}
	u, err := w.Store.Users.ByLogin(context.Background(), "ada")
	check(t, err)
	if u.Name != "Ada L." || !u.HasPassword || u.Tokens != 1 || u.Source != store.Local {
		t.Errorf("the user is %+v", u)
	}

	// The code is used up, the link is used up, and so is what the first step left.
	if got := w.browser().signIn("ada", password, code, "/"); got.StatusCode != http.StatusForbidden {
		t.Errorf("signing in with the code of the enrolment: %d", got.StatusCode)
	}
	w.secret["ada"] = secret
	if got := w.browser().signIn("ada", password, w.code("ada"), "/"); got.StatusCode != http.StatusSeeOther {
		t.Errorf("signing in with the next code: %d\n%s", got.StatusCode, got.body)
	}
	other := w.browser()
	if got := other.get("/setup?ticket=" + ticket); got.StatusCode != http.StatusGone {
		t.Errorf("the link a second time: %d", got.StatusCode)
	}
	if got := other.secondStep(ticket, pending, w.codeOf(secret)); got.StatusCode != http.StatusGone {
		t.Errorf("the second step a second time: %d", got.StatusCode)
	}
	if got := other.secondStep(w.ticket(), pending, w.codeOf(secret)); got.StatusCode == http.StatusSeeOther {
		t.Error("what the first step left is good for another link")
	}
	types := map[string]int{}
	events, err := w.Store.Audit.List(context.Background(), store.AuditFilter{User: "ada", Result: string(audit.OK)})
	check(t, err)
	for _, e := range events {
		types[e.Type+" "+e.Detail["change"]]++
	}
	for _, want := range []string{"operator.change user.add", "token.enrolled ", "operator.change admin.add"} {
		if types[want] != 1 {
			t.Errorf("%d events %q, want 1; there are %v", types[want], want, types)
		}
	}
}

func TestSetupFieldsAreChecked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person("taken", "")
	ticket := w.ticket()
	good := url.Values{"ticket": {ticket}, "login": {"ada"}, "name": {"Ada"}, "password": {password}, "again": {password}}
	for name, c := range map[string]struct{ field, value, want string }{
		"short password":       {"password", "eleven char", "at least 12 characters"},
		"short in characters":  {"password", "ééééééé", "at least 12 characters"},
		"blank password":       {"password", strings.Repeat(" ", 20), "printable characters"},
		"control in password":  {"password", "correct horse\x00battery", "printable characters"},
		"long password":        {"password", strings.Repeat("x", 1024), "at most 1023 bytes"},
		"passwords differ":     {"again", password + " ", "differ"},
		"bad login":            {"login", "-rf", "Use 1 to 64"},
		"control in login":     {"login", "ada\x1b[2J", "Use 1 to 64"},
		"login of a user":      {"login", "Taken", "already"},
		"name without an end":  {"name", strings.Repeat("x", 200), "at most 100"},
		"not even a password":  {"password", "", "at least 12 characters"},
		"a login of nothing":   {"login", "", "Use 1 to 64"},
		"a login of 64 KB":     {"login", strings.Repeat("x", 8<<10), "Use 1 to 64"},
		"a login with a slash": {"login", "a/b", "Use 1 to 64"},
	} {
		form := url.Values{}
		for k, v := range good {
			form[k] = v
		}
		form.Set(c.field, c.value)
		got := w.browser().do(http.MethodPost, "/setup", form)
		if got.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(got.body, c.want) {
			t.Errorf("%s: %d, want 422 and %q\n%s", name, got.StatusCode, c.want, got.body)
		}
		if strings.Contains(got.body, password) || strings.Contains(got.body, "\x1b") {
			t.Errorf("%s: the page repeats what it must not", name)
		}
	}
}

func TestSetupLinkMustBeGood(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := context.Background()
	other, err := w.Store.Tickets.Create(ctx, "reset", "", nil, time.Hour)
	check(t, err)
	short, err := w.Store.Tickets.Create(ctx, signin.PurposeFirstAdmin, "", nil, time.Minute)
	check(t, err)
	w.ahead.Add(int64(2 * time.Minute))
	for name, ticket := range map[string]string{"none": "", "made up": "AAAAAAAAAAAAAAAAAAAAAA", "of another purpose": other, "expired": short} {
		if got := w.browser().get("/setup?ticket=" + ticket); got.StatusCode != http.StatusGone {
			t.Errorf("GET with a ticket that is %s: %d, want 410", name, got.StatusCode)
		}
		got := w.browser().do(http.MethodPost, "/setup", url.Values{"ticket": {ticket}, "login": {"eve"}, "password": {password}, "again": {password}})
		if got.StatusCode != http.StatusGone {
			t.Errorf("POST with a ticket that is %s: %d, want 410", name, got.StatusCode)
		}
	}
	good := w.ticket()
	b := w.browser()
	pending, secret := b.firstStep(good, "ada")
	w.ahead.Add(int64(31 * time.Minute))
	if got := b.secondStep(good, pending, w.codeOf(secret)); got.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(got.body, "begin again") {
		t.Errorf("the second step after 31 min: %d\n%s", got.StatusCode, got.body)
	}
}

// TestOneLinkOneAdministrator: browsers that finish at once with one link make one administrator.
func TestOneLinkOneAdministrator(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ticket := w.ticket()
	const n = 8
	type try struct {
		b             *browser
		pending, code string
	}
	var tries []try
	for i := range n {
		b := w.browser()
		pending, secret := b.firstStep(ticket, "ada"+string(rune('a'+i)))
		tries = append(tries, try{b, pending, w.codeOf(secret)})
	}
	var made, gone atomic.Int32
	var wg sync.WaitGroup
	for _, x := range tries {
		wg.Add(1)
		go func() {
			defer wg.Done()
			r, err := x.b.PostForm(w.URL+"/setup", url.Values{"ticket": {ticket}, "pending": {x.pending}, "code": {x.code}})
			if err != nil {
				t.Error(err)
				return
			}
			r.Body.Close()
			switch r.StatusCode {
			case http.StatusSeeOther:
				made.Add(1)
			case http.StatusGone:
				gone.Add(1)
			}
		}()
	}
	wg.Wait()
	admins, err := w.Store.Admins.List(context.Background())
	check(t, err)
	if made.Load() != 1 || gone.Load() != n-1 || len(admins) != 1 {
		t.Errorf("%d were made, %d found the link gone, %d administrators; want 1, %d, 1", made.Load(), gone.Load(), len(admins), n-1)
	}
}
