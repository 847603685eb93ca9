package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"time"
)

// bench is everything that runs during the measurement, and what was found.
type bench struct {
	settings
	results
	progress io.Writer
	begun    time.Time

	dir        string // holds every file of this run
	key        key    // of the client, at all peers
	source     string // file that is sent
	target     *sshd
	relay      *sshd
	product    *product
	stock      *product  // nil: not measured
	people     []*person // who log in with a code
	peers      []*peer   // in the order of the table
	freeradius *freeRADIUS
	postgres   *postgreSQL
	radius     []*radiusPeer // in the order of their table; none: not measured
	carriers   []*peer       // those, and stock, each of the two also without recording, for transfers

	radiusProducts []*product // with people for the RADIUS part alone
}

// say tells people how far it is.
func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.progress, "%6s  %s\n", time.Since(b.begun).Round(time.Second), fmt.Sprintf(format, args...))
}

// setUp starts everything. The result is to be closed also after an error.
func setUp(ctx context.Context, s settings, progress io.Writer) (*bench, error) {
	b := &bench{settings: s, results: results{}, progress: progress, begun: time.Now()}
	for _, bin := range []string{s.sallyport, s.stock} {
		if bin == "" {
			continue
		}
		if _, err := os.Stat(bin); err != nil {
			return b, fmt.Errorf("the binary to measure is missing (make build): %w", err)
		}
	}
	if err := adoptOrphans(); err != nil {
		return b, err
	}
	me, err := user.Current()
	if err != nil {
		return b, fmt.Errorf("finding out who runs this: %w", err)
	}
	if b.dir, err = os.MkdirTemp("", "sallyport-bench-"); err != nil {
		return b, err
	}
	if b.key, err = newKey(filepath.Join(b.dir, "client")); err != nil {
		return b, err
	}
	b.say("starting sshd, relay and sallyport")
	if err := b.startServers(ctx, me.Username); err != nil {
		return b, err
	}
	if b.source, err = makeSource(filepath.Join(b.dir, "source"), int64(b.size)); err != nil {
		return b, err
	}
	b.peers = []*peer{
		{name: direct, addr: b.target.addr, login: me.Username},
		{name: relay, addr: b.relay.addr, login: me.Username, proxy: &proxy{b.relay.server}},
		b.product.peer(sallyport, targetName),
	}
	b.carriers = append(b.peers[:len(b.peers):len(b.peers)], b.product.peer(off, unrecorded))
	if b.stock != nil {
		b.carriers = append(b.carriers, b.stock.peer(stock, targetName), b.stock.peer(stockOff, unrecorded))
	}
	for _, p := range b.carriers {
		if err := b.tryOnce(ctx, p); err != nil {
			return b, fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return b, nil
}

func (b *bench) startServers(ctx context.Context, account string) (err error) {
	if b.target, err = startSSHD(ctx, filepath.Join(b.dir, "target"), nil, "Subsystem sftp internal-sftp"); err != nil {
		return fmt.Errorf("target: %w", err)
	}
	var relayKey key
	if b.relay, relayKey, err = startRelay(ctx, filepath.Join(b.dir, "relay"), b.key, b.target, account); err != nil {
		return fmt.Errorf("relay: %w", err)
	}
	keys := []string{b.key.line(), relayKey.line()}
	if b.product, keys, err = b.setUpProduct(ctx, sallyport, b.sallyport, account, keys); err != nil {
		return err
	}
	if b.settings.stock != "" && slices.ContainsFunc(b.transfers(), func(t transfer) bool { return b.measures(t.part) }) {
		if b.stock, _, err = b.setUpProduct(ctx, stock, b.settings.stock, account, keys); err != nil {
			return err
		}
	}
	if b.measures("radius") {
		if err := b.radiusPeers(ctx); err != nil {
			return fmt.Errorf("RADIUS: %w", err)
		}
	}
	if !b.measures("login") {
		return nil
	}
	n := 2 * b.logins // those who log in one after another, and those who do so at once
	b.say("adding %d users with tokens", n)
	b.people, err = b.addPeople(ctx, n)
	return err
}

// setUpProduct starts a binary with target and user. keys are those that the target knows; the product's
// is added to what it returns. The product is to be stopped also after an error.
func (b *bench) setUpProduct(ctx context.Context, name, bin, account string, keys []string) (*product, []string, error) {
	p, err := startProduct(ctx, bin, filepath.Join(b.dir, name), nil)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	keys, err = p.addTarget(ctx, b.target, account, keys)
	if err == nil {
		err = p.addUser(ctx, trusted, b.key)
	}
	return p, keys, err
}

// tryOnce is the first connection, which may cost what later ones do not.
func (b *bench) tryOnce(ctx context.Context, p *peer) error {
	client, err := b.dial(ctx, p)
	if err != nil {
		return err
	}
	defer client.Close()
	return within(dialLimit, client, func() error { return runOnce(client, "true") })
}

// close ends all servers and removes all files.
func (b *bench) close() error {
	b.product.stop()
	b.stock.stop()
	b.freeradius.stop()
	for _, p := range b.radiusProducts {
		p.stop()
	}
	b.postgres.stop()
	b.relay.stop()
	b.target.stop()
	err := killDescendants()
	if b.dir != "" {
		err = errors.Join(err, os.RemoveAll(b.dir))
	}
	if err != nil {
		return fmt.Errorf("clearing away: %w", err)
	}
	return nil
}
