package admin

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/audit"
	"sallyport/otp"
	"sallyport/store"
)

// operations lists every operation of the API, from the router itself.
func operations(s *Server) []*huma.Operation {
	var found []*huma.Operation
	paths := s.api(http.NewServeMux(), s.webCaller).OpenAPI().Paths
	for _, item := range paths {
		for _, op := range []*huma.Operation{item.Get, item.Put, item.Post, item.Delete, item.Patch, item.Head, item.Options, item.Trace} {
			if op != nil {
				found = append(found, op)
			}
		}
	}
	return found
}

// Every route answers every kind of caller as the role says. What a route needs is derived here from
// what it does, not from what it declares: whoever reads is an auditor, whoever changes an administrator.
func TestEveryRouteAsksForTheRole(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ops := operations(f.s)
	if len(ops) < 35 {
		t.Fatalf("only %d operations were found", len(ops))
	}
	fill := strings.NewReplacer("{login}", "nobody", "{id}", "none", "{name}", "nowhere")
	// Keys of programs open what their scopes name and nothing else, whatever a role would be needed for it.
	scopes := map[string]string{"/enrolments": store.ScopeEnrol, "/validate": store.ScopeValidate}
	keys := map[string]string{}
	for _, scope := range store.Scopes {
		_, secret, err := f.st.APIKeys.Add(t.Context(), store.APIKey{Name: scope, Scopes: []string{scope}, PerMinute: 6000})
		noError(t, err)
		keys[secret] = scope
	}
	for _, op := range ops {
		reads := op.Method == http.MethodGet
		public := op.Path == "/health"
		for secret, scope := range keys {
			w := f.request(secret, op.Method, fill.Replace(op.Path), nil)
			if in := w.Code != 401 && w.Code != 403; in != (public || scopes[op.Path] == scope) {
				t.Errorf("%s %s with a key for %s: status %d", op.Method, op.Path, scope, w.Code)
			}
		}
		want := map[string]int{"": 401, "sp_wrong": 401, f.auditor: 0, f.admin: 0}
		if !reads {
			want[f.auditor] = 403
		}
		if public {
			want[""], want["sp_wrong"] = 0, 0
		}
		for token, status := range want {
			f.s.throttle = newThrottle()
			w := f.request(token, op.Method, fill.Replace(op.Path), nil)
			who := map[string]string{"": "nobody", "sp_wrong": "a wrong token", f.auditor: "an auditor", f.admin: "an administrator"}[token]
			switch {
			case status == 0 && (w.Code == 401 || w.Code == 403):
				t.Errorf("%s %s as %s: status %d, want to be let in", op.Method, op.Path, who, w.Code)
			case status != 0 && w.Code != status:
				t.Errorf("%s %s as %s: status %d, want %d", op.Method, op.Path, who, w.Code, status)
			}
			if status == 401 && w.Header().Get("WWW-Authenticate") == "" {
				t.Errorf("%s %s as %s: no WWW-Authenticate", op.Method, op.Path, who)
			}
		}
		// The socket's owner is an administrator.
		w := httptest.NewRecorder()
		f.socket.ServeHTTP(w, newRequest(t, op.Method, fill.Replace(op.Path), nil))
		if w.Code == 401 || w.Code == 403 {
			t.Errorf("%s %s over the socket: status %d", op.Method, op.Path, w.Code)
		}
	}
}

// A route that does not say what it needs is for administrators.
func TestNeedZeroValue(t *testing.T) {
	t.Parallel()
	var n need
	for role, want := range map[Role]bool{RoleAdmin: true, RoleAuditor: false, "": false, "root": false} {
		if got := n.allows(role); got != want {
			t.Errorf("zero need allows %q: %v, want %v", role, got, want)
		}
		if role != RoleAdmin && role != RoleAuditor && needAuditor.allows(role) {
			t.Errorf("needAuditor allows %q", role)
		}
	}
}

// Tricks with the path lead nowhere without a caller (W01).
func TestPathTricks(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, path := range []string{
		"//api/v1/users", "/api/v1//users", "/api/v1/health/../users", "/api/v1/%2e%2e/v1/users", "/api/v1/health/%2e%2e/users",
		"/api/v1/users/", "/api/v1/users;x", "/api/v1/users%2f", "/API/v1/users", "/api/v1/health%2f..%2fusers", "/api/v1/nothing",
	} {
		r := httptest.NewRequest(http.MethodGet, "http://bastion"+path, nil)
		w := httptest.NewRecorder()
		f.web.ServeHTTP(w, r)
		if w.Code == http.StatusOK {
			t.Errorf("GET %s: status 200: %s", path, w.Body)
		}
	}
	if w := f.request("", http.MethodGet, "/nothing", nil); w.Code != 404 {
		t.Errorf("unknown route: status %d, want 404", w.Code)
	}
}

