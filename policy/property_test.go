package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// drawDocument makes documents of few different words, so that rules often match.
func drawDocument(t *rapid.T) *Document {
	prefix := rapid.Custom(func(t *rapid.T) netip.Prefix {
		addr := rapid.SampledFrom([]string{"192.0.2.5", "198.51.100.7", "2001:db8::5", "::1", "fe80::"}).Draw(t, "address")
		a := netip.MustParseAddr(addr)
		return netip.PrefixFrom(a, rapid.IntRange(1, a.BitLen()).Draw(t, "bits")).Masked()
	})
	d := &Document{Version: 1, Networks: map[string][]netip.Prefix{}}
	for _, name := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{"office", "on", "a.b", "x-1"}), rapid.ID).Draw(t, "networks") {
		d.Networks[name] = rapid.SliceOfN(prefix, 1, 3).Draw(t, name)
	}
	names := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-zé0-9:"\\#{}!,-]{1,6}( [a-z'&*]{1,3})?`), 0, 6, rapid.ID).Draw(t, "names")
	for _, name := range names {
		d.Rules = append(d.Rules, drawRule(t, name, d.Networks))
	}
	if err := d.compile(); err != nil {
		t.Fatalf("the document drawn is not valid: %v", err)
	}
	return d
}

func drawRule(t *rapid.T, name string, networks map[string][]netip.Prefix) Rule {
	list := func(label string, min int, words ...string) []string {
		drawn := rapid.SliceOfNDistinct(rapid.SampledFrom(words), min, 3, rapid.ID).Draw(t, label)
		if len(drawn) == 0 {
			return nil
		}
		return drawn
	}
	sources := []string{"192.0.2.5", "192.0.2.0/24", "2001:db8::/32", "::1", "fe80::/10"}
	for n := range networks {
		sources = append(sources, n)
	}
	duration := func(label string) time.Duration {
		return time.Duration(rapid.IntRange(1, 100_000).Draw(t, label)) * time.Second
	}
	r := Rule{Name: name, Effect: rapid.SampledFrom([]Effect{Deny, Allow}).Draw(t, "effect")}
	least := int(r.Effect)
	r.Users = list("users", least, "*", "alice", "Bob", "group:ops", "group:Domain Users", "null", "12")
	r.Targets = list("targets", least, "*", "web1", "web*", "?eb1", "env=prod", "env=*", "true", "1.2.3.4", "1e3")
	r.Accounts = list("accounts", 0, "{user}", "root", "r*", "*", "0", "~", "yes")
	r.From = list("from", 0, sources...)
	r.NotFrom = list("not-from", 0, sources...)
	for _, kind := range rapid.SliceOfNDistinct(rapid.SampledFrom(Kinds()), 0, 4, rapid.ID).Draw(t, "channels") {
		c := Channel{Kind: kind}
		if takesDestinations(kind) {
			c.To = list("to", 0, "*:*", "10.0.0.0/8:22", "[2001:db8::/32]:1-9", "db*:5432", "[::1]:80")
		}
		r.Channels = append(r.Channels, c)
	}
	if r.Effect == Deny {
		r.Message = rapid.SampledFrom([]string{"", "no", `say "no": it's # closed`, "- not", "{x}", "null"}).Draw(t, "message")
		return r
	}
	r.Silent = rapid.Bool().Draw(t, "silent")
	if rapid.Bool().Draw(t, "moderated") {
		r.Moderator = &Moderator{By: list("moderators", 1, "*", "carol", "group:auditors", "group:domain users"), Pause: rapid.Bool().Draw(t, "pause")}
		if rapid.Bool().Draw(t, "waits") {
			r.Moderator.Within = duration("within")
		}
	}
	r.Code.Kind = rapid.SampledFrom([]CodeKind{CodeAlways, CodeYoungerThan}).Draw(t, "code")
	if r.Code.Kind == CodeYoungerThan {
		r.Code.YoungerThan = duration("younger than")
	}
	if rapid.Bool().Draw(t, "trust") {
		idle := duration("idle")
		r.Trust = &Trust{Idle: idle, Max: idle + duration("max"), Uses: rapid.IntRange(0, 9).Draw(t, "uses"),
			Targets: rapid.IntRange(0, 9).Draw(t, "targets of trust"), Sources: list("sources", 0, sources...)}
		if rapid.Bool().Draw(t, "grow") {
			r.Trust.Grow = &Grow{After: rapid.IntRange(1, 9).Draw(t, "after"), Max: r.Trust.Max + duration("grown")}
		}
	} else if r.Code.Kind == CodeAlways {
		r.Code.Fresh = rapid.Bool().Draw(t, "fresh")
	}
	r.Recording = rapid.SampledFrom([]Mode{RecordRequired, RecordBestEffort, RecordOff}).Draw(t, "recording")
	r.RecordLimit = rapid.Int64Range(0, 1<<30).Draw(t, "limit")
	if r.Recording != RecordOff {
		r.Retention = rapid.SampledFrom([]time.Duration{0, time.Hour, 90 * 24 * time.Hour, Forever}).Draw(t, "retention")
	}
	if read, write := list("read", 0, "/srv/**", "/home/{user}", "/a b/*.txt"), list("write", 0, "/", "/**", "/in/?/**/x"); read != nil || write != nil {
		if !slices.ContainsFunc(r.Channels, func(c Channel) bool { return c.Kind == Rsync }) {
			r.SFTP = &Files{read, write}
		}
	}
	r.Relay = rapid.Bool().Draw(t, "relay")
	r.Unsearched = rapid.Bool().Draw(t, "unsearched")
	if rapid.Bool().Draw(t, "approval") {
		r.Approval = &Approval{By: list("by", 1, "group:dba", "carol", "*"), Count: rapid.IntRange(1, 10).Draw(t, "count"),
			Within: min(duration("within"), maxApprovalWithin), Reason: rapid.Bool().Draw(t, "reason")}
	}
	if rapid.Bool().Draw(t, "limits") {
		r.Limits = Limits{Idle: duration("idle"), Max: duration("max"), Sessions: rapid.IntRange(0, 5).Draw(t, "sessions"),
			KeyboardIdle: duration("keyboard"), RuleSessions: rapid.IntRange(0, 5).Draw(t, "rule sessions"), Channels: rapid.IntRange(0, 64).Draw(t, "open")}
	}
	if rapid.Bool().Draw(t, "lockout") {
		r.Lockout = Limit{Failures: rapid.IntRange(1, 9).Draw(t, "failures"), Window: duration("window"), Lock: duration("lock")}
	}
	r.Env = list("env", 0, "LANG", "LC_*", "*", "NO", "y", "N")
	return r
}

