package bastion_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/auth"
	"sallyport/bastion"
	"sallyport/internal/notify"
	"sallyport/internal/testenv"
	"sallyport/store"
)

var codeInMail = regexp.MustCompile(`(?m)^ {4}([0-9]{6})\r?$`)

// mailing is a system whose codes go by mail to a real server.
type mailing struct {
	*system
	sink  *testenv.SMTP
	ahead *atomic.Int64
}

func newMailing(t *testing.T, o options) *mailing {
	t.Helper()
	m := &mailing{ahead: new(atomic.Int64)}
	m.sink = testenv.StartSMTP(t, testenv.SMTPConfig{User: "sallyport", Password: "pw"})
	o.ahead = m.ahead
	o.sent.Mail = true
	if o.sent.By == "" {
		o.sent.By = store.ByMail
	}
	if o.sent.Limits == (store.SendLimits{}) {
		o.sent.Limits = store.SendLimits{Person: 5, Recipient: 5, Source: 20, All: 200}
	}
	m.system = newSystem(t, o)
	text, err := os.ReadFile(m.sink.CAFile)
	check(t, err)
	ca := x509.NewCertPool()
	ca.AppendCertsFromPEM(text)
	by, err := notify.NewMail(notify.MailConfig{Server: m.sink.Addr, CA: ca, User: "sallyport", Password: "pw", From: "sallyport@example.org"})
	check(t, err)
	m.deliver(notify.WorkerConfig{Mail: by})
	m.address("alice", "alice@example.org", "")
	return m
}

// deliver runs a worker until the test ends.
func (s *system) deliver(cfg notify.WorkerConfig) {
	cfg.Store, cfg.Log = s.Store, slog.New(slog.NewTextHandler(io.Discard, nil))
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { notify.NewWorker(cfg).Run(ctx) })
	s.t.Cleanup(func() { cancel(); running.Wait() })
}

func (s *system) address(login, email, phone string) {
	s.t.Helper()
	u, err := s.Store.Users.ByLogin(context.Background(), login)
	check(s.t, err)
	check(s.t, s.Store.Users.SetContact(context.Background(), u, email, phone))
}

// mailed waits until login has got n codes, and returns the last of them.
func (m *mailing) mailed(login string, n int) string {
	m.t.Helper()
	var got []testenv.Mail
	testenv.WaitFor(m.t, fmt.Sprintf("code %d to %s", n, login), func() bool {
		got = m.sink.Mails(login + "@example.org")
		return len(got) >= n
	})
	if len(got) > n {
		m.t.Fatalf("%s got %d codes, want %d", login, len(got), n)
	}
	code := codeInMail.FindStringSubmatch(got[n-1].Text)
	if code == nil {
		m.t.Fatalf("no code in\n%s", got[n-1].Text)
	}
	return code[1]
}

// sendings waits until there are n events about codes that were sent, or not, and returns them.
func (s *system) sendings(n int) []string {
	s.t.Helper()
	var got []string
	testenv.WaitFor(s.t, fmt.Sprintf("%d events code.sent", n), func() bool {
		got = s.events("code.sent")
		return len(got) >= n
	})
	return got
}

// typing is a client that types the password, and at each prompt for a code what code returns for it.
func typing(password string, code func(prompt int) string, asked *[]string) ssh.AuthMethod {
	prompt := 0
	return ssh.KeyboardInteractive(func(_, _ string, questions []string, _ []bool) ([]string, error) {
		var out []string
		for _, q := range questions {
			if asked != nil {
				*asked = append(*asked, q)
			}
			if q == auth.PromptPassword {
				out = append(out, password)
				continue
			}
			prompt++
			out = append(out, code(prompt))
		}
		return out, nil
	})
}