// A request with an Authorization header stands or falls by it.
func TestAuthorizationHeader(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, tc := range []struct {
		header string
		status int
	}{
		{"Bearer " + f.auditor, 200}, {"bearer " + f.auditor, 200},
		{"", 401}, {"Bearer", 401}, {"Bearer ", 401}, {f.auditor, 401}, {"Basic " + f.auditor, 401},
		{"Bearer " + f.auditor + "x", 401}, {"Bearer " + strings.Repeat("x", 10_000), 401},
	} {
		f.s.throttle = newThrottle()
		r := newRequest(t, http.MethodGet, "/users", nil)
		r.Header["Authorization"] = []string{tc.header}
		w := httptest.NewRecorder()
		f.web.ServeHTTP(w, r)
		if w.Code != tc.status {
			t.Errorf("Authorization %.40q: status %d, want %d", tc.header, w.Code, tc.status)
		}
	}
	r := newRequest(t, http.MethodGet, "/users", nil)
	r.Header["Authorization"] = []string{"Bearer " + f.auditor, "Bearer " + f.admin}
	w := httptest.NewRecorder()
	f.web.ServeHTTP(w, r)
	if w.Code != 401 {
		t.Errorf("two Authorization headers: status %d, want 401", w.Code)
	}
}

// Tokens that have expired or were deleted open nothing from the next request on.
func TestAPITokenEnds(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	deleted := do[IssuedAPIToken](f, 200, "POST", "/api-tokens", NewAPIToken{Name: "gone", Role: RoleAdmin})
	if w := f.request(deleted.Secret, "GET", "/users", nil); w.Code != 200 {
		t.Fatalf("new token: status %d", w.Code)
	}
	do[any](f, 204, "DELETE", "/api-tokens/"+deleted.ID, nil)
	if w := f.request(deleted.Secret, "GET", "/users", nil); w.Code != 401 {
		t.Errorf("deleted token: status %d, want 401", w.Code)
	}
	_, expired, err := f.st.APITokens.Add(context.Background(), "old", store.RoleAdmin, time.Now().Add(-time.Second))
	noError(t, err)
	if w := f.request(expired, "GET", "/users", nil); w.Code != 401 {
		t.Errorf("expired token: status %d, want 401", w.Code)
	}
	for _, token := range do[[]APIToken](f, 200, "GET", "/api-tokens", nil) {
		if strings.Contains(fmt.Sprintf("%+v", token), "sp_") {
			t.Errorf("a list of tokens shows a secret: %+v", token)
		}
	}
}

// One source that tries tokens is slowed down, and nobody else.
func TestWrongTokensAreThrottled(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	try := func(token, source string) int {
		r := newRequest(t, http.MethodGet, "/users", nil)
		r.RemoteAddr = source
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		f.web.ServeHTTP(w, r)
		if w.Code == 429 && w.Header().Get("Retry-After") == "" {
			t.Error("429 without Retry-After")
		}
		return w.Code
	}
	for i := range throttleBurst {
		if got := try("sp_wrong", fmt.Sprintf("[2001:db8::%x]:1", i+1)); got != 401 {
			t.Fatalf("wrong token %d: status %d, want 401", i+1, got)
		}
	}
	if got := try("sp_wrong", "[2001:db8::ffff]:1"); got != 429 {
		t.Errorf("wrong token %d from the same network: status %d, want 429", throttleBurst+1, got)
	}
	if got := try(f.admin, "[2001:db8::ffff]:1"); got != 429 {
		t.Errorf("right token from a source that is slowed down: status %d, want 429", got)
	}
	if got := try(f.admin, "192.0.2.1:1"); got != 200 {
		t.Errorf("right token from elsewhere: status %d, want 200", got)
	}
	events, err := f.st.Audit.List(context.Background(), store.AuditFilter{Type: audit.LoginRefused, Limit: 100})
	noError(t, err)
	if len(events) != throttleBurst || events[0].Door != audit.DoorAPI {
		t.Errorf("%d events of refused tokens, want %d: %+v", len(events), throttleBurst, events)
	}
	later := time.Now().Add(throttleRefill + time.Second)
	if wait := f.s.throttle.wait(netip.MustParseAddr("2001:db8::1"), later); wait != 0 {
		t.Errorf("after %v the source still waits %v", throttleRefill, wait)
	}
}

