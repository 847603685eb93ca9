package upstream

import (
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
// credential that is kept for it, and tells which address it sees the bastion come from. It stops at
// the first failure.
func (d *Dialer) Check(ctx context.Context, t store.Target, account string) []Step {
	scan := d.Scan
	if t.HostKeyMode == store.HostCA {
		scan = d.scanCertificate
	}
	keys, err := scan(ctx, t.Address)
	if err != nil && noCertificate(t, err) {
		return []Step{{Name: "reach", OK: true, Detail: t.Address + " answers as an SSH server"},
			{Name: "host key", Detail: "it shows no host certificate", Fix: "have its CA sign its host key, and name the certificate with HostCertificate in its sshd_config"}}
	}
	if err != nil {
		return []Step{{Name: "reach", Detail: err.Error(), Fix: "see that an SSH server listens at " + t.Address + " and that no firewall is in between"}}
	}
	steps := []Step{{Name: "reach", OK: true, Detail: t.Address + " answers as an SSH server"}, d.hostKeyStep(ctx, t, keys)}
	if !steps[1].OK {
		return steps
	}
	proof, fix := login(t, account)
	u, err := d.Dial(ctx, t, account, Who{User: "sallyport", Session: "check"})
	if err != nil {
		return append(steps, Step{Name: "login", Detail: fmt.Sprint(err), Fix: fix})
	}
	defer u.Close()
	steps = append(steps, Step{Name: "login", OK: true, Detail: proof + " opens account " + account})
	return append(steps, sourceStep(u))
}

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
