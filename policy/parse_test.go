package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestParseWholeSurface(t *testing.T) {
	t.Parallel()
	d, err := Parse([]byte(`---
# everything a rule can say
version: 1
networks:
  office: [192.0.2.0/24, 2001:db8::/48]
  home: ["::ffff:198.51.100.7"]
rules:
  - {name: no, deny: true, users: [group:ops, "bob"], not-from: [office], message: "not 'now'"}
  - name: yes
    deny: false
    users:
      - group:dba
      - carol
    targets: [env=prod, "db-*"]
    accounts: [postgres, "{user}"]
    from: [office, 203.0.113.9]
    not-from: [192.0.2.128/25]
    channels:
      - shell
      - local-forward: ["10.1.0.0/16:5432", "[2001:db8::/32]:22"]
      - {dynamic: ["*:443"]}
      - remote-forward: [localhost:8000-8099]
      - unix-forward
    code: {younger-than: 30m}
    trust: {idle: 8h, max: 24h, uses: 50, sources: [office, 203.0.113.0/24]}
    recording: best-effort
    record-limit: 512KiB
    retention: 90d
    relay: true
    env: [LANG, "APP_*", GIT_PROTOCOL]
    limits:
      idle: 15m
      keyboard-idle: 10m
      max: 1d12h
      sessions: 3
      user-sessions: 5
      rule-sessions: 40
      target-sessions: 7
      connection-sessions: 4
      channels: 20
  - {name: short, users: [group:Domain Users], targets: ["*"], from: [home], code: none, trust: {idle: 36h}, recording: off}
  - {name: shorter, users: ["*"], targets: ["*"], code: always, trust: {max: 2h}, recording: required}
  - {name: grows, users: ["*"], targets: ["*"], trust: {idle: 1h, max: 1d, targets: 10, grow: {after: 10, max: 7d}}}
  - {name: fresh, users: ["*"], targets: ["*"], code: fresh}
  - {name: glass, users: ["*"], targets: ["*"], record-input: true, break-glass: true, code: fresh}
  - {name: strong, users: ["*"], targets: ["*"], token-only: true, password-code: true, code: {younger-than: 5m}}
...
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []Rule{
		{Name: "no", Users: []string{"group:ops", "bob"}, NotFrom: []string{"office"}, Message: "not 'now'"},
		{
			Name: "yes", Effect: Allow, Users: []string{"group:dba", "carol"}, Targets: []string{"env=prod", "db-*"},
			Accounts: []string{"postgres", "{user}"}, From: []string{"office", "203.0.113.9"}, NotFrom: []string{"192.0.2.128/25"},
			Channels: []Channel{
				{Kind: Shell}, {LocalForward, []string{"10.1.0.0/16:5432", "[2001:db8::/32]:22"}}, {Dynamic, []string{"*:443"}},
				{RemoteForward, []string{"localhost:8000-8099"}}, {Kind: UnixForward},
			},
			Code:      Code{Kind: CodeYoungerThan, YoungerThan: 30 * time.Minute},
			Trust:     &Trust{Idle: 8 * time.Hour, Max: 24 * time.Hour, Uses: 50, Sources: []string{"office", "203.0.113.0/24"}},
			Recording: RecordBestEffort, RecordLimit: 512 << 10, Retention: 90 * 24 * time.Hour, Relay: true,
			Env: []string{"LANG", "APP_*", "GIT_PROTOCOL"},
			Limits: Limits{Idle: 15 * time.Minute, KeyboardIdle: 10 * time.Minute, Max: 36 * time.Hour, Sessions: 3, UserSessions: 5,
				RuleSessions: 40, TargetSessions: 7, ConnectionSessions: 4, Channels: 20},
		},
		{
			Name: "short", Effect: Allow, Users: []string{"group:Domain Users"}, Targets: []string{"*"}, From: []string{"home"},
			Code: Code{Kind: CodeNone}, Trust: &Trust{Idle: 36 * time.Hour, Max: 36 * time.Hour}, Recording: RecordOff,
		},
		{
			Name: "shorter", Effect: Allow, Users: []string{"*"}, Targets: []string{"*"},
			Trust: &Trust{Idle: 2 * time.Hour, Max: 2 * time.Hour},
		},
		{
			Name: "grows", Effect: Allow, Users: []string{"*"}, Targets: []string{"*"},
			Trust: &Trust{Idle: time.Hour, Max: 24 * time.Hour, Targets: 10, Grow: &Grow{After: 10, Max: 7 * 24 * time.Hour}},
		},
		{Name: "fresh", Effect: Allow, Users: []string{"*"}, Targets: []string{"*"}, Code: Code{Fresh: true}},
		{Name: "glass", Effect: Allow, Users: []string{"*"}, Targets: []string{"*"}, RecordInput: true, BreakGlass: true, Code: Code{Fresh: true}},
		{Name: "strong", Effect: Allow, Users: []string{"*"}, Targets: []string{"*"}, TokenOnly: true, PasswordCode: true, Code: Code{Kind: CodeYoungerThan, YoungerThan: 5 * time.Minute}},
	}
	if !reflect.DeepEqual(d.Rules, want) {
		t.Errorf("rules: got\n%+v\nwant\n%+v", d.Rules, want)
	}
	networks := map[string][]netip.Prefix{
		"office": {netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/48")},
		"home":   {netip.MustParsePrefix("198.51.100.7/32")},
	}
	if d.Version != 1 || !reflect.DeepEqual(d.Networks, networks) {
		t.Errorf("got version %d, networks %v", d.Version, d.Networks)
	}
}

// Every error has a line, a column and a caret below that column.
func TestParseErrors(t *testing.T) {
	t.Parallel()
	const begin = "version: 1\nnetworks: {office: [192.0.2.0/24], half: [0.0.0.0/1], rest: [128.0.0.0/1]}\nrules:\n"
	r := func(lines ...string) string { return begin + rule(lines...) } // further fields begin on line 7
	for _, tc := range []struct {
		name, doc    string
		line, column int
		msg          string
	}{
		{"empty", "", 1, 1, "the document is empty"},
		{"comment only", "# nothing\n", 1, 1, "the document is empty"},
		{"null", "null\n", 1, 1, "a document must be a mapping with keys, here is nothing"},
		{"list", "- a\n", 1, 1, "a document must be a mapping with keys, here is a list"},
		{"text", "hello\n", 1, 1, "a document must be a mapping with keys, here is text"},
		{"no version", "rules: []\n", 1, 1, "the version is missing"},
		{"version 2", "version: 2\nrules: []\n", 1, 10, "the version must be 1"},
		{"version as text", "version: \"1\"\nrules: []\n", 1, 10, "the version must be 1"},
		{"version as float", "version: 1.0\nrules: []\n", 1, 10, "the version must be 1"},
		{"version without value", "version:\nrules: []\n", 1, 1, `"version" has no value`},
		{"no rules", "version: 1\n", 1, 1, "there are no rules"},
		{"rules as mapping", "version: 1\nrules: {}\n", 2, 8, "rules must be a list, here is a mapping"},
		{"unknown top key", "version: 1\nrule: []\n", 2, 1, `unknown key "rule"; a document may have: version, networks, rules`},
		{"unknown key", r("sources: [office]"), 7, 5, `unknown key "sources"; a rule may have: name, deny`},
		{"unknown key in trust", r("trust: {idle: 1h, max: 2h, use: 5}"), 7, 32, `unknown key "use"; trust may have: idle, max, uses, targets, grow, sources`},
		{"unknown key in limits", r("limits: {time: 1h}"), 7, 14, `unknown key "time"; limits may have`},
		{"unknown key in code", r("code: {older-than: 1h}"), 7, 12, `unknown key "older-than"; code may have: younger-than`},
		{"key in other case", r("From: [office]"), 7, 5, `unknown key "From"`},
		{"repeated key", r("deny: false", "message: x") + "    deny: true\n", 9, 5, `mapping key "deny" already defined`},
		{"empty entry", "version: 1\nrules:\n  -\n  - name: x\n", 3, 3, noEntry},
		{"empty entry at the end", "version: 1\nrules:\n  -\n", 3, 4, "a rule must be a mapping with keys, here is nothing"},
		{"repeated key, quoted once", r("deny: false") + "    \"deny\": true\n", 8, 5, `mapping key "deny" already defined`},
		{"key is a number", "version: 1\nnetworks: {10: [192.0.2.1]}\nrules: []\n", 2, 12, "a key must be plain text"},
		{"second document", "version: 1\nrules: []\n---\nversion: 1\nrules: []\n", 3, 1, "a second document begins here"},
		{"second document after end", "version: 1\nrules: []\n...\nversion: 1\n", 4, 1, "a second document begins here"},
		{"two beginnings", "---\n---\nversion: 1\nrules: []\n", 2, 1, "a second document begins here"},
		{"directive", "%YAML 1.2\n---\nversion: 1\nrules: []\n", 1, 1, "directives (%) are not supported"},
		{"anchor", r("from: &a [office]"), 7, 11, "anchors (&) are not supported"},
		{"alias", r("from: *a"), 7, 11, "aliases (*) are not supported"},
		{"star without quotes", r("accounts: [*]"), 7, 16, `aliases (*) are not supported; put text that begins with * in quotes, as in "*"`},
		{"alias bomb", "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\n", 1, 4, "anchors (&) are not supported"},
		{"merge key", r("<<: {deny: true}"), 7, 5, "merge keys (<<) are not supported"},
		{"tag", r("deny: !!bool true"), 7, 11, "tags (!) are not supported"},
		{"key with a question mark", "? version\n: 1\n", 1, 1, "keys that begin with ? are not supported"},
		{"bracket left open", r("from: [office"), 7, 11, "sequence end token ']' not found"},
		{"quote left open", r("message: \"x"), 7, 14, "could not find end character of double-quoted text"},
		{"wrong indent", r("deny: true") + "   users: [a]\n", 8, 4, "value is not allowed in this context"},
		{"tab", r() + "\tdeny: true\n", 7, 1, "cannot start any token"},
		{"control character", r("message: \"a\x1bb\""), 7, 16, "control character U+001B"},
		{"control character by escape", r(`message: "a\x1bb"`), 7, 14, `the text "a\x1bb" has a character that cannot be printed`},
		{"zero byte", "version: 1\n\x00", 2, 1, "control character U+0000"},
		{"line separator", "version: 1\nrules: [] # \u2028", 2, 13, "control character U+2028"},
		{"not UTF-8", "version: 1\nrules: [\xff]\n", 2, 9, "not UTF-8"},
		{"after letters of many bytes", begin + "  - {name: \u00e9\u00e9, x: 1}\n", 4, 16, `unknown key "x"`},
		{"after carriage returns", "version: 1\r\nrules: []\r\nx: 1\r\n", 3, 1, `unknown key "x"`},
		{"carriage return alone", "version: 1\rrules: []", 1, 11, "control character U+000D"},

		{"no name", begin + "  - users: [a]\n    targets: [b]\n", 4, 5, "the rule has no name"},
		{"no name, in braces", begin + "  - {deny: true}\n", 4, 5, "the rule has no name"},
		{"empty name", begin + "  - name: \"\"\n    deny: true\n", 4, 11, "the text is empty"},
		{"name of blanks", begin + "  - name: \" \"\n    deny: true\n", 4, 11, "the text \" \" has blanks at its ends"},
		{"name is a number", begin + "  - name: 12\n", 4, 11, "this must be text, here is a number; text that looks like one needs quotes"},
		{"name without value", begin + "  - name:\n    deny: true\n", 4, 5, `"name" has no value`},
		{"name is null", begin + "  - name: ~\n    deny: true\n", 4, 5, `"name" has no value`},
		{"name twice", begin + rule() + rule(), 7, 11, `there is another rule "r" above`},
		{"rule is text", begin + "  - ops\n", 4, 5, "a rule must be a mapping with keys, here is text"},
		{"no users", begin + "  - name: x\n    targets: [a]\n", 4, 5, `the rule allows but has no users: write users: ["*"]`},
		{"no targets", begin + "  - name: x\n    users: [a]\n", 4, 5, `the rule allows but has no targets: write targets: ["*"]`},
		{"deny is text", r("deny: yes"), 7, 11, "this must be true or false, here is text"},
		{"message to allow", r("message: hello"), 7, 14, "message: is for rules that deny"},
		{"message of two lines", r("deny: true", "message: |\n      a\n      b"), 8, 14, `the text "a\nb" has a character`},
		{"code to deny", r("deny: true", "code: none"), 8, 11, "code: has no meaning in a rule that denies"},
		{"limits to deny", r("deny: true", "limits: {max: 1h}"), 8, 13, "limits: has no meaning in a rule that denies"},

		{"users as text", r("users: alice"), 6, 12, "this must be a list, such as [a, b], here is text"},
		{"empty users", r("users: []"), 6, 12, "the list is empty"},
		{"users without value", r("users:"), 6, 5, `"users" has no value`},
		{"user is a number", r("users: [a, 12]"), 6, 16, "this must be text, here is a number"},
		{"user is a truth", r("users: [true]"), 6, 13, "this must be text, here is true or false"},
		{"user is null", r("users: [~]"), 6, 13, "this must be text, here is nothing"},
		{"user is a list", r("users: [[a]]"), 6, 13, "this must be text, here is a list"},
		{"user glob", r(`users: [a, "b*"]`), 6, 16, `users: "b*": users and groups are whole names`},
		{"group without name", r(`users: ["group:"]`), 6, 13, "users: group: is followed by no name"},
		{"group of all", r(`users: ["group:*"]`), 6, 13, `users: "group:*": users and groups are whole names`},
		{"unknown prefix", r(`users: [role:x]`), 6, 13, `users: "role:x": only group: may stand before a name`},
		{"braces without quotes", r("accounts: [{user}]"), 7, 17, `"user" has no value; text with { } needs quotes`},
		{"user in the middle", r(`accounts: ["adm-{user}"]`), 7, 16, `accounts: "adm-{user}": {user} stands alone`},
		{"mapping for text", r("accounts: [a: b]"), 7, 16, "this must be text, here is a mapping; text with { } or a colon may need quotes"},
		{"glob class", r(`targets: ["db-[12]"]`), 6, 15, `targets: "db-[12]": '[' has no meaning in a glob`},
		{"label without value", r(`targets: ["env="]`), 6, 15, `targets: "env=": write label=value`},
		{"label glob", r(`targets: ["e*=x"]`), 6, 15, `targets: "e*=x": write label=value`},

		{"bad network name", "version: 1\nnetworks:\n  10.0.0.1: [192.0.2.1]\nrules: []\n", 3, 3, `"10.0.0.1" is not a name: begin with a letter`},
		{"network not a list", "version: 1\nnetworks:\n  a: 192.0.2.1\nrules: []\n", 3, 6, "this must be a list"},
		{"empty network", "version: 1\nnetworks:\n  a: []\nrules: []\n", 3, 6, "the list is empty"},
		{"bad CIDR", "version: 1\nnetworks:\n  a: [192.0.2.1, 192.0.2.0/33]\nrules: []\n", 3, 18, `"192.0.2.0/33" is not an address or a CIDR prefix`},
		{"CIDR with bits", "version: 1\nnetworks:\n  a: [192.0.2.1/24]\nrules: []\n", 3, 7, `"192.0.2.1/24" has bits set after the prefix: write 192.0.2.0/24`},
		{"network in network", "version: 1\nnetworks:\n  a: [192.0.2.1]\n  b: [a]\nrules: []\n", 4, 7, `"a" is not an address`},
		{"zone", r(`from: ["fe80::1%eth0"]`), 7, 12, `from: "fe80::1%eth0": an address with a zone has no meaning here`},
		{"address with leading zeros", r("from: [192.0.2.010]"), 7, 12, `from: "192.0.2.010" is not an address`},
		{"unknown network", r("from: [office, offce]"), 7, 20, `from: network "offce" is not defined; networks has [half, office, rest]`},
		{"unknown network in trust", r("trust: {max: 1h, sources: [home]}"), 7, 32, `trust.sources: network "home" is not defined`},
		{"unknown network in not-from", r("not-from:", "  - office", "  - home"), 9, 9, `not-from: network "home" is not defined`},

		{"unknown channel", r("channels: [shell, ssh]"), 7, 23, `channels: "ssh" is not a channel word; these are: shell, exec, sftp, scp, rsync, git,`},
		{"channel in other case", r("channels: [Shell]"), 7, 16, `channels: "Shell" is not a channel word`},
		{"channel twice", r("channels: [x11, {local-forward: [\"*:1\"]}, local-forward]"), 7, 47, "channels: local-forward is listed twice"},
		{"destinations of a shell", r("channels: [{shell: [\"*:1\"]}]"), 7, 16, "channels: shell takes no destinations"},
		{"no destinations", r("channels: [{local-forward: []}]"), 7, 32, "the list is empty"},
		{"two kinds in braces", r("channels: [{local-forward: [\"*:1\"], dynamic: [\"*:1\"]}]"), 7, 16, "write one kind in each pair of braces"},
		{"destination without port", r("channels: [{local-forward: [\"*:1\", 10.0.0.1]}]"), 7, 40, `channels: "10.0.0.1": write HOST:PORT`},
		{"destination port zero", r("channels: [{local-forward: [\"10.0.0.1:0\"]}]"), 7, 33, `channels: "10.0.0.1:0": "0" is not a port`},
		{"destination range backwards", r("channels: [{local-forward: [\"10.0.0.1:9-8\"]}]"), 7, 33, `"9-8" is not a port`},
		{"destination IPv6 bare", r("channels: [{local-forward: [\"2001:db8::1:22\"]}]"), 7, 33, "write HOST:PORT"},
		{"destination bad prefix", r("channels: [{local-forward: [\"10.0.0.0/40:22\"]}]"), 7, 33, `"10.0.0.0/40" is not an address`},
		{"destination bad address", r("channels: [{local-forward: [\"10.0.0.256:22\"]}]"), 7, 33, `"10.0.0.256" is not an address`},

		{"unknown code", r("code: never"), 7, 11, `"never" is not a demand for a code; these are: always, fresh, {younger-than: 30m}, none`},
		{"fresh with trust", r("code: fresh", "trust: {idle: 8h}"), 8, 12, "has no meaning with code: fresh"},
		{"grow without end", r("trust: {idle: 8h, grow: {after: 10}}"), 7, 29, "write {after: 10, max: 7d}"},
		{"grow that shrinks", r("trust: {idle: 1h, max: 8d, grow: {after: 10, max: 7d}}"), 7, 12, "grow needs after, and a max above 192h"},
		{"trust for no target", r("trust: {idle: 8h, targets: 0}"), 7, 32, "between 1 and"},
		{"code without age", r("code: younger-than"), 7, 11, `"younger-than" is not a demand`},
		{"code with nothing", r("code: {}"), 7, 11, "write {younger-than: 30m}"},
		{"code as a list", r("code: [none]"), 7, 11, "this must be text, here is a list"},
		{"code none without from", r("code: none"), 7, 11, "code: none needs from"},
		{"code none with not-from only", r("code: none", "not-from: [office]"), 7, 11, "code: none needs from"},
		{"code none for IPv4", r("code: none", "from: [0.0.0.0/0]"), 8, 11, "from: covers all of IPv4, which code: none must not"},
		{"code none for IPv6", r("code: none", `from: [office, "::/0"]`), 8, 11, "from: covers all of IPv6,"},
		{"code none for IPv4 as IPv6", r("code: none", `from: ["::ffff:0.0.0.0/96"]`), 8, 11, "from: covers all of IPv4"},
		{"code none for two halves", r("code: none", "from: [half, 1.2.3.4, rest]"), 8, 11, "from: covers all of IPv4"},
		{"code none for many parts", r("code: none", "from: [0.0.0.0/2, 64.0.0.0/3, 96.0.0.0/3, rest]"), 8, 11, "from: covers all of IPv4"},
		{"code none for routed IPv6", r("code: none", `from: ["2000::/4", "3000::/4"]`), 8, 11, "from: covers all of IPv6 that is routed"},

		{"duration without unit", r("limits: {idle: 15}"), 7, 20, "this must be a duration with a unit, such as 30m, here is a number"},
		{"duration with quotes, no unit", r(`limits: {idle: "15"}`), 7, 20, `"15" is not a duration`},
		{"duration with parts", r("limits: {idle: 1.5h}"), 7, 20, `"1.5h" is not a duration`},
		{"duration below zero", r("limits: {idle: -5m}"), 7, 20, `"-5m" is not a duration`},
		{"duration zero", r("limits: {idle: 0s}"), 7, 20, "a duration must be above zero"},
		{"duration in weeks", r("code: {younger-than: 2w}"), 7, 26, `"2w" is not a duration`},
		{"duration out of order", r("code: {younger-than: 5s1m}"), 7, 26, `"5s1m" is not a duration`},
		{"duration with a unit twice", r("code: {younger-than: 5m5m}"), 7, 26, `"5m5m" is not a duration`},
		{"duration too long", r("trust: {max: 4000d}"), 7, 18, `"4000d" is longer than ten years`},
		{"duration far too long", r("trust: {max: 99999999999999999999d}"), 7, 18, "is not a duration"},
		{"duration too long in sum", r("trust: {max: 3650d1s}"), 7, 18, "a duration must not be longer than ten years"},
		{"trust of nothing", r("trust: {}"), 7, 12, "trust needs idle or max"},
		{"trust of uses only", r("trust: {uses: 5}"), 7, 12, "trust needs idle or max"},
		{"trust idle over max", r("trust: {idle: 2h, max: 1h}"), 7, 19, "idle is longer than max"},
		{"trust as text", r("trust: 8h"), 7, 12, "trust must be a mapping with keys, here is text"},
		{"uses zero", r("trust: {max: 1h, uses: 0}"), 7, 28, "this must be a whole number between 1 and"},
		{"uses octal", r("trust: {max: 1h, uses: 010}"), 7, 28, "this must be a whole number"},
		{"uses as text", r("trust: {max: 1h, uses: \"5\"}"), 7, 28, "this must be a whole number, here is text"},
		{"sessions below zero", r("limits: {sessions: -1}"), 7, 24, "this must be a whole number between 1 and"},
		{"sessions too many", r("limits: {sessions: 99999999999999999999}"), 7, 24, ""},
		{"limits of nothing", r("limits: {}"), 7, 13, "limits needs a limit, such as"},
		{"channels over the built-in number", r("limits: {channels: 65}"), 7, 24, "limits.channels: a count must lie between 1 and 64"},
		{"keyboard-idle without unit", r("limits: {keyboard-idle: 15}"), 7, 29, "this must be a duration with a unit"},
		{"env of nothing", r("env: []"), 7, 10, "the list is empty"},
		{"env that is no name", r("env: [LANG, a-b]"), 7, 17, `env: "a-b" is not the name of an environment variable`},
		{"env with a question mark", r(`env: ["LC_?"]`), 7, 11, `env: "LC_?" is not the name of an environment variable`},
		{"env of the loader", r("env: [LANG, LD_PRELOAD]"), 7, 17, `env: "LD_PRELOAD" never passes: it tells programs on the target what to load or run`},
		{"env of a shell", r("env: [BASH_ENV]"), 7, 11, `env: "BASH_ENV" never passes`},
		{"env glob of what never passes", r(`env: ["PYTHON*"]`), 7, 11, `env: "PYTHON*" never passes`},
		{"env to deny", r("deny: true", "env: [LANG]"), 8, 10, "env: has no meaning in a rule that denies"},
		{"unknown mode", r("recording: strict"), 7, 16, `"strict" is not a mode of recording; these are: required, best-effort, off`},
		{"mode is a truth", r("recording: false"), 7, 16, "this must be text, here is true or false"},
		{"retention without unit", r("retention: 90"), 7, 16, "this must be a duration with a unit"},
		{"retention in words", r("retention: always"), 7, 16, `"always"`},
		{"retention of nothing", r("recording: off", "retention: 90d"), 8, 16, "has no meaning where nothing is recorded"},
		{"retention to deny", r("deny: true", "retention: 90d"), 8, 16, "retention: has no meaning in a rule that denies"},
		{"size without unit", r("record-limit: 1000"), 7, 19, "this must be a size with a unit, such as 16MiB, here is a number"},
		{"size in MB", r("record-limit: 16MB"), 7, 19, `"16MB" is not a size`},
		{"size zero", r("record-limit: 0MiB"), 7, 19, "a size must be above zero"},
		{"size too large", r("record-limit: 99999GiB"), 7, 19, `"99999GiB" is more than 1024GiB`},
		{"size below zero", r("record-limit: -1MiB"), 7, 19, `"-1MiB" is not a size`},
		{"word too long", r("accounts: [" + strings.Repeat("a", 600) + "]"), 7, 16, "the text is longer than 512 bytes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse([]byte(tc.doc))
			var e *ParseError
			if !errors.As(err, &e) {
				t.Fatalf("got %v, want a *ParseError", err)
			}
			if e.Line != tc.line || e.Column != tc.column || !strings.Contains(e.Msg, tc.msg) {
				t.Errorf("got %d:%d %q, want %d:%d %q\n%s", e.Line, e.Column, e.Msg, tc.line, tc.column, tc.msg, tc.doc)
			}
			checkExcerpt(t, e)
		})
	}
}

// checkExcerpt wants two lines, the second with a caret, and a message of one line without control characters.
func checkExcerpt(t interface{ Errorf(string, ...any) }, e *ParseError) {
	lines := strings.Split(e.Excerpt, "\n")
	if len(lines) != 2 || !strings.HasSuffix(lines[1], "^") || !strings.HasPrefix(lines[0], fmt.Sprintf("%4d | ", e.Line)) {
		t.Errorf("excerpt: got %q", e.Excerpt)
	}
	if e.Msg == "" || strings.ContainsFunc(e.Msg, func(c rune) bool { return c < ' ' }) {
		t.Errorf("message: got %q", e.Msg)
	}
	if want := fmt.Sprintf("line %d, column %d: ", e.Line, e.Column); !strings.HasPrefix(e.Error(), want) {
		t.Errorf("error: got %q, want %q first", e.Error(), want)
	}
}

func TestExcerptOfLongLine(t *testing.T) {
	t.Parallel()
	line := strings.Repeat("x", 500) + "\t\u202eY" + strings.Repeat("z", 500)
	got := excerpt(line, 7, 503)
	shown, caret, _ := strings.Cut(got, "\n")
	if len([]rune(shown)) > 120 || []rune(shown)[len([]rune(caret))-1] != 'Y' || strings.Contains(shown, "\u202e") {
		t.Errorf("got\n%s", got)
	}
}

// What would take the YAML library long, or run it out of stack, is refused before.
func TestParseBounds(t *testing.T) {
	t.Parallel()
	full := func(unit string) string { return strings.Repeat(unit, maxBytes/len(unit)) }
	many := func(unit string, tokens int) string { return strings.Repeat(unit, maxTokens/tokens-10) }
	numbered := func(format string, n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	var stairs strings.Builder
	for i := 0; stairs.Len() < maxBytes-2000; i++ {
		stairs.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	const tooLong = "has more than 300000 words and signs"
	for _, tc := range []struct{ name, doc, msg string }{
		{"too long", "version: 1\nrules: []\n#" + full("x"), "longer than 1048576 bytes"},
		{"brackets", full("["), tooLong},
		{"brackets, fewer", many("[", 1), tooDeep},
		{"braces", many("{a: ", 3), tooDeep},
		{"brackets and braces", many("[{a: ", 4), tooDeep},
		{"entries", many("- ", 1), tooDeep},
		{"entry lines", many("- a\n", 2), "must be a mapping"},
		{"empty entries", many("-\n", 1), noEntry},
		{"empty entries with comments", many("- # a\n", 2), noEntry},
		{"keys without values in entries", many("- a:\n", 3), noValue},
		{"two keys without values in entries", many("- a:\n  b:\n", 5), noValue},
		{"keys without values in brackets", "[" + many("a: ,", 3) + "]", noValue},
		{"keys without values in braces in brackets", "[" + many("{a: , b: },", 8) + "]", noValue},
		{"words in braces in brackets", "[" + many("{a, b},", 6) + "]", justBrace},
		{"empty braces", "[" + many("{},", 3) + "]", "must be a mapping"},
		{"keys", numbered("k%d: 1\n", 50_000), tooMany},
		{"keys below", "a:\n" + numbered("  k%d: 1\n", 50_000), tooMany},
		{"keys below an entry", "a:\n- " + numbered("k%d: 1\n  ", 50_000), tooMany},
		{"keys without values", numbered("k%d:\n", 50_000), noValue},
		{"keys with lists", numbered("k%d:\n- 1\n", 50_000), tooMany},
		{"keys in braces", "{" + numbered("k%d: 1,", 50_000) + "}", tooMany},
		{"words in braces", "{" + many("a,", 2) + "}", justBrace},
		{"braces in brackets", "[" + many("{a: b},", 6) + "]", "must be a mapping"},
		{"colons in brackets", "[" + many("a: b,", 4) + "]", "must be a mapping"},
		{"items in brackets", "[" + many("a,", 2) + "]", "must be a mapping"},
		{"most keys allowed, often", many("- a: 1\n  b: 2\n", 7), "must be a mapping"},
		{"stairs", stairs.String(), "unknown key"},
		{"questions", many("? ", 1), "not supported"},
		{"anchors", many("&a ", 2), "not supported"},
		{"aliases", many("*a ", 2), "not supported"},
		{"tags", many("! ", 1), "not supported"},
		{"colons", many(": ", 1), "unexpected key name"},
		{"colons close", full(":"), "no value"},
		{"commas", full(","), "here is text"},
		{"quotes", full("'"), ""},
		{"open quote", `"` + full("a\n")[:maxBytes-2], "could not find end character"},
		{"words", full("x "), "here is text"},
		{"lines", full("a\n"), "here is text"},
		{"blanks", full(" "), "empty"},
		{"headers", many("---\n", 2), "second document"},
		{"comments", many("#\n", 1), "empty"},
		{"block text", "a: |\n" + full(" x\n")[:maxBytes-8], "unknown key"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			start := time.Now()
			_, err := Parse([]byte(tc.doc))
			var e *ParseError
			if !errors.As(err, &e) {
				t.Fatalf("got %v, want a *ParseError", err)
			}
			checkExcerpt(t, e)
			if !strings.Contains(e.Msg, tc.msg) {
				t.Errorf("got %q, want %q", e.Msg, tc.msg)
			}
			if took := time.Since(start); took > 30*time.Second {
				t.Errorf("took %s", took)
			}
		})
	}
}

func TestParseManyRules(t *testing.T) {
	t.Parallel()
	d, err := Parse([]byte(manyRules(5000)))
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Rules) != 5001 {
		t.Errorf("got %d rules", len(d.Rules))
	}
}
