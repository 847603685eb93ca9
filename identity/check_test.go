package identity

import (
	"strings"
	"testing"

	"sallyport/internal/testenv"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	d := testenv.Slapd(t)
	plain := testenv.Slapd(t, testenv.WithoutTLS())
	expired := testenv.Slapd(t, testenv.WithExpiredCertificate())
	stranger := testenv.Slapd(t)
	tests := []struct {
		name      string
		change    func(*LDAPConfig)
		last, fix string // name of the last step, and a word of what to do about it ("": nothing)
	}{
		{"good", func(*LDAPConfig) {}, "login group", ""},
		{"good LDAPS", func(c *LDAPConfig) { c.Servers = []string{d.LDAPSURL} }, "login group", ""},
		{"memberOf", func(c *LDAPConfig) { c.GroupBase = "" }, "groups", ""},
		{"nobody there", func(c *LDAPConfig) { c.Servers = []string{"ldap://" + closedPort(t)} }, "connect", "firewall"},
		{"silent", func(c *LDAPConfig) { c.Servers = []string{"ldap://" + silent(t)} }, "TLS", "TLS"},
		{"no StartTLS", func(c *LDAPConfig) { c.Servers = []string{plain.URL} }, "TLS", "ldaps://"},
		{"unknown authority", func(c *LDAPConfig) { c.CAFile = stranger.CAFile }, "TLS", "ca-file"},
		{"wrong name", func(c *LDAPConfig) { c.ServerName = "ldap.example.org" }, "TLS", "ldap.example.org"},
		{"expired", func(c *LDAPConfig) { c.Servers, c.CAFile = []string{expired.LDAPSURL}, expired.CAFile }, "TLS", "renew"},
		{"plaintext port", func(c *LDAPConfig) { c.Servers = []string{"ldaps" + strings.TrimPrefix(d.URL, "ldap")} }, "TLS", "TLS"},
		{"silent plaintext", func(c *LDAPConfig) { c.Servers, c.StartTLS = []string{"ldap://" + silent(t)}, false }, "bind", "log"},
		{"wrong password", func(c *LDAPConfig) { c.BindPassword = "x" }, "bind", "bind-password-file"},
		{"no base", func(c *LDAPConfig) { c.Base = "ou=nowhere," + d.BaseDN }, "base of people", "base"},
		{"nobody in it", func(c *LDAPConfig) { c.Base = d.GroupsDN }, "people", "login-attribute"},
		{"no groups", func(c *LDAPConfig) { c.GroupBase = "ou=nowhere," + d.BaseDN }, "base of groups", "groups.base"},
		{"no login group", func(c *LDAPConfig) { c.LoginGroup = "ssh-user" }, "login group", "login-group"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg := configFor(d)
			cfg.StartTLS, cfg.CAFile, cfg.LoginGroup = true, d.CAFile, "ssh-users"
			tt.change(&cfg)
			steps := newLDAP(t, cfg).Check(t.Context())
			if len(steps) == 0 {
				t.Fatal("no steps")
			}
			last := steps[len(steps)-1]
			if last.Name != cfg.Servers[0]+": "+tt.last {
				t.Errorf("last step %+v, want %s", last, tt.last)
			}
			if (last.Err == nil) != (tt.fix == "") || !strings.Contains(last.Fix, tt.fix) || (last.Fix == "") != (tt.fix == "") {
				t.Errorf("last step: %v, fix %q, want %q", last.Err, last.Fix, tt.fix)
			}
			for _, s := range steps[:len(steps)-1] {
				if s.Err != nil || s.Detail == "" || s.Fix != "" {
					t.Errorf("step %+v before the last", s)
				}
			}
		})
	}
}

func TestCheckBothServers(t *testing.T) {
	t.Parallel()
	d := testenv.Slapd(t)
	cfg := configFor(d)
	cfg.Servers = []string{"ldap://" + closedPort(t), d.URL}
	var failed, worked int
	for _, s := range newLDAP(t, cfg).Check(t.Context()) {
		if s.Err != nil {
			failed++
		} else if strings.HasPrefix(s.Name, d.URL) {
			worked++
		}
	}
	if failed != 1 || worked < 4 {
		t.Errorf("%d steps failed, %d of the second server worked; want 1 and at least 4", failed, worked)
	}
}
