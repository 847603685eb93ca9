package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"
)

const (
	defaultTimeout = 2500 * time.Millisecond
	maxOperations  = 32 // at once, each with one connection

	noKeys = "-" // as KeyAttribute

	placeholderLogin = "{login}"
	placeholderDN    = "{dn}"
)

// LDAPConfig says where the directory is and how its entries read. The zero value of a field means
// what its comment says.
type LDAPConfig struct {
	Servers           []string      // ldaps://host[:636] or ldap://host[:389], tried in turn
	StartTLS          bool          // ldap:// servers are asked for TLS before anything else is sent (RFC 4511, section 4.14)
	CAFile            string        // PEM file of the authorities that the servers' certificates must come from; "": those of the system
	ServerName        string        // name that the certificates must carry; "": the host of the URL
	InsecurePlaintext bool          // allows ldap:// without StartTLS to a host that is not loopback: passwords travel readable
	BindDN            string        // entry that searches; "": search anonymously
	BindPassword      Password      // its password
	Base              string        // DN below which people are
	Filter            string        // finds one person; {login} stands for the escaped login name; "": (uid={login})
	LoginAttribute    string        // attribute whose value is the canonical login name; "": uid (sAMAccountName in Active Directory)
	MailAttribute     string        // attribute with the e-mail address; "": mail
	MobileAttribute   string        // attribute with the telephone number; "": mobile
	KeyAttribute      string        // attribute with public keys, each value a line of authorized_keys without options; "": sshPublicKey; "-": none are read
	GroupBase         string        // DN below which groups are; "": only memberOf is read, and every group it names counts
	GroupFilter       string        // finds the groups of a DN; {dn} stands for the escaped DN, {login} for the login name; "": (member={dn})
	LoginGroup        string        // name of the group that people must be in, directly or nested; "": everybody may log in
	LockDuration      time.Duration // how long pwdAccountLockedTime holds (the pwdLockoutDuration of the policy); 0: until somebody clears it
	Timeout           time.Duration // for a whole Lookup or Bind, all servers together; 0: 2.5 s
	Log               *slog.Logger  // hears of public keys that do not count; nil: slog.Default()
}

// LDAP is a directory. It is safe for concurrent use.
type LDAP struct {
	cfg        LDAPConfig // with defaults filled in
	servers    []*server
	base       *ldap.DN
	groupBase  *ldap.DN      // nil: groups may be anywhere
	readGroups bool          // nested groups are found by reading each group's memberOf
	operations chan struct{} // one value for each that runs
}

