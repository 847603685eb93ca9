package policy

import (
	"strings"
	"testing"
	"time"
)

func TestModerator(t *testing.T) {
	t.Parallel()
	d, err := Parse([]byte(`version: 1
rules:
  - name: one
    users: [alice]
    targets: [db]
    channels: [shell]
    observed: silent
    moderator: {by: [group:auditors, carol], leaving: pause, within: 5m}
  - name: two
    users: [alice]
    targets: [db]
    channels: [exec]
    moderator: {by: [group:night]}
`))
	if err != nil {
		t.Fatal(err)
	}
	shell := d.Decide(Request{User: "alice", Target: Target{Name: "db"}, Channel: Shell})
	m := shell.Moderator
	if !shell.Silent || m == nil || !m.Pause || m.Within != 5*time.Minute || m.Who() != "group auditors, carol" {
		t.Errorf("shell: %+v %+v", shell, m)
	}
	for _, c := range []struct {
		login  string
		groups []string
		want   bool
	}{{"CAROL", nil, true}, {"dave", []string{"Auditors"}, true}, {"dave", []string{"night"}, false}, {"", nil, false}, {"", []string{"auditors"}, false}} {
		if got := m.May(c.login, c.groups); got != c.want {
			t.Errorf("%s of %v may moderate: %v", c.login, c.groups, got)
		}
	}
	both := d.Decide(Request{User: "alice", Target: Target{Name: "db"}})
	m = both.Moderator
	if both.Silent || m.Pause || m.Within != 5*time.Minute || m.May("carol", nil) || !m.May("carol", []string{"night"}) {
		t.Errorf("the connection as a whole: %+v %+v", both, m)
	}
	if (&Moderator{By: []string{"*"}}).May("carol", nil) {
		t.Error("the moderator of a rule knows somebody")
	}
	for text, want := range map[string]string{
		"observed: loud": "tell or silent", "moderator: {leaving: end}": "needs by", "moderator: {by: [x], leaving: stay}": "end or pause",
		`moderator: {by: ["a*"]}`: "whole names", "moderator: {by: [x], within: 0s}": "above zero", "moderator: {by: []}": "empty",
		"deny: true, moderator: {by: [x]}": "no meaning",
	} {
		_, err := Parse([]byte(`{version: 1, rules: [{name: x, users: ["*"], targets: ["*"], ` + text + `}]}`))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
