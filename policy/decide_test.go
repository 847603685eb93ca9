package policy

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// mustParse reads a document of the given rules, with networks office and home.
func mustParse(t testing.TB, rules string) *Document {
	t.Helper()
	d, err := Parse([]byte("version: 1\nnetworks:\n  office: [192.0.2.0/24, 2001:db8::/48]\n  home: [198.51.100.7]\nrules:\n" + rules))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// request is alice of group ops, from the office to web1 as root, with a shell.
func request(change func(*Request)) Request {
	r := Request{
		User:    "alice",
		Groups:  []string{"staff", "ops"},
		Target:  Target{Name: "web1", Labels: map[string]string{"env": "prod"}},
		Account: "root",
		Source:  netip.MustParseAddr("192.0.2.5"),
		Channel: Shell,
	}
	if change != nil {
		change(&r)
	}
	return r
}

// rule is a rule that allows alice everything about web1, with the given lines besides.
func rule(lines ...string) string {
	s := "  - name: r\n"
	for _, line := range append([]string{"users: [alice]", "targets: [web1]"}, lines...) {
		key, _, _ := strings.Cut(line, ":")
		if again := "    " + key + ":"; strings.Contains(s, again) { // replaces the line
			start := strings.Index(s, again)
			end := start + strings.IndexByte(s[start:], '\n') + 1
			s = s[:start] + s[end:]
		}
		s += "    " + line + "\n"
	}
	return s
}

func deny(lines ...string) string {
	return "  - name: d\n    deny: true\n    " + strings.Join(append(lines, ""), "\n    ") + "\n"
}

func TestDecideMatchesFields(t *testing.T) {
	t.Parallel()
	source := func(s string) func(*Request) {
		return func(r *Request) { r.Source = netip.MustParseAddr(s) }
	}
	forward := func(to string) func(*Request) {
		return func(r *Request) { r.Channel, r.To = LocalForward, to }
	}
	everybody := rule(`users: ["*"]`, `targets: ["*"]`, "channels: [shell, local-forward]")
	for _, tc := range []struct {
		name   string
		rules  string
		change func(*Request)
		allow  bool
		why    string // of the first verdict
	}{
		{"user named", rule(), nil, true, "allows shell"},
		{"user in other case", rule(), func(r *Request) { r.User = "ALICE" }, true, "allows shell"},
		{"rule in other case", rule("users: [AliCe]"), nil, true, "allows shell"},
		{"user decomposed, rule composed", rule("users: [jos\u00e9]"), func(r *Request) { r.User = "jose\u0301" }, true, "allows shell"},
		{"rule decomposed, user composed", rule("users: [jose\u0301]"), func(r *Request) { r.User = "jos\u00e9" }, true, "allows shell"},
		{"letters beyond ASCII keep case", rule("users: [\u00e9lise]"), func(r *Request) { r.User = "\u00c9lise" }, false, "user \u00c9lise is not in users [\u00e9lise]"},
		{"another user", rule(), func(r *Request) { r.User = "bob" }, false, "user bob is not in users [alice]"},
		{"user named as a group is not its member", rule("users: [group:ops]"), func(r *Request) { r.User, r.Groups = "ops", nil }, false, "user ops is not in users [group:ops]"},
		{"group named as a user is not the user", rule("users: [ops]"), nil, false, "user alice is not in users [ops]"},
		{"group", rule("users: [bob, group:OPS]"), nil, true, "allows shell"},
		{"everybody", rule(`users: ["*"]`), func(r *Request) { r.User = "x" }, true, "allows shell"},
		{"user with an escape", rule(), func(r *Request) { r.User = "a\x1b[2J" }, false, `user "a\x1b[2J" is not in users [alice]`},

		{"target in other case", rule(), func(r *Request) { r.Target.Name = "WEB1" }, false, "target WEB1 is not in targets [web1]"},
		{"target prefix is not enough", rule(), func(r *Request) { r.Target.Name = "web10" }, false, "target web10 is not in targets [web1]"},
		{"glob", rule(`targets: ["web*"]`), nil, true, "allows shell"},
		{"glob with one character", rule(`targets: ["w?b?"]`), nil, true, "allows shell"},
		{"glob in the middle", rule(`targets: ["*e*1"]`), nil, true, "allows shell"},
		{"glob elsewhere", rule(`targets: ["db-*"]`), nil, false, "target web1 is not in targets [db-*]"},
		{"label", rule("targets: [env=prod]"), nil, true, "allows shell"},
		{"label glob", rule(`targets: ["env=p*"]`), nil, true, "allows shell"},
		{"label with another value", rule("targets: [env=test]"), nil, false, "target web1 is not in targets [env=test]"},
		{"no such label", rule(`targets: ["zone=*"]`), nil, false, "target web1 is not in targets [zone=*]"},
		{"target named as a label", rule("targets: [env=prod]"), func(r *Request) { r.Target = Target{Name: "env=prod"} }, false, "target env=prod is not in targets [env=prod]"},

		{"account", rule("accounts: [postgres, root]"), nil, true, "allows shell"},
		{"another account", rule("accounts: [postgres]"), nil, false, "account root is not in accounts [postgres]"},
		{"account glob", rule(`accounts: ["r*"]`), nil, true, "allows shell"},
		{"own account", rule(`accounts: ["{user}"]`), func(r *Request) { r.Account = "alice" }, true, "allows shell"},
		{"own account in other case", rule(`accounts: ["{user}"]`), func(r *Request) { r.Account = "ALICE" }, false, "account ALICE is not in accounts [{user}]"},
		{"own account of a user named as a glob", rule(`users: ["*"]`, `accounts: ["{user}"]`), func(r *Request) { r.User = "*" }, false, "account root is not in accounts [{user}]"},
		{"account not known, rule allows", rule("accounts: [root]"), func(r *Request) { r.Account = "" }, false, "the account is not known, and accounts lists [root]"},
		{"account not known, rule denies", deny("accounts: [root]") + everybody, func(r *Request) { r.Account = "" }, false, "denies shell"},
		{"account not known, none listed", rule(), func(r *Request) { r.Account = "" }, true, "allows shell"},

		{"from network", rule("from: [office]"), nil, true, "allows shell"},
		{"from IPv6", rule("from: [office]"), source("2001:db8::7"), true, "allows shell"},
		{"from IPv4 written as IPv6", rule("from: [office]"), source("::ffff:192.0.2.5"), true, "allows shell"},
		{"rule has IPv4 written as IPv6", rule(`from: ["::ffff:192.0.2.5"]`), nil, true, "allows shell"},
		{"rule has IPv4 prefix written as IPv6", rule(`from: ["::ffff:192.0.2.0/120"]`), nil, true, "allows shell"},
		{"from address", rule("from: [192.0.2.5]"), nil, true, "allows shell"},
		{"from prefix", rule("from: [home, 192.0.2.0/28]"), nil, true, "allows shell"},
		{"from elsewhere", rule("from: [office]"), source("203.0.113.7"), false, "source 203.0.113.7 is not in from [office]"},
		{"all of IPv6 is not IPv4", rule(`from: ["::/0"]`), nil, false, "source 192.0.2.5 is not in from [::/0]"},
		{"from with a zone", rule(`from: ["fe80::/10"]`), source("fe80::1%eth0"), false, "source fe80::1%eth0 has a zone and is not in from [fe80::/10]"},
		{"source not known", rule("from: [office]"), func(r *Request) { r.Source = netip.Addr{} }, false, "the source is not known and is not in from [office]"},
		{"source not known, rule denies", deny("from: [home]") + everybody, func(r *Request) { r.Source = netip.Addr{} }, false, "denies shell"},
		{"not-from elsewhere", rule("not-from: [home]"), nil, true, "allows shell"},
		{"not-from", rule("not-from: [office]"), nil, false, "source 192.0.2.5 is in not-from [office]"},
		{"not-from, source not known", rule("not-from: [office]"), func(r *Request) { r.Source = netip.Addr{} }, false, "the source is not known and may be in not-from [office]"},
		{"not-from with a zone, rule denies", deny("not-from: [office]") + everybody, source("fe80::1%eth0"), false, "denies shell"},
		{"from and not-from", rule("from: [office]", "not-from: [192.0.2.5]"), nil, false, "source 192.0.2.5 is in not-from [192.0.2.5]"},

		{"default channels", rule(), func(r *Request) { r.Channel = SCP }, true, "allows scp"},
		{"not a default channel", rule(), func(r *Request) { r.Channel = X11 }, false, "channel x11 is not in channels [shell, exec, sftp, scp], the default"},
		{"channel listed", rule("channels: [rsync]"), func(r *Request) { r.Channel = Rsync }, true, "allows rsync"},
		{"channel not listed", rule("channels: [sftp, git]"), nil, false, "channel shell is not in channels [sftp, git]"},
		{"rule without channels denies all", deny("users: [alice]") + everybody, func(r *Request) { r.Channel = LocalForward }, false, "denies local-forward"},
		{"rule denies another channel", deny("channels: [agent]") + everybody, nil, true, "channel shell is not in channels [agent]"},

		{"forward anywhere", rule("channels: [local-forward]"), forward("anything:1"), true, "allows local-forward"},
		{"forward to a prefix", rule(`channels: [{local-forward: ["10.1.0.0/16:5432"]}]`), forward("10.1.2.3:5432"), true, "allows local-forward"},
		{"forward to IPv4 as IPv6", rule(`channels: [{local-forward: ["10.1.0.0/16:5432"]}]`), forward("[::ffff:10.1.2.3]:5432"), true, "allows local-forward"},
		{"forward to another port", rule(`channels: [{local-forward: ["10.1.0.0/16:5432"]}]`), forward("10.1.2.3:22"), false, "destination of local-forward is not in channels [local-forward to [10.1.0.0/16:5432]]"},
		{"forward to a range of ports", rule(`channels: [{local-forward: ["*:8000-8099"]}]`), forward("web:8099"), true, "allows local-forward"},
		{"forward to metadata by a rule for all", rule("channels: [local-forward, dynamic]"), forward("169.254.169.254:80"), false, "a link-local or metadata address must be listed by itself in channels [local-forward, dynamic]"},
		{"forward to metadata by a prefix", rule(`channels: [{local-forward: ["169.254.0.0/16:80", "*:*"]}]`), forward("169.254.169.254:80"), false, "a link-local or metadata address must be listed by itself in channels [local-forward to [169.254.0.0/16:80, *:*]]"},
		{"forward to metadata that is listed", rule(`channels: [{local-forward: ["169.254.169.254:80"]}]`), forward("169.254.169.254:80"), true, "allows local-forward"},
		{"forward to another port of it", rule(`channels: [{local-forward: ["169.254.169.254:80"]}]`), forward("169.254.169.254:81"), false, "a link-local or metadata address must be listed by itself in channels [local-forward to [169.254.169.254:80]]"},
		{"forward to link-local IPv6", rule("channels: [local-forward]"), forward("[fe80::1]:80"), false, "a link-local or metadata address must be listed by itself in channels [local-forward]"},
		{"forward to metadata behind NAT64", rule("channels: [local-forward]"), forward("[64:ff9b::a9fe:a9fe]:80"), false, "a link-local or metadata address must be listed by itself in channels [local-forward]"},
		{"denied forward to metadata", deny("channels: [local-forward]"), forward("169.254.169.254:80"), false, "denies local-forward"},
		{"forward past the range", rule(`channels: [{local-forward: ["*:8000-8099"]}]`), forward("web:8100"), false, "destination of local-forward is not in channels [local-forward to [*:8000-8099]]"},
		{"forward to IPv6", rule(`channels: [{local-forward: ["[2001:db8::/32]:*"]}]`), forward("[2001:db8::1]:443"), true, "allows local-forward"},
		{"forward to a name", rule(`channels: [{local-forward: ["*.example.org:443"]}]`), forward("WWW.example.org:443"), true, "allows local-forward"},
		{"name is not compared with addresses", rule(`channels: [{local-forward: ["10.1.0.0/16:5432"]}]`), forward("db:5432"), false, "destination of local-forward is not in channels [local-forward to [10.1.0.0/16:5432]]"},
		{"name could be a denied address", deny(`channels: [{local-forward: ["10.1.0.0/16:*"]}]`) + everybody, forward("db:5432"), false, "denies local-forward"},
		{"other address is not denied", deny(`channels: [{local-forward: ["10.1.0.0/16:*"]}]`) + everybody, forward("10.2.0.1:5432"), true, "destination of local-forward is not in channels [local-forward to [10.1.0.0/16:*]]"},
		{"destination not known", rule(`channels: [{local-forward: ["*:*"]}]`), forward(""), false, "destination of local-forward is not in channels [local-forward to [*:*]]"},
		{"destination not known, rule denies", deny(`channels: [{local-forward: ["*:22"]}]`) + everybody, forward("nonsense"), false, "denies local-forward"},
		{"destination with a zone", rule(`channels: [{local-forward: ["[fe80::/10]:22"]}]`), forward("[fe80::1%eth0]:22"), false, "destination of local-forward is not in channels [local-forward to [[fe80::/10]:22]]"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got := mustParse(t, tc.rules).Decide(request(tc.change))
			if got.Allow != tc.allow {
				t.Errorf("allow: got %v, want %v; trace %v", got.Allow, tc.allow, got.Trace)
			}
			if len(got.Trace) == 0 || got.Trace[0].Why != tc.why {
				t.Errorf("trace: got %v, want %q first", got.Trace, tc.why)
			}
		})
	}
}

