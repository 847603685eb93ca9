package admin

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/internal/web"
	"sallyport/otp"
	"sallyport/signin"
	"sallyport/store"
)

// fillIn makes the address of a page out of a pattern: each wildcard becomes something that is there.
func (w *pageWorld) fillIn(pattern string, session store.Session) (method, path string) {
	w.t.Helper()
	ctx := context.Background()
	login := "alice"
	if strings.Contains(pattern, "administrators") {
		login = "ines"
	}
	id := session.ID
	if strings.Contains(pattern, "{id}/delete") || strings.Contains(pattern, "/tokens/{id}") {
		u, err := w.Store.Users.ByLogin(ctx, login)
		must(w.t, err)
		tokens, err := w.Store.Tokens.List(ctx, u.ID)
		must(w.t, err)
		keys, err := w.Store.UserKeys.List(ctx, u.ID)
		must(w.t, err)
		if id = tokens[0].ID; strings.Contains(pattern, "/keys/") {
			id = keys[0].ID
		}
	}
	target := "web1"
	if strings.Contains(pattern, "/check") {
		target = "down" // nothing but this machine is dialled
	}
	if strings.Contains(pattern, "/hostkeys/") {
		waiting, err := w.Store.HostKeys.List(ctx, "")
		must(w.t, err)
		if target = "web2"; len(waiting) > 0 { // it is approved by the last request of all
			id = waiting[0].ID
		}
	}
	if strings.Contains(pattern, "/approvals/") {
		pending, err := w.Store.Approvals.List(ctx, store.ApprovalFilter{State: store.ApprovalPending})
		must(w.t, err)
		if len(pending) > 0 {
			id = pending[0].ID
		}
	}
	if strings.Contains(pattern, "/api-keys/") {
		keys, err := w.Store.APIKeys.List(ctx)
		must(w.t, err)
		if len(keys) > 0 { // else it was revoked by the request before
			id = keys[0].ID
		}
	}
	switch {
	case strings.Contains(pattern, "/robots/"):
		target = "deploy-bot"
	case strings.Contains(pattern, "/radius/"):
		target = "office-vpn"
	case strings.Contains(pattern, "/user-cas/"):
		target = "people"
	}
	method, path, _ = strings.Cut(pattern, " ")
	for wildcard, value := range map[string]string{"{$}": "", "{id}": id, "{file}": "0.cast", "{channel}": "0", "{segment}": "0.json", "{login}": login, "{name}": target, "{version}": "1"} {
		path = strings.ReplaceAll(path, wildcard, value)
	}
	return method, path
}

// TestEveryPageAsksForTheRole opens each page as nobody, as an auditor and as an administrator.
func TestEveryPageAsksForTheRole(t *testing.T) {
	t.Parallel()
	w := newPageWorld(t)
	w.furnish()
	list, err := w.Store.Sessions.List(context.Background(), store.SessionFilter{State: store.Live})
	must(t, err)
	nobody, auditor, admin := w.signedIn(""), w.signedIn("ines"), w.signedIn("ada")
	ask := func(b *browser, method, path string) (int, string, http.Header) {
		if method == http.MethodPost {
			return b.post(path)
		}
		return b.get(path)
	}
	for _, p := range w.Server.pageList() {
		method, path := w.fillIn(p.pattern, list[0])
		if status, _, header := ask(nobody, method, path); status != http.StatusSeeOther || !strings.HasPrefix(header.Get("Location"), "/signin") {
			t.Errorf("%s as nobody: status %d to %q, want 303 to /signin", p.pattern, status, header.Get("Location"))
		}
		status, body, _ := ask(auditor, method, path)
		if want := map[bool]int{true: http.StatusForbidden, false: http.StatusOK}[p.needs == needAdmin]; status != want {
			t.Errorf("%s as auditor: status %d, want %d", p.pattern, status, want)
		}
		// The theme and signing out are the only forms that change anything.
		if n := strings.Count(body, `method="post"`); method == http.MethodGet && !strings.HasSuffix(path, ".cast") && !strings.HasSuffix(path, ".json") && !strings.HasSuffix(path, ".csv") && n != 2 {
			t.Errorf("%s as auditor: %d forms that post, want 2", p.pattern, n)
		}
		if method == http.MethodPost && p.needs != needAdmin {
			t.Errorf("%s changes something and is open to auditors", p.pattern)
		}
	}
	for _, wanted := range []string{http.MethodGet, http.MethodPost} {
		for _, p := range w.Server.pageList() {
			if !strings.HasPrefix(p.pattern, wanted) {
				continue
			}
			method, path := w.fillIn(p.pattern, list[0])
			status, body, header := ask(admin, method, path)
			if status == http.StatusForbidden || status >= 500 || strings.HasPrefix(header.Get("Location"), "/signin") {
				t.Errorf("%s as admin: status %d to %q\n%s", p.pattern, status, header.Get("Location"), body)
			}
			want := http.StatusOK
			if p.pattern == "GET /sessions/{id}/give-up" {
				want = http.StatusConflict // nothing of this session waits for a lost node
			}
			if method == http.MethodGet && status != want {
				t.Errorf("%s as admin: status %d, want %d", p.pattern, status, want)
			}
		}
	}
}

