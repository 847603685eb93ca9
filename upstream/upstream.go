// Package upstream opens the SSH connection to a target: it checks the address and the host key, and
// logs in with the bastion's own key, so that a target has to trust nobody but the bastion.
package upstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
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
	return &Dialer{cfg: cfg}
}

// PublicKey returns the public half of the bastion's own key.
func (d *Dialer) PublicKey() ssh.PublicKey { return d.cfg.Signer.PublicKey() }

// AuthorizedKey returns the bastion's key as a line of authorized_keys without options.
func (d *Dialer) AuthorizedKey() string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(d.PublicKey()))) + " sallyport"
}

// Upstream is an open connection to a target, logged in.
type Upstream struct {
	ssh.Conn
	closed chan struct{}
}

// Done is closed when the connection has ended.
func (u *Upstream) Done() <-chan struct{} { return u.closed }

// Error says in words for the person why a target could not be reached, and keeps the cause.
type Error struct {
	Public string
	Err    error
}

func (e *Error) Error() string { return e.Public }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Dial connects to t, verifies its host key and logs in as account. Every error is an *[Error].
func (d *Dialer) Dial(ctx context.Context, t store.Target, account string) (*Upstream, error) {
	conn, chans, reqs, err := d.connect(ctx, t, account, []ssh.AuthMethod{ssh.PublicKeys(d.cfg.Signer)})
	if err != nil {
		return nil, err
	}
	u := &Upstream{Conn: conn, closed: make(chan struct{})}
	go d.refuseChannels(t, chans)
	go answerRequests(reqs)
	go func() {
		_ = conn.Wait()
		close(u.closed)
	}()
	return u, nil
}

func (d *Dialer) connect(ctx context.Context, t store.Target, account string, auth []ssh.AuthMethod) (ssh.Conn, <-chan ssh.NewChannel, <-chan *ssh.Request, error) {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Timeout)
	defer cancel()
	fail := func(err error) error {
		return &Error{Public: fmt.Sprintf("cannot reach %s (%s): %s", t.Name, t.Address, reason(err)), Err: err}
	}
	dialer := net.Dialer{KeepAlive: 15 * time.Second}
	tcp, err := dialer.DialContext(ctx, "tcp", t.Address)
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
		if strings.Contains(err.Error(), "unable to authenticate") {
			return nil, nil, nil, &Error{
				Public: fmt.Sprintf("%s (%s) refuses the bastion's key for account %s. Operators: sallyport target onboard %s", t.Name, t.Address, account, t.Name),
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
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return "its name is not known here"
	}
	return audit.Escape(strings.TrimPrefix(err.Error(), "ssh: "))
}

// refuseChannels turns away every channel that a target opens: nobody asked for one.
func (d *Dialer) refuseChannels(t store.Target, chans <-chan ssh.NewChannel) {
	for c := range chans {
		_ = c.Reject(ssh.Prohibited, "not requested")
		_ = d.cfg.Audit.Emit(context.Background(), audit.Event{
			Type: audit.ChannelRefused, Result: audit.Refused, Target: t.Name,
			Reason: "the target opened a channel that nobody asked for", Detail: map[string]string{"type": c.ChannelType()},
		})
	}
}

// answerRequests answers the target's global requests here: keepalives are alive, and its host keys
// (hostkeys-00@openssh.com) are no business of the client, which talks to the bastion.
func answerRequests(reqs <-chan *ssh.Request) {
	for r := range reqs {
		if r.WantReply {
			_ = r.Reply(r.Type == "keepalive@openssh.com", nil)
		}
	}
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