func TestDecideFirstMatchWins(t *testing.T) {
	t.Parallel()
	d := mustParse(t, `
  - {name: closed, deny: true, targets: [vault], message: not today}
  - {name: sftp-only, users: [alice], targets: ["*"], channels: [sftp], recording: off}
  - {name: ops, users: [group:ops], targets: ["*"], channels: [shell, sftp, x11], record-limit: 1MiB}
  - {name: never, users: ["*"], targets: [web1]}
`)
	for _, tc := range []struct {
		name     string
		change   func(*Request)
		rule     string
		allow    bool
		message  string
		channels string
		looked   int
	}{
		{"denied with a message", func(r *Request) { r.Target.Name = "vault" }, "closed", false, "not today", "[]", 1},
		{"second rule", func(r *Request) { r.Channel = SFTP }, "sftp-only", true, "", "[]", 2},
		{"third rule", nil, "ops", true, "", "[]", 3},
		{"last rule", func(r *Request) { r.Channel = Exec }, "never", true, "", "[]", 4},
		{"no rule", func(r *Request) { r.Channel = Agent }, "", false, "", "[]", 4},
		{"connection", func(r *Request) { r.Channel = "" }, "sftp-only", true, "", "[shell exec sftp scp x11]", 4},
		{"connection denied", func(r *Request) { r.Channel, r.Target.Name = "", "vault" }, "closed", false, "not today", "[]", 1},
		{"connection without a rule", func(r *Request) { r.Channel, r.Target.Name, r.User, r.Groups = "", "x", "bob", nil }, "", false, "", "[]", 4},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got := d.Decide(request(tc.change))
			if got.Allow != tc.allow || got.Rule != tc.rule || got.Message != tc.message {
				t.Errorf("got %v by %q with %q, want %v by %q with %q", got.Allow, got.Rule, got.Message, tc.allow, tc.rule, tc.message)
			}
			if s := fmt.Sprint(got.Channels); s != tc.channels {
				t.Errorf("channels: got %s, want %s", s, tc.channels)
			}
			if len(got.Trace) != tc.looked {
				t.Errorf("rules looked at: got %v, want %d", got.Trace, tc.looked)
			}
		})
	}
}