func TestUnknownAddressesTellNothing(t *testing.T) {
	t.Parallel()
	w := newPageWorld(t)
	w.person("ada", store.RoleAdmin)
	nobody, admin := w.signedIn(""), w.signedIn("ada")
	for _, path := range []string{"/nothing", "/users/alice/nothing", "/rules/history/1/2", "/static/nothing.js", "/static/../pages.go", "/wp-login.php", "/static/vendor/README"} {
		for _, b := range []*browser{nobody, admin} {
			if status, _, _ := b.get(path); status != http.StatusNotFound && status != http.StatusMovedPermanently && status != http.StatusTemporaryRedirect {
				t.Errorf("GET %s: status %d, want 404", path, status)
			}
		}
	}
	for _, path := range []string{"//users", "/x/../users", "/./users", "/%2e%2e/users", "/users/", "/USERS", "/users%2f", "/static/..%2f..%2fusers"} {
		if status, body, _ := nobody.get(path); status == http.StatusOK || strings.Contains(body, "ada") {
			t.Errorf("GET %s as nobody: status %d\n%s", path, status, body)
		}
	}
	for _, method := range []string{http.MethodPut, http.MethodDelete, http.MethodPatch} {
		r, err := http.NewRequest(method, w.URL+"/users/ada", nil)
		must(t, err)
		if status, _, _ := admin.do(r); status != http.StatusMethodNotAllowed {
			t.Errorf("%s /users/ada: status %d, want 405", method, status)
		}
	}
}

func TestSecurityHeaders(t *testing.T) {
	t.Parallel()
	w := newPageWorld(t)
	w.person("ada", store.RoleAdmin)
	b := w.signedIn("ada")
	for _, path := range []string{"/", "/signin", "/nothing", "/setup?ticket=x"} {
		_, _, header := b.get(path)
		for name, want := range map[string]string{
			"Content-Security-Policy": web.Policy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
			"X-Frame-Options": "DENY", "Cache-Control": "no-store", "Cross-Origin-Opener-Policy": "same-origin", "Strict-Transport-Security": "",
		} {
			if got := header.Get(name); got != want {
				t.Errorf("GET %s: %s is %q, want %q", path, name, got, want)
			}
		}
	}
	if strings.Contains(web.Policy, "unsafe-inline") || strings.Contains(web.Policy, "'unsafe-eval'") || !strings.HasPrefix(web.Policy, "default-src 'none'") {
		t.Errorf("the policy is weak: %s", web.Policy)
	}
}

// TestNothingInline keeps templates free of what the policy would block.
func TestNothingInline(t *testing.T) {
	t.Parallel()
	inline := regexp.MustCompile(`(?i)<style|\sstyle=|\son[a-z]+=|javascript:|<script(?:[^>]*>)[^<]`)
	w := newPageWorld(t)
	w.furnish()
	list, err := w.Store.Sessions.List(context.Background(), store.SessionFilter{State: store.Live})
	must(t, err)
	b := w.signedIn("ada")
	for _, p := range w.Server.pageList() {
		method, path := w.fillIn(p.pattern, list[0])
		if method != http.MethodGet || strings.HasSuffix(path, ".cast") || strings.HasSuffix(path, ".csv") {
			continue
		}
		_, body, _ := b.get(path)
		if found := inline.FindString(body); found != "" || len(body) == 0 {
			t.Errorf("GET %s has %q inline", path, found)
		}
	}
}

