package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/audit"
	"sallyport/store"
)

// hop is one SSH server on the way to a target, which is the last itself.
type hop struct {
	target  store.Target
	account string
}

// route finds the way to account on t: the jump hosts in their order, then t.
func (d *Dialer) route(ctx context.Context, t store.Target, account string) ([]hop, error) {
	hops := []hop{{t, account}}
	for at := t; at.Via != ""; {
		jump, err := d.cfg.Store.Targets.ByName(ctx, at.Via)
		switch {
		case errors.Is(err, store.ErrNotFound):
			return nil, fmt.Errorf("there is no target %s to go through", at.Via)
		case err != nil:
			return nil, err
		case slices.ContainsFunc(hops, func(h hop) bool { return h.target.ID == jump.ID }):
			return nil, fmt.Errorf("the way through %s goes round in a circle", at.Via)
		case len(hops) > store.MaxJumps:
			return nil, fmt.Errorf("the way leads through more than %d jump hosts", store.MaxJumps)
		case jump.Credential == store.CredentialRelayed:
			return nil, fmt.Errorf("%s asks each person itself and cannot be a jump host", jump.Name)
		}
		account := at.ViaAccount
		if account == "" && len(jump.Accounts) > 0 {
			account = jump.Accounts[0]
		}
		if account == "" || len(jump.Accounts) > 0 && !slices.Contains(jump.Accounts, account) {
			return nil, fmt.Errorf("%s has no account %q to go through", jump.Name, account)
		}
		hops = append(hops, hop{jump, account})
		at = jump
	}
	slices.Reverse(hops)
	return hops, nil
}

// through names the jump hosts before hop i in words for errors: " through jump1, jump2", or nothing.
func through(hops []hop, i int) string {
	var names []string
	for _, h := range hops[:i] {
		names = append(names, h.target.Name)
	}
	if len(names) == 0 {
		return ""
	}
	return " through " + strings.Join(names, ", ")
}

// tunnel opens a connection from a jump host to address ("host:port"). A name is resolved by the jump
// host. Closing what it returns closes the jump host's connection with it if whole.
func (d *Dialer) tunnel(ctx context.Context, jump ssh.Conn, address string, whole bool) (net.Conn, error) {
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || port == 0 {
		return nil, fmt.Errorf("%q is not a port", portText)
	}
	if err := d.judgeFar(host, uint16(port)); err != nil {
		return nil, err
	}
	type result struct {
		ch   ssh.Channel
		reqs <-chan *ssh.Request
		err  error
	}
	opened := make(chan result, 1)
	go func() {
		// RFC 4254, section 7.2
		ch, reqs, err := jump.OpenChannel("direct-tcpip", ssh.Marshal(struct {
			Host     string
			Port     uint32
			Origin   string
			FromPort uint32
		}{host, uint32(port), "127.0.0.1", 0}))
		opened <- result{ch, reqs, err}
	}()
	select {
	case r := <-opened:
		var refused *ssh.OpenChannelError
		if errors.As(r.err, &refused) {
			return nil, &errFar{refused}
		}
		if r.err != nil {
			return nil, r.err
		}
		go ssh.DiscardRequests(r.reqs)
		c := &tunnelled{Channel: r.ch}
		if whole {
			c.jump = jump
		}
		return c, nil
	case <-ctx.Done():
		go func() { // it may come yet, if the jump host's connection lives on
			if r := <-opened; r.err == nil {
				go ssh.DiscardRequests(r.reqs)
				_ = r.ch.Close()
			}
		}()
		return nil, context.Cause(ctx)
	}
}

// judgeFar holds an address behind a jump host against the list of those that are never dialled.
// Loopback there is the jump host's own, and was named by an operator: other names that lead to it are
// known to the jump host alone.
func (d *Dialer) judgeFar(host string, port uint16) error {
	addr, err := netip.ParseAddr(host)
	if err != nil {
		if strings.EqualFold(strings.TrimSuffix(host, "."), "metadata.google.internal") {
			return errors.New("it is an address at which clouds give out credentials")
		}
		return nil
	}
	to := netip.AddrPortFrom(addr.Unmap(), port)
	why := denied(addr)
	if why == "" && !addr.Unmap().IsLoopback() && d.ours(to) {
		why = fmt.Sprintf("the bastion itself at port %d", port)
	}
	if why != "" && !d.listed(addr) {
		return &errDenied{addr, why}
	}
	return nil
}

// errFar is a jump host's refusal to connect. Its text is a stranger's.
type errFar struct{ err *ssh.OpenChannelError }

func (e *errFar) Error() string {
	text := e.err.Message
	if len(text) > maxPromptText {
		text = text[:maxPromptText] + "..."
	}
	text = audit.Escape(text)
	if e.err.Reason == ssh.Prohibited {
		return "it does not let the bastion connect from there (" + text + ")"
	}
	return text
}

func (e *errFar) Unwrap() error { return e.err }

// tunnelled is a connection from a jump host to the next, as a net.Conn.
type tunnelled struct {
	ssh.Channel
	jump  ssh.Conn // closed with it; nil: it has more to carry
	close sync.Once
}

// Close implements net.Conn.
func (c *tunnelled) Close() (err error) {
	c.close.Do(func() {
		if c.jump != nil {
			err = c.jump.Close() // at once, also when it takes nothing any more
			return
		}
		err = c.Channel.Close()
	})
	return err
}

// The rest of net.Conn. Time is kept on the connection to the first hop.
func (c *tunnelled) LocalAddr() net.Addr                { return tunnelAddr{} }
func (c *tunnelled) RemoteAddr() net.Addr               { return tunnelAddr{} }
func (c *tunnelled) SetDeadline(_ time.Time) error      { return errors.ErrUnsupported }
func (c *tunnelled) SetReadDeadline(_ time.Time) error  { return errors.ErrUnsupported }
func (c *tunnelled) SetWriteDeadline(_ time.Time) error { return errors.ErrUnsupported }

type tunnelAddr struct{}

func (tunnelAddr) Network() string { return "tunnel" }
func (tunnelAddr) String() string  { return "tunnel" }