func TestConnectionTakesTheStrictest(t *testing.T) {
	t.Parallel()
	d := mustParse(t, `
  - name: one
    users: [alice]
    targets: [web1]
    from: [office]
    channels: [sftp]
    code: none
    trust: {idle: 2h, max: 10h, uses: 9, sources: [office, home]}
    recording: off
    limits: {idle: 5m, sessions: 7, rule-sessions: 40, channels: 3}
    env: [LANG, LC_*, APP_MODE]
  - name: two
    users: [alice]
    targets: [web1]
    channels: [shell]
    code: {younger-than: 30m}
    trust: {idle: 1h, max: 20h, sources: [office]}
    recording: best-effort
    record-limit: 64MiB
    retention: forever
    limits: {idle: 15m, max: 1h, keyboard-idle: 9m, rule-sessions: 50}
  - name: three
    users: [alice]
    targets: [web1]
    accounts: [deploy]
    channels: [exec]
    code: {younger-than: 10m}
  - name: four
    users: [alice]
    targets: [web1]
    channels: [git]
    trust: {idle: 24h, sources: [office]}
    recording: off
`)
	got := d.Decide(request(func(r *Request) { r.Channel = "" }))
	if got.Rule != "one" || fmt.Sprint(got.Channels) != "[shell sftp git]" {
		t.Errorf("got rule %s for %v", got.Rule, got.Channels)
	}
	if want := (Code{Kind: CodeYoungerThan, YoungerThan: 30 * time.Minute}); got.Code != want {
		t.Errorf("code: got %v, want %v", got.Code, want)
	}
	if got.Recording != RecordBestEffort || got.RecordLimit != 64<<20 || got.Retention != Forever {
		t.Errorf("recording: got %v up to %d for %v", got.Recording, got.RecordLimit, got.Retention)
	}
	if want := (Limits{Idle: 5 * time.Minute, KeyboardIdle: 9 * time.Minute, Max: time.Hour, Sessions: 7, RuleSessions: 40, Channels: 3}); got.Limits != want {
		t.Errorf("limits: got %v, want %v", got.Limits, want)
	}
	for name, want := range map[string]bool{"LANG": true, "LC_ALL": true, "TERM": false, "APP_MODE": false} {
		if got.Env.Allows(name) != want {
			t.Errorf("env: %s passes: %v; both rules' lists count", name, !want)
		}
	}
	if tr := got.Trust; tr == nil || tr.Idle != time.Hour || tr.Max != 10*time.Hour || tr.Uses != 9 {
		t.Fatalf("trust: got %+v", tr)
	}
	if !got.Trust.Covers(netip.MustParseAddr("192.0.2.1")) || got.Trust.Covers(netip.MustParseAddr("198.51.100.7")) {
		t.Error("trust must cover the sources of both rules only")
	}

	got = d.Decide(request(func(r *Request) { r.Channel, r.Account = "", "deploy" }))
	if want := (Code{Kind: CodeYoungerThan, YoungerThan: 10 * time.Minute}); got.Code != want || got.Trust != nil || got.Recording != RecordRequired {
		t.Errorf("with the third rule: got %v, trust %v, %v", got.Code, got.Trust, got.Recording)
	}
	if got = d.Decide(request(func(r *Request) { r.Channel = SFTP })); got.Code.Kind != CodeNone || got.RecordLimit != DefaultRecordLimit {
		t.Errorf("one channel alone: got %v, %d", got.Code, got.RecordLimit)
	}
}