func TestFormsOfOtherSitesAreRefused(t *testing.T) {
	t.Parallel()
	w := newPageWorld(t)
	w.furnish()
	b := w.signedIn("ada")
	for name, headers := range map[string]map[string]string{
		"by fetch metadata": {"Sec-Fetch-Site": "cross-site"},
		"same site only":    {"Sec-Fetch-Site": "same-site"},
		"by origin":         {"Origin": "https://evil.example"},
		"null origin":       {"Origin": "null"},
	} {
		for _, path := range []string{"/users", "/rules", "/signout", "/signin", "/theme", "/lockouts/clear"} {
			r, err := http.NewRequest(http.MethodPost, w.URL+path, strings.NewReader("login=eve"))
			must(t, err)
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			for k, v := range headers {
				r.Header.Set(k, v)
			}
			if status, _, _ := b.do(r); status != http.StatusForbidden {
				t.Errorf("%s, POST %s: status %d, want 403", name, path, status)
			}
		}
	}
	if _, err := w.Store.Users.ByLogin(context.Background(), "eve"); err == nil {
		t.Error("another site's form made a user")
	}
	b.shows("/") // and the session is still there
}

func TestFormsOfAnySizeAreBounded(t *testing.T) {
	t.Parallel()
	w := newPageWorld(t)
	w.furnish()
	b := w.signedIn("ada")
	status, body, _ := b.post("/rules", "version", "2", "text", strings.Repeat("# long\n", 300_000), "action", "apply")
	if status != http.StatusRequestEntityTooLarge {
		t.Errorf("2 MB of rules: status %d, want 413\n%s", status, body)
	}
	status, _, _ = b.post("/users", "login", strings.Repeat("x", 250_000))
	if status != http.StatusUnprocessableEntity {
		t.Errorf("a login of 250 KB: status %d, want 422", status)
	}
	status, _, _ = w.browser().post("/signin", "login", strings.Repeat("x", 250_000), "password", "p", "code", "123456")
	if status != http.StatusBadRequest {
		t.Errorf("signing in with a login of 250 KB: status %d, want 400", status)
	}
}

func TestRoleAndLockWorkAtOnce(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for name, take := range map[string]func(w *pageWorld, u store.User) error{
		"role taken": func(w *pageWorld, u store.User) error { return w.Store.Admins.Remove(ctx, u.ID) },
		"locked":     func(w *pageWorld, u store.User) error { return w.Store.Users.Lock(ctx, u.ID, "", time.Time{}) },
		"deleted":    func(w *pageWorld, u store.User) error { return w.Store.Users.Delete(ctx, u.ID) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newPageWorld(t)
			w.person("ada", store.RoleAdmin)
			u := w.person("eve", store.RoleAdmin)
			b := w.signedIn("eve")
			b.shows("/")
			must(t, take(w, u))
			want := "/signin"
			if name == "role taken" {
				want = signin.OwnPages
			}
			if status, _, header := b.get("/"); status != http.StatusSeeOther || header.Get("Location") != want {
				t.Errorf("afterwards: status %d to %q, want 303 to %s", status, header.Get("Location"), want)
			}
			if status, _, _ := b.get("/users"); name == "role taken" && status != http.StatusForbidden {
				t.Errorf("without the role a page of operators has status %d", status)
			}
		})
	}
}

