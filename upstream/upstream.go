// Package upstream opens the SSH connection to a target: it checks the address and the host key, and
// logs in with the credential of the target (the bastion's key, one of the target's own, a certificate,
// a password, or what the person answers), through jump hosts if need be, so that a target has to trust
// nobody but the bastion.
package upstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/audit"
	"sallyport/internal/auditlog"
	"sallyport/internal/shift"
	"sallyport/store"
)

// Config of a [Dialer]. The Config must not be modified after New.
type Config struct {
	Store   *store.Store
	Audit   *auditlog.Log
	Signer  ssh.Signer    // the bastion's own key
	Timeout time.Duration // for address, key exchange and login together; 0: 10 s
	Log     *slog.Logger  // nil: slog.Default()

	Addresses []string                                                     // the bastion's, as targets see them, for source-address in certificates; none: any
	Listeners func() []net.Addr                                            // where the bastion itself listens, which is never dialled; nil: unknown
	Resolve   func(ctx context.Context, host string) ([]netip.Addr, error) // nil: the system's resolver
	Reach     []netip.Prefix                                               // dialled although they are of those that never are
	Early     int                                                          // connections begun before a verdict that may wait at once; 0: 64, below: none
	Now       func() time.Time                                             // nil: time.Now

	CertificateMade func() // called for each certificate by which the bastion logs in; nil: nobody counts

	RekeyAfter uint64 // bytes after which the keys of a connection are changed from here; 0: as the cipher demands
}

// Dialer opens connections to targets. It is safe for concurrent use.
type Dialer struct {
	cfg   Config
	early waiting // connections that wait for a verdict
}

// New returns a Dialer.
func New(cfg Config) *Dialer {
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.CertificateMade == nil {
		cfg.CertificateMade = func() {}
	}
	if cfg.Resolve == nil {
		cfg.Resolve = lookup
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Early == 0 {
		cfg.Early = 64
	}
	return &Dialer{cfg: cfg, early: waiting{at: map[string]int{}}}
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
	take atomic.Pointer[func(ssh.NewChannel) bool]
	over chan struct{} // closed when the connection has ended

	mu   sync.Mutex // guards the field below
	then []func()   // to be called when it has
}

// OnChannel sets who takes the channels that the target opens; until then, and when take says no, they
// are refused. take must not wait for anything but the target.
func (u *Upstream) OnChannel(take func(ssh.NewChannel) bool) { u.take.Store(&take) }

// Done is closed when the connection has ended.
func (u *Upstream) Done() <-chan struct{} { return u.over }

// OnDone has f called, in a goroutine of its own, when the connection has ended.
func (u *Upstream) OnDone(f func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	select {
	case <-u.over:
		go f()
	default:
		u.then = append(u.then, f)
	}
}

// end is called once, when the connection has ended.
func (u *Upstream) end() {
	u.mu.Lock()
	defer u.mu.Unlock()
	close(u.over)
	for _, f := range u.then {
		go f()
	}
	u.then = nil
}

// Error says in words for the person why a target could not be reached, and keeps the cause.
type Error struct {
	Public string
	Err    error
}

func (e *Error) Error() string { return e.Public }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Dial connects to t, verifies its host key and logs in as account, for who. What stands between is
// verified and logged in to in the same way. Every error is an *[Error].
func (d *Dialer) Dial(ctx context.Context, t store.Target, account string, who Who) (*Upstream, error) {
	hops, err := d.route(ctx, t, account)
	if err != nil {
		return nil, &Error{Public: fmt.Sprintf("cannot reach %s: %s", t.Name, credentialReason(err)), Err: err}
	}
	return d.travel(ctx, hops, who)
}

// travel dials the last of hops through the others.
func (d *Dialer) travel(ctx context.Context, hops []hop, who Who) (*Upstream, error) {
	j := &journey{d: d, hops: hops, limit: newLimit(ctx, d.cfg.Timeout), admit: func() (Who, error) { return who, nil }}
	defer j.limit.stop()
	return j.run()
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

// serve begins to take what the target asks for, and calls over when the connection has ended.
func (d *Dialer) serve(u *Upstream, target string, chans <-chan ssh.NewChannel, reqs <-chan *ssh.Request, over func()) {
	shift.Each(reqs, shift.Requests(u.Conn), answer, func() {})
	refused := 0
	shift.Each(chans, shift.Channels(u.Conn), func(c ssh.NewChannel) {
		if !d.channel(u, target, c, refused < maxRefusedEvents) {
			refused++
		}
	}, over)
}

// answer answers a global request of the target. Keepalives are alive. The target's host keys
// (hostkeys-00@openssh.com) are no business of the client, which talks to the bastion.
func answer(r *ssh.Request) {
	if r.WantReply {
		_ = r.Reply(r.Type == "keepalive@openssh.com", nil)
	}
}

// channel hands on a channel that the target opens, or turns it away, with an event if report, and is
// false, when nobody asked for it.
func (d *Dialer) channel(u *Upstream, target string, c ssh.NewChannel, report bool) bool {
	if take := u.take.Load(); take != nil && (*take)(c) {
		return true
	}
	_ = c.Reject(ssh.Prohibited, "not requested")
	if report {
		_ = d.cfg.Audit.Emit(context.Background(), audit.Event{
			Type: audit.ChannelRefused, Result: audit.Refused, Target: target,
			Reason: "the target opened a channel that nobody asked for", Detail: map[string]string{"type": c.ChannelType()},
		})
	}
	return false
}

// algorithms that the bastion offers to targets: the same modern list as to clients, with what older
// servers need at the end.
func (d *Dialer) algorithms() ssh.Config {
	return ssh.Config{
		RekeyThreshold: d.cfg.RekeyAfter,
		KeyExchanges:   []string{ssh.KeyExchangeMLKEM768X25519, ssh.KeyExchangeCurve25519, "curve25519-sha256@libssh.org", ssh.KeyExchangeECDHP256, ssh.KeyExchangeDH14SHA256},
		Ciphers:        []string{ssh.CipherAES128GCM, ssh.CipherAES256GCM, ssh.CipherAES128CTR, ssh.CipherAES256CTR},
		MACs:           []string{ssh.HMACSHA256ETM, ssh.HMACSHA512ETM, ssh.HMACSHA256},
	}
}
