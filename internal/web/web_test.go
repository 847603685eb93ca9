package web

import (
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

func TestSource(t *testing.T) {
	t.Parallel()
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	for name, c := range map[string]struct {
		peer      string
		forwarded []string
		want      string
	}{
		"direct":                  {"203.0.113.7:4711", nil, "203.0.113.7"},
		"direct, header is a lie": {"203.0.113.7:4711", []string{"127.0.0.1"}, "203.0.113.7"},
		"one proxy":               {"10.0.0.1:4711", []string{"203.0.113.7"}, "203.0.113.7"},
		"client lies to proxy":    {"10.0.0.1:4711", []string{"127.0.0.1, 203.0.113.7"}, "203.0.113.7"},
		"two proxies":             {"10.0.0.1:4711", []string{"203.0.113.7, 10.0.0.2"}, "203.0.113.7"},
		"two headers":             {"10.0.0.1:4711", []string{"198.51.100.1", "203.0.113.7"}, "203.0.113.7"},
		"garbage":                 {"10.0.0.1:4711", []string{"unknown"}, "10.0.0.1"},
		"empty":                   {"10.0.0.1:4711", nil, "10.0.0.1"},
		"IPv6 proxy":              {"[::1]:4711", []string{"2001:db8::7"}, "2001:db8::7"},
		"mapped":                  {"[::ffff:203.0.113.7]:4711", nil, "203.0.113.7"},
		"mapped proxy":            {"[::ffff:10.0.0.1]:4711", []string{"203.0.113.7"}, "203.0.113.7"},
		"unix socket":             {"@", []string{"203.0.113.7"}, "invalid IP"},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = c.peer
		r.Header["X-Forwarded-For"] = c.forwarded
		if got := Source(r, proxies).String(); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestLocalPath(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"/": "/", "/sessions?user=a&x=%2F": "/sessions?user=a&x=%2F", "/a//b": "/a//b",
		"": "/", "a": "/", "//evil": "/", `/\evil`: "/", "https://evil": "/", "/\n/evil": "/", "/ x": "/", "/\x7f": "/",
		"/" + strings.Repeat("x", 3000): "/",
	} {
		if got := LocalPath(in); got != want {
			t.Errorf("LocalPath(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestAgo(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for d, want := range map[time.Duration]string{
		0: "just now", 4 * time.Second: "just now", 42 * time.Second: "42 s ago", 59*time.Minute + 59*time.Second: "59 min ago",
		26 * time.Hour: "26 h ago", 49 * time.Hour: "2 days ago", 100 * 24 * time.Hour: "on 24 Sep 2025",
		-90 * time.Second: "in 1 min", -12 * time.Hour: "in 12 h",
	} {
		if got := Ago(now.Add(-d), now); got != want {
			t.Errorf("%v before: %q, want %q", d, got, want)
		}
	}
	if got := Ago(time.Time{}, now); got != "never" {
		t.Errorf("the zero time: %q, want never", got)
	}
}

func TestSpanAndSize(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		-time.Second: "0 ms", 850 * time.Millisecond: "850 ms", 42 * time.Second: "42 s", 60 * time.Second: "1 min", 185 * time.Second: "3 min 5 s",
		130 * time.Minute: "2 h 10 min", 99 * time.Hour: "4 d 3 h",
	} {
		if got := Span(d); got != want {
			t.Errorf("Span(%v) = %q, want %q", d, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1 << 20: "1.0 MiB", 1<<20 - 1: "1.0 MiB", 3 << 29: "1.5 GiB", 1 << 62: "4.0 EiB"} {
		if got := Size(n); got != want {
			t.Errorf("Size(%d) = %q, want %q", n, got, want)
		}
	}
	if got := Groups("ABCDEFGHIJ"); got != "ABCD EFGH IJ" {
		t.Errorf("Groups: %q", got)
	}
}

func newSite(t *testing.T, pages fstest.MapFS) (*Site, *Templates) {
	t.Helper()
	s, err := NewSite(Config{
		Static: []fs.FS{fstest.MapFS{"extra.js": {Data: []byte("1")}, "README": {Data: []byte("no")}, ".hidden.js": {Data: []byte("no")}}},
		Nav:    []NavItem{{"a", "First", "/", "overview"}, {"b", "Second", "/b", "users"}}, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	templates, err := s.Templates(pages)
	if err != nil {
		t.Fatal(err)
	}
	return s, templates
}

func TestRender(t *testing.T) {
	t.Parallel()
	_, pages := newSite(t, fstest.MapFS{
		"good.html":   {Data: []byte(`{{define "main"}}<p>{{esc .Data}}</p>{{template "part" "x"}}{{end}}`)},
		"broken.html": {Data: []byte(`{{define "main"}}half a page {{.Data.Nothing}}{{end}}`)},
		"_part.html":  {Data: []byte(`{{define "part"}}<i>{{.}}</i>{{end}}`)},
	})
	show := func(name string, p Page, cookie string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, "/b?q=1", nil)
		if cookie != "" {
			r.AddCookie(&http.Cookie{Name: "theme", Value: cookie})
		}
		pages.Render(w, r, http.StatusOK, name, p)
		return w
	}
	body := show("good", Page{Title: "T", Section: "b", Account: &Account{Login: "ada"}, Data: "<script>\x1b\u202e"}, "dark").Body.String()
	for _, want := range []string{"<title>T · Sallyport</title>", `data-theme="dark"`, `href="/b" aria-current="page"`, `<p>&lt;script&gt;\u{1b}\u{202e}</p>`, "<i>x</i>", `name="next" value="/b?q=1"`, `href="#main"`, `<html lang="en"`} {
		if !strings.Contains(body, want) {
			t.Errorf("the page has no %q\n%s", want, body)
		}
	}
	if body := show("good", Page{Data: ""}, `"><x`).Body.String(); strings.Contains(body, "data-theme") || strings.Contains(body, "Second") {
		t.Errorf("without an account and with a strange cookie:\n%s", body)
	}
	for _, name := range []string{"broken", "nothing"} {
		if w := show(name, Page{Data: 1}, ""); w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "half a page") {
			t.Errorf("%s: status %d\n%s", name, w.Code, w.Body)
		}
	}
}

func TestAssets(t *testing.T) {
	t.Parallel()
	s, _ := newSite(t, nil)
	address, err := s.Assets().URL("app.css")
	if err != nil {
		t.Fatal(err)
	}
	get := func(path, etag string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.Header.Set("If-None-Match", etag)
		s.Assets().ServeHTTP(w, r)
		return w
	}
	w := get(address, "")
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "text/css; charset=utf-8" || !strings.Contains(w.Header().Get("Cache-Control"), "immutable") || w.Body.Len() == 0 {
		t.Errorf("%s: status %d, %v", address, w.Code, w.Header())
	}
	if again := get(address, w.Header().Get("ETag")); again.Code != http.StatusNotModified || again.Body.Len() > 0 {
		t.Errorf("with its ETag: status %d", again.Code)
	}
	if old := get("/static/app.css?v=old", ""); old.Code != http.StatusOK || strings.Contains(old.Header().Get("Cache-Control"), "immutable") {
		t.Errorf("with another hash: status %d, %s", old.Code, old.Header().Get("Cache-Control"))
	}
	if got := get("/static/extra.js", ""); got.Code != http.StatusOK || got.Header().Get("Content-Type") != "text/javascript; charset=utf-8" {
		t.Errorf("a file of the site: status %d, %v", got.Code, got.Header())
	}
	for _, path := range []string{"/static/README", "/static/.hidden.js", "/static/", "/static/../web.go", "/static/nothing.css"} {
		if got := get(path, ""); got.Code != http.StatusNotFound {
			t.Errorf("%s: status %d, want 404", path, got.Code)
		}
	}
	if _, err := s.Assets().URL("nothing.css"); err == nil {
		t.Error("a file that is not there has an address")
	}
}

func TestTheme(t *testing.T) {
	t.Parallel()
	s, _ := newSite(t, nil)
	mux := http.NewServeMux()
	s.Routes(mux)
	for choice, want := range map[string]string{"dark": "theme=dark; Path=/; Max-Age=31536000; HttpOnly; SameSite=Lax", "auto": "theme=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax", "x\r\n": "theme=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"} {
		form := url.Values{"theme": {choice}, "next": {"/users?q=1"}}
		r := httptest.NewRequest(http.MethodPost, "/theme", strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		if got := w.Header().Get("Set-Cookie"); w.Code != http.StatusSeeOther || got != want || w.Header().Get("Location") != "/users?q=1" {
			t.Errorf("choosing %q: status %d, cookie %q, to %s", choice, w.Code, got, w.Header().Get("Location"))
		}
	}
}

func TestBodyIsBounded(t *testing.T) {
	t.Parallel()
	var failure error
	h := Headers(true, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, failure = io.ReadAll(r.Body) }))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(strings.Repeat("x", MaxForm+1))))
	if failure == nil {
		t.Error("more than MaxForm bytes were read")
	}
	if w.Header().Get("Strict-Transport-Security") == "" {
		t.Error("under TLS there is no Strict-Transport-Security")
	}
}

func TestIconsAreClean(t *testing.T) {
	t.Parallel()
	for name := range icons {
		svg, err := icon(name)
		if err != nil || strings.Contains(string(svg), "style=") || strings.Contains(string(svg), "script") {
			t.Errorf("icon %s: %v %s", name, err, svg)
		}
	}
	if _, err := icon("nothing"); err == nil {
		t.Error("an icon that is not there is drawn")
	}
}

func TestSentence(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"": "", "this is it": "This is it.", "élan": "Élan.", "Done.": "Done."} {
		if got := Sentence(in); got != want {
			t.Errorf("Sentence(%q) = %q, want %q", in, got, want)
		}
	}
}
