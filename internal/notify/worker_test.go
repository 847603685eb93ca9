package notify_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/internal/auditlog"
	"sallyport/internal/notify"
	"sallyport/internal/seal"
	"sallyport/internal/testenv"
	"sallyport/store"
	"sallyport/store/storetest"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// onBoth runs test on SQLite and PostgreSQL; open opens the database once more, as another node does, whose
// clock is ahead by some time.
func onBoth(t *testing.T, test func(t *testing.T, open func(ahead time.Duration) *store.Store)) {
	t.Helper()
	t.Parallel()
	for name, dsn := range map[string]func() string{
		"sqlite":   func() string { return "sqlite:" + filepath.Join(t.TempDir(), "store.db") },
		"postgres": func() string { return storetest.Postgres(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ring, err := seal.NewRing()
			check(t, err)
			where := dsn()
			test(t, func(ahead time.Duration) *store.Store {
				s, err := store.Open(context.Background(), store.Config{DSN: where, Ring: ring, Now: func() time.Time { return time.Now().Add(ahead) }})
				check(t, err)
				t.Cleanup(func() { s.Close() })
				return s
			})
		})
	}
}

func mailBy(t *testing.T, sink *testenv.SMTP) notify.Sender {
	t.Helper()
	text, err := os.ReadFile(sink.CAFile)
	check(t, err)
	ca := x509.NewCertPool()
	ca.AppendCertsFromPEM(text)
	s, err := notify.NewMail(notify.MailConfig{Server: sink.Addr, CA: ca, From: "sallyport@example.org"})
	check(t, err)
	return s
}

// run starts a worker that ends with the test.
func run(t *testing.T, cfg notify.WorkerConfig) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	cfg.Log = quiet
	running.Go(func() { notify.NewWorker(cfg).Run(ctx) })
	stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(stop)
	return stop
}

func message(to string) store.OutMessage {
	return store.OutMessage{Channel: store.ByMail, Kind: "test", Recipient: to, Subject: "S", Text: "T", Expires: time.Now().Add(time.Hour)}
}

func add(t *testing.T, s *store.Store, m store.OutMessage) {
	t.Helper()
	check(t, s.Outbox.Add(t.Context(), m))
	check(t, s.Bus.Publish(t.Context(), store.TopicOutbox, ""))
}

// Two nodes deliver every message once, and what cannot be delivered yet again.
func TestWorkers(t *testing.T) {
	onBoth(t, func(t *testing.T, open func(time.Duration) *store.Store) {
		var refusing atomic.Bool
		sink := testenv.StartSMTP(t, testenv.SMTPConfig{Refuse: func(to string) error {
			switch {
			case strings.HasPrefix(to, "nobody@"):
				return testenv.SMTPRefusal(550)
			case refusing.Load():
				return testenv.SMTPRefusal(451)
			}
			return nil
		}})
		a, b := open(0), open(0)
		var mu sync.Mutex
		var told []audit.Event
		emit := func(_ context.Context, e audit.Event) error {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, e)
			return nil
		}
		for _, s := range []*store.Store{a, b} {
			run(t, notify.WorkerConfig{Store: s, Mail: mailBy(t, sink), Emit: emit})
		}
		for i := range 20 {
			add(t, a, message(fmt.Sprintf("u%d@example.org", i)))
		}
		testenv.WaitFor(t, "twenty mails", func() bool { return len(sink.Mails("")) >= 20 })
		add(t, b, message("nobody@example.org"))
		testenv.WaitFor(t, "the refusal", func() bool {
			c, err := a.Outbox.Counts(t.Context())
			check(t, err)
			return c == store.OutboxCounts{Failed: 1}
		})
		refusing.Store(true)
		add(t, a, message("later@example.org"))
		var id string
		testenv.WaitFor(t, "a failed try", func() bool {
			list, err := a.Outbox.List(t.Context(), store.MessageWaiting, 0)
			check(t, err)
			if len(list) == 1 {
				id = list[0].ID
			}
			return len(list) == 1 && strings.Contains(list[0].Error, "451") && list[0].Due.After(time.Now())
		})
		refusing.Store(false)
		check(t, a.Outbox.Retry(t.Context(), id))
		check(t, a.Bus.Publish(t.Context(), store.TopicOutbox, ""))
		testenv.WaitFor(t, "the mail after the failure", func() bool { return len(sink.Mails("later@example.org")) == 1 })
		testenv.WaitFor(t, "an empty outbox", func() bool {
			c, err := a.Outbox.Counts(t.Context())
			check(t, err)
			return c.Waiting == 0
		})
		if n := len(sink.Mails("")); n != 21 {
			t.Errorf("%d mails, want 21", n)
		}
		mu.Lock()
		defer mu.Unlock()
		if len(told) != 1 || told[0].Type != audit.MessageFailed || !strings.Contains(told[0].Reason, "550") {
			t.Errorf("events %+v", told)
		}
	})
}