func TestUsersPages(t *testing.T) {
	t.Parallel()
	w := newPageWorld(t)
	w.furnish()
	b := w.signedIn("ada")
	b.shows("/users", "alice", "bob", "locked", "Robert Ó Súilleabháin")
	if body := b.shows("/users?q=ali", "alice"); strings.Contains(body, ">bob<") {
		t.Error("a search for ali shows bob")
	}
	b.shows("/users?q=nobody-like-this", "Nobody of that name")

	status, body, _ := b.post("/users", "login", "Not A Login", "name", "Zoë <b>", "groups", "ops, dba")
	if status != http.StatusUnprocessableEntity || !strings.Contains(body, "Zoë &lt;b&gt;") || !strings.Contains(body, `value="ops, dba"`) {
		t.Errorf("a bad login: status %d, want 422 and the form as it was\n%s", status, body)
	}
	page := b.does("/users", "login", "Zoe", "name", "Zoë <b>", "groups", "ops, web team", "password", pagePassword)
	for _, want := range []string{"User zoe was added", "Zoë &lt;b&gt;", "web team", "no token"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page of the new user has no %q\n%s", want, page)
		}
	}

	status, page, header := b.post("/users/zoe/tokens", "name", "phone")
	secret := regexp.MustCompile(`class="secret">([A-Z2-7 ]+)<`).FindStringSubmatch(page)
	if status != http.StatusOK || len(secret) != 2 || !strings.Contains(page, "<svg") || header.Get("Cache-Control") != "no-store" {
		t.Fatalf("a new token: status %d, secret %v\n%s", status, secret, page)
	}
	if page = b.shows("/users/zoe", "phone", "ready"); strings.Contains(page, strings.ReplaceAll(secret[1], " ", "")) || strings.Contains(page, secret[1]) {
		t.Error("the secret is shown a second time")
	}

	u, err := w.Store.Users.ByLogin(context.Background(), "zoe")
	must(t, err)
	tokens, err := w.Store.Tokens.List(context.Background(), u.ID)
	must(t, err)
	token := "/users/zoe/tokens/" + tokens[0].ID
	parsed, err := otp.ParseSecret(secret[1])
	must(t, err)
	p := otp.DefaultParams()
	now := p.StepAt(time.Now())
	b.shows(token, "by time (30 s), SHA1, 6 digits", "not known before it is used", "Not yet")
	if page = b.does(token+"/resync", "first", p.Code(parsed, now-5), "second", p.Code(parsed, now-4)); !strings.Contains(page, "s behind") || !strings.Contains(page, "at web") {
		t.Errorf("after a resynchronisation:\n%s", page)
	}
	if status, body, _ := b.post(token+"/resync", "first", p.Code(parsed, now-5), "second", p.Code(parsed, now-4)); status != http.StatusUnprocessableEntity || !strings.Contains(body, "not two codes in a row") {
		t.Errorf("the same codes again: status %d", status)
	}
	b.does(token+"/rename", "name", "old <phone>")
	if page = b.does(token+"/state", "state", "lost"); !strings.Contains(page, "old &lt;phone&gt;") || !strings.Contains(page, "lost") {
		t.Errorf("a lost token:\n%s", page)
	}
	b.shows("/users/zoe", "old &lt;phone&gt;", "lost", "s behind")
	codes := regexp.MustCompile(`class="secret">([a-z2-9-]{19})<`)
	_, page, header = b.post("/users/zoe/recovery-codes")
	if n := len(codes.FindAllString(page, -1)); n != 10 || header.Get("Cache-Control") != "no-store" {
		t.Errorf("%d recovery codes are shown:\n%s", n, page)
	}
	b.shows("/users/zoe", "10 codes are left")
	b.does("/users/zoe/recovery-codes/remove")
	_, page, _ = b.post("/users/zoe/bypass-codes", "reason", "phone <broken>", "life", "8h")
	if n := len(codes.FindAllString(page, -1)); n != 1 {
		t.Errorf("%d bypass codes are shown:\n%s", n, page)
	}
	b.shows("/users/zoe", "none", "phone &lt;broken&gt;", "by ada")
	b.does("/users/zoe/bypass-codes/remove")

	if page = b.does("/users/zoe/lock", "reason", "on leave", "for", "24h"); !strings.Contains(page, "on leave") || !strings.Contains(page, "Unlock zoe") {
		t.Errorf("after locking:\n%s", page)
	}
	b.does("/users/zoe/unlock")
	b.does("/users/zoe/groups", "groups", "dba")
	b.does("/users/zoe/password", "password", "another long password")
	b.shows("/users/zoe/delete", "Delete the user zoe?")
	b.does("/users/zoe/delete")
	if status, _, _ := b.get("/users/zoe"); status != http.StatusNotFound {
		t.Errorf("the page of a deleted user: status %d, want 404", status)
	}
	if status, body, _ := b.post("/users/ada/delete"); status != http.StatusConflict {
		t.Errorf("deleting the last administrator: status %d, want 409\n%s", status, body)
	}
}

