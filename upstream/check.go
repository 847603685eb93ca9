package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/store"
)

// Step is one finding of [Dialer.Check].
type Step struct {
	Name   string // "reach", "host key", "login", for a jump host with its name before; "source address", "other addresses"; "route"
	OK     bool
	Detail string // what was seen
	Fix    string // what to do when not OK
}

// Check proves that t works for account: each jump host on the way and then t can be reached, shows a
// known host key and takes the credential that is kept for it; t tells which address it sees the bastion
// come from, and refuses the same credential from another. It stops at the first failure that leaves
// nothing to try.
func (d *Dialer) Check(ctx context.Context, t store.Target, account string) []Step {
	hops, err := d.route(ctx, t, account)
	if err != nil {
		return []Step{{Name: "route", Detail: credentialReason(err), Fix: "name the way: sallyport target update " + t.Name + " --via account@JUMP"}}
	}
	var steps []Step
	var below *Upstream
	defer func() {
		if below != nil {
			_ = below.Close()
		}
	}()
	for i := range hops {
		prefix := ""
		if i < len(hops)-1 {
			prefix = hops[i].target.Name + ": "
		}
		found, u := d.checkHop(ctx, hops, i, below)
		for _, s := range found {
			s.Name = prefix + s.Name
			steps = append(steps, s)
		}
		if u == nil {
			return steps
		}
		below = u
	}
	return append(steps, d.sourceStep(below, hops), d.elsewhereStep(ctx, hops, below))
}

// checkHop tries hop i, which is reached through below unless it is the first. Without a connection there
// is nothing more to try.
func (d *Dialer) checkHop(ctx context.Context, hops []hop, i int, below *Upstream) ([]Step, *Upstream) {
	t, account := hops[i].target, hops[i].account
	scan := d.scan
	if t.HostKeyMode == store.HostCA {
		scan = d.scanCertificate
	}
	reach := Step{Name: "reach", OK: true, Detail: t.Address + " answers as an SSH server" + through(hops, i)}
	keys, err := scan(ctx, t.Address, below)
	if err != nil && noCertificate(t, err) {
		return []Step{reach,
			{Name: "host key", Detail: "it shows no host certificate", Fix: "have its CA sign its host key, and name the certificate with HostCertificate in its sshd_config"}}, nil
	}
	if err != nil {
		fix := "see that an SSH server listens at " + t.Address + " and that no firewall is in between"
		if i > 0 {
			fix += ", and that " + hops[i-1].target.Name + " lets the bastion forward ports: run sallyport target onboard " + hops[i-1].target.Name + " again"
		}
		return []Step{{Name: "reach", Detail: err.Error() + through(hops, i), Fix: fix}}, nil
	}
	steps := []Step{reach, d.hostKeyStep(ctx, t, keys)}
	if !steps[1].OK {
		return steps, nil
	}
	if t.Credential == store.CredentialRelayed {
		return append(steps, Step{Name: "login", OK: true, Detail: "cannot be tried from here: each person answers its prompts"}), nil
	}
	j := &journey{d: d, hops: hops, limit: newLimit(ctx, d.cfg.Timeout), admit: checker}
	j.who, _ = checker()
	j.admitted = i > 0
	defer j.limit.stop()
	proof, fix := proofOf(t, account)
	u, err := j.hop(i, below, true)
	if err != nil {
		return append(steps, Step{Name: "login", Detail: err.Error(), Fix: fix}), nil
	}
	return append(steps, Step{Name: "login", OK: true, Detail: proof + " opens account " + account}), u
}

// checker is who a connection is for that nobody will use.
func checker() (Who, error) { return Who{User: "sallyport", Session: "check"}, nil }

func (d *Dialer) hostKeyStep(ctx context.Context, t store.Target, shown []ssh.PublicKey) Step {
	if t.HostKeyMode == store.HostCA {
		return certificateStep(t, shown[0], d.cfg.Now())
	}
	var prints []string
	for _, k := range shown {
		prints = append(prints, k.Type()+" "+ssh.FingerprintSHA256(k))
		if listed(t.HostKeys, k) && !revoked(t, k) {
			return Step{Name: "host key", OK: true, Detail: k.Type() + " " + ssh.FingerprintSHA256(k) + " is the one that is known"}
		}
	}
	if len(t.HostKeys) == 0 && t.HostKeyMode == store.TOFU {
		return Step{Name: "host key", OK: true, Detail: "none known yet; the first connection will trust one of " + strings.Join(prints, ", ")}
	}
	if !revoked(t, shown[0]) {
		d.wait(ctx, t, shown[0])
	}
	return Step{Name: "host key", Detail: "the target shows " + strings.Join(prints, ", ") + ", none of which is known",
		Fix: "compare the fingerprint on the target's console (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub); if it is right: sallyport hostkey approve " + t.Name}
}

func certificateStep(t store.Target, shown ssh.PublicKey, now time.Time) Step {
	if revoked(t, shown) {
		return Step{Name: "host key", Detail: "its key or its CA was revoked: " + fingerprint(shown), Fix: "give the host a new key and certificate"}
	}
	if err := checkCertificate(t, shown, now); err != nil {
		return Step{Name: "host key", Detail: err.Error(),
			Fix: "have its CA sign its host key for the host in its address (ssh-keygen -s CA -I " + t.Name + " -h -n HOST -V +52w ssh_host_ed25519_key.pub), or give the right CA: sallyport target update " + t.Name + " --host-ca"}
	}
	return Step{Name: "host key", OK: true, Detail: "the certificate of " + fingerprint(shown) + " is signed by its CA, for this host, and valid"}
}

// sourceStep asks the target for SSH_CONNECTION, which names the address that it sees.
func (d *Dialer) sourceStep(u *Upstream, hops []hop) Step {
	const name = "source address"
	t := hops[len(hops)-1].target
	out, err := run(u, `printf %s "${SSH_CONNECTION%% *}"`, 5*time.Second)
	seen, parseErr := netip.ParseAddr(out)
	switch {
	case err != nil || parseErr != nil:
		return Step{Name: name, OK: true, Detail: "the target does not tell which address it sees (no shell, or a forced command)"}
	case t.Via != "":
		return Step{Name: name, OK: true, Detail: "the target sees " + t.Via + " as " + out}
	case len(d.cfg.Addresses) > 0 && !d.ownSource(seen):
		return Step{Name: name, Detail: "the target sees the bastion as " + out + ", which is not one of ssh: addresses (" + strings.Join(d.cfg.Addresses, ", ") + ")",
			Fix: "put " + out + " into ssh: addresses of the configuration, or see what translates addresses on the way"}
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
