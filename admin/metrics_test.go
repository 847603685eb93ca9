package admin

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"sallyport/store"
)

// Metrics are for keys of their scope, for operators, and for the sources that are listed, which are answered while the
// database is away, too.
func TestMetricsAccess(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	if w := f.metrics("", "192.0.2.9"); w.Code != http.StatusNotFound {
		t.Errorf("without metrics: status %d", w.Code)
	}
	f.s.cfg.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "sallyport_x 1\n") })
	f.s.cfg.MetricsFrom = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/28"), netip.MustParsePrefix("127.0.0.1/32")}
	f.s.cfg.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	f.web = f.s.Handler()
	key := func(scopes ...string) string {
		_, secret, err := f.st.APIKeys.Add(context.Background(), store.APIKey{Name: scopes[0], Scopes: scopes, PerMinute: 60})
		noError(t, err)
		return secret
	}
	right, wrong := key(store.ScopeMetrics), key(store.ScopeEnrol, store.ScopeAddUsers, store.ScopeValidate)
	for _, c := range []struct {
		name, secret, from string
		forwarded          string
		status             int
	}{
		{"nobody", "", "203.0.113.1", "", 401},
		{"a key for metrics", right, "203.0.113.1", "", 200},
		{"a key for other things", wrong, "203.0.113.1", "", 403},
		{"an unknown key", "sk_x", "203.0.113.1", "", 401},
		{"an administrator", f.admin, "203.0.113.1", "", 200},
		{"an auditor", f.auditor, "203.0.113.1", "", 200},
		{"a listed source", "", "192.0.2.9", "", 200},
		{"a source beside the list", "", "192.0.2.16", "", 401},
		{"somebody who says to be listed", "", "203.0.113.1", "192.0.2.9", 401},
		{"a listed source behind a proxy", "", "127.0.0.1", "192.0.2.9", 200},
		{"another one behind a proxy that is listed, too", "", "127.0.0.1", "203.0.113.1", 401},
	} {
		if w := f.metrics(c.secret, c.from, c.forwarded); w.Code != c.status || c.status != 200 && w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: status %d, want %d: %s", c.name, w.Code, c.status, w.Body)
		}
	}
	noError(t, f.st.Close())
	if w := f.metrics("", "192.0.2.9"); w.Code != 200 {
		t.Errorf("a listed source without a database: status %d", w.Code)
	}
	if w := f.metrics(right, "203.0.113.1"); w.Code != http.StatusServiceUnavailable {
		t.Errorf("a key without a database: status %d", w.Code)
	}
}

func (f *fixture) metrics(secret, from string, forwarded ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, metricsPath, nil)
	r.RemoteAddr = netip.AddrPortFrom(netip.MustParseAddr(from), 40000).String()
	if secret != "" {
		r.Header.Set("Authorization", "Bearer "+secret)
	}
	for _, a := range forwarded {
		if a != "" {
			r.Header.Set("X-Forwarded-For", a)
		}
	}
	w := httptest.NewRecorder()
	f.web.ServeHTTP(w, r)
	return w
}
