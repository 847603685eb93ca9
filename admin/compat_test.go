package admin

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"sallyport/otp"
	"sallyport/store"
)

// compatFixture answers other products' calls too, with a key that may do everything.
func compatFixture(t testing.TB) (*fixture, string) {
	t.Helper()
	f := newFixture(t)
	f.s.cfg.Compat = Compat{TOTPRadius: true, PrivacyIDEA: true, Suffixes: []string{"example.org"}}
	f.s.cfg.Proxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}
	f.web = f.s.Handler()
	_, key, err := f.st.APIKeys.Add(t.Context(), store.APIKey{Name: "all", Scopes: store.Scopes, PerMinute: 6000})
	noError(t, err)
	return f, key
}

// Nothing is answered that somebody on the way could read: fail closed where a proxy does not say how it was asked.
func TestCompatOverTLSOnly(t *testing.T) {
	t.Parallel()
	f, key := compatFixture(t)
	for _, x := range []struct {
		name, peer, proto string
		tls               bool
		status            int
	}{
		{"this machine", "127.0.0.1:1", "", false, 200},
		{"this machine by IPv6", "[::1]:1", "", false, 200},
		{"TLS", "203.0.113.7:1", "", true, 200},
		{"plain", "203.0.113.7:1", "", false, 403},
		{"plain, and says otherwise", "203.0.113.7:1", "https", false, 403},
		{"proxy, asked by TLS", "192.0.2.1:1", "https", false, 200},
		{"proxy, asked in clear", "192.0.2.1:1", "http", false, 403},
		{"proxy that says nothing", "192.0.2.1:1", "", false, 403},
		{"no address", "@", "", false, 403},
	} {
		r := httptest.NewRequest(http.MethodGet, "/validate/check?user=nobody&pass=1", nil)
		r.Header.Set("Authorization", key)
		r.RemoteAddr = x.peer
		if x.proto != "" {
			r.Header.Set("X-Forwarded-Proto", x.proto)
		}
		if x.tls {
			r.TLS = &tls.ConnectionState{}
		}
		w := httptest.NewRecorder()
		f.web.ServeHTTP(w, r)
		if w.Code != x.status {
			t.Errorf("%s: status %d, want %d: %s", x.name, w.Code, x.status, w.Body)
		}
	}
}

// A suffix of names at the SSH door is none of the name here either.
func TestCompatSuffix(t *testing.T) {
	t.Parallel()
	f, key := compatFixture(t)
	f.addUser("ann")
	issued := do[IssuedToken](f, 200, "POST", "/users/ann/tokens", NewToken{})
	secret, err := otp.ParseSecret(issued.Secret)
	noError(t, err)
	p := otp.DefaultParams()
	for _, x := range []struct{ name, want string }{{"ann@elsewhere.org", "false"}, {"@example.org", "false"}, {"ann@EXAMPLE.org", "true"}} {
		in := url.Values{"user": {x.name}, "pass": {p.Code(secret, p.StepAt(time.Now()))}}
		r := httptest.NewRequest(http.MethodPost, "/validate/check", strings.NewReader(in.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.SetBasicAuth("key", key)
		r.RemoteAddr = "127.0.0.1:1"
		w := httptest.NewRecorder()
		f.web.ServeHTTP(w, r)
		if !strings.Contains(w.Body.String(), `"value":`+x.want) {
			t.Errorf("%s: %d %s", x.name, w.Code, w.Body)
		}
	}
}

// Whatever comes is answered; nothing that was sent is an error of ours, and no answer holds the key.
func FuzzCompat(f *testing.F) {
	for _, seed := range []struct{ path, query string }{
		{"/api", "username=ann"}, {"/createuser", "email=a@b&phone=+49&format=2"}, {"/validate", "userid=x%00&token=1&format=0"},
		{"/validate/check", "user=a&pass=%ff&realm=x"}, {"/validate/check", "user=a&user=b"}, {"/createuser", "format=1&type=7"}, {"/api", "%zz;="},
	} {
		f.Add(seed.path, seed.query, "application/x-www-form-urlencoded")
	}
	x, key := compatFixture(f)
	f.Fuzz(func(t *testing.T, path, query, kind string) {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			r := httptest.NewRequest(method, "http://bastion/validate/check", strings.NewReader(query))
			for _, known := range []string{"/api", "/createuser", "/validate"} {
				if path == known {
					r.URL.Path = path
				}
			}
			if method == http.MethodGet {
				r.URL.RawQuery = query
			}
			r.Header["Content-Type"] = []string{kind}
			r.Header.Set("Authorization", "Bearer "+key)
			r.RemoteAddr = "127.0.0.1:1"
			w := httptest.NewRecorder()
			x.web.ServeHTTP(w, r)
			if w.Code >= 500 {
				t.Errorf("%s %s %q: status %d %s", method, r.URL.Path, query, w.Code, w.Body)
			}
			if strings.Contains(w.Body.String(), key) {
				t.Error("the answer holds the key")
			}
		}
	})
}