// A person without a token types the password, gets a code by mail, types it and is in; with OpenSSH, a
// terminal and a real mail server.
func TestMailedCode(t *testing.T) {
	onBoth(t, func(t *testing.T, o options) {
		s := newMailing(t, o)
		term := s.terminal(s.ssh(), "echo in-by-mail")
		term.Expect("Password: ")
		if n := len(s.sink.Mails("")); n > 0 {
			t.Fatalf("%d mails before the password", n)
		}
		term.Type(alicePassword + "\n")
		term.Expect("Code: ")
		code := s.mailed("alice", 1)
		term.Type(code + "\n")
		term.Expect("in-by-mail")
		if status := term.Wait(); status != 0 {
			t.Errorf("status %d", status)
		}
		accepted, err := s.Store.Audit.List(context.Background(), store.AuditFilter{Type: "login.accepted"})
		check(t, err)
		if len(accepted) != 1 || accepted[0].Detail["factors"] != "password+sent" {
			t.Errorf("accepted: %+v", accepted)
		}
		if text := s.sink.Mails("")[0].Text; !strings.Contains(text, "127.0.0.1") || strings.Contains(strings.SplitN(text, "\r\n\r\n", 2)[0], code) {
			t.Errorf("the mail should say from where, and not have the code in its headers:\n%s", text)
		}
		if got := s.events("code.sent"); len(got) != 1 || strings.Contains(fmt.Sprint(got), code) {
			t.Errorf("events %q", got)
		}
		// The code is used, and would be another connection's anyway.
		s.ahead.Add(int64(time.Minute))
		if c, err := s.dial("alice@down", answers(alicePassword, code, nil)); err == nil {
			c.Close()
			t.Error("the code got in a second time")
		}
	})
}

// No code without the right password; and whoever types a wrong one, is unknown, or has an address nowhere,
// meets the same prompts.
func TestMailedCodeNeedsThePassword(t *testing.T) {
	t.Parallel()
	s := newMailing(t, options{noSSHD: true, guard: bastion.Guard{Tries: 1, Exempt: loopback()}})
	s.addUser("noaddress", "pw")
	for login, password := range map[string]string{"alice": "wrong", "nobody": "wrong", "noaddress": "pw", "": ""} {
		var asked []string
		if _, err := s.dial(login+"@down", typing(password, func(int) string { return "" }, &asked)); err == nil {
			t.Fatalf("%s got in", login)
		}
		if want := slices.Repeat([]string{"Code: "}, 5); !slices.Equal(asked, append([]string{"Password: "}, want...)) {
			t.Errorf("%q was asked %q", login, asked)
		}
	}
	for _, e := range s.sendings(5) { // the first code, and four asked for again
		if !strings.Contains(e, "refused noaddress") || !strings.Contains(e, "address for codes") {
			t.Errorf("event %q", e)
		}
	}
	if n := len(s.sink.Mails("")); n > 0 {
		t.Errorf("%d mails", n)
	}
}

// A code is for its connection; within it, it has three tries, over which the next conversations go on with
// it. Asking again ("r" or nothing) sends another one after 30 s, and makes the one before void.
func TestMailedCodeAgain(t *testing.T) {
	t.Parallel()
	s := newMailing(t, options{noSSHD: true, guard: bastion.Guard{Exempt: loopback()}})
	var first string
	c, err := s.dial("alice@down", ssh.RetryableAuthMethod(typing(alicePassword, func(prompt int) string {
		switch prompt {
		case 1:
			first = s.mailed("alice", 1)
			return "r" // too early: nothing is sent
		case 2:
			s.sendings(2)
			return wrong(first)
		case 3: // the next conversation, with the same code
			s.ahead.Add(int64(31 * time.Second))
			return ""
		case 4:
			s.mailed("alice", 2)
			return first // void
		}
		return s.mailed("alice", 2)
	}, nil), 3))
	if err != nil {
		t.Fatalf("%v; refused: %q", err, s.events("login.refused"))
	}
	c.Close()
	if got := s.events("code.sent"); len(got) != 3 || !strings.HasPrefix(got[1], "refused") {
		t.Errorf("events %q", got)
	}
}

