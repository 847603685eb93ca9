// Package upstream opens the SSH connection to a target: it checks the address and the host key, and
// logs in with the credential of the target (the bastion's key, one of the target's own, a certificate
// or a password), so that a target has to trust nobody but the bastion.
package upstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/audit"
	"sallyport/internal/auditlog"
	"sallyport/internal/readahead"
	"sallyport/store"
)

// Config of a [Dialer]. The Config must not be modified after New.
type Config struct {
	Store   *store.Store
	Audit   *auditlog.Log
	Signer  ssh.Signer    // the bastion's own key
	Timeout time.Duration // for address, key exchange and login together; 0: 10 s
	Log     *slog.Logger  // nil: slog.Default()

	CA        ssh.Signer                                                   // signs certificates for targets that take them; nil: none do
	Addresses []string                                                     // the bastion's, as targets see them, for source-address in certificates; none: any
	Listeners func() []net.Addr                                            // where the bastion itself listens, which is never dialled; nil: unknown
	Resolve   func(ctx context.Context, host string) ([]netip.Addr, error) // nil: the system's resolver
	Now       func() time.Time                                             // nil: time.Now
}

// Dialer opens connections to targets. It is safe for concurrent use.
type Dialer struct{ cfg Config }

// New returns a Dialer.
func New(cfg Config) *Dialer {
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Resolve == nil {
		cfg.Resolve = lookup
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Dialer{cfg: cfg}
}

// PublicKey returns the public half of the bastion's own key.
func (d *Dialer) PublicKey() ssh.PublicKey { return d.cfg.Signer.PublicKey() }

// AuthorizedKey returns the bastion's key as a line of authorized_keys without options.
func (d *Dialer) AuthorizedKey() string {
	return keyLine(d.PublicKey()) + " sallyport"
}

// Upstream is an open connection to a target, logged in.
type Upstream struct {
	ssh.Conn
	ended context.Context // is over when the connection has ended
	take  atomic.Pointer[func(ssh.NewChannel) bool]
}

// OnChannel sets who takes the channels that the target opens; until then, and when take says no, they
// are refused. take must not wait for anything but the target.
func (u *Upstream) OnChannel(take func(ssh.NewChannel) bool) { u.take.Store(&take) }

// Done is closed when the connection has ended.
func (u *Upstream) Done() <-chan struct{} { return u.ended.Done() }

// OnDone has f called, in a goroutine of its own, when the connection has ended.
func (u *Upstream) OnDone(f func()) { context.AfterFunc(u.ended, f) }

// Error says in words for the person why a target could not be reached, and keeps the cause.
type Error struct {
	Public string
	Err    error
}

func (e *Error) Error() string { return e.Public }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Dial connects to t, verifies its host key and logs in as account, for who. Every error is an
// *[Error].
func (d *Dialer) Dial(ctx context.Context, t store.Target, account string, who Who) (*Upstream, error) {
	credential, err := d.credential(ctx, t, account, who)
	if err != nil {
		return nil, &Error{Public: fmt.Sprintf("cannot log in to %s (%s): %s", t.Name, t.Address, credentialReason(err)), Err: err}
	}
	conn, chans, reqs, err := d.connect(ctx, t, account, credential)
	if err != nil {
		return nil, err
	}
	ended, end := context.WithCancel(context.Background())
	u := &Upstream{Conn: conn, ended: ended}
	go func() {
		defer end()
		d.serve(u, t, chans, reqs)
		_ = conn.Wait()
	}()
	return u, nil
}

func (d *Dialer) connect(ctx context.Context, t store.Target, account string, auth []ssh.AuthMethod) (ssh.Conn, <-chan ssh.NewChannel, <-chan *ssh.Request, error) {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Timeout)
	defer cancel()
	fail := func(err error) error {
		return &Error{Public: fmt.Sprintf("cannot reach %s (%s): %s", t.Name, t.Address, reason(err)), Err: err}
	}
	tcp, err := d.dial(ctx, t.Address)
	if err != nil {
		return nil, nil, nil, fail(err)
	}
	deadline, _ := ctx.Deadline()
	_ = tcp.SetDeadline(deadline)
	stop := context.AfterFunc(ctx, func() { _ = tcp.SetDeadline(time.Unix(1, 0)) }) // the caller went away
	check := d.hostKeyCheck(ctx, t)
	config := &ssh.ClientConfig{
		Config:            algorithms(),
		User:              account,
		Auth:              auth,
		HostKeyCallback:   check.verify,
		HostKeyAlgorithms: check.algorithms,
		ClientVersion:     "SSH-2.0-Sallyport",
	}
	conn, chans, reqs, err := ssh.NewClientConn(readahead.New(tcp), t.Address, config)
	if !stop() && err == nil {
		conn.Close()
		err = ctx.Err()
	}
	if err != nil {
		tcp.Close()
		if check.err != nil {
			return nil, nil, nil, check.err
		}
		if noCertificate(t, err) {
			return nil, nil, nil, &Error{
				Public: fmt.Sprintf("%s (%s) shows no host certificate, and only those of its CA are taken. Operators: HostCertificate in its sshd_config, or sallyport target update %s --host-key", t.Name, t.Address, t.Name),
				Err:    err,
			}
		}
		if strings.Contains(err.Error(), "unable to authenticate") {
			proof, _ := login(t, account)
			return nil, nil, nil, &Error{
				Public: fmt.Sprintf("%s (%s) refuses %s for account %s. Operators: sallyport target onboard %s", t.Name, t.Address, proof, account, t.Name),
				Err:    err,
			}
		}
		return nil, nil, nil, fail(err)
	}
	_ = tcp.SetDeadline(time.Time{})
	return conn, chans, reqs, nil
}