func drawRequest(t *rapid.T) Request {
	pick := func(label string, words ...string) string { return rapid.SampledFrom(words).Draw(t, label) }
	r := Request{
		User:    pick("user", "alice", "ALICE", "bob", "carol", ""),
		Groups:  rapid.SliceOfN(rapid.SampledFrom([]string{"ops", "domain users", "x"}), 0, 2).Draw(t, "groups"),
		Target:  Target{Name: pick("target", "web1", "web2", "db", "")},
		Account: pick("account", "root", "alice", "postgres", ""),
		Channel: pick("channel", append(Kinds(), "", "other")...),
		To:      pick("to", "10.1.2.3:22", "db1:5432", "[2001:db8::1]:5", "[fe80::1%e]:22", "bad", ""),
	}
	if rapid.Bool().Draw(t, "label") {
		r.Target.Labels = map[string]string{"env": pick("env", "prod", "test", "")}
	}
	if s := pick("source", "192.0.2.5", "::ffff:192.0.2.5", "2001:db8::5", "203.0.113.1", "fe80::1%eth0", ""); s != "" {
		r.Source = netip.MustParseAddr(s)
	}
	return r
}

// A decision allows only what one rule that allows would allow by itself, with no rule that denies the same
// above it, and its trace tells the same story.
func TestDecideProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d, r := drawDocument(t), drawRequest(t)
		got := d.Decide(r)
		if r.Channel != "" {
			checkFirstMatch(t, d, r, got)
			return
		}
		// The connection as a whole is the sum of the channels, destinations left aside.
		for i, kind := range Kinds() {
			if kind == RADIUS {
				continue // in no connection of SSH, see TestRADIUS
			}
			r.Channel, r.To = kind, ""
			one := d.Decide(r)
			listed := strings.Contains(" "+strings.Join(got.Channels, " ")+" ", " "+kind+" ")
			if one.Allow != listed && !takesDestinations(kind) {
				t.Fatalf("kind %d %s: alone %v, in the connection %v", i, kind, one.Allow, listed)
			}
			if one.Allow && (one.Code.stricter(got.Code) || one.Recording < got.Recording || one.RecordLimit > got.RecordLimit || one.Retention > got.Retention || got.Relay && !one.Relay ||
				got.Silent && !one.Silent || one.Moderator != nil && (got.Moderator == nil || got.Moderator.May("carol", nil) && !one.Moderator.May("carol", nil))) {
				t.Fatalf("%s asks for more than the connection: %+v, %+v", kind, one, got)
			}
			if one.Approval != nil && (got.Approval == nil || one.Approval.Count > got.Approval.Count || one.Approval.Reason && !got.Approval.Reason) {
				t.Fatalf("%s asks for an approval that the connection does not need: %v, %v", kind, one.Approval, got.Approval)
			}
			if one.Allow && one.Trust == nil && got.Trust != nil {
				t.Fatalf("%s has no trust, the connection has", kind)
			}
		}
		if got.Allow != (len(got.Channels) > 0) {
			t.Fatalf("allow %v with channels %v", got.Allow, got.Channels)
		}
	})
}

