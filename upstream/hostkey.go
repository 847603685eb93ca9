package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"sallyport/audit"
	"sallyport/internal/readahead"
	"sallyport/store"
)

// hostKeyCheck verifies the host key of one target for one connection.
type hostKeyCheck struct {
	d          *Dialer
	ctx        context.Context
	target     store.Target
	algorithms []string      // offered, so that the target shows a key of a kind that is known
	err        *Error        // why the key was refused, in words for the person
	accepted   ssh.PublicKey // in this connection, where keys are exchanged again from time to time
}

func (d *Dialer) hostKeyCheck(ctx context.Context, t store.Target) *hostKeyCheck {
	c := &hostKeyCheck{d: d, ctx: ctx, target: t}
	if t.HostKeyMode == store.HostCA {
		c.algorithms = certificateAlgorithms
		return c
	}
	for _, line := range t.HostKeys {
		if k, err := parseKey(line); err == nil {
			c.algorithms = append(c.algorithms, keyAlgorithms(k.Type())...)
		}
	}
	if len(c.algorithms) == 0 {
		c.algorithms = firstUseAlgorithms
	}
	return c
}

// firstUseAlgorithms are asked of a target of which no key is known. The library's own list begins with
// certificates, which would be taken for changed keys when they are renewed, and has SHA-1 and DSA.
var firstUseAlgorithms = []string{
	ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256,
}

// verify accepts a pinned key, the first key seen of a target that trusts on first use, or a
// certificate of the target's CA: only what the target's mode says. An empty list of a pinned target
// refuses: it must never mean "any". A revoked key is refused under every mode.
func (c *hostKeyCheck) verify(_ string, _ net.Addr, key ssh.PublicKey) error {
	if c.accepted != nil && bytes.Equal(c.accepted.Marshal(), key.Marshal()) {
		return nil
	}
	err := c.judge(key)
	if err == nil {
		c.accepted = key
	}
	return err
}

func (c *hostKeyCheck) judge(key ssh.PublicKey) error {
	if revoked(c.target, key) {
		return c.refuseRevoked(key)
	}
	if c.target.HostKeyMode == store.HostCA {
		return c.verifyCertificate(key)
	}
	if listed(c.target.HostKeys, key) {
		return nil
	}
	if len(c.target.HostKeys) == 0 && c.target.HostKeyMode == store.TOFU {
		return c.trust(key)
	}
	return c.refuse(key)
}

// listed tells whether key is among lines of authorized_keys.
func listed(lines []string, key ssh.PublicKey) bool {
	return slices.ContainsFunc(lines, func(line string) bool {
		k, err := parseKey(line)
		return err == nil && bytes.Equal(k.Marshal(), key.Marshal())
	})
}

// trust keeps key as the target's own unless another connection was first with another one.
func (c *hostKeyCheck) trust(key ssh.PublicKey) error {
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
	first, err := c.d.cfg.Store.Targets.TrustHostKey(c.ctx, c.target.ID, line)
	if err != nil {
		c.err = &Error{Public: fmt.Sprintf("cannot reach %s: its host key could not be stored; try again in a minute", c.target.Name), Err: err}
		return c.err
	}
	if !first {
		t, err := c.d.cfg.Store.Targets.ByName(c.ctx, c.target.Name)
		if err != nil || len(t.HostKeys) == 0 {
			return c.refuse(key)
		}
		c.target = t
		return c.judge(key)
	}
	return c.d.cfg.Audit.Emit(c.ctx, audit.Event{
		Type: audit.HostKeyTrusted, Result: audit.OK, Target: c.target.Name,
		Reason: "first use", Detail: map[string]string{"fingerprint": ssh.FingerprintSHA256(key)},
	})
}

// refuse turns an unknown or changed key away, and lets it wait for an operator.
func (c *hostKeyCheck) refuse(key ssh.PublicKey) error {
	shown := ssh.FingerprintSHA256(key)
	var known []string
	for _, line := range c.target.HostKeys {
		if k, err := parseKey(line); err == nil {
			known = append(known, k.Type()+" "+ssh.FingerprintSHA256(k))
		}
	}
	text := fmt.Sprintf("host key of %s (%s) is not known: it shows %s %s. Operators: compare it on the target, then sallyport hostkey approve %s",
		c.target.Name, c.target.Address, key.Type(), shown, c.target.Name)
	if len(known) > 0 {
		text = fmt.Sprintf("HOST KEY OF %s (%s) HAS CHANGED. Known: %s. Shown now: %s %s. Somebody may be in between; the connection was refused. Operators: if the host was rebuilt, compare the key on it, then sallyport hostkey approve %s",
			c.target.Name, c.target.Address, strings.Join(known, ", "), key.Type(), shown, c.target.Name)
	}
	c.d.wait(c.ctx, c.target, key)
	return c.deny(key, text, "host key is unknown or has changed", strings.Join(known, ", "))
}