// reason says what went wrong in the words of the system, without addresses said before.
func reason(err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.EHOSTUNREACH):
		return "no route to host"
	case errors.Is(err, syscall.ENETUNREACH):
		return "network is unreachable"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "timed out"
	}
	var deny *errDenied
	if errors.As(err, &deny) {
		return deny.Error()
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return "its name is not known here"
	}
	return audit.Escape(strings.TrimPrefix(err.Error(), "ssh: "))
}

// credentialReason says why the bastion has nothing to log in with, and nothing of secrets.
func credentialReason(err error) string {
	if errors.Is(err, store.ErrUnavailable) {
		return "its credential cannot be read just now; try again in a minute"
	}
	return audit.Escape(err.Error())
}

// maxRefusedEvents bounds the audit events that a target can cause in one connection.
const maxRefusedEvents = 100

// serve takes what the target asks for, until the connection ends.
func (d *Dialer) serve(u *Upstream, t store.Target, chans <-chan ssh.NewChannel, reqs <-chan *ssh.Request) {
	refused := 0
	for chans != nil || reqs != nil {
		select {
		case c, ok := <-chans:
			if !ok {
				chans = nil
			} else if !d.channel(u, t, c, refused < maxRefusedEvents) {
				refused++
			}
		case r, ok := <-reqs:
			if !ok {
				reqs = nil
			} else if r.WantReply {
				// Keepalives are alive. The target's host keys (hostkeys-00@openssh.com) are no business of the
				// client, which talks to the bastion.
				_ = r.Reply(r.Type == "keepalive@openssh.com", nil)
			}
		}
	}
}

// channel hands on a channel that the target opens, or turns it away, with an event if report, and is
// false, when nobody asked for it.
func (d *Dialer) channel(u *Upstream, t store.Target, c ssh.NewChannel, report bool) bool {
	if take := u.take.Load(); take != nil && (*take)(c) {
		return true
	}
	_ = c.Reject(ssh.Prohibited, "not requested")
	if report {
		_ = d.cfg.Audit.Emit(context.Background(), audit.Event{
			Type: audit.ChannelRefused, Result: audit.Refused, Target: t.Name,
			Reason: "the target opened a channel that nobody asked for", Detail: map[string]string{"type": c.ChannelType()},
		})
	}
	return false
}

// algorithms that the bastion offers to targets: the same modern list as to clients, with what older
// servers need at the end.
func algorithms() ssh.Config {
	return ssh.Config{
		KeyExchanges: []string{ssh.KeyExchangeMLKEM768X25519, ssh.KeyExchangeCurve25519, "curve25519-sha256@libssh.org", ssh.KeyExchangeECDHP256, ssh.KeyExchangeDH14SHA256},
		Ciphers:      []string{ssh.CipherAES128GCM, ssh.CipherAES256GCM, ssh.CipherAES128CTR, ssh.CipherAES256CTR},
		MACs:         []string{ssh.HMACSHA256ETM, ssh.HMACSHA512ETM, ssh.HMACSHA256},
	}
}
