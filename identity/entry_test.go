package identity

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"
)

func TestStatus(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) // day 20780
	tests := []struct {
		attribute, value string
		lock             time.Duration
		want             string // first word; "": may be used
	}{
		{attrLockedTime, "000001010000Z", time.Hour, "locked"},
		{attrLockedTime, "20261123113000Z", 0, "locked"},
		{attrLockedTime, "20261123113000Z", time.Hour, "locked"},
		{attrLockedTime, "20261123113000.123456Z", time.Hour, "locked"},
		{attrLockedTime, "20261123105900Z", time.Hour, ""},
		{attrLockedTime, "yesterday", time.Hour, "unreadable"},
		{attrEndTime, "20261123115959Z", 0, "expired"},
		{attrEndTime, "20261123120001Z", 0, ""},
		{attrStartTime, "202611231201Z", 0, "not"},
		{attrStartTime, "20261123130000+0200", 0, ""},
		{attrShadowExpire, "20779", 0, "expired"},
		{attrShadowExpire, "20780", 0, "expired"},
		{attrShadowExpire, "20781", 0, ""},
		{attrShadowExpire, "-1", 0, ""},
		{attrShadowExpire, "0", 0, "expired"},
		{attrShadowExpire, "never", 0, "unreadable"},
		{attrNSLock, "TRUE", 0, "locked"},
		{attrNSLock, "true", 0, "locked"},
		{attrNSLock, "FALSE", 0, ""},
		{attrAccountControl, "512", 0, ""},
		{attrAccountControl, "514", 0, "disabled"},
		{attrAccountControl, "66050", 0, "disabled"},
		{attrAccountControl, "0x2", 0, "unreadable"},
		{attrComputed, "16", 0, "locked"},
		{attrComputed, "8388608", 0, "password"},
		{attrComputed, "0", 0, ""},
		{attrExpires, "0", 0, ""},
		{attrExpires, "9223372036854775807", 0, ""},
		{attrExpires, "134399087990000000", 0, "expired"}, // 2026-11-23 11:59:59
		{attrExpires, "134399088010000000", 0, ""},        // 2026-11-23 12:00:01
		{attrExpires, "-5", 0, "unreadable"},
		{"description", "disabled", 0, ""},
	}
	for _, tt := range tests {
		// Servers may answer with another spelling of the attribute's name.
		for _, name := range []string{tt.attribute, strings.ToLower(tt.attribute)} {
			e := ldap.NewEntry("uid=alice", map[string][]string{name: {tt.value}})
			got := status(e, now, tt.lock)
			if word, _, _ := strings.Cut(got, " "); word != tt.want {
				t.Errorf("%s: %s (lock %v): %q, want %q", name, tt.value, tt.lock, got, tt.want)
			}
		}
	}
}

func TestFileTime(t *testing.T) {
	t.Parallel()
	if got, want := fileTime(116444736000000000), time.Unix(0, 0); !got.Equal(want) {
		t.Errorf("fileTime of 1970 = %v, want %v", got, want)
	}
	if got := fileTime(9223372036854775807).UTC().Year(); got != 30828 {
		t.Errorf("year of the highest file time = %d, want 30828", got)
	}
}

func TestNewPerson(t *testing.T) {
	t.Parallel()
	const (
		dn   = "uid=alice,ou=people,dc=example,dc=org"
		text = "00112233-4455-6677-8899-aabbccddeeff"
		guid = "\x33\x22\x11\x00\x55\x44\x77\x66\x88\x99\xaa\xbb\xcc\xdd\xee\xff"
	)
	tests := []struct {
		name       string
		dn         string
		attribute  string
		attributes map[string][]string
		want       Person // without DN
		err        error
	}{
		{
			"OpenLDAP", dn, "uid",
			map[string][]string{"entryUUID": {strings.ToUpper(text)}, "uid": {"Alice"}, "cn": {"Alice A."}, "mail": {"a@x", "b@x"}, "mobile": {"+49 151 1", "+49 151 2"}},
			Person{ID: text, Login: "alice", Name: "Alice A.", Email: "a@x", Phone: "+49 151 1"}, nil,
		},
		{
			"Active Directory", "CN=Alice,OU=People,DC=example,DC=org", "sAMAccountName",
			map[string][]string{
				"objectGUID": {guid}, "sAMAccountName": {"ALICE"}, "displayName": {"Alice"}, "cn": {"other"}, "userAccountControl": {"514"},
			},
			Person{ID: text, Login: "alice", Name: "Alice", Disabled: true, Status: "disabled (userAccountControl)"}, nil,
		},
		{
			"several names, one in the DN", dn, "uid",
			map[string][]string{"entryUUID": {text}, "uid": {"aaron", "alice", "zoe"}},
			Person{ID: text, Login: "alice"}, nil,
		},
		{
			"several names, none in the DN", "cn=x,ou=people,dc=example,dc=org", "uid",
			map[string][]string{"entryUUID": {text}, "uid": {"zoe", "aaron"}},
			Person{ID: text, Login: "aaron"}, nil,
		},
		{"no id", dn, "uid", map[string][]string{"uid": {"alice"}}, Person{}, ErrUnavailable},
		{"two ids", dn, "uid", map[string][]string{"uid": {"alice"}, "entryUUID": {text, text}}, Person{}, ErrUnavailable},
		{"malformed id", dn, "uid", map[string][]string{"uid": {"alice"}, "entryUUID": {"1"}}, Person{}, ErrUnavailable},
		{"short GUID", dn, "uid", map[string][]string{"uid": {"alice"}, "objectGUID": {"1"}}, Person{}, ErrUnavailable},
		{"no login", dn, "uid", map[string][]string{"entryUUID": {text}}, Person{}, ErrUnknown},
		{"full-width login", dn, "uid", map[string][]string{"entryUUID": {text}, "uid": {"ａlice"}}, Person{}, ErrUnknown},
	}
	for _, tt := range tests {
		got, err := newPerson(ldap.NewEntry(tt.dn, tt.attributes), LDAPConfig{LoginAttribute: tt.attribute, MailAttribute: "mail", MobileAttribute: "mobile"}, time.Now())
		if !errors.Is(err, tt.err) {
			t.Errorf("%s: error %v, want %v", tt.name, err, tt.err)
		}
		if err == nil {
			tt.want.DN = tt.dn
		}
		if got.ID != tt.want.ID || got.DN != tt.want.DN || got.Login != tt.want.Login || got.Name != tt.want.Name ||
			got.Email != tt.want.Email || got.Phone != tt.want.Phone || got.Disabled != tt.want.Disabled || got.Status != tt.want.Status {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func TestMemberOfRange(t *testing.T) {
	t.Parallel()
	e := ldap.NewEntry("cn=x", map[string][]string{"memberOf;range=0-1499": {"cn=a"}})
	if got, err := memberOf(e); !errors.Is(err, ErrUnavailable) {
		t.Errorf("memberOf in ranges = %v, %v; want ErrUnavailable: a part of the groups must not pass for all", got, err)
	}
}
