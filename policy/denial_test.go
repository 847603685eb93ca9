package policy

import (
	"net/netip"
	"testing"
)

// Denial finds the first rule that denies, wherever it stands, and never counts one that allows.
func TestDenial(t *testing.T) {
	t.Parallel()
	d, err := Parse([]byte(`version: 1
networks: {office: [192.0.2.0/24]}
rules:
  - {name: all, users: ["*"], targets: ["*"]}
  - {name: outside, deny: true, targets: [vault], not-from: [office], message: from the office only}
  - {name: no-bots, deny: true, users: [bad-bot], targets: ["*"]}
  - {name: people, deny: true, users: ["group:ops", alice], targets: ["*"]}
  - {name: no-exec, deny: true, users: ["*"], targets: [quiet], channels: [exec]}
`))
	if err != nil {
		t.Fatal(err)
	}
	office, home := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("203.0.113.1")
	for _, c := range []struct {
		user, target, channel string
		from                  netip.Addr
		rule                  string // "": nothing denies
	}{
		{"deploy-bot", "web1", Exec, home, ""},
		{"deploy-bot", "vault", Exec, home, "outside"},
		{"deploy-bot", "vault", Exec, office, ""},
		{"deploy-bot", "vault", Exec, netip.Addr{}, "outside"}, // from nobody knows where
		{"bad-bot", "web1", Exec, home, "no-bots"},
		{"BAD-BOT", "web1", SCP, home, "no-bots"},
		{"deploy-bot", "quiet", Exec, home, "no-exec"},
		{"deploy-bot", "quiet", SCP, home, ""},
	} {
		got := d.Denial(Request{User: c.user, Target: Target{Name: c.target}, Account: "root", Source: c.from, Channel: c.channel})
		if got.Allow != (c.rule == "") || got.Rule != c.rule {
			t.Errorf("%+v: %+v", c, got)
		}
	}
	if got := d.Denial(Request{Target: Target{Name: "web1"}, Channel: Exec}); got.Allow {
		t.Error("a request without a user was not refused")
	}
	if got := d.Denial(Request{User: "x", Target: Target{Name: "web1"}, Channel: "teleport"}); got.Allow {
		t.Error("an unknown channel was not refused")
	}
	if got := (&Document{Rules: []Rule{{Name: ""}}}).Denial(Request{User: "x", Target: Target{Name: "web1"}, Channel: Exec}); got.Allow {
		t.Error("a document that is not valid did not refuse")
	}
	var none *Document
	if got := none.Denial(Request{User: "x", Target: Target{Name: "web1"}, Channel: Exec}); !got.Allow {
		t.Error("no rules deny nothing")
	}
}
