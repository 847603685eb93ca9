package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
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
	algorithms []string // offered, so that the target shows a key of a kind that is known
	err        *Error   // why the key was refused, in words for the person
}

func (d *Dialer) hostKeyCheck(ctx context.Context, t store.Target) *hostKeyCheck {
	c := &hostKeyCheck{d: d, ctx: ctx, target: t}
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

// verify accepts a pinned key, or the first key seen of a target that trusts on first use. An empty
// list of a pinned target refuses: it must never mean "any".
func (c *hostKeyCheck) verify(_ string, _ net.Addr, key ssh.PublicKey) error {
	for _, line := range c.target.HostKeys {
		if k, err := parseKey(line); err == nil && bytes.Equal(k.Marshal(), key.Marshal()) {
			return nil
		}
	}
	if len(c.target.HostKeys) == 0 && c.target.HostKeyMode == store.TOFU {
		return c.trust(key)
	}
	return c.refuse(key)
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
		return c.verify("", nil, key)
	}
	return c.d.cfg.Audit.Emit(c.ctx, audit.Event{
		Type: audit.HostKeyTrusted, Result: audit.OK, Target: c.target.Name,
		Reason: "first use", Detail: map[string]string{"fingerprint": ssh.FingerprintSHA256(key)},
	})
}

func (c *hostKeyCheck) refuse(key ssh.PublicKey) error {
	shown := ssh.FingerprintSHA256(key)
	var known []string
	for _, line := range c.target.HostKeys {
		if k, err := parseKey(line); err == nil {
			known = append(known, k.Type()+" "+ssh.FingerprintSHA256(k))
		}
	}
	text := fmt.Sprintf("host key of %s (%s) is not known: it shows %s %s. Operators: compare it on the target, then sallyport target add with --host-key",
		c.target.Name, c.target.Address, key.Type(), shown)
	if len(known) > 0 {
		text = fmt.Sprintf("HOST KEY OF %s (%s) HAS CHANGED. Known: %s. Shown now: %s %s. Somebody may be in between; the connection was refused. Operators: if the host was rebuilt, delete and add the target with its new key",
			c.target.Name, c.target.Address, strings.Join(known, ", "), key.Type(), shown)
	}
	_ = c.d.cfg.Audit.Emit(c.ctx, audit.Event{
		Type: audit.HostKeyRefused, Result: audit.Refused, Target: c.target.Name, Reason: "host key is unknown or has changed",
		Detail: map[string]string{"known": strings.Join(known, ", "), "shown": key.Type() + " " + shown},
	})
	c.err = &Error{Public: text, Err: errors.New("host key refused")}
	return c.err
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

// Scan returns the host keys that the SSH server at address ("host:port") shows, one for each type it
// has of ed25519, ECDSA P-256 and RSA. Nothing is sent to it but the key exchange.
func (d *Dialer) Scan(ctx context.Context, address string) ([]ssh.PublicKey, error) {
	var keys []ssh.PublicKey
	var last error
	for _, algos := range [][]string{{ssh.KeyAlgoED25519}, {ssh.KeyAlgoECDSA256}, {ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}} {
		k, err := d.scanOne(ctx, address, algos)
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

func (d *Dialer) scanOne(ctx context.Context, address string, algos []string) (ssh.PublicKey, error) {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Timeout)
	defer cancel()
	var dialer net.Dialer
	tcp, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer tcp.Close()
	deadline, _ := ctx.Deadline()
	_ = tcp.SetDeadline(deadline)
	var seen ssh.PublicKey
	_, _, _, err = ssh.NewClientConn(readahead.New(tcp), address, &ssh.ClientConfig{
		Config: algorithms(), HostKeyAlgorithms: algos,
		HostKeyCallback: func(_ string, _ net.Addr, k ssh.PublicKey) error { seen = k; return errSeen },
	})
	if seen == nil {
		return nil, err
	}
	return seen, nil
}
