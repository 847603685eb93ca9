package notify

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"sallyport/internal/testenv"
)

func pool(t *testing.T, file string) *x509.CertPool {
	t.Helper()
	text, err := os.ReadFile(file)
	check(t, err)
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM(text) {
		t.Fatal("no certificate")
	}
	return p
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newMail(t *testing.T, cfg MailConfig) Sender {
	t.Helper()
	if cfg.From == "" {
		cfg.From = "sallyport@example.org"
	}
	s, err := NewMail(cfg)
	check(t, err)
	return s
}

var hello = Message{ID: "id-1", To: "alice@example.org", Subject: "Code\r\nBcc: eve@example.org", Text: "Grüße\n.\n123456\n"}

// A mail arrives by STARTTLS, by TLS and in clear where that is allowed, with authentication and without,
// and with the headers that keep programs from answering it.
func TestMail(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sink testenv.SMTPConfig
		how  string
	}{
		"starttls":              {testenv.SMTPConfig{}, StartTLS},
		"starttls and password": {testenv.SMTPConfig{User: "u", Password: "pw"}, StartTLS},
		"tls and password":      {testenv.SMTPConfig{User: "u", Password: "pw", TLS: true}, TLS},
		"clear":                 {testenv.SMTPConfig{Plain: true}, NoTLS},
		"clear and password":    {testenv.SMTPConfig{User: "u", Password: "pw", Plain: true}, NoTLS},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sink := testenv.StartSMTP(t, c.sink)
			s := newMail(t, MailConfig{Server: sink.Addr, TLS: c.how, CA: pool(t, sink.CAFile), User: c.sink.User, Password: Secret(c.sink.Password), Host: "bastion.example.org"})
			check(t, ProbeMail(t.Context(), s.(*mailServer).cfg))
			check(t, s.Send(t.Context(), hello))
			got := sink.Mails("alice@example.org")
			if len(got) != 1 || len(sink.Mails("")) != 1 || got[0].From != "sallyport@example.org" {
				t.Fatalf("got %+v", sink.Mails(""))
			}
			for _, want := range []string{"Message-ID: <id-1@example.org>", "Auto-Submitted: auto-generated", "Subject: Code  Bcc: eve@example.org",
				"Content-Type: text/plain; charset=UTF-8", "123456", "Date: ", "To: <alice@example.org>"} {
				if !strings.Contains(got[0].Text, want) {
					t.Errorf("no %q in\n%s", want, got[0].Text)
				}
			}
		})
	}
}

// A server that offers no TLS, or shows a certificate that is not good, gets nothing.
func TestMailNeedsTLS(t *testing.T) {
	t.Parallel()
	plain, secured := testenv.StartSMTP(t, testenv.SMTPConfig{Plain: true}), testenv.StartSMTP(t, testenv.SMTPConfig{})
	for name, cfg := range map[string]MailConfig{
		"no STARTTLS offered": {Server: plain.Addr, CA: pool(t, plain.CAFile)},
		"unknown authority":   {Server: secured.Addr, CA: x509.NewCertPool()},
		"another name":        {Server: secured.Addr, CA: pool(t, secured.CAFile), ServerName: "mail.example.org"},
	} {
		cfg.From = "sallyport@example.org"
		if ProbeMail(t.Context(), cfg) == nil {
			t.Errorf("%s: probed well", name)
		}
		err := newMail(t, cfg).Send(t.Context(), hello)
		if err == nil || errors.Is(err, ErrRejected) {
			t.Errorf("%s: %v, want an error for now", name, err)
		}
	}
	if got := append(plain.Mails(""), secured.Mails("")...); len(got) > 0 {
		t.Errorf("got %+v", got)
	}
}

// Only what the server says of recipient and content is for good.
func TestMailRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status   int
		data     bool
		password string
		forGood  bool
	}{
		"no such mailbox":  {550, false, "pw", true},
		"mailbox full":     {452, false, "pw", false},
		"content refused":  {554, true, "pw", true},
		"try later":        {451, true, "pw", false},
		"password refused": {0, false, "wrong", false},
	} {
		cfg := testenv.SMTPConfig{User: "u", Password: "pw"}
		switch {
		case c.data:
			cfg.Data = func() error { return testenv.SMTPRefusal(c.status) }
		case c.status > 0:
			cfg.Refuse = func(string) error { return testenv.SMTPRefusal(c.status) }
		}
		sink := testenv.StartSMTP(t, cfg)
		err := newMail(t, MailConfig{Server: sink.Addr, CA: pool(t, sink.CAFile), User: "u", Password: Secret(c.password)}).Send(t.Context(), hello)
		if err == nil || errors.Is(err, ErrRejected) != c.forGood {
			t.Errorf("%s: %v, for good: want %v", name, err, c.forGood)
		}
		if err != nil && (strings.Contains(err.Error(), "123456") || strings.Contains(err.Error(), c.password)) {
			t.Errorf("%s: the error tells a secret: %v", name, err)
		}
	}
}

