package admin

import (
	"context"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"sallyport/audit"
	"sallyport/store"
)

var shownOnce = regexp.MustCompile(`<pre[^>]*aria-label="Secret"><code>([^<]+)</code>`)

// secretOf is the secret that a page shows this once.
func secretOf(t *testing.T, page string) string {
	t.Helper()
	m := shownOnce.FindStringSubmatch(page)
	if m == nil {
		t.Fatalf("the page shows no secret\n%s", page)
	}
	return m[1]
}

// An administrator makes a key for a program on the page, with a fresh code; it opens what it says until it is revoked.
func TestAPIKeysPage(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	w := newPageWorld(t)
	w.furnish()
	b := w.signedIn("ada")
	b.shows("/api-keys", "shop", "enrolments:create", "192.0.2.0/24", "from 192.0.2.9", "believed about people", "prometheus", "anywhere", "never", "expired", "old portal")
	auditor := w.signedIn("ines")
	if body := auditor.shows("/api-keys", "shop"); strings.Contains(body, "Revoke") || strings.Contains(body, "Make the key") {
		t.Error("an auditor is offered to change keys")
	}

	form := func(change ...string) []string {
		return append(change, "name", "wiki", "scope", "validate", "sources", "127.0.0.0/8", "days", "30", "per_minute", "60")
	}
	for _, c := range []struct {
		what   string
		status int
		says   string
		form   []string
	}{
		{"no code", 403, "This code does not fit", form("code", "")},
		{"a wrong code", 403, "This code does not fit", form("code", "000000")},
		{"no scope", 422, "scope", []string{"name", "wiki", "days", "30", "per_minute", "60", "code", "000000"}},
		{"an unknown scope", 422, "there is no scope", []string{"name", "wiki", "scope", "all", "days", "30", "per_minute", "60", "code", "000000"}},
		{"no name", 422, "name is missing", []string{"scope", "validate", "days", "30", "per_minute", "60", "code", "000000"}},
		{"a bad network", 422, "neither an address nor a network", []string{"name", "wiki", "scope", "validate", "sources", "192.0.2.1/24", "days", "30", "per_minute", "60", "code", "000000"}},
		{"bad days", 422, "number of days", []string{"name", "wiki", "scope", "validate", "days", "soon", "per_minute", "60", "code", "000000"}},
		{"bad calls", 422, "calls a minute", []string{"name", "wiki", "scope", "validate", "days", "", "per_minute", "0", "code", "000000"}},
	} {
		status, body, _ := b.post("/api-keys", c.form...)
		if status != c.status || !strings.Contains(strings.ToLower(body), strings.ToLower(c.says)) {
			t.Errorf("%s: status %d, want %d, %q\n%s", c.what, status, c.status, c.says, body)
		}
		if c.what == "a wrong code" && (!strings.Contains(body, `value="wiki"`) || !strings.Contains(body, `value="validate" checked`) || !strings.Contains(body, `value="127.0.0.0/8"`)) {
			t.Errorf("what was typed is lost\n%s", body)
		}
	}
	if n := len(w.keys()); n != 3 {
		t.Fatalf("%d keys after refusals, want 3", n)
	}

	status, body, header := b.post("/api-keys", form("code", w.code("ada"))...)
	if status != http.StatusOK || !strings.Contains(header.Get("Cache-Control"), "no-store") {
		t.Fatalf("making a key: status %d, %q\n%s", status, header.Get("Cache-Control"), body)
	}
	secret := secretOf(t, body)
	k, err := w.Store.APIKeys.Find(ctx, secret)
	must(t, err)
	if k.Name != "wiki" || len(k.Scopes) != 1 || k.Sources[0] != "127.0.0.0/8" || k.Expires.IsZero() {
		t.Errorf("the key is %+v", k)
	}
	if strings.Contains(b.shows("/api-keys", "wiki"), secret) {
		t.Error("the list shows the secret")
	}
	if status := w.validate(secret); status != http.StatusOK {
		t.Errorf("the key is answered %d", status)
	}
	if status, body, _ := b.post("/api-keys", form("code", w.code("ada"))...); status != http.StatusConflict || strings.Contains(body, secret) {
		t.Errorf("a name that is taken: status %d", status)
	}

	b.shows("/api-keys/"+k.ID+"/revoke", "Revoke the API key wiki (validate)?", "used last", "127.0.0.1")
	if page := b.does("/api-keys/" + k.ID + "/revoke"); !strings.Contains(page, "The API key was revoked") || strings.Contains(page, "wiki") {
		t.Errorf("after revoking:\n%s", page)
	}
	if status := w.validate(secret); status != http.StatusUnauthorized {
		t.Errorf("the revoked key is answered %d", status)
	}
	if status, _, _ := b.post("/api-keys/" + k.ID + "/revoke"); status != http.StatusNotFound {
		t.Errorf("revoking twice: status %d", status)
	}
	events, err := w.Store.Audit.List(ctx, store.AuditFilter{Type: audit.OperatorChange, Limit: 10})
	must(t, err)
	if events[0].Detail["change"] != "api-key.revoke" || events[1].Detail["change"] != "api-key.add" || events[1].Actor != "ada" || events[1].Detail["name"] != "wiki" {
		t.Errorf("the audit log says %+v", events[:2])
	}
	for _, e := range events {
		for _, v := range e.Detail {
			if strings.Contains(v, secret) {
				t.Error("the secret is in the audit log")
			}
		}
	}
}