// The page of another site cannot use the web session of a browser (W03).
func TestCrossOriginIsRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := newRequest(t, http.MethodPost, "/users", NewUser{Login: "eve", Password: "correct horse"})
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	r.Header.Set("Authorization", "Bearer "+f.admin)
	w := httptest.NewRecorder()
	f.web.ServeHTTP(w, r)
	if w.Code != 403 {
		t.Errorf("POST from another site: status %d, want 403", w.Code)
	}
}

// Answers carry headers that keep browsers from keeping or guessing them.
func TestHeaders(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	h := f.request(f.admin, "GET", "/users", nil).Header()
	for name, want := range map[string]string{"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Content-Type": "application/json"} {
		if got := h.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// Whoever came, the audit log names actor, door and source.
func TestChangesNameTheCaller(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.addUser("dave")
	w := httptest.NewRecorder()
	f.socket.ServeHTTP(w, newRequest(t, "POST", "/users", NewUser{Login: "erin", Password: "correct horse"}))
	if w.Code != 200 {
		t.Fatalf("over the socket: status %d: %s", w.Code, w.Body)
	}
	want := []string{"user.add console console erin ", "user.add api-token robot api dave "}
	if got := f.changes(); !slices.Equal(got, want) {
		t.Errorf("changes %q, want %q", got, want)
	}
}

// signIn signs login in at the pages and returns the cookies of the web session.
func (f *fixture) signIn(login string) []*http.Cookie {
	f.t.Helper()
	token := do[IssuedToken](f, 200, "POST", "/users/"+login+"/tokens", NewToken{})
	secret, err := otp.ParseSecret(token.Secret)
	noError(f.t, err)
	p := otp.DefaultParams()
	form := url.Values{"login": {login}, "password": {"correct horse"}, "code": {p.Code(secret, p.StepAt(time.Now()))}}
	r := httptest.NewRequest(http.MethodPost, "/signin", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	f.web.ServeHTTP(w, r)
	if w.Code != http.StatusSeeOther {
		f.t.Fatalf("signing in %s: status %d: %s", login, w.Code, w.Body)
	}
	return w.Result().Cookies()
}

// A signed-in browser reaches the API with the role its user has at this moment.
func TestWebSessionReachesTheAPI(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, login := range []string{"boss", "dave"} {
		f.addUser(login)
	}
	do[Admin](f, 200, "PUT", "/admins/boss", NewRole{RoleAdmin})
	do[Admin](f, 200, "PUT", "/admins/dave", NewRole{RoleAdmin})
	cookies := f.signIn("dave")
	ask := func(method, path string, in any, header ...string) int {
		r := newRequest(t, method, path, in)
		for _, c := range cookies {
			r.AddCookie(c)
		}
		for i := 0; i+1 < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		f.web.ServeHTTP(w, r)
		return w.Code
	}
	erin := NewUser{Login: "erin", Password: "correct horse"}
	if got := ask("POST", "/users", erin, "Sec-Fetch-Site", "cross-site"); got != 403 {
		t.Errorf("from another site: status %d, want 403", got)
	}
	if got := ask("POST", "/users", erin, "Origin", "https://evil.example"); got != 403 {
		t.Errorf("from another origin: status %d, want 403", got)
	}
	if got := ask("GET", "/users", nil, "Authorization", "Bearer sp_wrong"); got != 401 {
		t.Errorf("with a wrong token beside the cookie: status %d, want 401", got)
	}
	if got := ask("POST", "/users", erin, "Sec-Fetch-Site", "same-origin"); got != 200 {
		t.Errorf("as administrator: status %d, want 200", got)
	}
	if got := f.changes()[0]; got != "user.add dave web erin " {
		t.Errorf("change %q", got)
	}
	do[Admin](f, 200, "PUT", "/admins/dave", NewRole{RoleAuditor})
	if got := ask("DELETE", "/users/erin", nil); got != 403 {
		t.Errorf("as auditor by now: status %d, want 403", got)
	}
	if got := ask("GET", "/users", nil); got != 200 {
		t.Errorf("an auditor reads: status %d, want 200", got)
	}
	do[User](f, 200, "PUT", "/users/dave/lock", NewLock{})
	if got := ask("GET", "/users", nil); got != 401 {
		t.Errorf("locked: status %d, want 401", got)
	}
}
