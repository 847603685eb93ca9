package identity

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// Step is one thing that [LDAP.Check] looked at.
type Step struct {
	Name   string // what was tried, such as "ldaps://ldap1.example.org: TLS"
	Detail string // what was found; may hold any character
	Err    error  // nil if it works
	Fix    string // what to do, "" if it works
}

// Check tries each server, step by step as a login does, and stops at the first step of a server that
// fails. A server takes at most the configured Timeout.
func (l *LDAP) Check(ctx context.Context) []Step {
	var steps []Step
	for _, s := range l.servers {
		k := &checker{l: l, s: s}
		ctx, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
		k.run(ctx)
		cancel()
		steps = append(steps, k.steps...)
	}
	return steps
}

// checker looks at one server.
type checker struct {
	l     *LDAP
	s     *server
	steps []Step
}

// note records a step and tells whether it works. The detail counts only if it does, the fix only if it does not.
func (k *checker) note(name, detail string, err error, fix string) bool {
	step := Step{Name: k.s.url + ": " + name, Err: err}
	if err == nil {
		step.Detail = detail
	} else {
		step.Fix = fix
	}
	k.steps = append(k.steps, step)
	return err == nil
}

func (k *checker) run(ctx context.Context) {
	c, err := k.s.dial(ctx)
	var at *unavailableError
	if errors.As(err, &at) && at.doing == doingConnect {
		k.note("connect", "", err, fmt.Sprintf("see that the server runs and that %s can be reached from here (name, port, firewall)", k.s.address))
		return
	}
	k.note("connect", k.s.address, nil, "")
	if err != nil {
		k.note("TLS", "", err, fixTLS(err, k.s))
		return
	}
	defer c.shut()
	if state, ok := tlsState(c); ok {
		k.note("TLS", fmt.Sprintf("%s, certificate valid until %s", tls.VersionName(state.Version),
			state.PeerCertificates[0].NotAfter.UTC().Format(time.DateOnly)), nil, "")
	}
	_ = c.during(ctx, func() error { k.entries(c); return nil })
}

func tlsState(c *conn) (tls.ConnectionState, bool) {
	state, ok := c.TLSConnectionState()
	return state, ok && len(state.PeerCertificates) > 0
}

// fixTLS goes by the words of the error: go-ldap keeps no more of it.
func fixTLS(err error, s *server) string {
	switch text := err.Error(); {
	case strings.Contains(text, "unknown authority"):
		return "the certificate comes from an authority that this machine does not know: give the authority's PEM file as ca-file"
	case strings.Contains(text, "certificate is valid for"), strings.Contains(text, "doesn't contain any IP SANs"), strings.Contains(text, "not valid for any names"):
		return fmt.Sprintf("use the name that the certificate was issued for in the server's URL, or set server-name; asked for was %s", s.tls.ServerName)
	case strings.Contains(text, "expired or is not yet valid"):
		return "renew the server's certificate, and see that the clocks of both machines are right"
	case s.startTLS && strings.Contains(text, "LDAP Result Code"):
		return "the server refuses StartTLS: give it a certificate, or use an ldaps:// URL"
	case s.ldaps && strings.Contains(text, "does not look like a TLS handshake"):
		return "the server speaks plaintext on this port: use its ldaps port (636), or ldap:// with start-tls: true"
	}
	return "see that the server offers TLS 1.2 or later on this port"
}

// entries checks what a bound connection can see.
func (k *checker) entries(c *conn) {
	cfg := k.l.cfg
	if cfg.BindDN == "" {
		k.note("bind", "anonymous", nil, "")
	} else if err := c.Bind(cfg.BindDN, string(cfg.BindPassword)); !k.note("bind", cfg.BindDN, err, fixBind(err)) {
		return
	}
	if !k.exists(c, "base of people", cfg.Base, "base") || !k.people(c) {
		return
	}
	if cfg.GroupBase != "" && !k.exists(c, "base of groups", cfg.GroupBase, "groups.base") {
		return
	}
	if cfg.LoginGroup != "" {
		k.loginGroup(c)
	}
}

func fixBind(err error) string {
	if ldap.IsErrorAnyOf(err, ldap.LDAPResultInvalidCredentials, ldap.LDAPResultInvalidDNSyntax, ldap.LDAPResultNoSuchObject,
		ldap.LDAPResultInappropriateAuthentication, ldap.LDAPResultUnwillingToPerform) {
		return "see that bind-dn is an entry of the directory and that bind-password-file holds its password"
	}
	return "the server gives no usable answer to a bind: see its log, and that it is a directory server at all"
}

// exists checks that the account that searches can see the entry dn.
func (k *checker) exists(c *conn, name, dn, key string) bool {
	_, err := k.l.query(c, dn, ldap.ScopeBaseObject, 1, "(objectClass=*)", []string{"1.1"})
	return k.note(name, dn, err, fmt.Sprintf("see that %s names an entry of the directory and that %s may read below it", key, k.reader()))
}

func (k *checker) reader() string { return orDefault(k.l.cfg.BindDN, "an anonymous reader") }

// people checks that there are people and that an entry shows what a login needs.
func (k *checker) people(c *conn) bool {
	cfg := k.l.cfg
	entries, err := k.first(c, cfg.Base, "("+cfg.LoginAttribute+"=*)", personAttributes(cfg))
	if err == nil && len(entries) == 0 {
		err = fmt.Errorf("no entry with %s", cfg.LoginAttribute)
	}
	if !k.note("people", "found", err, fmt.Sprintf("see that base and login-attribute are right and that %s may read %s", k.reader(), cfg.LoginAttribute)) {
		return false
	}
	if len(entries[0].GetEqualFoldAttributeValues(cfg.LoginAttribute)) == 0 {
		err = fmt.Errorf("%s is hidden", cfg.LoginAttribute)
		return k.note("login names", "", err, fmt.Sprintf("let %s read %s", k.reader(), cfg.LoginAttribute))
	}
	_, err = entryID(entries[0])
	return k.note("lasting id", entries[0].DN, err, fmt.Sprintf("let %s read %s (Active Directory: %s)", k.reader(), attrEntryUUID, attrObjectGUID))
}

// loginGroup checks that the group that opens the bastion exists; a misspelt one shuts everybody out.
func (k *checker) loginGroup(c *conn) {
	cfg := k.l.cfg
	if cfg.GroupBase == "" {
		entries, err := k.first(c, cfg.Base, "("+attrMemberOf+"=*)", []string{attrMemberOf})
		if err == nil && len(entries) == 0 {
			err = errors.New("no entry shows memberOf")
		}
		k.note("groups", "people show memberOf", err, fmt.Sprintf("set groups.base, or let the server keep memberOf and %s read it", k.reader()))
		return
	}
	entries, err := k.first(c, cfg.GroupBase, "("+attrCN+"="+ldap.EscapeFilter(cfg.LoginGroup)+")", []string{"1.1"})
	if err == nil && len(entries) == 0 {
		err = fmt.Errorf("no group %q below %s", cfg.LoginGroup, cfg.GroupBase)
	}
	k.note("login group", cfg.LoginGroup, err, "see that login-group is the cn of a group below groups.base; until then nobody can log in")
}

// first returns one entry that matches, if there is any.
func (k *checker) first(c *conn, base, filter string, attributes []string) ([]*ldap.Entry, error) {
	entries, err := k.l.query(c, base, ldap.ScopeWholeSubtree, 1, filter, attributes)
	if ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded) && len(entries) > 0 {
		err = nil
	}
	return entries, err
}