// A rule that holds a forward to destinations leaves the kind to later rules, and its demands count.
func TestConnectionWithDestinations(t *testing.T) {
	t.Parallel()
	d := mustParse(t, `
  - {name: no-ssh, deny: true, channels: [{local-forward: ["*:22"]}]}
  - {name: db, users: [alice], targets: [web1], from: [office], channels: [{local-forward: ["10.1.0.0/16:5432"]}], code: none}
  - {name: rest, users: [alice], targets: [web1], channels: [local-forward], recording: best-effort}
`)
	got := d.Decide(request(func(r *Request) { r.Channel = "" }))
	if !got.Allow || fmt.Sprint(got.Channels) != "[local-forward]" || got.Code.Kind != CodeAlways || got.Recording != RecordRequired {
		t.Errorf("got %+v", got)
	}
	if len(got.Trace) != 3 || got.Trace[0].Matched || got.Trace[0].Why != "denies only some destinations of local-forward" {
		t.Errorf("trace: got %v", got.Trace)
	}
	for to, want := range map[string]string{"10.1.0.1:5432": "db", "10.1.0.1:80": "rest", "10.1.0.1:22": "no-ssh"} {
		if got := d.Decide(request(func(r *Request) { r.Channel, r.To = LocalForward, to })); got.Rule != want {
			t.Errorf("to %s: got rule %s, want %s", to, got.Rule, want)
		}
	}
}