func TestTargetsPages(t *testing.T) {
	t.Parallel()
	w := newPageWorld(t)
	w.furnish()
	b := w.signedIn("ada")
	b.shows("/targets", "web1", "10.0.0.5:22", "env=prod", "not seen yet")
	b.shows("/targets/web1", `from="192.0.2.10",restrict,pty ssh-ed25519`, "Host web1", "Port 2222", "User ada@web1", "ssh -p 2222 ada@web1@bastion.example.org")
	b.shows("/targets/vault", "no accounts of its own")
	b.shows("/targets/vault?account=alice", "restrict", "<strong>alice</strong>")

	status, body, _ := b.post("/targets", "name", "db1", "address", "10.0.0.9", "labels", "env=prod, role", "mode", "pinned", "action", "add")
	if status != http.StatusUnprocessableEntity || !strings.Contains(body, "is not a label") || !strings.Contains(body, `value="db1"`) {
		t.Errorf("a bad label: status %d\n%s", status, body)
	}
	status, body, _ = b.post("/targets", "name", "db1", "address", "10.0.0.9", "mode", "pinned", "keys", "garbage", "action", "add")
	if status != http.StatusUnprocessableEntity || !strings.Contains(body, "This is not a public key") {
		t.Errorf("a bad host key: status %d\n%s", status, body)
	}
	b.does("/targets", "name", "db3", "address", "10.0.0.8", "via", "root@web1", "accounts", "root", "mode", "tofu", "action", "add")
	b.shows("/targets/db3", "Reached through", "root@web1", `from="10.0.0.5",restrict`, "is reached through web1")
	if status, body, _ := b.post("/targets/web1/delete"); status != http.StatusConflict || !strings.Contains(body, "targets go through web1: db3") {
		t.Errorf("deleting a jump host: status %d\n%s", status, body)
	}
	if status, body, _ := b.post("/targets", "name", "db4", "address", "10.0.0.8", "via", "nobody", "accounts", "root", "mode", "tofu", "action", "add"); status != http.StatusConflict || !strings.Contains(body, "here is no target nobody") {
		t.Errorf("a jump host that is not there: status %d\n%s", status, body)
	}
	page := b.does("/targets", "name", "db1", "address", "10.0.0.9", "accounts", "root, postgres", "labels", "env=prod, role=db", "mode", "tofu", "action", "add")
	if !strings.Contains(page, "10.0.0.9:22") || !strings.Contains(page, "role=db") || !strings.Contains(page, "postgres") {
		t.Errorf("the page of the new target:\n%s", page)
	}
	// Nothing listens at this address: the page says so, step by step.
	must(t, w.Store.Targets.Update(context.Background(), func() store.Target {
		db1, err := w.Store.Targets.ByName(context.Background(), "db1")
		must(t, err)
		db1.Address = "127.0.0.1:1"
		return db1
	}()))
	status, body, _ = b.post("/targets/db1/check", "account", "root")
	if status != http.StatusOK || !strings.Contains(body, "it does not work yet") || !strings.Contains(body, "connection refused") {
		t.Errorf("checking a target that is down: status %d\n%s", status, body)
	}
	status, body, _ = b.post("/targets", "name", "db2", "address", "127.0.0.1:1", "action", "scan")
	if status != http.StatusBadGateway || !strings.Contains(body, `value="db2"`) {
		t.Errorf("fetching the host key of a target that is down: status %d\n%s", status, body)
	}
	b.does("/targets/db1/delete")
	if status, _, _ := b.get("/targets/db1"); status != http.StatusNotFound {
		t.Errorf("the page of a deleted target: status %d, want 404", status)
	}
}

func TestRulesPages(t *testing.T) {
	t.Parallel()
	w := newPageWorld(t)
	w.furnish()
	b := w.signedIn("ada")
	b.shows("/rules", "no-vault-from-outside", "Version 2", `name="version" value="2"`)

	status, body, _ := b.post("/rules", "version", "2", "text", "version: 1\nrules:\n  - name: ops\n    userz: [alice]\n", "action", "apply")
	if status != http.StatusUnprocessableEntity || !strings.Contains(body, "line 4, column 5") || !strings.Contains(body, "^") || !strings.Contains(body, "userz: [alice]") {
		t.Errorf("a word that is none: status %d\n%s", status, body)
	}
	changed := strings.Replace(pageRules, "group:ops", "group:web", 1)
	status, body, _ = b.post("/rules", "version", "2", "text", strings.ReplaceAll(changed, "\n", "\r\n"), "action", "check")
	if status != http.StatusOK || !strings.Contains(body, `class="add">&#43;    users: [group:web]`) || !strings.Contains(body, `class="del">-    users: [group:ops]`) {
		t.Errorf("a dry run: status %d\n%s", status, body)
	}
	if v, _ := w.Store.Rules.Version(context.Background()); v != 2 {
		t.Errorf("after a dry run version %d is in force, want 2", v)
	}
	if page := b.does("/rules", "version", "2", "text", strings.ReplaceAll(changed, "\n", "\r\n"), "action", "apply"); !strings.Contains(page, "Version 3 of the rules is in force") {
		t.Errorf("after applying:\n%s", page)
	}
	now, err := w.Store.Rules.Current(context.Background())
	must(t, err)
	if now.Text != changed || now.By != "ada" {
		t.Errorf("in force is %q by %s", now.Text, now.By)
	}
	status, body, _ = b.post("/rules", "version", "2", "text", pageRules, "action", "apply")
	if status != http.StatusConflict || !strings.Contains(body, "somebody else") || !strings.Contains(body, "group:ops") {
		t.Errorf("applying to a version that is past: status %d\n%s", status, body)
	}
	b.shows("/rules/history", "Version 3", "Version 1")
	b.shows("/rules/history/3", "group:web", "in force")
	b.shows("/rules?from=1", "safe", "What would change")
	if status, _, _ := b.get("/rules/history/99"); status != http.StatusNotFound {
		t.Errorf("a version that is none: status %d, want 404", status)
	}
}

