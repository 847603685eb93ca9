package policy

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// A RADIUS client is opened by a rule that says radius and by no other; that word opens nothing in SSH.
func TestRADIUS(t *testing.T) {
	t.Parallel()
	d := mustParse(t, `
  - {name: closed, deny: true, targets: [closed-vpn]}
  - {name: no-shell, deny: true, targets: [half-vpn], channels: [shell]}
  - {name: everything-in-ssh, users: [bob], targets: ["*"]}
  - {name: all-words, users: [bob], targets: ["*"], channels: [shell, exec, sftp, scp, rsync, git, local-forward, dynamic, remote-forward, unix-forward, agent, x11, subsystem]}
  - {name: vpn, users: [alice], targets: ["*-vpn", web1], channels: [radius], from: [192.0.2.0/24]}
`)
	for _, x := range []struct {
		user, target, channel, source string
		want                          bool
		why                           string
	}{
		{"alice", "office-vpn", RADIUS, "192.0.2.7", true, "allows radius"},
		{"alice", "half-vpn", RADIUS, "192.0.2.7", true, "allows radius"},
		{"alice", "closed-vpn", RADIUS, "192.0.2.7", false, "denies"},
		{"alice", "office-vpn", RADIUS, "203.0.113.7", false, "source 203.0.113.7 is not in from"},
		{"alice", "office-vpn", RADIUS, "", false, "the source is not known"},
		{"bob", "office-vpn", RADIUS, "192.0.2.7", false, "channel radius is not in channels"},
		{"alice", "web1", "", "192.0.2.7", false, "speaks of no channel of SSH, only of [radius]"},
		{"alice", "web1", Shell, "192.0.2.7", false, "channel shell is not in channels"},
	} {
		r := Request{User: x.user, Target: Target{Name: x.target}, Account: x.user, Channel: x.channel}
		if x.source != "" {
			r.Source = netip.MustParseAddr(x.source)
		}
		got := d.Decide(r)
		told := slices.ContainsFunc(got.Trace, func(v Verdict) bool { return strings.Contains(v.Why, x.why) })
		if got.Allow != x.want || !told {
			t.Errorf("%+v: %+v", x, got)
		}
	}
	if kinds := d.KindsFor(Target{Name: "web1"}); slices.Contains(kinds, RADIUS) {
		t.Errorf("a target is told to expect %q", kinds)
	}
}

// Attributes of an answer are written by name, and come as they go out.
func TestReply(t *testing.T) {
	t.Parallel()
	d := mustParse(t, `
  - {name: vpn, users: [alice], targets: [vpn], channels: [radius], reply: [Filter-Id=staff, "Class=of {user}", Session-Timeout=28800, Tunnel-Type=13, Framed-IP-Address=192.0.2.9, "Cisco-AVPair=shell:priv-lvl=15", Vendor-9-250=0x0aff]}
`)
	got := d.Decide(Request{User: "alice", Target: Target{Name: "vpn"}, Account: "alice", Channel: RADIUS})
	want := []ReplyAttribute{
		{"Filter-Id", 0, 11, []byte("staff"), false}, {"Class", 0, 25, []byte("of {user}"), true}, {"Session-Timeout", 0, 27, []byte{0, 0, 0x70, 0x80}, false},
		{"Tunnel-Type", 0, 64, []byte{0, 0, 0, 13}, false}, {"Framed-IP-Address", 0, 8, []byte{192, 0, 2, 9}, false},
		{"Cisco-AVPair", 9, 1, []byte("shell:priv-lvl=15"), false}, {"Vendor-9-250", 9, 250, []byte{0x0a, 0xff}, false},
	}
	if !got.Allow || !reflect.DeepEqual(got.Reply, want) {
		t.Errorf("got %+v, want %+v", got.Reply, want)
	}
	if again := mustParse(t, strings.TrimPrefix(strings.SplitN(d.Format(), "rules:\n", 2)[1], "")); again.Rules[0].Reply[6] != "Vendor-9-250=0x0aff" {
		t.Errorf("formatted as %s", d.Format())
	}
	for reply, why := range map[string]string{
		"[State=x]": "not an attribute that can be sent", "[User-Password=x]": "not an attribute", "[Filter-Id]": "NAME=VALUE", "[Filter-Id=]": "NAME=VALUE",
		"[Session-Timeout=8h]": "whole number", "[Framed-IP-Address=host]": "IPv4", "[Vendor-311-16=x]": "Microsoft", "[Vendor-9-300=x]": "not an attribute",
		"[Class=0xabc]": "hexadecimal", "[Class=" + strings.Repeat("x", 246) + "]": "longer",
		"[" + strings.Repeat("Class="+strings.Repeat("x", 200)+",", 4) + "]": "together",
	} {
		_, err := Parse([]byte("version: 1\nrules:\n  - {name: vpn, users: [alice], targets: [vpn], channels: [radius], reply: " + reply + "}\n"))
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%.60s: %v, want %q", reply, err, why)
		}
	}
	for _, rule := range []string{"channels: [shell], reply: [Filter-Id=x]", "reply: [Filter-Id=x]"} {
		if _, err := Parse([]byte("version: 1\nrules:\n  - {name: vpn, users: [alice], targets: [vpn], " + rule + "}\n")); err == nil || !strings.Contains(err.Error(), "channels: [radius]") {
			t.Errorf("%s: %v", rule, err)
		}
	}
	if _, err := Parse([]byte("version: 1\nrules:\n  - {name: vpn, deny: true, channels: [radius], reply: [Filter-Id=x]}\n")); err == nil {
		t.Error("a rule that denies sends attributes")
	}
}