// What a dead node had in hand is delivered by another; what a node has in hand when it is stopped goes back
// at once.
func TestWorkerDies(t *testing.T) {
	onBoth(t, func(t *testing.T, open func(time.Duration) *store.Store) {
		sink := testenv.StartSMTP(t, testenv.SMTPConfig{})
		dead, alive := open(0), open(2*time.Minute)
		check(t, dead.Outbox.Add(t.Context(), message("a@example.org")))
		if _, err := dead.Outbox.Claim(t.Context(), 90*time.Second, store.ByMail); err != nil { // and is killed here
			t.Fatal(err)
		}
		run(t, notify.WorkerConfig{Store: alive, Mail: mailBy(t, sink)})
		testenv.WaitFor(t, "the mail of the dead node", func() bool { return len(sink.Mails("a@example.org")) == 1 })

		reached := make(chan struct{}, 1)
		stopping := run(t, notify.WorkerConfig{Store: dead, SMS: sender(func(ctx context.Context) error {
			reached <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		})})
		m := message("+4915112345678")
		m.Channel = store.BySMS
		add(t, dead, m)
		<-reached
		stopping()
		got, err := alive.Outbox.Claim(t.Context(), time.Minute, store.BySMS)
		if err != nil || got.Tries != 2 {
			t.Errorf("after the stop: %+v, %v", got, err)
		}
	})
}

// sender is a Sender of one function.
type sender func(context.Context) error

func (sender) Name() string                                       { return "test" }
func (s sender) Send(ctx context.Context, _ notify.Message) error { return s(ctx) }

