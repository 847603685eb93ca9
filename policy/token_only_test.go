package policy

import (
	"net/netip"
	"testing"
)

// A connection needs a token if any of the rules that allow a part of it says so.
func TestTokenOnly(t *testing.T) {
	t.Parallel()
	d := mustParse(t, `
  - {name: shell, users: [alice], targets: [web1], channels: [shell]}
  - {name: files, users: [alice], targets: [web1], channels: [sftp], token-only: true}
`)
	for channel, want := range map[string]bool{Shell: false, SFTP: true, "": true} {
		got := d.Decide(Request{User: "alice", Target: Target{Name: "web1"}, Account: "root", Source: netip.MustParseAddr("192.0.2.1"), Channel: channel})
		if !got.Allow || got.TokenOnly != want {
			t.Errorf("channel %q: %+v, want token only %v", channel, got, want)
		}
	}
}
