package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/readahead"
)

// journey is one connection on its way to a target.
type journey struct {
	d     *Dialer
	hops  []hop
	limit *limit

	// admit is called once, when the first hop has shown its host key and nothing has been done with that,
	// and returns when the connection may go on, with who it is for.
	admit func() (Who, error)

	who      Who
	admitted bool
}

// run goes all the way, and closes what it has opened if it does not arrive. Every error is an *Error.
func (j *journey) run() (*Upstream, error) {
	var u *Upstream
	for i := range j.hops {
		var err error
		if u, err = j.hop(i, u, true); err != nil {
			return nil, err
		}
	}
	return u, nil
}

// hop connects to hop i, which is reached through below unless it is the first, and logs in. If that
// fails, and in the end, below is closed with it if whole.
func (j *journey) hop(i int, below *Upstream, whole bool) (*Upstream, error) {
	conn, err := j.d.open(j.limit, j.hops[i].target.Address, below, whole)
	if err != nil {
		if below != nil && whole {
			_ = below.Close()
		}
		return nil, j.unreachable(i, err)
	}
	return j.login(i, conn)
}

// open connects to address, through below unless that is nil.
func (d *Dialer) open(l *limit, address string, below *Upstream, whole bool) (net.Conn, error) {
	if below == nil {
		return d.dial(l, address)
	}
	return d.tunnel(l.ctx, below.Conn, address, whole)
}

// login makes the handshake with hop i over conn, verifies its host key and logs in. It closes conn, and
// with it all that carries it, if that fails.
func (j *journey) login(i int, conn net.Conn) (*Upstream, error) {
	h := j.hops[i]
	stop := context.AfterFunc(j.limit.ctx, func() { _ = conn.Close() })
	check := j.d.hostKeyCheck(j.limit.ctx, h.target)
	login := &login{d: j.d, hop: h, limit: j.limit}
	// What is for the first exchange of keys is let go of after it: connections last for hours.
	var first atomic.Pointer[func() error]
	prepared := false
	var notAdmitted error
	first.Store(new(func() error {
		if !j.admitted {
			if j.who, notAdmitted = j.admit(); notAdmitted != nil {
				return notAdmitted
			}
			j.admitted = true
		}
		if prepared {
			return nil
		}
		err := login.prepare(j.limit.ctx, j.who)
		prepared = err == nil
		return err
	}))
	config := &ssh.ClientConfig{
		Config: j.d.algorithms(),
		User:   h.account,
		Auth:   login.methods(),
		HostKeyCallback: func(host string, remote net.Addr, key ssh.PublicKey) error { // also when keys are exchanged anew
			if before := first.Load(); before != nil {
				if err := (*before)(); err != nil {
					return err
				}
			}
			return check.verify(host, remote, key)
		},
		HostKeyAlgorithms: check.algorithms,
		ClientVersion:     "SSH-2.0-Sallyport",
	}
	client, chans, reqs, err := ssh.NewClientConn(readahead.New(conn), h.target.Address, config)
	if !stop() && err == nil {
		_ = client.Close()
		err = j.limit.err()
	}
	if err != nil {
		_ = conn.Close()
		if notAdmitted != nil {
			return nil, &Error{Public: "the connection was not wanted", Err: notAdmitted}
		}
		return nil, j.refused(i, err, check, login)
	}
	login.forget()
	first.Store(nil)
	u := &Upstream{Conn: client, over: make(chan struct{})}
	ends := func() {
		_ = client.Wait()
		_ = conn.Close() // what carries it
		u.end()
	}
	j.d.serve(u, h.target.Name, chans, reqs, ends)
	return u, nil
}

// refused says why hop i did not let the bastion in, or was not let.
func (j *journey) refused(i int, err error, check *hostKeyCheck, login *login) *Error {
	t, account := j.hops[i].target, j.hops[i].account
	switch {
	case j.limit.err() != nil:
	case login.err != nil:
		return j.named(i, &Error{Public: fmt.Sprintf("cannot log in to %s (%s): %s", t.Name, t.Address, credentialReason(login.err)), Err: login.err})
	case check.err != nil:
		return j.named(i, check.err)
	case noCertificate(t, err):
		return j.named(i, &Error{
			Public: fmt.Sprintf("%s (%s) shows no host certificate, and only those of its CA are taken. Operators: HostCertificate in its sshd_config, or sallyport target update %s --host-key", t.Name, t.Address, t.Name),
			Err:    err,
		})
	case strings.Contains(err.Error(), "unable to authenticate"):
		proof, _ := proofOf(t, account)
		text := fmt.Sprintf("%s (%s) refuses %s for account %s", t.Name, t.Address, proof, account)
		if login.ask == nil {
			text += ". Operators: sallyport target onboard " + t.Name
		}
		return j.named(i, &Error{Public: text, Err: err})
	}
	return j.unreachable(i, err)
}

// unreachable says why there was no connection to hop i.
func (j *journey) unreachable(i int, err error) *Error {
	if cause := j.limit.err(); cause != nil {
		err = cause
	}
	t := j.hops[i].target
	where := " (" + t.Address + ")"
	if i > 0 {
		where = through(j.hops, i)
	}
	return j.named(i, &Error{Public: fmt.Sprintf("cannot reach %s%s: %s", t.Name, where, reason(err)), Err: err})
}

// named says of what happened at jump host i what was to be reached through it.
func (j *journey) named(i int, e *Error) *Error {
	if last := len(j.hops) - 1; i < last {
		return &Error{Public: fmt.Sprintf("cannot reach %s through %s: %s", j.hops[last].target.Name, j.hops[i].target.Name, e.Public), Err: e}
	}
	return e
}

// errNotWanted ends a connection for which no verdict came, or another than it was begun for.
var errNotWanted = errors.New("nobody came for the connection")
