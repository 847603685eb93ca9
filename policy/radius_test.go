package policy

import (
	"net/netip"
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
  - {name: all-words, users: [bob], targets: ["*"], channels: [shell, exec, sftp, scp, rsync, git, local-forward, dynamic, remote-forward, unix-forward, agent, x11]}
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
