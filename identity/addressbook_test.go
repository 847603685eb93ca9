package identity

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Numbers come by path or by pattern, over TLS that is verified, from nobody else, and are asked for once in
// a while (G6).
func TestAddressBook(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.Header.Get("Authorization") != "Bearer key" {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		switch r.URL.Path {
		case "/p/alice":
			io.WriteString(w, `{"phones": [{"mobile": "+49 151 12345678"}, {"mobile": 491511}], "text": "tel=0151-1;"}`)
		case "/p/a/b":
			fmt.Fprintf(w, `{"raw": %q}`, r.URL.RawPath)
		case "/p/moved":
			http.Redirect(w, r, "/p/alice", http.StatusFound)
		case "/p/broken":
			io.WriteString(w, "{")
		case "/p/huge":
			io.WriteString(w, `{"x": "`+strings.Repeat("x", 2<<20)+`"}`)
		case "/p/away":
			http.Error(w, "no", http.StatusBadGateway)
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	ca := x509.NewCertPool()
	ca.AddCert(server.Certificate())
	book := func(path string, pattern *regexp.Regexp) *AddressBook {
		b, err := NewAddressBook(AddressBookConfig{URL: server.URL + "/p/{login}", Headers: []string{"Authorization: Bearer {secret}"}, Secret: "key",
			Path: path, Pattern: pattern, CA: ca, Cache: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, c := range []struct {
		b           *AddressBook
		login, want string
		away        bool
	}{
		{book("phones.0.mobile", nil), "alice", "+49 151 12345678", false},
		{book("phones.1.mobile", nil), "alice", "491511", false},
		{book("phones.2.mobile", nil), "alice", "", false},
		{book("phones.mobile", nil), "alice", "", false},
		{book("phones", nil), "alice", "", false},
		{book("", regexp.MustCompile(`tel=([^;]*);`)), "alice", "0151-1", false},
		{book("", regexp.MustCompile(`fax=([^;]*);`)), "alice", "", false},
		{book("raw", nil), "a/b", "/p/a%2Fb", false},
		{book("x", nil), "nobody", "", false},
		{book("x", nil), "..", "", false},
		{book("x", nil), "moved", "", true},
		{book("x", nil), "broken", "", true},
		{book("x", nil), "huge", "", true},
		{book("x", nil), "away", "", true},
	} {
		got, err := c.b.Phone(t.Context(), c.login)
		if got != c.want || errors.Is(err, ErrUnavailable) != c.away || !c.away && err != nil {
			t.Errorf("%s by %+v: %q, %v", c.login, c.b.cfg.Path, got, err)
		}
	}
	b := book("phones.0.mobile", nil)
	before := asked.Load()
	for range 5 {
		b.Phone(t.Context(), "alice")
	}
	if n := asked.Load() - before; n != 1 {
		t.Errorf("asked %d times, want once", n)
	}
	b.client.Transport.(*http.Transport).TLSClientConfig.RootCAs = x509.NewCertPool()
	b.client.CloseIdleConnections()
	if _, err := b.Phone(t.Context(), "bob"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("an unknown authority: %v", err)
	}
}