// An event that concerns a person is mailed to them and to the operators: from where, when, and what to do;
// a flood of events is three mails an hour.
func TestAlerts(t *testing.T) {
	onBoth(t, func(t *testing.T, open func(time.Duration) *store.Store) {
		sink := testenv.StartSMTP(t, testenv.SMTPConfig{})
		s := open(0)
		log := auditlog.New(auditlog.Config{Logger: quiet, Node: "n1", Sink: notify.NewAlerts(notify.AlertsConfig{
			Store: s, Name: "Sallyport", URL: "https://bastion.example.org", People: true, Operators: []string{"ops@example.org"},
			Events: []string{audit.LockoutSet, audit.HostKeyRefused, audit.CodeReplayed, audit.RecordFailed}, Log: quiet,
		})})
		_, err := s.Users.Add(t.Context(), store.User{Login: "alice", Name: "Alice\nForged: x", Email: "alice@example.org"}, "")
		check(t, err)
		run(t, notify.WorkerConfig{Store: s, Mail: mailBy(t, sink), Emit: log.Emit})
		emit := func(e audit.Event) { check(t, log.Emit(t.Context(), e)) }
		emit(audit.Event{Type: audit.LockoutSet, Result: audit.OK, User: "alice", Source: "203.0.113.9", Reason: "5 failures\nForged: y",
			Detail: map[string]string{"lock": "user+source:user:1|203.0.113.9", "until": "2026-11-25T10:00:00Z"}})
		emit(audit.Event{Type: audit.LockoutSet, Result: audit.OK, User: "nobody", Source: "203.0.113.9", Detail: map[string]string{"lock": "source:203.0.113.9"}})
		emit(audit.Event{Type: audit.HostKeyRefused, Result: audit.Refused, Target: "web1", Detail: map[string]string{"shown": "SHA256:x"}})
		emit(audit.Event{Type: audit.LoginRefused, Result: audit.Refused, User: "alice"}) // nobody is mailed of that
		testenv.WaitFor(t, "the mails", func() bool {
			return len(sink.Mails("ops@example.org")) == 3 && len(sink.Mails("alice@example.org")) == 1
		})
		mine := sink.Mails("alice@example.org")[0].Text
		for _, want := range []string{"203.0.113.9", "2026-11-25T10:00:00Z", "5 failures", "ask an operator", "Subject: Logins to your account"} {
			if !strings.Contains(mine, want) {
				t.Errorf("no %q in\n%s", want, mine)
			}
		}
		if strings.Contains(mine, "\nForged") {
			t.Errorf("a line was forged:\n%s", mine)
		}
		if ops := sink.Mails("ops@example.org"); !strings.Contains(fmt.Sprint(ops), "https://bastion.example.org/lockouts") {
			t.Errorf("no link for operators in %v", ops)
		}
		emit(audit.Event{Type: audit.RecoveryUsed, Result: audit.OK, User: "alice", Source: "203.0.113.9", Detail: map[string]string{"left": "9"}})
		testenv.WaitFor(t, "the mail about a recovery code", func() bool { return len(sink.Mails("alice@example.org")) == 2 })
		if text := sink.Mails("alice@example.org")[1].Text; !strings.Contains(text, "recovery code") || !strings.Contains(text, "9") {
			t.Errorf("of a recovery code: %s", text)
		}
		emit(audit.Event{Type: audit.CodeReplayed, Result: audit.Refused, User: "alice", Source: "203.0.113.9",
			Detail: map[string]string{"token_name": "phone", "used_at": "2026-11-25T09:00:00Z", "used_source": "192.0.2.7", "used_door": "ssh"}})
		testenv.WaitFor(t, "the mail about a code that came twice", func() bool { return len(sink.Mails("alice@example.org")) == 3 })
		for _, want := range []string{"phone", "2026-11-25T09:00:00Z", "192.0.2.7", "203.0.113.9"} {
			if text := sink.Mails("alice@example.org")[2].Text; !strings.Contains(text, want) {
				t.Errorf("of a code that came twice, no %q in\n%s", want, text)
			}
		}
		// Of a session without its recording they are always told, whatever the list says.
		emit(audit.Event{Type: audit.BreakGlassUsed, Result: audit.OK, User: "alice", Target: "web1", Reason: "the session goes on without its recording: disk full"})
		testenv.WaitFor(t, "the mail about break-glass", func() bool {
			return strings.Contains(fmt.Sprint(sink.Mails("ops@example.org")), "breakglass.used alice web1")
		})
		for range 30 {
			emit(audit.Event{Type: audit.CodeReplayed, Result: audit.Refused, User: "alice", Source: "203.0.113.9"})
		}
		testenv.WaitFor(t, "an empty outbox", func() bool {
			c, err := s.Outbox.Counts(t.Context())
			check(t, err)
			return c.Waiting == 0
		})
		if alice, ops := len(sink.Mails("alice@example.org")), len(sink.Mails("ops@example.org")); alice != 2+3 || ops != 3+10+1 {
			t.Errorf("%d mails to alice, want 5; %d to operators, want 14", alice, ops)
		}
	})
}

// When the first gateway is away, the second sends.
func TestGatewaysInOrder(t *testing.T) {
	onBoth(t, func(t *testing.T, open func(time.Duration) *store.Store) {
		var got atomic.Int64
		works := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { got.Add(1) }))
		defer works.Close()
		var senders []notify.Sender
		for _, url := range []string{"http://127.0.0.1:1/", works.URL} {
			g, err := notify.NewGateway(notify.GatewayConfig{URL: url + "?t={text}", Numbers: notify.Numbers{Prefixes: []string{"+49"}}})
			check(t, err)
			senders = append(senders, g)
		}
		s := open(0)
		run(t, notify.WorkerConfig{Store: s, SMS: notify.NewChain(0, 0, senders...)})
		for range 5 {
			m := message("+4915112345678")
			m.Channel = store.BySMS
			add(t, s, m)
		}
		testenv.WaitFor(t, "five short messages", func() bool { return got.Load() == 5 })
		if _, err := s.Outbox.Claim(t.Context(), time.Minute); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("without channels: %v", err)
		}
	})
}
