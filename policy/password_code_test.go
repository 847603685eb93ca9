package policy

import (
	"net/netip"
	"testing"
)

// A code in the password field is taken where all of the rules say so that allow a part of the connection.
func TestPasswordCode(t *testing.T) {
	t.Parallel()
	d := mustParse(t, `
  - {name: shell, users: [alice], targets: [web1], channels: [shell]}
  - {name: files, users: [alice], targets: [web1], channels: [sftp], password-code: true}
  - {name: old, users: [alice], targets: [web2], password-code: true}
`)
	for _, x := range []struct {
		target, channel string
		want            bool
	}{{"web1", SFTP, true}, {"web1", Shell, false}, {"web1", "", false}, {"web2", "", true}} {
		got := d.Decide(Request{User: "alice", Target: Target{Name: x.target}, Account: "root", Source: netip.MustParseAddr("192.0.2.1"), Channel: x.channel})
		if !got.Allow || got.PasswordCode != x.want {
			t.Errorf("%s, channel %q: %+v, want %v", x.target, x.channel, got, x.want)
		}
	}
	if !d.TakesPasswordCode() || (*Document)(nil).TakesPasswordCode() {
		t.Error("TakesPasswordCode")
	}
}
