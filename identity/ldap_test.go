package identity

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/go-ldap/ldap/v3"

	"sallyport/internal/testenv"
)

func TestNewLDAP(t *testing.T) {
	t.Parallel()
	good := LDAPConfig{Servers: []string{"ldaps://ldap1.example.org"}, Base: "ou=people,dc=example,dc=org"}
	tests := []struct {
		name   string
		change func(*LDAPConfig)
		want   string // in the error; "": none
	}{
		{"good", func(*LDAPConfig) {}, ""},
		{"StartTLS", func(c *LDAPConfig) { c.Servers, c.StartTLS = []string{"ldap://ldap1.example.org:3890/"}, true }, ""},
		{"plaintext on loopback", func(c *LDAPConfig) { c.Servers = []string{"ldap://[::1]:389", "ldap://127.0.0.9", "ldap://localhost"} }, ""},
		{"plaintext wanted", func(c *LDAPConfig) { c.Servers, c.InsecurePlaintext = []string{"ldap://192.0.2.1"}, true }, ""},
		{"plaintext", func(c *LDAPConfig) { c.Servers = []string{"ldap://192.0.2.1"} }, "readable"},
		{"plaintext name", func(c *LDAPConfig) { c.Servers = []string{"ldap://localhost.example.org"} }, "readable"},
		{"one of two plaintext", func(c *LDAPConfig) { c.Servers = append(c.Servers, "ldap://192.0.2.1") }, "readable"},
		{"no servers", func(c *LDAPConfig) { c.Servers = nil }, "no servers"},
		{"other scheme", func(c *LDAPConfig) { c.Servers = []string{"ldapi:///x"} }, "want ldaps://"},
		{"no scheme", func(c *LDAPConfig) { c.Servers = []string{"ldap1.example.org"} }, "want ldaps://"},
		{"path", func(c *LDAPConfig) { c.Servers = []string{"ldaps://h/dc=x"} }, "want ldaps://"},
		{"user", func(c *LDAPConfig) { c.Servers = []string{"ldaps://u:p@h"} }, "want ldaps://"},
		{"bind DN without password", func(c *LDAPConfig) { c.BindDN = "cn=x" }, "empty or blank"},
		{"password without bind DN", func(c *LDAPConfig) { c.BindPassword = "x" }, "no bind DN"},
		{"filter for all", func(c *LDAPConfig) { c.Filter = "(uid=*)" }, "everybody"},
		{"broken filter", func(c *LDAPConfig) { c.Filter = "(uid={login}" }, "filter"},
		{"broken group filter", func(c *LDAPConfig) { c.GroupFilter = "member={dn})" }, "filter"},
		{"group filter for all", func(c *LDAPConfig) { c.GroupFilter = "(member=*)" }, "neither"},
		{"no base", func(c *LDAPConfig) { c.Base = "" }, "base"},
		{"base not a DN", func(c *LDAPConfig) { c.Base = "people" }, "base"},
		{"group base not a DN", func(c *LDAPConfig) { c.GroupBase = "groups" }, "base of groups"},
		{"CA file missing", func(c *LDAPConfig) { c.CAFile = "/nonexistent/ca.pem" }, "CA file"},
		{"CA file of something else", func(c *LDAPConfig) { c.CAFile = "ldap_test.go" }, "no certificate"},
		{"negative timeout", func(c *LDAPConfig) { c.Timeout = -1 }, "negative"},
	}
	for _, tt := range tests {
		cfg := good
		tt.change(&cfg)
		_, err := NewLDAP(cfg)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestLookup(t *testing.T) {
	t.Parallel()
	d := testenv.Slapd(t)
	d.AddUser("dave", "x")
	d.AddUser("erin", "x", "ssh-users")
	d.Disable("erin")
	d.Modify(d.UserDN("carol"), "uid", "carol", "csmith")
	d.Add("ou=former,"+d.PeopleDN, map[string][]string{"objectClass": {"organizationalUnit"}, "ou": {"former"}})
	twin := "uid=twin,ou=former," + d.PeopleDN
	d.AddUser("twin", "x", "ssh-users")
	d.Add(twin, map[string][]string{"objectClass": {"inetOrgPerson"}, "uid": {"twin"}, "cn": {"Twin"}, "sn": {"Twin"}, "userPassword": {"x"}})

	cfg := configFor(d)
	cfg.LoginGroup = "SSH-Users" // names of groups know no case
	l := newLDAP(t, cfg)
	tests := []struct {
		typed, login string
		disabled     bool
		err          error
	}{
		{"alice", "alice", false, nil},
		{"ALICE", "alice", false, nil},
		{"csmith", "carol", false, nil}, // an alias meets the same person
		{"CSmith", "carol", false, nil},
		{"erin", "erin", true, nil},
		{"dave", "", false, ErrNotMember},
		{"nobody", "", false, ErrUnknown},
		{"twin", "", false, ErrAmbiguous},
		{"", "", false, ErrUnknown},
		{"*", "", false, ErrUnknown},
		{"alice)(uid=*", "", false, ErrUnknown},
	}
	for _, tt := range tests {
		p, err := l.Lookup(t.Context(), tt.typed)
		if !errors.Is(err, tt.err) || p.Login != tt.login || p.Disabled != tt.disabled {
			t.Errorf("Lookup(%q) = %+v, %v; want %q, disabled %v, %v", tt.typed, p, err, tt.login, tt.disabled, tt.err)
		}
		if errors.Is(err, ErrUnavailable) || err != nil && p.ID != "" {
			t.Errorf("Lookup(%q) = %+v, %v", tt.typed, p, err)
		}
	}

	p, err := l.Lookup(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	if len(p.ID) != 36 || p.DN != d.UserDN("alice") || p.Name != "Alice Example" || p.Email != "alice@example.org" {
		t.Errorf("alice = %+v", p)
	}
	d.Delete(d.UserDN("alice"))
	d.AddUser("alice", "x", "ssh-users")
	again, err := l.Lookup(t.Context(), "alice")
	if err != nil || again.ID == p.ID {
		t.Errorf("another alice = %+v, %v; want another id than %s", again, err, p.ID)
	}
}

// TestFilterMetacharacters goes around CanonicalLogin: the escaping holds by itself.
func TestFilterMetacharacters(t *testing.T) {
	t.Parallel()
	d := testenv.Slapd(t)
	l := newLDAP(t, configFor(d))
	const odd = `we*i(r)d\`
	d.Add("cn=odd,"+d.PeopleDN, map[string][]string{"objectClass": {"inetOrgPerson"}, "cn": {"odd"}, "sn": {"odd"}, "uid": {odd}})

	for _, tt := range []struct {
		login string
		want  error
	}{
		{"alice", nil},
		{odd, nil},
		{"*", ErrUnknown},
		{"al*ce", ErrUnknown},
		{"alice*", ErrUnknown},
		{"alice)(uid=*", ErrUnknown},
		{"*)(objectClass=*", ErrUnknown},
		{"alice)(|(uid=*", ErrUnknown},
		{"x)(|(uid=alice", ErrUnknown},
		{`\`, ErrUnknown},
		{`\2a`, ErrUnknown},
		{"alice\x00", ErrUnknown},
		{"\x00", ErrUnknown},
		{"(", ErrUnknown},
		{")", ErrUnknown},
		{"\xff\xfe", ErrUnknown},
	} {
		err := l.servers[0].search(t.Context(), func(c *conn) error {
			_, err := l.entry(c, tt.login)
			return err
		})
		if !errors.Is(err, tt.want) {
			t.Errorf("searching %q: %v, want %v", tt.login, err, tt.want)
		}
	}
}

func TestBind(t *testing.T) {
	t.Parallel()
	d := testenv.Slapd(t)
	l := newLDAP(t, configFor(d))
	person := func(uid string) Person {
		t.Helper()
		p, err := l.Lookup(t.Context(), uid)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	alice, bob := person("alice"), person("bob")

	for _, tt := range []struct {
		name     string
		p        Person
		password string
		want     error
	}{
		{"right", alice, d.Password("alice"), nil},
		{"wrong", alice, "wrong", ErrPassword},
		{"of somebody else", alice, d.Password("bob"), ErrPassword},
		{"with a blank", alice, d.Password("alice") + " ", ErrPassword},
		{"not UTF-8", alice, "\xff\xfe", ErrPassword},
		{"no DN", Person{Login: "alice"}, d.Password("alice"), ErrPassword},
		{"service account", Person{DN: d.BindDN}, d.BindPassword, ErrPassword},
		{"base itself", Person{DN: d.PeopleDN}, "x", ErrPassword},
		{"malformed DN", Person{DN: "alice"}, "x", ErrPassword},
		{"disabled at the look-up", Person{DN: alice.DN, Disabled: true}, d.Password("alice"), ErrDisabled},
	} {
		if err := l.Bind(t.Context(), tt.p, Password(tt.password)); !errors.Is(err, tt.want) || errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}

	d.Disable("bob") // after the look-up: slapd refuses
	if err := l.Bind(t.Context(), bob, Password(d.Password("bob"))); !errors.Is(err, ErrPassword) {
		t.Errorf("disabled after the look-up: %v, want ErrPassword", err)
	}
	bob = person("bob")
	before := d.Binds(bob.DN)
	if err := l.Bind(t.Context(), bob, Password(d.Password("bob"))); !errors.Is(err, ErrDisabled) || d.Binds(bob.DN) != before {
		t.Errorf("disabled: %v after %d binds, want ErrDisabled and none", err, d.Binds(bob.DN)-before)
	}
	d.Enable("bob")
	strict := "cn=strict,ou=policies," + d.BaseDN
	d.Add(strict, map[string][]string{
		"objectClass": {"device", "pwdPolicy"}, "cn": {"strict"}, "pwdAttribute": {"userPassword"}, "pwdMustChange": {"TRUE"},
	})
	d.Modify(bob.DN, "pwdPolicySubentry", strict)
	d.Modify(bob.DN, "pwdReset", "TRUE")
	if err := l.Bind(t.Context(), person("bob"), Password(d.Password("bob"))); !errors.Is(err, ErrExpired) {
		t.Errorf("right password that must be changed: %v, want ErrExpired", err)
	}
	d.Delete(d.UserDN("alice"))
	if err := l.Bind(t.Context(), alice, Password(d.Password("alice"))); !errors.Is(err, ErrPassword) {
		t.Errorf("deleted since the look-up: %v, want ErrPassword", err)
	}
}

func TestDisabledAttributes(t *testing.T) {
	t.Parallel()
	d := testenv.Slapd(t)
	l := newLDAP(t, configFor(d))
	for _, tt := range []struct {
		attribute, value string
		want             bool
	}{
		{"pwdAccountLockedTime", "000001010000Z", true},
		{"pwdAccountLockedTime", "20200101000000Z", true},
		{"shadowExpire", "1", true},
		{"shadowExpire", "-1", false},
		{"pwdEndTime", "20200101000000Z", true},
	} {
		d.Modify(d.UserDN("alice"), tt.attribute, tt.value)
		if p, err := l.Lookup(t.Context(), "alice"); err != nil || p.Disabled != tt.want {
			t.Errorf("%s %s: %+v, %v; want Disabled %v", tt.attribute, tt.value, p, err, tt.want)
		}
		d.Modify(d.UserDN("alice"), tt.attribute)
	}
}

// TestUnusablePassword: a bind with an empty password is answered with success by many servers
// (CVE-2017-14623); none may be sent.
func TestUnusablePassword(t *testing.T) {
	t.Parallel()
	d := testenv.Slapd(t)
	p := newProxy(t, "127.0.0.1", strings.TrimPrefix(d.URL, "ldap://"))
	cfg := configFor(d)
	cfg.Servers = []string{"ldap://" + p.addr}
	l := newLDAP(t, cfg)
	for name, password := range unusablePasswords {
		if err := l.Bind(t.Context(), Person{DN: d.UserDN("alice")}, password); !errors.Is(err, ErrPassword) {
			t.Errorf("%s password: %v, want ErrPassword", name, err)
		}
	}
	if _, err := l.Lookup(t.Context(), "alice)(uid=*"); !errors.Is(err, ErrUnknown) {
		t.Errorf("Lookup of no login name: %v, want ErrUnknown", err)
	}
	if n, sent := p.connections.Load(), len(p.sentBytes()); n != 0 || sent != 0 {
		t.Errorf("%d connections and %d bytes reached the server, want none", n, sent)
	}
	if err := l.Bind(t.Context(), Person{DN: d.UserDN("alice")}, Password(d.Password("alice"))); err != nil || p.connections.Load() != 1 {
		t.Errorf("right password through the proxy: %v, %d connections", err, p.connections.Load())
	}
}

// TestReferral: an entry that refers to another server must not carry the password there.
func TestReferral(t *testing.T) {
	t.Parallel()
	d := testenv.Slapd(t)
	l := newLDAP(t, configFor(d))
	elsewhere, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer elsewhere.Close()
	accepted := make(chan struct{}, 10)
	go func() {
		for {
			c, err := elsewhere.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- struct{}{}
			c.Close()
		}
	}()
	d.AddReferral(d.UserDN("frank"), "ldap://"+elsewhere.Addr().String()+"/"+d.UserDN("frank"))

	if p, err := l.Lookup(t.Context(), "frank"); !errors.Is(err, ErrUnknown) {
		t.Errorf("Lookup of a referral = %+v, %v; want ErrUnknown", p, err)
	}
	if _, err := l.Lookup(t.Context(), "alice"); err != nil {
		t.Errorf("Lookup beside a referral: %v", err)
	}
	if err := l.Bind(t.Context(), Person{DN: d.UserDN("frank")}, "secret"); err == nil {
		t.Error("Bind to a referral succeeded")
	}
	if err := l.Bind(t.Context(), Person{DN: "uid=x," + d.UserDN("frank")}, "secret"); err == nil {
		t.Error("Bind below a referral succeeded")
	}
	elsewhere.Close()
	for range accepted {
		t.Error("the referral was followed")
	}
}

func TestParallelLogins(t *testing.T) {
	t.Parallel()
	d := testenv.Slapd(t)
	cfg := configFor(d)
	cfg.StartTLS, cfg.CAFile, cfg.LoginGroup = true, d.CAFile, "ssh-users"
	l := newLDAP(t, cfg)
	login := func(uid string) error {
		p, err := l.Lookup(t.Context(), uid)
		if err != nil {
			return err
		}
		return l.Bind(t.Context(), p, Password(d.Password(uid)))
	}
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			uid := []string{"alice", "bob", "carol"}[i%3]
			if err := login(uid); err != nil {
				t.Errorf("login %d of %s: %v", i, uid, err)
			}
		})
	}
	wg.Wait()
	if n := len(l.servers[0].idle); n > maxIdle {
		t.Errorf("%d idle connections, want at most %d", n, maxIdle)
	}
	// What comes later needs no new connection to search.
	before := d.Binds(d.BindDN)
	for range 20 {
		if err := login("alice"); err != nil {
			t.Error(err)
		}
	}
	if got := d.Binds(d.BindDN) - before; got != 0 {
		t.Errorf("20 logins in a row bound %d times to search, want 0", got)
	}
}

func TestCancelledLookup(t *testing.T) {
	t.Parallel()
	d := testenv.Slapd(t)
	l := newLDAP(t, configFor(d))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Lookup(ctx, "alice"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Lookup of a caller that left: %v, want ErrUnavailable", err)
	}
	if !l.servers[0].retryAt.IsZero() {
		t.Error("the server was blamed for a caller that left")
	}
	if _, err := l.Lookup(t.Context(), "alice"); err != nil {
		t.Error(err)
	}
}

func TestAnonymousSearch(t *testing.T) {
	t.Parallel()
	d := testenv.Slapd(t)
	cfg := configFor(d)
	cfg.BindDN, cfg.BindPassword = "", ""
	l := newLDAP(t, cfg)
	// This slapd shows nothing to strangers: that is no "unknown person".
	if _, err := l.Lookup(t.Context(), "alice"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Lookup without rights: %v, want ErrUnavailable", err)
	}
}

func TestSearchAccountRefused(t *testing.T) {
	t.Parallel()
	d := testenv.Slapd(t)
	cfg := configFor(d)
	cfg.BindPassword = "wrong"
	l := newLDAP(t, cfg)
	_, err := l.Lookup(t.Context(), "alice")
	if !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrPassword) {
		t.Errorf("Lookup with a wrong password of the server's own: %v, want ErrUnavailable", err)
	}
	if err != nil && strings.Contains(err.Error(), "wrong") {
		t.Errorf("the error shows the password: %v", err)
	}
}

func TestLongAnswer(t *testing.T) {
	t.Parallel()
	d := testenv.Slapd(t)
	l := newLDAP(t, configFor(d))
	err := l.servers[0].search(t.Context(), func(c *conn) error {
		c.raw.left.Store(100)
		_, err := l.query(c, d.BaseDN, ldap.ScopeWholeSubtree, 0, "(objectClass=*)", nil)
		if err == nil {
			return errors.New("an answer above the limit was read")
		}
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	})
	if !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
	if len(l.servers[0].idle) != 0 {
		t.Error("the connection was kept after its answer was cut off")
	}
}
