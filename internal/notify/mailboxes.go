package notify

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"slices"
	"strings"
)

// Resolver finds mail hosts; *net.Resolver is the real one.
type Resolver interface {
	LookupMX(ctx context.Context, domain string) ([]*net.MX, error)
}

// Mailboxes says where mail with secrets in it may go. The zero value allows every address.
type Mailboxes struct {
	Domains  []string // example.org, or *.example.org for all below it; none: all
	Hosts    []string // mail hosts in the same form; none: all
	First    bool     // only the most preferred mail hosts must be allowed; else all of them must
	Resolver Resolver // nil: net.DefaultResolver
}

// ParseAddress returns an e-mail address as it stands between the angle brackets, and its domain in lower
// case. Comments, names, routes and addresses within brackets are refused.
func ParseAddress(text string) (address, domain string, err error) {
	a, err := mail.ParseAddress(text)
	if err != nil || a.Name != "" || a.Address != text || len(text) > 254 {
		return "", "", fmt.Errorf("%q is no plain e-mail address", text)
	}
	i := strings.LastIndexByte(text, '@')
	domain = strings.ToLower(text[i+1:])
	if domain == "" || strings.ContainsAny(domain, "[]") {
		return "", "", fmt.Errorf("%q is no plain e-mail address", text)
	}
	return text, domain, nil
}

// AllowDomain looks at the address alone, without asking anybody. Its error wraps [ErrRejected].
func (m Mailboxes) AllowDomain(address string) error {
	_, domain, err := ParseAddress(address)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRejected, err)
	}
	if len(m.Domains) > 0 && !matchesAny(m.Domains, domain) {
		return fmt.Errorf("%w: the domain %s is not among mail.domains", ErrRejected, domain)
	}
	return nil
}

// Allow looks at the address and asks for the mail hosts of its domain now. A domain that does not accept
// mail, or has a host that is not allowed, is an [ErrRejected]; if nobody answers, the message has to wait.
func (m Mailboxes) Allow(ctx context.Context, address string) error {
	if err := m.AllowDomain(address); err != nil || len(m.Hosts) == 0 {
		return err
	}
	_, domain, _ := ParseAddress(address)
	var r Resolver = net.DefaultResolver
	if m.Resolver != nil {
		r = m.Resolver
	}
	found, err := r.LookupMX(ctx, domain+".")
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		found = []*net.MX{{Host: domain}} // RFC 5321, section 5.1: the domain itself
	case err != nil:
		return fmt.Errorf("looking for the mail hosts of %s: %w", domain, err)
	case len(found) == 0:
		return fmt.Errorf("looking for the mail hosts of %s: no answer", domain)
	}
	slices.SortStableFunc(found, func(a, b *net.MX) int { return int(a.Pref) - int(b.Pref) })
	for _, mx := range found {
		if m.First && mx.Pref != found[0].Pref {
			break
		}
		host := strings.ToLower(strings.TrimSuffix(mx.Host, "."))
		if host == "" {
			return fmt.Errorf("%w: %s accepts no mail", ErrRejected, domain) // RFC 7505
		}
		if !matchesAny(m.Hosts, host) {
			return fmt.Errorf("%w: %s has the mail host %s, which is not among mail.hosts", ErrRejected, domain, host)
		}
	}
	return nil
}

// matchesAny compares whole names; *.example.org stands for what is below example.org.
func matchesAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		p = strings.ToLower(strings.TrimSuffix(p, "."))
		if below, ok := strings.CutPrefix(p, "*."); ok {
			return strings.HasSuffix(name, "."+below)
		}
		return name == p
	})
}
