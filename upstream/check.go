package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/store"
)

// Step is one finding of [Dialer.Check].
type Step struct {
	Name   string // "reach", "host key", "login", "source address"
	OK     bool
	Detail string // what was seen
	Fix    string // what to do when not OK
}

// Check proves that t works for account: it can be reached, shows a known host key, takes the
// bastion's key, and tells which address it sees the bastion come from. It stops at the first
// failure.
func (d *Dialer) Check(ctx context.Context, t store.Target, account string) []Step {
	keys, err := d.Scan(ctx, t.Address)
	if err != nil {
		return []Step{{Name: "reach", Detail: err.Error(), Fix: "see that an SSH server listens at " + t.Address + " and that no firewall is in between"}}
	}
	steps := []Step{{Name: "reach", OK: true, Detail: t.Address + " answers as an SSH server"}, hostKeyStep(t, keys)}
	if !steps[1].OK {
		return steps
	}
	u, err := d.Dial(ctx, t, account)
	if err != nil {
		var e *Error
		errors.As(err, &e)
		return append(steps, Step{Name: "login", Detail: fmt.Sprint(err), Fix: "put the line that 'sallyport target onboard " + t.Name + "' prints into ~" + account + "/.ssh/authorized_keys on the target"})
	}
	defer u.Close()
	steps = append(steps, Step{Name: "login", OK: true, Detail: "the bastion's key opens account " + account})
	return append(steps, sourceStep(u))
}

func hostKeyStep(t store.Target, shown []ssh.PublicKey) Step {
	var prints []string
	for _, k := range shown {
		prints = append(prints, k.Type()+" "+ssh.FingerprintSHA256(k))
		for _, line := range t.HostKeys {
			if known, err := parseKey(line); err == nil && bytes.Equal(known.Marshal(), k.Marshal()) {
				return Step{Name: "host key", OK: true, Detail: k.Type() + " " + ssh.FingerprintSHA256(k) + " is the one that is known"}
			}
		}
	}
	if len(t.HostKeys) == 0 && t.HostKeyMode == store.TOFU {
		return Step{Name: "host key", OK: true, Detail: "none known yet; the first connection will trust one of " + strings.Join(prints, ", ")}
	}
	return Step{Name: "host key", Detail: "the target shows " + strings.Join(prints, ", ") + ", none of which is known",
		Fix: "compare the fingerprint on the target's console (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub); if it is right, delete the target and add it with --host-key"}
}

// sourceStep asks the target for SSH_CONNECTION, which names the address that it sees.
func sourceStep(u *Upstream) Step {
	const name = "source address"
	out, err := run(u, `printf %s "${SSH_CONNECTION%% *}"`, 5*time.Second)
	if err != nil || out == "" {
		return Step{Name: name, OK: true, Detail: "the target does not tell which address it sees (no shell, or a forced command)"}
	}
	return Step{Name: name, OK: true, Detail: "the target sees the bastion as " + out}
}

func run(u *Upstream, command string, timeout time.Duration) (string, error) {
	ch, reqs, err := u.OpenChannel("session", nil)
	if err != nil {
		return "", err
	}
	go ssh.DiscardRequests(reqs)
	timer := time.AfterFunc(timeout, func() { _ = ch.Close() })
	defer timer.Stop()
	defer ch.Close()
	if ok, err := ch.SendRequest("exec", true, ssh.Marshal(struct{ Command string }{command})); err != nil || !ok {
		return "", fmt.Errorf("running a command: %w", errors.Join(err, errors.New("refused")))
	}
	buf := make([]byte, 256)
	n := 0
	for n < len(buf) {
		m, err := ch.Read(buf[n:])
		n += m
		if err != nil {
			break
		}
	}
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune("0123456789abcdefABCDEF.:%", r) {
			return r
		}
		return -1
	}, string(buf[:n])), nil
}