func (w *pageWorld) keys() []store.APIKey {
	w.t.Helper()
	keys, err := w.Store.APIKeys.List(context.Background())
	must(w.t, err)
	return keys
}

// validate asks with an API key whether a code is right, and returns the status.
func (w *pageWorld) validate(secret string) int {
	w.t.Helper()
	r, err := http.NewRequest(http.MethodPost, w.URL+apiPath+"/validate", strings.NewReader(`{"login":"alice","code":"000000"}`))
	must(w.t, err)
	r.Header.Set("Authorization", "Bearer "+secret)
	r.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(r)
	must(w.t, err)
	answer.Body.Close()
	return answer.StatusCode
}

var hiddenWas = regexp.MustCompile(`name="was" value="([^"]*)"`)

// A RADIUS client is added, changed and given another secret on the pages; what somebody else changes meanwhile stays.
func TestRadiusPages(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	w := newPageWorld(t)
	w.furnish()
	b := w.signedIn("ada")
	b.shows("/radius", "office-vpn", "Add a client", "/radius/office-vpn/edit")
	b.shows("/radius/new", "the password; the code next")
	if body := w.signedIn("ines").shows("/radius", "office-vpn"); strings.Contains(body, "/radius/new") || strings.Contains(body, "/edit") {
		t.Error("an auditor is offered to change RADIUS clients")
	}
	add := func(pairs ...string) (int, string) {
		form := url.Values{"name": {"gate"}, "networks": {"192.0.2.30, 192.0.2.31"}, "mode": {"password+code"}, "separator": {","}, "signed": {"yes"},
			"attribute": {"Calling-Station-Id"}, "sends": {"yes"}, "asserts": {"yes"}, "hours": {"8"}}
		for i := 0; i < len(pairs); i += 2 {
			form.Set(pairs[i], pairs[i+1])
		}
		var list []string
		for name := range form {
			if v := form.Get(name); v != "" {
				list = append(list, name, v)
			}
		}
		status, body, _ := b.post("/radius", list...)
		return status, body
	}
	for _, c := range []struct {
		status int
		says   string
		pairs  []string
	}{
		{403, "This code does not fit", []string{"code", "000000"}},
		{422, "cannot be the name", []string{"name", "a b"}},
		{422, "addresses", []string{"networks", ""}},
		{422, "cannot be that", []string{"mode", "eap"}},
		{422, "number of hours", []string{"hours", "-1"}},
		{422, "at least 16 characters", []string{"secret", "short"}},
		{422, "auto is for one address", []string{"signed", "auto"}},
		{409, "asks from 192.0.2.20/32 too", []string{"networks", "192.0.2.20"}},
	} {
		status, body := add(c.pairs...)
		if status != c.status || !strings.Contains(strings.ToLower(body), strings.ToLower(c.says)) {
			t.Errorf("%v: status %d, want %d, %q\n%s", c.pairs, status, c.status, c.says, body)
		}
		if !strings.Contains(body, "<option value=\"yes\"") || !strings.Contains(body, `value="," maxlength`) {
			t.Errorf("%v: what was typed is lost", c.pairs)
		}
	}
	status, body := add("code", w.code("ada"))
	if status != http.StatusOK {
		t.Fatalf("adding a client: status %d\n%s", status, body)
	}
	made := secretOf(t, body)
	c, err := w.Store.RadiusClients.ByName(ctx, "gate")
	must(t, err)
	kept, err := w.Store.RadiusClients.Secret(ctx, c.ID)
	must(t, err)
	if string([]byte(kept)) != made || len(made) != 32 || c.Mode != store.RadiusPasswordCode || c.Separator != "," || !c.AssertsSource || c.Remember.Hours() != 8 || len(c.Networks) != 2 {
		t.Errorf("the client is %+v", c)
	}

	// Somebody else changes the note while this form is open.
	page := b.shows("/radius/gate/edit", "192.0.2.30/32, 192.0.2.31/32", `value="8"`)
	was := strings.NewReplacer("&#34;", `"`, "&#43;", "+", "&amp;", "&").Replace(hiddenWas.FindStringSubmatch(page)[1])
	note := "of the gate"
	_, err = w.Server.changeRadiusClient(ctx, console, "gate", RadiusClientChange{Note: &note})
	must(t, err)
	edit := func(pairs ...string) (int, string, http.Header) {
		return b.post("/radius/gate/edit", append([]string{"was", was, "networks", "192.0.2.30/32, 192.0.2.31/32", "mode", "password+code", "separator", ",",
			"signed", "yes", "attribute", "Calling-Station-Id", "sends", "yes", "asserts", "yes"}, pairs...)...)
	}
	if status, body, _ := edit("hours", "8", "code", "000000"); status != 422 || !strings.Contains(body, "Nothing was changed") {
		t.Errorf("nothing to change: status %d\n%s", status, body)
	}
	if status, _, _ := edit("hours", "9", "code", "000000"); status != 403 {
		t.Errorf("a wrong code: status %d", status)
	}
	if status, body, _ := edit("hours", "", "code", w.code("ada")); status != http.StatusSeeOther {
		t.Errorf("changing a client: status %d\n%s", status, body)
	}
	if c, err = w.Store.RadiusClients.ByName(ctx, "gate"); err != nil || c.Remember != 0 || c.Note != note || !c.AssertsSource {
		t.Errorf("after the change: %+v %v", c, err)
	}
	if status, body, _ := edit("hours", "", "certificate_name", "dns:Gate.example.org", "code", w.code("ada")); status != http.StatusSeeOther {
		t.Errorf("a name in a certificate: status %d\n%s", status, body)
	}
	if c, err = w.Store.RadiusClients.ByName(ctx, "gate"); err != nil || c.CertificateName != "dns:gate.example.org" {
		t.Errorf("after naming a certificate: %+v %v", c, err)
	}
	status, body, _ = edit("hours", "8", "generate", "yes", "code", w.code("ada"))
	if status != http.StatusOK || secretOf(t, body) == made {
		t.Errorf("another secret: status %d\n%s", status, body)
	}
	if status, _, _ := b.post("/radius/gate/edit", "was", "{", "code", "1"); status != 422 {
		t.Errorf("a broken form: status %d", status)
	}
}