func TestZeroValuesDeny(t *testing.T) {
	t.Parallel()
	open := mustParse(t, rule(`users: ["*"]`, `targets: ["*"]`))
	var missing *Document
	for _, tc := range []struct {
		name    string
		d       *Document
		request Request
		why     string
	}{
		{"nil document", missing, request(nil), "there are no rules"},
		{"zero document", &Document{}, request(nil), "there are no rules"},
		{"no rules", mustParse(t, "  []\n"), request(nil), "there are no rules"},
		{"rule without users, unchecked", &Document{Rules: make([]Rule, 1), compiled: []matcher{{rule: &Rule{Name: "x"}, allow: true, kinds: allKinds}}}, request(nil), "no rule matches"},
		{"zero rule", &Document{Rules: []Rule{{}}}, request(nil), `the rules are not valid: rule "": name: the rule's name is empty`},
		{"named rule", &Document{Rules: []Rule{{Name: "x"}}}, request(nil), "rule x denies"},
		{"rule allows nobody in particular", &Document{Rules: []Rule{{Name: "x", Effect: Allow}}}, request(nil), `the rules are not valid: rule "x" allows but has no users: write users: ["*"] for everybody`},
		{"one bad rule closes all", &Document{Rules: append(slices.Clone(open.Rules), Rule{})}, request(nil), `the rules are not valid: rule "": name: the rule's name is empty`},
		{"zero request", open, Request{}, "the request names no user"},
		{"no user", open, request(func(r *Request) { r.User = "" }), "the request names no user"},
		{"no target", open, request(func(r *Request) { r.Target = Target{Labels: map[string]string{"env": "prod"}} }), "the request names no target"},
		{"unknown channel", open, request(func(r *Request) { r.Channel = "Shell" }), "channel Shell is not a kind that rules know"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got := tc.d.Decide(tc.request)
			if got.Allow || got.Why != tc.why {
				t.Errorf("got allow %v because %q, want refusal because %q", got.Allow, got.Why, tc.why)
			}
		})
	}
	if (Decision{}).Allow {
		t.Error("the zero decision allows")
	}
	if got := open.Decide(request(nil)); !got.Allow {
		t.Errorf("the open document refuses: %v", got)
	}
}

