package identity

import (
	"fmt"
	"slices"
	"testing"

	"sallyport/internal/testenv"
)

func TestGroups(t *testing.T) {
	t.Parallel()
	d := testenv.Slapd(t)
	d.AddUser("gina", "x")
	d.AddGroup("g1", d.UserDN("gina"))
	for i := 2; i <= 10; i++ {
		d.AddGroup(fmt.Sprintf("g%d", i), d.GroupDN(fmt.Sprintf("g%d", i-1)))
	}
	d.AddUser("hank", "x")
	d.AddGroup("round", d.UserDN("hank"))
	d.AddGroup("about", d.GroupDN("round"))
	d.Join("round", d.GroupDN("about"))
	d.Join("round", d.GroupDN("round"))

	// groupOfUniqueNames has no memberOf here, posixGroup lists names: both are found by search only.
	d.Add(d.GroupDN("inner"), map[string][]string{"objectClass": {"groupOfUniqueNames"}, "cn": {"inner"}, "uniqueMember": {d.UserDN("carol")}})
	d.Add(d.GroupDN("outer"), map[string][]string{"objectClass": {"groupOfUniqueNames"}, "cn": {"outer"}, "uniqueMember": {d.GroupDN("inner")}})
	d.Add(d.GroupDN("staff"), map[string][]string{"objectClass": {"posixGroup"}, "cn": {"staff"}, "gidNumber": {"1"}, "memberUid": {"carol"}})

	// A group of the right name in the wrong place, and one with a name full of special characters.
	d.Add("ou=mine,"+d.BaseDN, map[string][]string{"objectClass": {"organizationalUnit"}, "ou": {"mine"}})
	d.Add("cn=ops,ou=mine,"+d.BaseDN, map[string][]string{"objectClass": {"groupOfNames"}, "cn": {"ops"}, "member": {d.UserDN("carol")}})
	jane := `cn=Doe\, (Jane) *\\,` + d.PeopleDN
	d.Add(jane, map[string][]string{"objectClass": {"inetOrgPerson"}, "cn": {`Doe, (Jane) *\`}, "sn": {"Doe"}, "uid": {"jane"}})
	d.AddGroup("R&D (east), *", jane)

	deep := []string{"g1", "g2", "g3", "g4", "g5", "g6", "g7", "g8"}
	carol := []string{"ssh-users"}
	by := map[string]func(*LDAPConfig){
		"memberOf": func(c *LDAPConfig) { c.GroupBase = "" },
		"search":   func(c *LDAPConfig) {},
		"unique":   func(c *LDAPConfig) { c.GroupFilter = "(uniqueMember={dn})" },
		"names":    func(c *LDAPConfig) { c.GroupFilter = "(memberUid={login})" },
		"both":     func(c *LDAPConfig) { c.GroupFilter = "(|(uniqueMember={dn})(memberUid={login}))" },
	}
	tests := []struct {
		by, login string
		want      []string
	}{
		{"memberOf", "alice", []string{"ops", "ssh-users"}},
		{"search", "alice", []string{"ops", "ssh-users"}},
		{"memberOf", "bob", []string{"oncall", "ops", "ssh-users"}},
		{"search", "bob", []string{"oncall", "ops", "ssh-users"}},
		{"names", "bob", []string{"oncall", "ops", "ssh-users"}},
		{"memberOf", "gina", deep},
		{"search", "gina", deep},
		{"memberOf", "hank", []string{"about", "round"}},
		{"search", "hank", []string{"about", "round"}},
		{"memberOf", "carol", []string{"ops", "ssh-users"}}, // without a base every group counts
		{"search", "carol", carol},
		{"unique", "carol", append([]string{"inner", "outer"}, carol...)},
		{"names", "carol", append(slices.Clone(carol), "staff")},
		{"both", "carol", append(append([]string{"inner", "outer"}, carol...), "staff")},
		{"memberOf", "jane", []string{"R&D (east), *"}},
		{"search", "jane", []string{"R&D (east), *"}},
	}
	for _, tt := range tests {
		t.Run(tt.by+"/"+tt.login, func(t *testing.T) {
			cfg := configFor(d)
			by[tt.by](&cfg)
			p, err := newLDAP(t, cfg).Lookup(t.Context(), tt.login)
			if err != nil || !slices.Equal(p.Groups, tt.want) {
				t.Errorf("groups = %q, %v; want %q", p.Groups, err, tt.want)
			}
		})
	}
}

// TestGroupSearchOnly proves that nested groups are found without any memberOf.
func TestGroupSearchOnly(t *testing.T) {
	t.Parallel()
	d := testenv.Slapd(t)
	d.AddUser("ivan", "x")
	const n = 120 // more than fit one search
	for i := range n {
		d.Add(d.GroupDN(fmt.Sprintf("t%03d", i)), map[string][]string{
			"objectClass": {"groupOfUniqueNames"}, "cn": {fmt.Sprintf("t%03d", i)}, "uniqueMember": {d.UserDN("ivan")},
		})
	}
	d.Add(d.GroupDN("top"), map[string][]string{"objectClass": {"groupOfUniqueNames"}, "cn": {"top"}, "uniqueMember": {d.GroupDN("t119")}})
	cfg := configFor(d)
	cfg.GroupFilter, cfg.LoginGroup = "(uniqueMember={dn})", "top"
	p, err := newLDAP(t, cfg).Lookup(t.Context(), "ivan")
	if err != nil || len(p.Groups) != n+1 {
		t.Errorf("%d groups, %v; want %d and entry by the nested one", len(p.Groups), err, n+1)
	}
}
