package admin

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/openapi.json anew")

// docs/openapi.json is what the server speaks. After a change: go test ./admin -run OpenAPI -update
func TestOpenAPIIsCurrent(t *testing.T) {
	t.Parallel()
	const file = "../docs/openapi.json"
	got, err := newFixture(t).s.OpenAPI()
	noError(t, err)
	if *update {
		noError(t, os.WriteFile(file, got, 0o644))
	}
	want, err := os.ReadFile(file)
	noError(t, err)
	if string(got) != string(want) {
		t.Errorf("%s is not current; run: go test ./admin -run OpenAPI -update", file)
	}
	if strings.Contains(string(got), "ErrorModel") {
		t.Error("the description speaks of errors that the server does not send")
	}
}

// What nobody needs to send is refused before anything is done with it (W05).
func TestHostileBodies(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	deep := `{"login":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}`
	for _, tc := range []struct {
		name, body string
		status     int
	}{
		{"nothing", ``, 400},
		{"not JSON", `login=dave`, 400},
		{"truncated", `{"login":"dave"`, 400},
		{"two values", `{"login":"dave"}{"login":"erin"}`, 400},
		{"nested 100000 deep", deep, 400},
		{"same field twice", `{"login":"dave","login":"erin"}`, 400},
		{"same field twice in another case", `{"login":"dave","Login":"erin"}`, 400},
		{"unknown field", `{"login":"dave","admin":true}`, 422},
		{"wrong type", `{"login":7}`, 422},
		{"null", `null`, 422},
		{"list", `[]`, 422},
		{"too long a login", `{"login":"` + strings.Repeat("a", 300) + `"}`, 422},
		{"more than 1 MiB", `{"login":"` + strings.Repeat("a", 1<<20) + `"}`, 413},
	} {
		w := f.request(f.admin, "POST", "/users", tc.body)
		if w.Code != tc.status {
			t.Errorf("%s: status %d, want %d: %.300s", tc.name, w.Code, tc.status, w.Body)
		}
		if w.Body.Len() > 4096 {
			t.Errorf("%s: the answer has %d bytes", tc.name, w.Body.Len())
		}
	}
	r := newRequest(t, "POST", "/users", `{"login":"dave"}`)
	r.Header.Set("Content-Type", "text/plain")
	r.Header.Set("Authorization", "Bearer "+f.admin)
	w := httptest.NewRecorder()
	f.web.ServeHTTP(w, r)
	if w.Code != 415 {
		t.Errorf("text/plain: status %d, want 415", w.Code)
	}
	if got := do[[]User](f, 200, "GET", "/users", nil); len(got) != 0 {
		t.Errorf("a refused body made users: %+v", got)
	}
	f.refused(422, "GET", "/users?qeury=x", nil)
	f.refused(422, "GET", "/sessions?limit=100000", nil)
	f.refused(422, "GET", "/sessions?state=dead", nil)
}

// A refusal never repeats what was sent: it may be a secret.
func TestRefusalsDoNotRepeatSecrets(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.addUser("dave")
	const secret = "hunter2hunter2"
	for _, tc := range []struct{ method, path, body string }{
		{"POST", "/users", `{"login":"erin","password":"` + secret + `","extra":"` + secret + `"}`},
		{"POST", "/users", `{"login":"erin","password":["` + secret + `"]}`},
		{"POST", "/users", `{"login":"erin","password":"` + strings.Repeat(secret, 200) + `"}`},
		{"PUT", "/users/dave/password", `{"password":"` + secret + `\u0007"}`},
		{"POST", "/users/dave/tokens", `{"secret":"` + secret + `!"}`},
	} {
		w := f.request(f.admin, tc.method, tc.path, tc.body)
		if w.Code < 400 || strings.Contains(w.Body.String(), secret) {
			t.Errorf("%s %s: status %d, answer %s", tc.method, tc.path, w.Code, w.Body)
		}
	}
}

// Health needs no caller and tells of the database and of nothing else.
func TestHealth(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.request("", "GET", "/health", nil)
	if w.Code != 200 || strings.TrimSpace(w.Body.String()) != `{"status":"ok","database":"ok"}` {
		t.Errorf("health: status %d, %s", w.Code, w.Body)
	}
	noError(t, f.st.Close())
	w = f.request("", "GET", "/health", nil)
	if w.Code != 503 || strings.TrimSpace(w.Body.String()) != `{"status":"failing","database":"unreachable"}` {
		t.Errorf("health without database: status %d, %s", w.Code, w.Body)
	}
	// Whoever shows a token then is refused for want of a database, not told that it is wrong.
	w = f.request(f.admin, "GET", "/users", nil)
	if w.Code != 503 {
		t.Errorf("users without database: status %d, want 503: %s", w.Code, w.Body)
	}
}

func TestVersionAndDoor(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	v := do[Version](f, 200, "GET", "/version", nil)
	if v.Version != "test" || v.Node != "n1" || v.Database != "sqlite" || v.Schema < 1 {
		t.Errorf("version %+v", v)
	}
	if d := do[Door](f, 200, "GET", "/door", nil); d != (Door{"bastion.example.org", 2222}) {
		t.Errorf("door %+v", d)
	}
}

func TestUnmarshalStrictly(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		text string
		ok   bool
	}{
		{`{"a":1,"b":{"a":1}}`, true},
		{`[{"a":1},{"a":2}]`, true},
		{` "x" `, true},
		{`{"a":1,"a":1}`, false},
		{`{"a":1,"A":1}`, false},
		{`{"x":{"a":1,"a":2}}`, false},
		{`[{"a":1,"a":2}]`, false},
		{`{"a":1}]`, false},
		{strings.Repeat("[", maxDepth+2) + strings.Repeat("]", maxDepth+2), false},
		{strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth), true},
		{``, false}, {`{`, false}, {`{"a"}`, false}, {`[1,]`, false},
	} {
		var v any
		if err := unmarshalStrictly([]byte(tc.text), &v); (err == nil) != tc.ok {
			t.Errorf("%.60s: error %v, want ok %v", tc.text, err, tc.ok)
		}
	}
}

func FuzzUnmarshalStrictly(f *testing.F) {
	f.Add([]byte(`{"a":[1,{"b":null}]}`))
	f.Add([]byte(`{"a":1,"a":2}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var strict, plain any
		if unmarshalStrictly(text, &strict) == nil {
			if err := json.Unmarshal(text, &plain); err != nil || fmt.Sprint(strict) != fmt.Sprint(plain) {
				t.Errorf("%q: strict %v, plain %v, %v", text, strict, plain, err)
			}
		}
	})
}

// No handler may answer what huma or net/http would say by itself.
func TestMethodNotAllowed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	if w := f.request("", http.MethodPatch, "/users", nil); w.Code == 200 || w.Code >= 500 {
		t.Errorf("PATCH /users: status %d", w.Code)
	}
}