// A server that says nothing, or one byte a while, is left when the time is up.
func TestMailTimeout(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				for range 1000 {
					if _, err := conn.Write([]byte("220-slow\r\n")); err != nil {
						return
					}
					time.Sleep(10 * time.Millisecond)
				}
			}()
		}
	}()
	started := time.Now()
	err = newMail(t, MailConfig{Server: l.Addr().String(), Timeout: 300 * time.Millisecond}).Send(t.Context(), hello)
	if took := time.Since(started); err == nil || took > 30*time.Second {
		t.Errorf("%v after %s", err, took)
	}
}

func TestParseAddress(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"alice@example.org", "a.b+c@sub.example.org", "alice@Example.ORG"} {
		if _, domain, err := ParseAddress(good); err != nil || domain != strings.ToLower(domain) {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", "alice", "alice@", "@example.org", "Alice <alice@example.org>", "<alice@example.org>", "a@x, b@y", "alice@[192.0.2.1]",
		"alice@example.org\r\nBcc: eve@example.org", "a b@example.org", " alice@example.org", "alice@example.org (home)", strings.Repeat("a", 250) + "@example.org"} {
		if _, _, err := ParseAddress(bad); err == nil {
			t.Errorf("%q is taken for an address", bad)
		}
	}
}

// resolver answers from a table; only the DNS is not real here.
type resolver map[string][]*net.MX

func (r resolver) LookupMX(_ context.Context, domain string) ([]*net.MX, error) {
	switch found, ok := r[strings.TrimSuffix(domain, ".")]; {
	case !ok:
		return nil, &net.DNSError{Err: "no such host", Name: domain, IsNotFound: true}
	case found == nil:
		return nil, &net.DNSError{Err: "server misbehaving", Name: domain, IsTemporary: true}
	default:
		return found, nil
	}
}

// Mail with a code in it goes to listed domains only, and only while all their mail hosts are listed (G18).
func TestMailboxes(t *testing.T) {
	t.Parallel()
	dns := resolver{
		"example.org":   {{Host: "MX1.mail.example.net.", Pref: 10}, {Host: "mx2.mail.example.net.", Pref: 20}},
		"mixed.org":     {{Host: "mx.elsewhere.example.", Pref: 20}, {Host: "mx1.mail.example.net.", Pref: 10}},
		"twins.org":     {{Host: "mx1.mail.example.net.", Pref: 10}, {Host: "mx.elsewhere.example.", Pref: 10}},
		"null.org":      {{Host: ".", Pref: 0}},
		"away.org":      nil,
		"lookalike.org": {{Host: "evilmail.example.net.", Pref: 1}},
	}
	all := Mailboxes{Hosts: []string{"*.mail.example.net", "selfhosted.org"}, Resolver: dns}
	first := all
	first.First = true
	domains := Mailboxes{Domains: []string{"example.org", "*.corp.example"}}
	for _, c := range []struct {
		m         Mailboxes
		address   string
		ok, later bool
	}{
		{all, "a@example.org", true, false},
		{all, "a@mixed.org", false, false},
		{first, "a@mixed.org", true, false},
		{first, "a@twins.org", false, false},
		{all, "a@null.org", false, false},
		{all, "a@away.org", false, true},
		{all, "a@selfhosted.org", true, false}, // without MX: itself
		{all, "a@unknown.org", false, false},
		{all, "a@lookalike.org", false, false},
		{domains, "a@EXAMPLE.org", true, false},
		{domains, "a@x.corp.example", true, false},
		{domains, "a@corp.example", false, false},
		{domains, "a@notexample.org", false, false},
		{domains, "a@example.org.evil", false, false},
		{Mailboxes{}, "a@anywhere.example", true, false},
		{Mailboxes{}, "nonsense", false, false},
	} {
		err := c.m.Allow(t.Context(), c.address)
		if (err == nil) != c.ok || err != nil && errors.Is(err, ErrRejected) == c.later {
			t.Errorf("%s by %+v: %v", c.address, c.m, err)
		}
	}
	sink := testenv.StartSMTP(t, testenv.SMTPConfig{})
	s := newMail(t, MailConfig{Server: sink.Addr, CA: pool(t, sink.CAFile), Mailboxes: all})
	m := hello
	m.To, m.Restricted = "a@mixed.org", true
	if err := s.Send(t.Context(), m); !errors.Is(err, ErrRejected) {
		t.Errorf("sent to a mail host that is not listed: %v", err)
	}
	m.To = "a@example.org"
	check(t, s.Send(t.Context(), m))
	// Whoever moves the mail of a domain elsewhere gets none: the hosts are looked up for each message.
	dns["example.org"] = dns["lookalike.org"]
	if err := s.Send(t.Context(), m); !errors.Is(err, ErrRejected) || len(sink.Mails("")) != 1 {
		t.Errorf("after the domain has moved: %v", err)
	}
}
