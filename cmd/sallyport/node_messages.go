package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"sallyport/auth"
	"sallyport/identity"
	"sallyport/internal/auditlog"
	"sallyport/internal/config"
	"sallyport/internal/notify"
	"sallyport/store"
)

// messages are the senders that the configuration names; nil: none.
type messages struct {
	mail, sms notify.Sender
	sent      auth.SentCodes
}

// newMessages makes the senders, and asks nobody anything yet. Its errors are of the configuration.
func newMessages(cfg *config.Config) (m messages, err error) {
	defer func() {
		if err != nil {
			err = &exitError{Code: exitUsage, Err: err}
		}
	}()
	if cfg.Mail != nil {
		if m.mail, err = newMail(cfg); err != nil {
			return m, fmt.Errorf("mail: %w", err)
		}
		m.sent.Mailboxes = mailboxes(cfg.Mail)
	}
	if cfg.SMS != nil {
		if m.sms, err = newSMS(cfg.SMS); err != nil {
			return m, fmt.Errorf("sms: %w", err)
		}
		m.sent.Numbers = numbers(cfg.SMS)
	}
	s := cfg.SentCodes
	if s == nil {
		return m, nil
	}
	m.sent.By, m.sent.Mail, m.sent.SMS = string(s.By), m.mail != nil, m.sms != nil
	m.sent.Limits = store.SendLimits{Person: s.PerPerson, Recipient: s.PerRecipient, Source: s.PerSource, All: s.InAll}
	if s.AddressBook != nil {
		if m.sent.Book, err = newAddressBook(s.AddressBook); err != nil {
			return m, fmt.Errorf("sent-codes.address-book: %w", err)
		}
	}
	return m, nil
}

func mailboxes(m *config.Mail) notify.Mailboxes {
	return notify.Mailboxes{Domains: m.Domains, Hosts: m.Hosts, First: m.FirstHostOnly}
}

func numbers(s *config.SMS) notify.Numbers {
	n := notify.Numbers{Country: string(s.Country)}
	for _, p := range s.Prefixes {
		n.Prefixes = append(n.Prefixes, string(p))
	}
	return n
}

func newMail(cfg *config.Config) (notify.Sender, error) {
	var senders []notify.Sender
	for _, s := range cfg.Mail.Servers {
		mc, err := mailConfig(cfg, s)
		if err != nil {
			return nil, err
		}
		sender, err := notify.NewMail(mc)
		if err != nil {
			return nil, err
		}
		senders = append(senders, sender)
	}
	return notify.NewChain(cfg.Mail.Breaker.Failures, cfg.Mail.Breaker.Pause.Std(), senders...), nil
}

func mailConfig(cfg *config.Config, s config.MailServer) (notify.MailConfig, error) {
	mc := notify.MailConfig{
		Server: string(s.Server), TLS: string(s.TLS), ServerName: string(s.ServerName), User: s.User,
		From: cfg.Mail.From, FromName: cfg.OTP.Issuer, Host: string(cfg.Node), Timeout: s.Timeout.Std(), Mailboxes: mailboxes(cfg.Mail),
	}
	var err error
	if mc.CA, err = authorities(s.CAFile); err != nil {
		return mc, err
	}
	mc.Password, err = secretFile(s.PasswordFile)
	return mc, err
}

func newSMS(cfg *config.SMS) (notify.Sender, error) {
	var senders []notify.Sender
	for _, s := range cfg.Senders {
		sender, err := newSMSSender(s, numbers(cfg))
		if err != nil {
			return nil, err
		}
		senders = append(senders, sender)
	}
	return notify.NewChain(cfg.Breaker.Failures, cfg.Breaker.Pause.Std(), senders...), nil
}

func newSMSSender(s config.SMSSender, n notify.Numbers) (notify.Sender, error) {
	if len(s.Command) > 0 {
		return notify.NewCommand(notify.CommandConfig{Args: s.Command, Timeout: s.Timeout.Std(), Numbers: n})
	}
	gc := notify.GatewayConfig{
		URL: string(s.URL), Method: string(s.Method), Headers: s.Headers, Body: s.Body, Timeout: s.Timeout.Std(), Numbers: n,
	}
	var err error
	if gc.Success, err = pattern(s.Success); err != nil {
		return nil, err
	}
	if gc.CA, err = authorities(s.CAFile); err != nil {
		return nil, err
	}
	if gc.Secret, err = secretFile(s.SecretFile); err != nil {
		return nil, err
	}
	return notify.NewGateway(gc)
}

func newAddressBook(b *config.AddressBook) (*identity.AddressBook, error) {
	bc := identity.AddressBookConfig{URL: string(b.URL), Headers: b.Headers, Path: b.Path, Timeout: b.Timeout.Std(), Cache: b.Cache.Std()}
	var err error
	if bc.Pattern, err = pattern(b.Pattern); err != nil {
		return nil, err
	}
	if bc.CA, err = authorities(b.CAFile); err != nil {
		return nil, err
	}
	secret, err := secretFile(b.SecretFile)
	if err != nil {
		return nil, err
	}
	bc.Secret = identity.Password(secret)
	return identity.NewAddressBook(bc)
}

// authorities reads a file of certificates; none: the system's.
func authorities(file config.Path) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(string(file))
	if err != nil {
		return nil, fmt.Errorf("reading certificates: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("reading certificates: %s holds none in PEM", file)
	}
	return pool, nil
}

func secretFile(file config.Path) (notify.Secret, error) {
	if file == "" {
		return "", nil
	}
	secret, err := config.ReadSecret(string(file))
	return notify.Secret(secret), err
}

func pattern(p config.Pattern) (*regexp.Regexp, error) {
	if p == "" {
		return nil, nil
	}
	return regexp.Compile(string(p))
}

// auditSink is where audit events are kept: with the messages that tell of them, if anybody is told.
func auditSink(cfg *config.Config, st *store.Store, opts nodeOptions) (auditlog.Sink, error) {
	n := cfg.Notify
	if n == nil {
		return st.Audit, nil
	}
	for _, e := range n.Events {
		if !slices.Contains(notify.OperatorEvents, e) {
			return nil, &exitError{Code: exitUsage, Err: errors.New("notify.events: operators are not told of " + e + "; there are: " + strings.Join(notify.OperatorEvents, ", "))}
		}
	}
	pages := ""
	if cfg.Web.Listen != "" {
		pages = webURL(cfg)
	}
	return notify.NewAlerts(notify.AlertsConfig{
		Store: st, Name: cfg.OTP.Issuer, URL: pages, People: n.People, Operators: n.Operators, Events: n.Events, Log: opts.Log,
	}), nil
}
