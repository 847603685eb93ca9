package notify

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

var sms = Message{ID: "id-1", To: "+4915112345678", Text: "123456 is \"your\" code & so\n</x>", Restricted: true}

var german = Numbers{Country: "+49", Prefixes: []string{"+49"}}

// What a gateway gets is escaped for the place where it stands, over TLS that is verified.
func TestGateway(t *testing.T) {
	t.Parallel()
	var got *http.Request
	var body string
	sink := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got, body = r, string(b)
		io.WriteString(w, `{"status": "queued"}`)
	}))
	defer sink.Close()
	ca := x509.NewCertPool()
	ca.AddCert(sink.Certificate())
	base := GatewayConfig{URL: sink.URL + "/send?to={to}&key={secret}", CA: ca, Secret: "s&cret", Numbers: german, Success: regexp.MustCompile(`"queued"`)}
	for name, c := range map[string]struct {
		kind, body string
		read       func(string) string
	}{
		"json": {"application/json; charset=utf-8", `{"to":"{to}","text":"{text}"}`, func(s string) string {
			var v struct{ To, Text string }
			check(t, json.Unmarshal([]byte(s), &v))
			return v.To + v.Text
		}},
		"form": {"application/x-www-form-urlencoded", "text={text}&to={to}", func(s string) string {
			v, err := url.ParseQuery(s)
			check(t, err)
			return v.Get("to") + v.Get("text")
		}},
		"plain": {"text/plain", "{to}{text}", func(s string) string { return s }},
		"xml": {"text/xml", "<m>{to}{text}</m>", func(s string) string {
			return strings.NewReplacer("<m>", "", "</m>", "", "&#34;", `"`, "&amp;", "&", "&lt;", "<", "&gt;", ">", "&#xA;", "\n").Replace(s)
		}},
	} {
		cfg := base
		cfg.Body, cfg.Headers = c.body, []string{"Content-Type: " + c.kind, "Authorization: Bearer {secret}"}
		g, err := NewGateway(cfg)
		check(t, err)
		check(t, g.Send(t.Context(), sms))
		if read := c.read(body); read != sms.To+sms.Text {
			t.Errorf("%s: %q reads as %q", name, body, read)
		}
		if got.URL.Query().Get("to") != sms.To || got.URL.Query().Get("key") != "s&cret" || got.Header.Get("Authorization") != "Bearer s&cret" || got.Method != "POST" {
			t.Errorf("%s: %s %s %v", name, got.Method, got.URL, got.Header)
		}
	}
	base.CA = nil
	g, err := NewGateway(base)
	check(t, err)
	if err := g.Send(t.Context(), sms); err == nil || strings.Contains(err.Error(), "cret") || strings.Contains(err.Error(), "123456") {
		t.Errorf("an unknown authority: %v", err)
	}
	for _, bad := range []GatewayConfig{
		{URL: "ftp://x"}, {URL: "https://{to}.example.org/"}, {URL: "https://u:p@x/"}, {URL: sink.URL, Body: "{text}"},
		{URL: sink.URL, Body: "{text}", Headers: []string{"Content-Type: image/png"}}, {URL: sink.URL, Headers: []string{"nonsense"}},
	} {
		if _, err := NewGateway(bad); err == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
}

// An answer counts by status and pattern; redirects are not followed; slow ones are left.
func TestGatewayAnswers(t *testing.T) {
	t.Parallel()
	asked := 0
	hung := make(chan struct{})
	sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/no":
			http.Error(w, "123456 refused", http.StatusForbidden)
		case "/redirect":
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		case "/elsewhere":
			asked++
		case "/failed":
			io.WriteString(w, "FAILED 123456")
		case "/slow":
			<-hung
		}
	}))
	defer sink.Close()
	defer close(hung)
	for _, path := range []string{"/no", "/redirect", "/failed", "/slow"} {
		g, err := NewGateway(GatewayConfig{URL: sink.URL + path, Numbers: german, Success: regexp.MustCompile("^OK"), Timeout: 300 * time.Millisecond})
		check(t, err)
		if err := g.Send(t.Context(), sms); err == nil || errors.Is(err, ErrRejected) || strings.Contains(err.Error(), "123456") {
			t.Errorf("%s: %v", path, err)
		}
	}
	if asked > 0 {
		t.Error("a redirect was followed")
	}
}

// A program gets the number as an argument and the text on standard input, with no shell between, and is
// killed with what it has started when the time is up.
func TestCommand(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	script := filepath.Join(dir, "send")
	check(t, os.WriteFile(script, []byte("#!/bin/sh\nprintf '%s|' \"$@\" > '"+dir+"/out'\ncat >> '"+dir+"/out'\n[ -z \"$HOME\" ]\n"), 0o700))
	s, err := NewCommand(CommandConfig{Args: []string{script, "--to={to}", "$(id)", "{id}"}, Numbers: german})
	check(t, err)
	check(t, s.Send(t.Context(), sms))
	got, err := os.ReadFile(filepath.Join(dir, "out"))
	check(t, err)
	if want := "--to=+4915112345678|$(id)|id-1|" + sms.Text; string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, args := range [][]string{{"/bin/false"}, {"/nonexistent"}} {
		s, err := NewCommand(CommandConfig{Args: args, Numbers: german})
		check(t, err)
		if err := s.Send(t.Context(), sms); err == nil || errors.Is(err, ErrRejected) {
			t.Errorf("%v: %v", args, err)
		}
	}
	slow, err := NewCommand(CommandConfig{Args: []string{"/bin/sh", "-c", "sleep 100 & sleep 100"}, Numbers: german, Timeout: 100 * time.Millisecond})
	check(t, err)
	started := time.Now()
	if err := slow.Send(t.Context(), sms); err == nil || time.Since(started) > time.Minute {
		t.Errorf("%v after %s", err, time.Since(started))
	}
	for _, bad := range [][]string{nil, {"sendsms"}, {"/bin/echo", "{text}"}} {
		if _, err := NewCommand(CommandConfig{Args: bad}); err == nil {
			t.Errorf("%v is accepted", bad)
		}
	}
	option := sms
	option.To, option.Restricted = "--config=/tmp/x", false
	if err := s.Send(t.Context(), option); !errors.Is(err, ErrRejected) {
		t.Errorf("an option in the place of a number: %v", err)
	}
}

func TestNumbers(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"+49 151 12345678": "+4915112345678", "+49 (0) 151/123-45678": "+4915112345678", "0049 151.12345678": "+4915112345678",
		"0151 12345678": "+4915112345678", "+1 (202) 555-0100": "+12025550100",
		"": "", "151 12345678": "", "+49": "", "+0151123456": "", "+4915112345678901": "", "+49151x1234567": "", "+４９15112345678": "", "++4915112345678": "", "+49151\n12345678": "",
	} {
		got, err := german.Normalise(text)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
	}
	if _, err := (Numbers{}).Normalise("0151 12345678"); err == nil {
		t.Error("a number without a country, and none is configured")
	}
	for number, ok := range map[string]bool{"+4915112345678": true, "+43664123456": false, "+79001234567": false} {
		if err := german.Allow(number); (err == nil) != ok {
			t.Errorf("%s: %v", number, err)
		}
	}
	if (Numbers{}).Allow("+4915112345678") == nil {
		t.Error("without prefixes a number is allowed")
	}
}