func (c *hostKeyCheck) refuseRevoked(key ssh.PublicKey) error {
	return c.deny(key, fmt.Sprintf("%s (%s) shows a host key that was revoked: %s %s. Somebody may be in between; the connection was refused. Operators: give the host a new key",
		c.target.Name, c.target.Address, key.Type(), fingerprint(key)), "host key is revoked", "")
}

// deny keeps the refusal for the person and emits the event.
func (c *hostKeyCheck) deny(key ssh.PublicKey, text, why, known string) error {
	_ = c.d.cfg.Audit.Emit(c.ctx, audit.Event{
		Type: audit.HostKeyRefused, Result: audit.Refused, Target: c.target.Name, Reason: why,
		Detail: map[string]string{"known": known, "shown": key.Type() + " " + fingerprint(key)},
	})
	c.err = &Error{Public: text, Err: errors.New("host key refused")}
	return c.err
}

// wait puts key among those that an operator may approve. The refusal does not depend on it.
func (d *Dialer) wait(ctx context.Context, t store.Target, key ssh.PublicKey) {
	if err := d.cfg.Store.HostKeys.Wait(context.WithoutCancel(ctx), t.ID, keyLine(key), t.Address); err != nil {
		d.cfg.Log.Error("noting a refused host key", "target", t.Name, "error", err)
	}
}

func parseKey(line string) (ssh.PublicKey, error) {
	k, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
	return k, err
}

// keyAlgorithms are the signature algorithms of one type of key (RFC 8332 for RSA: never SHA-1).
func keyAlgorithms(keyType string) []string {
	if keyType == ssh.KeyAlgoRSA {
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	}
	return []string{keyType}
}

// errSeen ends a handshake that was only made to see the host key.
var errSeen = errors.New("host key seen")

// Scan returns the host keys that the SSH server at t's address shows, one for each type it has of
// ed25519, ECDSA P-256 and RSA. Nothing is sent to it but the key exchange; to jump hosts before it the
// bastion logs in. Of t only the address and the way there are looked at.
func (d *Dialer) Scan(ctx context.Context, t store.Target) ([]ssh.PublicKey, error) {
	hops, err := d.route(ctx, t, "")
	if err != nil {
		return nil, err
	}
	var below *Upstream
	if len(hops) > 1 {
		if below, err = d.travel(ctx, hops[:len(hops)-1], Who{User: "sallyport", Session: "scan"}); err != nil {
			return nil, err
		}
		defer below.Close()
	}
	return d.scan(ctx, t.Address, below)
}

// scan is Scan through below, which may be nil.
func (d *Dialer) scan(ctx context.Context, address string, below *Upstream) ([]ssh.PublicKey, error) {
	var keys []ssh.PublicKey
	var last error
	for _, algos := range [][]string{{ssh.KeyAlgoED25519}, {ssh.KeyAlgoECDSA256}, {ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}} {
		k, err := d.scanOne(ctx, address, below, algos)
		if err != nil {
			last = err
			continue
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("reading host keys of %s: %s", address, reason(last))
	}
	return keys, nil
}

// scanCertificate returns the host certificate that the SSH server at address shows.
func (d *Dialer) scanCertificate(ctx context.Context, address string, below *Upstream) ([]ssh.PublicKey, error) {
	k, err := d.scanOne(ctx, address, below, certificateAlgorithms)
	if err != nil {
		return nil, fmt.Errorf("reading the host certificate of %s: %w", address, err)
	}
	return []ssh.PublicKey{k}, nil
}

func (d *Dialer) scanOne(ctx context.Context, address string, below *Upstream, algos []string) (ssh.PublicKey, error) {
	l := newLimit(ctx, d.cfg.Timeout)
	defer l.stop()
	conn, err := d.open(l, address, below, false)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(l.ctx, func() { _ = conn.Close() })()
	var seen ssh.PublicKey
	_, _, _, err = ssh.NewClientConn(readahead.New(conn), address, &ssh.ClientConfig{
		Config: d.algorithms(), HostKeyAlgorithms: algos,
		HostKeyCallback: func(_ string, _ net.Addr, k ssh.PublicKey) error { seen = k; return errSeen },
	})
	if seen == nil {
		if cause := l.err(); cause != nil {
			err = cause
		}
		return nil, err
	}
	return seen, nil
}