func checkFirstMatch(t *rapid.T, d *Document, r Request, got Decision) {
	first := -1
	for i := range d.Rules {
		one := Document{Networks: d.Networks, Rules: d.Rules[i : i+1]}
		v := one.Decide(r)
		matched := len(v.Trace) == 1 && v.Trace[0].Matched
		if v.Allow && !matched {
			t.Fatalf("rule %d allows without matching", i)
		}
		if matched {
			first = i
			break
		}
	}
	switch {
	case first < 0 && (got.Allow || got.Rule != ""):
		t.Fatalf("no rule matches, but got %+v", got)
	case first >= 0 && (got.Rule != d.Rules[first].Name || got.Allow != (d.Rules[first].Effect == Allow) || len(got.Trace) != first+1):
		t.Fatalf("rule %d matches first, but got %+v", first, got)
	}
	for i, v := range got.Trace {
		if v.Rule != d.Rules[i].Name || v.Matched != (i == first) || v.Why == "" {
			t.Fatalf("trace %d: %+v", i, v)
		}
	}
}

func TestFormatIsStable(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := drawDocument(t)
		text := d.Format()
		back, err := Parse([]byte(text))
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if again := back.Format(); again != text {
			t.Fatalf("got\n%s\nafter\n%s", again, text)
		}
		if len(d.Rules)+len(back.Rules) > 0 && !reflect.DeepEqual(d.Rules, back.Rules) {
			t.Fatalf("rules differ: got\n%+v\nwant\n%+v", back.Rules, d.Rules)
		}
		if len(d.Networks)+len(back.Networks) > 0 && !reflect.DeepEqual(d.Networks, back.Networks) {
			t.Fatalf("networks differ: got %v, want %v", back.Networks, d.Networks)
		}
	})
}

func TestTextSurvivesFormat(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.String().Filter(func(s string) bool { return checkText(s) == nil }).Draw(t, "name")
		d := &Document{Rules: []Rule{{Name: name, Message: name, Accounts: []string{"a"}}}}
		back, err := Parse([]byte(d.Format()))
		if err != nil {
			t.Fatalf("%v\n%s", err, d.Format())
		}
		if got := back.Rules[0]; got.Name != name || got.Message != name {
			t.Fatalf("got %q and %q, want %q", got.Name, got.Message, name)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"version: 1\nrules: []\n",
		"version: 1\nnetworks: {a: [192.0.2.0/24, \"::1\"]}\nrules:\n" + rule("from: [a]", "code: none") + deny("message: >\n      x y"),
		"version: 1\nrules:\n" + rule("channels: [shell, {local-forward: [\"*:22\"]}]", "trust: {idle: 1h, sources: [2001:db8::/48]}", "limits: {max: 1d}"),
		"a: |\n  b\n# c\n- d: [e, {f: g}]\n", "---\n...\n", "\"\\x41\": '''", "? a\n: &b *c\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		d, err := Parse(src)
		if err != nil {
			var e *ParseError
			if !errors.As(err, &e) {
				t.Fatalf("got %T, want *ParseError", err)
			}
			checkExcerpt(t, e)
			return
		}
		text := d.Format()
		back, err := Parse([]byte(text))
		if err != nil {
			t.Fatalf("%v\nfrom\n%s", err, text)
		}
		if back.Format() != text {
			t.Fatalf("got\n%s\nafter\n%s", back.Format(), text)
		}
		d.Decide(request(nil))
		d.KindsFor(Target{Name: "web1"})
	})
}

// manyRules is a document of n rules that do not match, and one at the end that does.
func manyRules(n int) string {
	var b strings.Builder
	b.WriteString("version: 1\nnetworks:\n  office: [192.0.2.0/24, 198.51.100.0/24, 2001:db8::/48]\nrules:\n")
	for i := range n {
		fmt.Fprintf(&b, "  - {name: r%d, ", i)
		switch i % 4 {
		case 0:
			fmt.Fprintf(&b, "users: [group:g%d, u%d], targets: [\"*\"]}\n", i, i)
		case 1:
			fmt.Fprintf(&b, "users: [\"*\"], targets: [\"h%d-*\", \"*-h%d-*\", env=e%d]}\n", i, i, i)
		case 2:
			fmt.Fprintf(&b, "users: [group:ops], targets: [\"*\"], accounts: [a%d, \"{user}\"]}\n", i)
		case 3:
			b.WriteString("users: [group:ops], targets: [\"*\"], from: [office]}\n")
		}
	}
	return b.String() + "  - {name: last, users: [alice], targets: [\"web*\"]}\n"
}

func BenchmarkDecide1000Rules(b *testing.B) {
	d, err := Parse([]byte(manyRules(1000)))
	if err != nil {
		b.Fatal(err)
	}
	r := request(func(r *Request) { r.Source = netip.MustParseAddr("203.0.113.7") })
	for i := range 100 {
		r.Groups = append(r.Groups, fmt.Sprintf("other%d", i))
	}
	for _, channel := range []string{Shell, ""} {
		b.Run("channel="+channel, func(b *testing.B) {
			r.Channel = channel
			b.ReportAllocs()
			for b.Loop() {
				if got := d.Decide(r); !got.Allow || got.Rule != "last" || len(got.Trace) != 1001 {
					b.Fatal(got.Why)
				}
			}
		})
	}
}
