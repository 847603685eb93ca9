package testenv

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// SMTPConfig says what a mail server of [StartSMTP] demands.
type SMTPConfig struct {
	Plain          bool   // neither STARTTLS nor TLS
	TLS            bool   // TLS from the first byte; else STARTTLS is offered
	User, Password string // "": no authentication
	Refuse         func(to string) error
	Data           func() error // called when a message was read
}

// Mail is a message that a mail server got.
type Mail struct{ From, To, Text string }

// SMTP is a real mail server that keeps what it gets.
type SMTP struct {
	Addr   string
	CAFile string // authority of its certificate, PEM

	mu   sync.Mutex // guards got
	got  []Mail
	cfg  SMTPConfig
	stop func()
}

// StartSMTP starts a mail server on loopback.
func StartSMTP(t testing.TB, cfg SMTPConfig) *SMTP {
	t.Helper()
	ca, cert, key, err := serverCertificate("localhost", net.IPv4(127, 0, 0, 1), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	s := &SMTP{cfg: cfg, CAFile: filepath.Join(t.TempDir(), "ca.pem")}
	if err := os.WriteFile(s.CAFile, ca, 0o600); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &smtpSession{s: s}, nil }))
	server.Domain, server.AllowInsecureAuth, server.ErrorLog = "localhost", cfg.Plain, quietLog{}
	server.ReadTimeout, server.WriteTimeout = 30*time.Second, 30*time.Second
	secured := &tls.Config{Certificates: []tls.Certificate{pair}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Addr = l.Addr().String()
	switch {
	case cfg.TLS:
		l = tls.NewListener(l, secured)
	case !cfg.Plain:
		server.TLSConfig = secured
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(l) // ends when it is stopped
	}()
	s.stop = sync.OnceFunc(func() {
		server.Close()
		<-served
	})
	t.Cleanup(s.stop)
	return s
}

// Stop ends the server, as a crash would.
func (s *SMTP) Stop() { s.stop() }

// Mails returns what came so far for an address, in order; for all if it is empty.
func (s *SMTP) Mails(to string) []Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Mail
	for _, m := range s.got {
		if to == "" || strings.EqualFold(m.To, to) {
			out = append(out, m)
		}
	}
	return out
}

type quietLog struct{}

func (quietLog) Printf(string, ...any) {}
func (quietLog) Println(...any)        {}

// smtpSession is one client of a mail server.
type smtpSession struct {
	s    *SMTP
	in   bool // authenticated
	mail Mail
	to   []string
}

// AuthMechanisms implements smtp.AuthSession.
func (c *smtpSession) AuthMechanisms() []string {
	if c.s.cfg.User == "" {
		return nil
	}
	return []string{sasl.Plain}
}

// Auth implements smtp.AuthSession.
func (c *smtpSession) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != c.s.cfg.User || password != c.s.cfg.Password {
			return smtp.ErrAuthFailed
		}
		c.in = true
		return nil
	}), nil
}

func (c *smtpSession) Mail(from string, _ *smtp.MailOptions) error {
	if c.s.cfg.User != "" && !c.in {
		return smtp.ErrAuthRequired
	}
	c.mail = Mail{From: from}
	return nil
}

func (c *smtpSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	if c.s.cfg.Refuse != nil {
		if err := c.s.cfg.Refuse(to); err != nil {
			return err
		}
	}
	c.to = append(c.to, to)
	return nil
}

func (c *smtpSession) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if c.s.cfg.Data != nil {
		if err := c.s.cfg.Data(); err != nil {
			return err
		}
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	for _, to := range c.to {
		c.s.got = append(c.s.got, Mail{From: c.mail.From, To: to, Text: string(text)})
	}
	return nil
}

func (c *smtpSession) Reset()        { c.to = nil }
func (c *smtpSession) Logout() error { return nil }

// SMTPRefusal is an answer with a status such as 550.
func SMTPRefusal(status int) error {
	if status == 0 {
		return errors.New("no status")
	}
	return &smtp.SMTPError{Code: status, EnhancedCode: smtp.EnhancedCode{status / 100, 1, 1}, Message: "refused by the test"}
}
