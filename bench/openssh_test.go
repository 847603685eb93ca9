package main

import (
	"io"
	"os/user"
	"path/filepath"
	"testing"
	"time"
)

// All that is measured works at the peers that are OpenSSH: what differs at Sallyport is the address.
func TestOpenSSHPeers(t *testing.T) {
	ctx := t.Context()
	if err := adoptOrphans(); err != nil {
		t.Fatal(err)
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{
		settings: settings{size: 1 << 20, keys: 2 * turns, logins: 4, sessions: 3, commands: 30, rounds: 1, cool: time.Millisecond},
		progress: io.Discard, begun: time.Now(), dir: t.TempDir(),
	}
	t.Cleanup(func() {
		if err := b.close(); err != nil {
			t.Error(err)
		}
	})
	if b.key, err = newKey(filepath.Join(b.dir, "client")); err != nil {
		t.Fatal(err)
	}
	if b.target, err = startSSHD(ctx, filepath.Join(b.dir, "target"), nil, "Subsystem sftp internal-sftp"); err != nil {
		t.Fatal(err)
	}
	var relayKey key
	if b.relay, relayKey, err = startRelay(ctx, filepath.Join(b.dir, "relay"), b.key, b.target, me.Username); err != nil {
		t.Fatal(err)
	}
	if err := b.target.authorize(b.key.line(), relayKey.line()); err != nil {
		t.Fatal(err)
	}
	if b.source, err = makeSource(filepath.Join(b.dir, "source"), int64(b.size)); err != nil {
		t.Fatal(err)
	}
	b.peers = []*peer{
		{name: direct, addr: b.target.addr, login: me.Username},
		{name: relay, addr: b.relay.addr, login: me.Username, proxy: &proxy{b.relay.server}},
	}
	b.carriers = b.peers
	for _, p := range b.peers {
		if err := b.idle(ctx, p); err != nil {
			t.Fatalf("idle, %s: %v", p.name, err)
		}
	}
	if err := b.round(ctx, 0); err != nil {
		t.Fatal(err)
	}
	if err := b.failures(); err != nil {
		t.Error(err)
	}
	measured := 0
	for _, one := range b.rows() {
		if one.Relay != nil {
			measured++
		}
	}
	if measured != len(lines) {
		t.Errorf("%d figures of the relay, want %d", measured, len(lines))
	}
	if mb := b.samples["idle_session"][relay][0]; mb < 100 || mb > 100_000 {
		t.Errorf("an idle session at the relay takes %.0f kB, which cannot be", mb)
	}
}