func TestNewChecksLikeParse(t *testing.T) {
	t.Parallel()
	office := map[string][]netip.Prefix{"office": {netip.MustParsePrefix("192.0.2.0/24")}}
	good := Rule{Name: "x", Effect: Allow, Users: []string{"*"}, Targets: []string{"*"}}
	change := func(f func(*Rule)) []Rule {
		r := good
		f(&r)
		return []Rule{r}
	}
	for _, tc := range []struct {
		name     string
		networks map[string][]netip.Prefix
		rules    []Rule
		want     string // empty: no error
	}{
		{"good", office, []Rule{good}, ""},
		{"unknown network", office, change(func(r *Rule) { r.From = []string{"home"} }), `rule "x": from: network "home" is not defined; networks has [office]`},
		{"network named as an address", map[string][]netip.Prefix{"10.0.0.1": office["office"]}, nil, `network "10.0.0.1": "10.0.0.1" is not a name`},
		{"empty network", map[string][]netip.Prefix{"a": nil}, nil, `network "a": a network needs at least one address`},
		{"network not masked", map[string][]netip.Prefix{"a": {netip.MustParsePrefix("10.0.0.1/8")}}, nil, `network "a": "10.0.0.1/8" is not a masked prefix`},
		{"trust longer than max", nil, change(func(r *Rule) { r.Trust = &Trust{Idle: 2 * time.Hour, Max: time.Hour} }), `rule "x": trust: idle 2h is longer than max 1h`},
		{"trust without an end", nil, change(func(r *Rule) { r.Trust = &Trust{Idle: time.Hour} }), `rule "x": trust: a duration must be above zero`},
		{"parts of a second", nil, change(func(r *Rule) { r.Limits.Idle = 1500 * time.Millisecond }), `rule "x": limits.idle: a duration must be whole seconds`},
		{"code none", nil, change(func(r *Rule) { r.Code.Kind = CodeNone }), `rule "x": code: none needs from`},
		{"token-only without a code", nil, change(func(r *Rule) { r.Code.Kind, r.From, r.TokenOnly = CodeNone, []string{"192.0.2.1"}, true }), `rule "x": token-only: has no meaning where no code`},
		{"password-code without a code", nil, change(func(r *Rule) { r.Code.Kind, r.From, r.PasswordCode = CodeNone, []string{"192.0.2.1"}, true }), `rule "x": password-code: has no meaning where no code`},
		{"break-glass without a fresh code", nil, change(func(r *Rule) { r.BreakGlass = true }), `rule "x": break-glass: needs code: fresh`},
		{"break-glass without a recording", nil, change(func(r *Rule) { r.BreakGlass, r.Code.Fresh, r.Recording = true, true, RecordBestEffort }), `rule "x": break-glass: has a meaning with recording: required only`},
		{"break-glass of a rule that denies", nil, []Rule{{Name: "x", BreakGlass: true}}, `rule "x": break-glass: has no meaning in a rule that denies`},
		{"record-input without a recording", nil, change(func(r *Rule) { r.RecordInput, r.Recording = true, RecordOff }), `rule "x": record-input: has no meaning where nothing is recorded`},
		{"record-input of a rule that denies", nil, []Rule{{Name: "x", RecordInput: true}}, `rule "x": record-input: has no meaning in a rule that denies`},
		{"password-code of a rule that denies", nil, []Rule{{Name: "x", PasswordCode: true}}, `rule "x": password-code: has no meaning in a rule that denies`},
		{"token-only of a rule that denies", nil, []Rule{{Name: "x", TokenOnly: true}}, `rule "x": token-only: has no meaning in a rule that denies`},
		{"unknown code", nil, change(func(r *Rule) { r.Code.Kind = 9 }), `rule "x": code: is not a kind of code`},
		{"unknown mode", nil, change(func(r *Rule) { r.Recording = 9 }), `rule "x": recording: is not a mode`},
		{"unknown effect", nil, change(func(r *Rule) { r.Effect = 9 }), `rule "x": deny: the effect is neither`},
		{"negative count", nil, change(func(r *Rule) { r.Limits.Sessions = -1 }), `rule "x": limits.sessions: a count must lie`},
		{"negative limit", nil, change(func(r *Rule) { r.RecordLimit = -1 }), `rule "x": record-limit: a size must be above zero`},
		{"same name", nil, []Rule{good, good}, `rule "x": name: there is another rule "x" above`},
		{"message with a line break", nil, []Rule{{Name: "x", Message: "a\nb"}}, `rule "x": message: the message "a\nb" has a character`},
		{"message of a rule that allows", nil, change(func(r *Rule) { r.Message = "m" }), `rule "x": message: is for rules that deny`},
		{"code of a rule that denies", nil, []Rule{{Name: "x", Code: Code{Kind: CodeNone}}}, `rule "x": code: has no meaning in a rule that denies`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			d, err := New(tc.networks, tc.rules)
			got := ""
			if err != nil {
				got = err.Error()
			}
			if !strings.HasPrefix(got, tc.want) || (tc.want == "") != (err == nil) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			if err == nil && !d.Decide(request(nil)).Allow {
				t.Error("the document does not allow")
			}
		})
	}
}

