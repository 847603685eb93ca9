package testenv

import (
	"slices"
	"testing"

	"github.com/go-ldap/ldap/v3"
)

func TestSlapd(t *testing.T) {
	t.Parallel()
	d := Slapd(t)
	search := func(t *testing.T, dn string) *ldap.Entry {
		t.Helper()
		conn, err := ldap.DialURL(d.URL)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.Bind(d.BindDN, d.BindPassword); err != nil {
			t.Fatalf("binding as %s: %v", d.BindDN, err)
		}
		r, err := conn.Search(ldap.NewSearchRequest(dn, ldap.ScopeBaseObject, ldap.NeverDerefAliases, 0, 0, false,
			"(objectClass=*)", []string{"*", "+"}, nil))
		if err != nil {
			t.Fatalf("reading %s: %v", dn, err)
		}
		return r.Entries[0]
	}
	bind := func(uid string) error {
		conn, err := ldap.DialURL(d.URL)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.Bind(d.UserDN(uid), d.Password(uid))
	}

	bob := search(t, d.UserDN("bob"))
	got := bob.GetAttributeValues("memberOf")
	slices.Sort(got)
	if want := []string{d.GroupDN("oncall"), d.GroupDN("ssh-users")}; !slices.Equal(got, want) {
		t.Errorf("bob's memberOf = %v, want %v", got, want)
	}
	if got, want := search(t, d.GroupDN("oncall")).GetAttributeValues("memberOf"), []string{d.GroupDN("ops")}; !slices.Equal(got, want) {
		t.Errorf("memberOf of oncall = %v, want %v", got, want)
	}
	if bob.GetAttributeValue("userPassword") != "" {
		t.Error("the searching account can read passwords")
	}

	if err := bind("alice"); err != nil {
		t.Errorf("alice's bind: %v", err)
	}
	d.Disable("alice")
	if err := bind("alice"); !ldap.IsErrorWithCode(err, ldap.LDAPResultInvalidCredentials) {
		t.Errorf("bind of a disabled account: %v, want code 49", err)
	}
	d.Enable("alice")
	if err := bind("alice"); err != nil {
		t.Errorf("alice's bind after Enable: %v", err)
	}
	if got := d.Binds(d.UserDN("alice")); got != 3 {
		t.Errorf("Binds(alice) = %d, want 3", got)
	}

	url := d.URL
	d.Stop()
	if _, err := ldap.DialURL(url); err == nil {
		t.Error("a stopped slapd takes connections")
	}
	d.Start()
	if err := bind("bob"); err != nil || d.URL != url {
		t.Errorf("after Start: bind %v, URL %s, want nil, %s", err, d.URL, url)
	}
}