// NewLDAP returns a directory. It reads the CA file and makes no connection. The Config must not be
// modified afterwards.
func NewLDAP(cfg LDAPConfig) (*LDAP, error) {
	cfg.Filter = orDefault(cfg.Filter, "(uid="+placeholderLogin+")")
	cfg.LoginAttribute = orDefault(cfg.LoginAttribute, "uid")
	cfg.MailAttribute, cfg.MobileAttribute = orDefault(cfg.MailAttribute, "mail"), orDefault(cfg.MobileAttribute, "mobile")
	cfg.KeyAttribute = orDefault(cfg.KeyAttribute, "sshPublicKey")
	if cfg.KeyAttribute == noKeys {
		cfg.KeyAttribute = ""
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	cfg.GroupFilter = orDefault(cfg.GroupFilter, "(member="+placeholderDN+")")
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
	l := &LDAP{cfg: cfg, operations: make(chan struct{}, maxOperations)}
	l.readGroups = cfg.GroupBase == "" || !strings.Contains(cfg.GroupFilter, placeholderDN)
	if err := l.readNames(); err != nil {
		return nil, err
	}
	tlsConfig, err := clientTLS(cfg.CAFile)
	if err != nil {
		return nil, err
	}
	for _, raw := range cfg.Servers {
		s, err := newServer(raw, cfg, tlsConfig)
		if err != nil {
			return nil, err
		}
		l.servers = append(l.servers, s)
	}
	return l, nil
}

// readNames checks everything in the configuration but the servers' URLs.
func (l *LDAP) readNames() error {
	cfg := l.cfg
	var err error
	switch {
	case len(cfg.Servers) == 0:
		return errors.New("no servers")
	case cfg.BindDN != "" && cfg.BindPassword.usable() != nil:
		return fmt.Errorf("password of %s: %w", cfg.BindDN, cfg.BindPassword.usable())
	case cfg.BindDN == "" && cfg.BindPassword != "":
		return errors.New("a password to search with, and no bind DN")
	case cfg.Timeout < 0 || cfg.LockDuration < 0:
		return errors.New("a duration is negative")
	case !strings.Contains(cfg.Filter, placeholderLogin):
		return fmt.Errorf("filter %q does not contain %s: everybody would be everyone", cfg.Filter, placeholderLogin)
	case !strings.Contains(cfg.GroupFilter, placeholderDN) && !strings.Contains(cfg.GroupFilter, placeholderLogin):
		return fmt.Errorf("filter of groups %q contains neither %s nor %s", cfg.GroupFilter, placeholderDN, placeholderLogin)
	}
	for _, filter := range []string{cfg.Filter, cfg.GroupFilter} {
		if _, err := ldap.CompileFilter(strings.NewReplacer(placeholderLogin, "x", placeholderDN, "x").Replace(filter)); err != nil {
			return fmt.Errorf("filter %q: %w", filter, err)
		}
	}
	if l.base, err = ldap.ParseDN(cfg.Base); err != nil || len(l.base.RDNs) == 0 {
		return fmt.Errorf("base %q is not a DN such as ou=people,dc=example,dc=org", cfg.Base)
	}
	if cfg.GroupBase == "" {
		return nil
	}
	if l.groupBase, err = ldap.ParseDN(cfg.GroupBase); err != nil || len(l.groupBase.RDNs) == 0 {
		return fmt.Errorf("base of groups %q is not a DN such as ou=groups,dc=example,dc=org", cfg.GroupBase)
	}
	return nil
}

func clientTLS(caFile string) (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile == "" {
		return cfg, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("reading the CA file: %w", err)
	}
	cfg.RootCAs = x509.NewCertPool()
	if !cfg.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("CA file %s holds no certificate in PEM", caFile)
	}
	return cfg, nil
}

// Close closes idle connections.
func (l *LDAP) Close() {
	for _, s := range l.servers {
		s.close()
	}
}

// Lookup finds the one person with this login name, which is made canonical first. The error wraps
// ErrUnknown, ErrNotMember, ErrAmbiguous or ErrUnavailable; within the configured Timeout, or as soon
// as ctx ends, there is an answer. A person whose account may not be used is returned with Disabled
// set: refuse, even where no password is asked.
func (l *LDAP) Lookup(ctx context.Context, login string) (Person, error) {
	login, err := CanonicalLogin(login)
	if err != nil {
		return Person{}, fmt.Errorf("looking up a person: %w: %w", ErrUnknown, err)
	}
	var p Person
	err = l.onServers(ctx, func(ctx context.Context, s *server) error {
		return s.search(ctx, func(c *conn) (err error) {
			p, err = l.lookup(c, login, time.Now())
			return err
		})
	})
	if err != nil {
		return Person{}, fmt.Errorf("looking up %s: %w", login, err)
	}
	return p, nil
}

func (l *LDAP) lookup(c *conn, login string, now time.Time) (Person, error) {
	e, err := l.entry(c, login)
	if err != nil {
		return Person{}, err
	}
	p, err := newPerson(e, l.cfg, now)
	if err != nil {
		return Person{}, err
	}
	p.Keys = l.keys(e)
	if p.Groups, err = l.groups(c, p.Login, e); err != nil {
		return Person{}, err
	}
	if l.cfg.LoginGroup != "" && !containsFold(p.Groups, l.cfg.LoginGroup) {
		return Person{}, fmt.Errorf("%s: %w", e.DN, ErrNotMember)
	}
	return p, nil
}

// entry searches the one entry of a login name, whatever bytes it has.
func (l *LDAP) entry(c *conn, login string) (*ldap.Entry, error) {
	filter := strings.ReplaceAll(l.cfg.Filter, placeholderLogin, ldap.EscapeFilter(login))
	// The second entry is asked for only to know that there is one.
	entries, err := l.query(c, l.cfg.Base, ldap.ScopeWholeSubtree, 2, filter, personAttributes(l.cfg))
	switch {
	case len(entries) > 1 || ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded):
		return nil, ErrAmbiguous
	case err != nil:
		return nil, searchError(l.cfg.Base, err)
	case len(entries) == 0:
		return nil, ErrUnknown
	}
	if !l.isPerson(entries[0].DN) {
		return nil, fmt.Errorf("entry %.200q is not below %s: %w", entries[0].DN, l.cfg.Base, ErrUnknown)
	}
	return entries[0], nil
}