func TestTrustCovers(t *testing.T) {
	t.Parallel()
	decide := func(lines ...string) *Trust {
		return mustParse(t, rule(lines...)).Decide(request(nil)).Trust
	}
	office := decide("trust: {idle: 1h, sources: [office]}")
	for _, tc := range []struct {
		name   string
		trust  *Trust
		source string
		want   bool
	}{
		{"no trust", decide(), "192.0.2.1", false},
		{"no sources", decide("trust: {idle: 1h}"), "192.0.2.1", false},
		{"inside", office, "192.0.2.1", true},
		{"inside, written as IPv6", office, "::ffff:192.0.2.1", true},
		{"outside", office, "203.0.113.1", false},
		{"zone", decide(`trust: {idle: 1h, sources: ["fe80::/10"]}`), "fe80::1%eth0", false},
		{"of a rule", &Trust{Idle: 1, Max: 1, Sources: []string{"192.0.2.0/24"}}, "192.0.2.1", false},
	} {
		if got := tc.trust.Covers(netip.MustParseAddr(tc.source)); got != tc.want {
			t.Errorf("%s: got %v, want %v", tc.name, got, tc.want)
		}
	}
	if office.Covers(netip.Addr{}) {
		t.Error("covers an address that is not known")
	}
}

func TestKindsFor(t *testing.T) {
	t.Parallel()
	d := mustParse(t, `
  - {name: no-agent, deny: true, channels: [agent, {local-forward: ["*:22"]}]}
  - {name: no-x11-for-bob, deny: true, users: [bob], channels: [x11]}
  - {name: closed, deny: true, targets: [vault]}
  - {name: dba, users: [group:dba], targets: ["db-*"], from: [home], channels: [shell, agent, {local-forward: ["10.0.0.1:5432"]}]}
  - {name: all, users: [alice], targets: [env=prod, vault], channels: [sftp, x11]}
`)
	for _, tc := range []struct {
		target Target
		want   string
	}{
		{Target{Name: "db-1"}, "[shell local-forward]"},
		{Target{Name: "db-1", Labels: map[string]string{"env": "prod"}}, "[shell sftp local-forward x11]"},
		{Target{Name: "vault"}, "[]"},
		{Target{Name: "elsewhere"}, "[]"},
		{Target{}, "[]"},
	} {
		if got := fmt.Sprint(d.KindsFor(tc.target)); got != tc.want {
			t.Errorf("%v: got %s, want %s", tc.target, got, tc.want)
		}
	}
	if got := (*Document)(nil).KindsFor(Target{Name: "db-1"}); got != nil {
		t.Errorf("nil document: got %v", got)
	}
}