func TestExplainPage(t *testing.T) {
	t.Parallel()
	w := newPageWorld(t)
	w.furnish()
	b := w.signedIn("ines") // an auditor may ask
	b.shows("/explain?user=alice&target=web1&from=203.0.113.7", "Allowed by the rule “ops”", "target web1 is not in", "sftp", "LANG LC_* TERM")
	b.shows("/explain?user=alice&target=vault&from=203.0.113.7", "Refused by the rule “no-vault-from-outside”", "from the office only")
	b.shows("/explain?user=ines&target=web1", "no rule matches")
	for query, want := range map[string]int{
		"user=nobody&target=web1": 404, "user=alice&target=nothing": 404, "user=alice&target=web1&from=300.1.1.1": 422, "user=alice&target=web1&at=soon": 422,
	} {
		if status, body, _ := b.get("/explain?" + query); status != want || !strings.Contains(body, `class="notice bad"`) {
			t.Errorf("GET /explain?%s: status %d, want %d\n%s", query, status, want, body)
		}
	}
}

func TestLockoutsAndAdministratorsPages(t *testing.T) {
	t.Parallel()
	w := newPageWorld(t)
	w.furnish()
	b := w.signedIn("ada")
	b.shows("/lockouts", "mallory", "198.51.100.0/24", "anybody")
	locks, err := w.Server.lockouts(context.Background())
	must(t, err)
	for _, l := range locks {
		b.does("/lockouts/clear", "id", l.ID)
	}
	b.shows("/lockouts", "Nobody is locked out")

	b.shows("/administrators", "ada", "(you)", "ines", "the last one stays")
	if status, body, _ := b.post("/administrators/ada/remove"); status != http.StatusConflict || !strings.Contains(body, "last administrator") {
		t.Errorf("removing the last administrator: status %d\n%s", status, body)
	}
	if page := b.does("/administrators", "login", "alice", "role", "admin"); !strings.Contains(page, "alice is an administrator now") {
		t.Errorf("after making a second one:\n%s", page)
	}
	b.does("/administrators/ines/remove")
	if status, _, _ := b.post("/administrators", "login", "alice", "role", "root"); status != http.StatusUnprocessableEntity {
		t.Errorf("a role that is none: status %d, want 422", status)
	}
	// Whoever takes their own role away is out.
	if status, _, header := b.post("/administrators/ada/remove"); status != http.StatusSeeOther || !strings.HasPrefix(header.Get("Location"), "/signin") {
		t.Errorf("removing oneself: status %d to %s", status, header.Get("Location"))
	}
	if status, _, _ := b.get("/"); status != http.StatusSeeOther {
		t.Errorf("afterwards: status %d, want 303", status)
	}
}

