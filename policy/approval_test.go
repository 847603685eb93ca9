package policy

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestApprovalParse(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Approval{
		"{by: group:dba}": {By: []string{"group:dba"}, Count: 1, Within: 15 * time.Minute},
		"{by: [group:dba, carol], count: 2, within: 1h, reason: required}": {By: []string{"group:dba", "carol"}, Count: 2, Within: time.Hour, Reason: true},
	} {
		d := mustParse(t, "\n  - {name: r, users: [alice], targets: [vault], approval: "+text+"}\n")
		got := *d.Rules[0].Approval
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", text, got, want)
		}
		again, err := Parse([]byte(d.Format()))
		if err != nil || !reflect.DeepEqual(again.Rules, d.Rules) {
			t.Errorf("%s: format gives\n%s (%v)", text, d.Format(), err)
		}
	}
}

// Every error tells the place.
func TestApprovalErrors(t *testing.T) {
	t.Parallel()
	const before = "version: 1\nrules:\n  - name: r\n    users: [alice]\n    targets: [vault]\n    "
	for text, want := range map[string]string{
		"approval: {count: 2}":                              "line 6, column 15: approval needs by",
		"approval: {by: []}":                                "line 6, column 20: the list is empty",
		"approval: {by: [\"group:*\"]}":                     "line 6, column 21: approval.by: \"group:*\"",
		"approval: {by: [carol], count: 11}":                "line 6, column 36: approval.count: must lie between 1 and 10",
		"approval: {by: [carol], count: 0}":                 "line 6, column 36: this must be a whole number",
		"approval: {by: [carol], within: 2d}":               "line 6, column 37: approval.within: is longer than 24h",
		"approval: {by: [carol], reason: maybe}":            "line 6, column 37: \"maybe\": write reason: required",
		"approval: {by: [carol], after: 1h}":                "line 6, column 29: unknown key \"after\"; approval may have: by, count, within, reason",
		"approval: carol":                                   "line 6, column 15: approval must be a mapping",
		"deny: true\n    approval: {by: [carol]}":           "line 7, column 15: approval: has no meaning in a rule that denies",
		"relay: true\n    approval: {by: [\"re:x\"]}":       "line 7, column 21: approval.by:",
		"approval: {by: [carol], by: [dave]}":               "line 6, column 29: mapping key \"by\" already defined",
		"approval:\n      by:\n        - carol\n        - ": "line 9, column 11:",
	} {
		_, err := Parse([]byte(before + text + "\n"))
		var e *ParseError
		if !errors.As(err, &e) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s:\ngot  %v\nwant %s", text, err, want)
		}
	}
}

// A connection needs what every rule that allows a part of it asks for: whoever approves must be named by all.
func TestApprovalStrictest(t *testing.T) {
	t.Parallel()
	d := mustParse(t, `
  - {name: shell, users: [alice], targets: [vault], channels: [shell], approval: {by: [group:dba, erin], within: 1h}}
  - {name: files, users: [alice], targets: [vault], channels: [sftp], approval: {by: [group:leads, erin], count: 2, reason: required}}
  - {name: runs, users: [alice], targets: [vault], channels: [exec]}
`)
	ask := func(channel string) *Approval {
		return d.Decide(Request{User: "alice", Target: Target{Name: "vault"}, Account: "root", Source: netip.MustParseAddr("192.0.2.1"), Channel: channel}).Approval
	}
	if a := ask(Exec); a != nil || a.String() != "none" || a.Approvers() != nil {
		t.Errorf("exec asks for %v", a)
	}
	if a := ask(Shell); a.String() != "1 of group:dba, erin within 1h" {
		t.Errorf("shell asks for %v", a)
	}
	both := ask("")
	if both.Count != 2 || both.Within != 15*time.Minute || !both.Reason || both.String() != "2 of group:dba, erin who is also in group:leads, erin within 15m, with a reason" {
		t.Errorf("the connection asks for %v", both)
	}
	may := func(user string, groups ...string) bool {
		for _, words := range both.Approvers() {
			a, err := ParseApprovers(words)
			if err != nil {
				t.Fatal(err)
			}
			if !a.Has(user, groups) {
				return false
			}
		}
		return true
	}
	for _, c := range []struct {
		user   string
		groups []string
		want   bool
	}{
		{"erin", nil, true}, {"ERIN", nil, true}, {"carol", []string{"dba"}, false}, {"carol", []string{"DBA", "leads"}, true}, {"group:dba", nil, false}, {"", []string{"dba", "leads"}, false},
	} {
		if got := may(c.user, c.groups...); got != c.want {
			t.Errorf("%s %v: %v", c.user, c.groups, got)
		}
	}
	if (Approvers{}).Has("carol", []string{"dba"}) {
		t.Error("the zero Approvers has somebody")
	}
	if _, err := ParseApprovers(nil); err == nil {
		t.Error("nobody is taken for approvers")
	}
}

// What others have agreed to, or watch, is enough only for rules that ask for the same people or fewer. That a demand
// was met at all once stood for every later one.
func TestDemandsCover(t *testing.T) {
	t.Parallel()
	decide := func(keys string) Decision {
		d := mustParse(t, "\n  - {name: r, users: [alice], targets: [vault]"+keys+"}\n")
		return d.Decide(Request{User: "alice", Target: Target{Name: "vault"}, Channel: Shell})
	}
	for _, c := range []struct {
		opened, now string
		want        bool
	}{
		{"", "", true},
		{"by: [carol]", "", true},
		{"", "by: [carol]", false},
		{"by: [carol]", "by: [carol]", true},
		{"by: [carol]", "by: [carol], within: 1m", true},
		{"by: [carol]", "by: [dave]", false},
		{"by: [carol]", "by: [carol, dave]", false},
	} {
		key := func(kind, by string) string {
			if by == "" {
				return ""
			}
			return ", " + kind + ": {" + by + "}"
		}
		if got := decide(key("approval", c.opened)).Approval.Covers(decide(key("approval", c.now)).Approval); got != c.want {
			t.Errorf("an approval of {%s} covers {%s}: %v", c.opened, c.now, got)
		}
		if got := decide(key("moderator", c.opened)).Moderator.Covers(decide(key("moderator", c.now)).Moderator); got != c.want {
			t.Errorf("a moderator of {%s} covers {%s}: %v", c.opened, c.now, got)
		}
	}
	one, two := decide(", approval: {by: [carol]}").Approval, decide(", approval: {by: [carol], count: 2}").Approval
	why := decide(", approval: {by: [carol], reason: required}").Approval
	both := one.tighten(decide(", approval: {by: [dave]}").Approval)
	if one.Covers(two) || !two.Covers(one) || one.Covers(why) || !why.Covers(one) || one.Covers(both) || !both.Covers(one) {
		t.Error("of two approvals the weaker one covers the stronger, or the stronger does not cover the weaker")
	}
}