func TestGlob(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		pattern, text string
		want          bool
	}{
		{"a", "a", true}, {"a", "b", false}, {"a", "", false},
		{"*", "", true}, {"*", "x", true}, {"**", "x", true},
		{"a*", "a", true}, {"a*", "ab", true}, {"a*", "ba", false},
		{"*a", "ba", true}, {"*a", "ab", false}, {"*a*", "bab", true},
		{"a*b*c", "aXbYc", true}, {"a*b*c", "aXcYb", false}, {"a*bc", "abbc", true},
		{"?", "é", true}, {"?", "ab", false}, {"?", "", false}, {"??", "éa", true},
		{"*?é", "aé", true}, {"*é", "\u00a9", false}, {"é*", "é", true},
		{"*\u00a9", "\u00e9\u00a9", true},
		{strings.Repeat("a*", 50) + "b", strings.Repeat("a", 4000), false},
	} {
		g, err := parseGlob(tc.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if got := g.match(tc.text); got != tc.want {
			t.Errorf("%s on %s: got %v, want %v", tc.pattern, tc.text, got, tc.want)
		}
	}
}

func TestWordsForPeople(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ got, want string }{
		{Code{}.String(), "always"},
		{Code{Kind: CodeNone}.String(), "none"},
		{Code{Kind: CodeYoungerThan, YoungerThan: 90 * time.Minute}.String(), "younger than 1h30m"},
		{RecordRequired.String(), "required"},
		{RecordBestEffort.String(), "best-effort"},
		{RecordOff.String(), "off"},
		{defaultKinds.String(), "shell, exec, sftp, scp"},
		{showList(strings.Split("abcdefghij", "")), "[a, b, c, d, e, f, g, h, and 2 more]"},
		{show(""), `""`},
		{fmt.Sprint(Kinds()), "[shell exec sftp scp rsync git local-forward dynamic remote-forward unix-forward agent x11 subsystem radius]"},
		{formatDuration(0), "0s"},
		{formatDuration(26*time.Hour + time.Second), "26h1s"},
		{formatSize(16 << 20), "16MiB"},
		{formatSize(1025), "1025B"},
	} {
		if tc.got != tc.want {
			t.Errorf("got %s, want %s", tc.got, tc.want)
		}
	}
	if b, err := json.Marshal(RecordBestEffort); err != nil || string(b) != `"best-effort"` {
		t.Errorf("as JSON: got %s, %v", b, err)
	}
}