// The code of a connection that still waits for it does not open another one.
func TestMailedCodeOfAnotherConnection(t *testing.T) {
	t.Parallel()
	s := newMailing(t, options{noSSHD: true, guard: bastion.Guard{Tries: 1, Exempt: loopback()}})
	c, err := s.dial("alice@down", typing(alicePassword, func(int) string {
		code := s.mailed("alice", 1)
		if c, err := s.dial("alice@down", answers(alicePassword, code, nil)); err == nil {
			c.Close()
			t.Error("the code got another connection in")
		}
		return code // and is still good here
	}, nil))
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// wrong is a code that is not code.
func wrong(code string) string {
	if code[0] == '0' {
		return "1" + code[1:]
	}
	return "0" + code[1:]
}

// Twelve logins in a row: codes stop at the limit, and the person sees no difference.
func TestMailedCodesStop(t *testing.T) {
	onBoth(t, func(t *testing.T, o options) {
		o.noSSHD, o.guard = true, bastion.Guard{Tries: 1, Exempt: loopback()}
		s := newMailing(t, o)
		for i := range 12 {
			s.ahead.Add(int64(302 * time.Second)) // beyond resend waits, and the lock's window
			var asked []string
			c, err := s.dial("alice@down", typing(alicePassword, func(int) string {
				s.sendings(i + 1)
				if i < 5 {
					return s.mailed("alice", i+1)
				}
				return "000000"
			}, &asked))
			if err == nil {
				c.Close()
			}
			if (err == nil) != (i < 5) || !slices.Equal(asked, []string{"Password: ", "Code: "}) {
				t.Errorf("login %d: %v, asked %q", i+1, err, asked)
			}
			if i >= 5 { // all twelve within the hour; the wrong codes would lock
				s.ahead.Add(-int64(301 * time.Second))
				_, err := s.Store.Attempts.ClearAll(context.Background())
				check(t, err)
			}
		}
		if n := len(s.sink.Mails("")); n != 5 {
			t.Errorf("%d mails, want 5", n)
		}
	})
}

// Where a rule demands a token no code is sent, and one that was proved does not open it.
func TestTokenOnly(t *testing.T) {
	t.Parallel()
	s := newMailing(t, options{guard: bastion.Guard{Tries: 1, Exempt: loopback()}, rules: `version: 1
rules:
  - {name: strong, users: ["*"], targets: [down], token-only: true}
  - {name: plain, users: ["*"], targets: [web1]}
`})
	var asked []string
	if c, err := s.dial("alice@down", typing(alicePassword, func(int) string { return "000000" }, &asked)); err == nil {
		c.Close()
		t.Error("got in")
	}
	if !slices.Equal(asked, []string{"Password: ", "Code: "}) || len(s.events("code.sent")) > 0 {
		t.Errorf("asked %q, sent %q", asked, s.events("code.sent"))
	}
	c, err := s.dial("alice", typing(alicePassword, func(int) string { return s.mailed("alice", 1) }, nil))
	check(t, err)
	defer c.Close()
	sess, err := c.NewSession()
	check(t, err)
	out, err := sess.CombinedOutput("explain down")
	if !strings.Contains(string(out), "needs a code from a token") {
		t.Errorf("explain says %q, %v", out, err)
	}
}

// A key is a first factor too, and is verified before a code goes out.
func TestMailedCodeAfterKey(t *testing.T) {
	t.Parallel()
	s := newMailing(t, options{})
	client := s.ssh()
	client.KeyFile = s.userKey("alice")
	term := testenv.StartTerminal(t, client.Interactive("echo in-by-key"), 100, 40)
	term.Expect("Code: ")
	term.Type(s.mailed("alice", 1) + "\n")
	term.Expect("in-by-key")
	term.Wait()
	if n := len(s.sink.Mails("")); n != 1 {
		t.Errorf("%d mails, want 1", n)
	}
}

// Wrong codes count as failures, and the right password in between forgets none of them.
func TestMailedCodeIsCounted(t *testing.T) {
	t.Parallel()
	s := newMailing(t, options{noSSHD: true, guard: bastion.Guard{Tries: 1, Exempt: loopback()}})
	for i := range 5 { // the same wrong code would count once
		if c, err := s.dial("alice@down", typing(alicePassword, func(int) string { return fmt.Sprintf("00000%d", i) }, nil)); err == nil {
			c.Close()
			t.Fatal("got in by a guess, which happens once in 200 000 runs")
		}
	}
	locks, err := s.Store.Attempts.Locks(context.Background())
	check(t, err)
	if len(locks) != 1 {
		t.Errorf("locks %+v, want one after five failures", locks)
	}
	sent := len(s.events("code.sent"))
	if c, err := s.dial("alice@down", typing(alicePassword, func(int) string { return s.mailed("alice", 1) }, nil)); err == nil {
		c.Close()
		t.Error("got in while the lock holds")
	}
	if len(s.events("code.sent")) != sent {
		t.Error("a code was sent while the lock holds")
	}
}

// By SMS: the number comes from the address book, its prefix is looked at, and the gateway gets it.
func TestCodeBySMS(t *testing.T) {
	onBoth(t, func(t *testing.T, o options) {
		o.noSSHD = true
		var mu sync.Mutex
		got := map[string]string{}
		gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			got[r.FormValue("to")] = r.FormValue("text")
		}))
		defer gateway.Close()
		numbers := notify.Numbers{Country: "+49", Prefixes: []string{"+4915"}}
		o.sent = auth.SentCodes{By: store.BySMS, SMS: true, Numbers: numbers, Limits: store.SendLimits{Person: 5, Recipient: 5, Source: 20, All: 200}}
		s := newSystem(t, o)
		by, err := notify.NewGateway(notify.GatewayConfig{URL: gateway.URL + "/?to={to}&text={text}", Method: "GET", Numbers: numbers})
		check(t, err)
		s.deliver(notify.WorkerConfig{SMS: by})
		s.address("alice", "", "0151 / 123 45 67-8")
		s.addUser("carol", "pw")
		s.address("carol", "", "+7 900 1234567")
		c, err := s.dial("alice@down", typing(alicePassword, func(int) string {
			code := ""
			testenv.WaitFor(t, "the short message", func() bool {
				mu.Lock()
				defer mu.Unlock()
				code, _, _ = strings.Cut(got["+4915112345678"], " ")
				return code != ""
			})
			return code
		}, nil))
		check(t, err)
		c.Close()
		if c, err := s.dial("carol@down", typing("pw", func(int) string { return "000000" }, nil)); err == nil {
			c.Close()
			t.Error("carol got in")
		}
		if e := s.sendings(2)[1]; !strings.Contains(e, "refused carol") || !strings.Contains(e, "sms.prefixes") {
			t.Errorf("event %q", e)
		}
		if len(got) != 1 {
			t.Errorf("sent to %v", got)
		}
	})
}