func TestAuditPage(t *testing.T) {
	t.Parallel()
	w := newPageWorld(t)
	w.furnish()
	hostile := "root\x1b[2J\r\nforged \u202egnol<script>alert(1)</script>"
	must(t, w.Store.Audit.Append(context.Background(), audit.Event{Type: audit.LoginRefused, Result: audit.Refused, Door: audit.DoorSSH, User: hostile, Reason: "unknown user"}))
	for i := range 120 {
		must(t, w.Store.Audit.Append(context.Background(), audit.Event{Type: audit.NodeStarted, Result: audit.OK, Node: fmt.Sprint("n", i)}))
	}
	b := w.signedIn("ines")
	page := b.shows("/audit?type=login.refused&text=forged", `root\u{1b}[2J\r\nforged \u{202e}gnol&lt;script&gt;`)
	if strings.ContainsAny(page, "\x1b\u202e") || strings.Contains(page, "<script>alert") {
		t.Error("a stranger's text reaches the page as it is")
	}
	// All events are reached by the pager, each once.
	seen, next := 0, "/audit?type=node.started"
	for pages := 0; next != "" && pages < 10; pages++ {
		page := b.shows(next)
		seen += strings.Count(page, `<span class="mono nowrap">node.started</span>`)
		m := regexp.MustCompile(`href="([^"]+)" rel="next"`).FindStringSubmatch(page)
		if next = ""; m != nil {
			next = strings.ReplaceAll(m[1], "&amp;", "&")
		}
	}
	if seen != 120 {
		t.Errorf("the pager shows %d events, want 120", seen)
	}
	b.shows("/audit?since=2026-13-45", `class="notice bad"`)
}

func TestOverviewShowsFirstStepsUntilDone(t *testing.T) {
	t.Parallel()
	w := newPageWorld(t, func(c *Config) { c.Demo = true })
	w.person("ada", store.RoleAdmin)
	b := w.signedIn("ada")
	b.shows("/", "First steps", "0 of 5 done", "Add a target", "everybody is refused", "Nobody is connected", "Demonstration")
	w.furnishAround("ada")
	w.person("eve", store.RoleAdmin)
	if page := b.shows("/", "Live now", "Latest events"); strings.Contains(page, "First steps") {
		t.Errorf("the first steps are still there:\n%s", page)
	}
}

// The first page says how mail and SMS stand: well, late, or given up.
func TestOverviewShowsTheOutbox(t *testing.T) {
	t.Parallel()
	w := newPageWorld(t, func(c *Config) { c.Messages = true })
	ctx := context.Background()
	w.person("ada", store.RoleAdmin)
	b := w.signedIn("ada")
	b.shows("/", "Mail and SMS", "0 wait, none was given up")
	must(t, w.Store.Outbox.Add(ctx, store.OutMessage{Channel: store.ByMail, Kind: "test", Recipient: "a@example.org", Expires: time.Now().Add(time.Hour)}))
	m, err := w.Store.Outbox.Claim(ctx, time.Minute, store.ByMail)
	must(t, err)
	must(t, w.Store.Outbox.Later(ctx, m, time.Now(), "connection refused"))
	b.shows("/", "1 wait, 1 of them after a failed try")
	m, err = w.Store.Outbox.Claim(ctx, time.Minute, store.ByMail)
	must(t, err)
	must(t, w.Store.Outbox.Fail(ctx, m, "no such mailbox"))
	b.shows("/", "1 given up in the last week")
}

// furnishAround furnishes a world that has one administrator already.
func (w *pageWorld) furnishAround(admin string) {
	ctx := context.Background()
	_, err := w.Store.Rules.Put(ctx, pageRules, admin, 0)
	must(w.t, err)
	_, err = w.Store.Targets.Add(ctx, store.Target{Name: "web1", Address: "10.0.0.5:22", Accounts: []string{"root"}, HostKeyMode: store.TOFU})
	must(w.t, err)
	w.openSession("alice", "web1")
}

func TestRefreshIsNoActivity(t *testing.T) {
	t.Parallel()
	w := newPageWorld(t)
	w.person("ada", store.RoleAdmin)
	b := w.signedIn("ada")
	refresh := func() int {
		r, err := http.NewRequest(http.MethodGet, w.URL+"/", nil)
		must(t, err)
		r.Header.Set(signin.RefreshHeader, "1")
		status, _, _ := b.do(r)
		return status
	}
	for range 5 { // 25 min with the page open, nobody there
		w.ahead.Add(int64(5 * time.Minute))
		if status := refresh(); status != http.StatusOK {
			t.Fatalf("refreshing within the idle time: status %d", status)
		}
	}
	w.ahead.Add(int64(6 * time.Minute))
	if status := refresh(); status != http.StatusSeeOther {
		t.Errorf("refreshing after 31 min without activity: status %d, want 303", status)
	}
	b = w.signedIn("ada")
	for range 5 { // somebody who works stays signed in
		w.ahead.Add(int64(25 * time.Minute))
		b.shows("/")
	}
}