// isPerson tells whether dn lies below the base of people.
func (l *LDAP) isPerson(dn string) bool {
	parsed, err := ldap.ParseDN(dn)
	return err == nil && l.base.AncestorOfFold(parsed)
}

// query searches without following references or aliases.
func (l *LDAP) query(c *conn, base string, scope, limit int, filter string, attributes []string) ([]*ldap.Entry, error) {
	r, err := c.Search(&ldap.SearchRequest{
		BaseDN:           base,
		Scope:            scope,
		DerefAliases:     ldap.NeverDerefAliases,
		SizeLimit:        limit,
		EnforceSizeLimit: true,
		TimeLimit:        int(math.Ceil(l.cfg.Timeout.Seconds())),
		Filter:           filter,
		Attributes:       attributes,
	})
	if r == nil {
		return nil, err
	}
	return r.Entries, err
}

// Bind proves that password opens the entry of p, on a connection of its own. The error wraps
// ErrPassword (also ErrDisabled, ErrLocked, ErrExpired) or ErrUnavailable. An empty or blank password,
// one with a NUL or of more than 1024 bytes, and a disabled person are refused without asking the
// directory.
func (l *LDAP) Bind(ctx context.Context, p Person, password Password) error {
	if err := password.usable(); err != nil {
		return fmt.Errorf("binding as %s: %w: %w", p.DN, ErrPassword, err)
	}
	if p.Disabled {
		return fmt.Errorf("binding as %s: %w: %s", p.DN, ErrDisabled, p.Status)
	}
	// A bind with an empty name is anonymous and may succeed with any password (RFC 4513, section 5.1.1).
	if !l.isPerson(p.DN) {
		return fmt.Errorf("binding as %.200q, which is not below %s: %w", p.DN, l.cfg.Base, ErrPassword)
	}
	err := l.onServers(ctx, func(ctx context.Context, s *server) error {
		c, err := s.dial(ctx)
		if err != nil {
			return err
		}
		defer c.shut()
		return c.during(ctx, func() error {
			return bindError(c.SimpleBind(ldap.NewSimpleBindRequest(p.DN, string(password),
				[]ldap.Control{ldap.NewControlBeheraPasswordPolicy()})))
		})
	})
	if err != nil {
		return fmt.Errorf("binding as %s: %w", p.DN, err)
	}
	return nil
}

// onServers runs op on one server after the other until one gives an answer, be it a refusal. Each
// gets an equal share of the time that is left, and one that failed lately comes last.
func (l *LDAP) onServers(ctx context.Context, op func(context.Context, *server) error) error {
	caller := ctx
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
	defer cancel()
	select {
	case l.operations <- struct{}{}:
		defer func() { <-l.operations }()
	case <-ctx.Done():
		return unavailable("waiting for a turn", ctx.Err())
	}
	order := l.order(time.Now())
	var failures []string
	for i, s := range order {
		attempt, cancel := context.WithTimeout(ctx, remaining(ctx)/time.Duration(len(order)-i))
		err := op(attempt, s)
		cancel()
		if !errors.Is(err, ErrUnavailable) {
			s.worked()
			return err
		}
		failures = append(failures, s.url+": "+err.Error())
		if caller.Err() != nil {
			break // the caller gave up, which says nothing about the server
		}
		s.failed(time.Now())
	}
	return fmt.Errorf("%w: %s", ErrUnavailable, strings.Join(failures, "; "))
}

// order returns the servers as configured, those that failed lately after the others.
func (l *LDAP) order(now time.Time) []*server {
	var last []*server
	order := make([]*server, 0, len(l.servers))
	for _, s := range l.servers {
		if s.preferred(now) {
			order = append(order, s)
		} else {
			last = append(last, s)
		}
	}
	return append(order, last...)
}

func containsFold(list []string, s string) bool {
	for _, v := range list {
		if strings.EqualFold(v, s) {
			return true
		}
	}
	return false
}