// A sent code is remembered where a rule says so, and then spares codes by mail; but not where a rule demands
// a token.
func TestMailedCodeIsRemembered(t *testing.T) {
	t.Parallel()
	s := newMailing(t, options{noSSHD: true, guard: bastion.Guard{Tries: 1, Exempt: loopback()}, rules: `version: 1
networks: {here: [127.0.0.1/32]}
rules:
  - {name: strong, users: ["*"], targets: [strong], token-only: true, trust: {idle: 8h, sources: [here]}}
  - {name: plain, users: ["*"], targets: [down], trust: {idle: 8h, sources: [here]}}
`})
	_, err := s.Store.Targets.Add(context.Background(), store.Target{Name: "strong", Address: "127.0.0.1:1", Accounts: []string{"root"}, HostKeyMode: store.TOFU})
	check(t, err)
	c, err := s.dial("alice@down", typing(alicePassword, func(int) string { return s.mailed("alice", 1) }, nil))
	check(t, err)
	c.Close()
	var asked []string
	c, err = s.dial("alice@down", typing(alicePassword, func(int) string { return "" }, &asked))
	if err != nil || !slices.Equal(asked, []string{"Password: "}) {
		t.Fatalf("the second login: %v, asked %q", err, asked)
	}
	c.Close()
	u, err := s.Store.Users.ByLogin(context.Background(), "alice")
	check(t, err)
	grants, err := s.Store.Grants.List(context.Background(), u.ID)
	if err != nil || len(grants) != 1 || grants[0].Assurance != store.FromSent {
		t.Errorf("grants %+v, %v", grants, err)
	}
	asked = nil
	if c, err := s.dial("alice@strong", typing(alicePassword, func(int) string { return "000000" }, &asked)); err == nil {
		c.Close()
		t.Error("a remembered code that was sent opened what demands a token")
	}
	if !slices.Contains(asked, "Code: ") {
		t.Errorf("asked %q", asked)
	}
	c, err = s.dial("alice", typing(alicePassword, func(int) string { return "" }, nil)) // the menu
	check(t, err)
	defer c.Close()
	sess, err := c.NewSession()
	check(t, err)
	if out, _ := sess.CombinedOutput("explain strong"); !strings.Contains(string(out), "needs a code from a token") {
		t.Errorf("explain says %q", out)
	}
}
