package bastion

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/store"
)

// Bounds of the connections that are open at once inside of one client's connection, and inside of each other. Ansible
// keeps one open to each host of an inventory; each further layer is one more that every byte is enciphered in.
const (
	maxInner = 64
	maxDepth = 16
)

// inner is what a connection knows that is made inside of another one: ssh -J opens a direct-tcpip to a
// target, and the bastion answers in the target's place.
type inner struct {
	outer  *connection
	target store.Target
	host   string // the client's name for it
	first  bool   // may be the one that needs no proof of its own
}

// jump answers a direct-tcpip to a target, if it is one: false leaves it to others. alone: no other
// channel was open when the client asked for this one.
func (c *connection) jump(nc ssh.NewChannel, to string, alone bool) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	host, p, _ := net.SplitHostPort(to)
	n, _ := strconv.ParseUint(p, 10, 16)
	port := uint16(n)
	if c.to.Target != "" && isLoopback(host) {
		return false // the target's own
	}
	found, sshHere, err := c.s.targetsAt(ctx, host, port)
	switch {
	case err != nil:
		c.s.cfg.Log.Error("looking for a target", "user", c.id.Login, "error", err)
		c.turnAway(nc, to, "the targets cannot be read just now; try again in a minute")
		return true
	case len(found) == 0 && c.to.Target == "" && sshHere:
		c.turnAway(nc, to, c.noAccess(ctx, host, to))
		return true
	case len(found) == 0:
		return false
	}
	t, refusal, err := c.reachable(ctx, found)
	switch {
	case err != nil:
		c.s.cfg.Log.Error("asking the rules", "user", c.id.Login, "error", err)
		c.turnAway(nc, to, "the rules cannot be read just now; try again in a minute")
	case t.ID == "" && refusal == "":
		if c.to.Target != "" {
			return false // what a host gets that is no target
		}
		c.turnAway(nc, to, c.noAccess(ctx, host, to))
	case t.ID == "":
		c.turnAway(nc, to, refusal)
	default:
		c.answerFor(nc, to, inner{outer: c, target: t, host: host, first: alone && !fromListener(nc)})
	}
	return true
}

// reachable is the one of targets that the person may reach. Without one, refusal is what a rule has to
// say about it; "": no more than of a target that is not there.
func (c *connection) reachable(ctx context.Context, targets []store.Target) (t store.Target, refusal string, err error) {
	for _, candidate := range targets {
		d, err := c.s.cfg.Engine.Preview(ctx, c.id, auth.Request{Target: candidate.Name, Source: c.source})
		switch {
		case err != nil:
			return store.Target{}, "", err
		case d.NoToken:
			refusal = d.Refusal
		case !d.Allow && !d.NeedsCode:
			if d.Message != "" {
				refusal = d.Refusal
			}
		case t.ID != "":
			return store.Target{}, "no target was named: several have this address; name the one you mean", nil
		default:
			t = candidate
		}
	}
	return t, refusal, nil
}

// noAccess is what somebody reads who asks for a host that is no target, or not theirs.
func (c *connection) noAccess(ctx context.Context, host, to string) string {
	d, err := c.s.cfg.Engine.Preview(ctx, c.id, auth.Request{Target: host, Source: c.source})
	switch {
	case err != nil:
		return "the rules cannot be read just now; try again in a minute"
	case d.Allow || d.NeedsCode && !d.NoToken:
		return "no target was named: " + to + " is not the SSH port of " + host + "; other ports are reached through a target, as in ssh -L ... user@target@bastion"
	}
	return d.Refusal
}

func (c *connection) turnAway(nc ssh.NewChannel, to, refusal string) {
	c.reportRefused(refusal, "destination", to)
	_ = nc.Reject(ssh.Prohibited, refusal)
}

// fromListener tells whether the client passes on what came to a listener of its own (ssh -L, -D), and so
// perhaps from another program than itself. One that speaks for itself has no address to tell: OpenSSH
// sends port 65535 then (ssh -J, -W), Dropbear 22, libraries an address with port 0. For a listening Unix
// socket OpenSSH sends port 0 and no address.
func fromListener(nc ssh.NewChannel) bool {
	var p directTCPIP
	if ssh.Unmarshal(nc.ExtraData(), &p) != nil {
		return true
	}
	_, err := netip.ParseAddr(p.OriginHost)
	return err != nil || !slices.Contains([]uint32{0, 22, 65535}, p.OriginPort)
}

// answerFor runs an SSH connection inside of a channel, in the place of a target.
func (c *connection) answerFor(nc ssh.NewChannel, to string, in inner) {
	defer c.inners.Add(-1)
	if c.inners.Add(1) > maxInner {
		_ = nc.Reject(ssh.ResourceShortage, fmt.Sprintf("no more than %d connections at once inside of one", maxInner))
		return
	}
	if c.depth() >= maxDepth {
		_ = nc.Reject(ssh.ResourceShortage, fmt.Sprintf("no more than %d connections inside of each other", maxDepth))
		return
	}
	if c.s.cfg.HostCA == nil {
		c.turnAway(nc, to, "this bastion has no host keys for targets")
		return
	}
	keys, err := c.s.hostKeys(in)
	if err != nil {
		c.s.cfg.Log.Error("making a host key", "target", in.target.Name, "error", err)
		c.turnAway(nc, to, "the host key of the target cannot be made; tell an operator")
		return
	}
	ch, reqs, err := nc.Accept()
	if err != nil {
		return
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		ssh.DiscardRequests(reqs)
	}()
	conn := &channelConn{ch: ch, outer: c.guarded, gone: gone}
	defer func() {
		_ = conn.Close()
		<-gone
	}()
	i := &connection{s: c.s, nonce: rand.Text(), source: c.source, guarded: newGuardedConn(conn, c.s.cfg.Guard), inner: &in, inners: c.inners}
	if !c.s.track(i) {
		return
	}
	defer c.s.untrack(i)
	over := make(chan struct{})
	go i.speak(i.innerConfig(keys), func() { close(over) }) // deep in the stack, on which the connection would lie for hours
	<-over
}

// depth is how many connections c is inside of.
func (c *connection) depth() (n int) {
	for i := c.inner; i != nil; i = i.outer.inner {
		n++
	}
	return n
}

// innerConfig is the one place where authentication inside of a connection is put together. "none" is
// never accepted here either. A client whose outer connection proved a key proves the same one again;
// everybody else comes by keyboard-interactive.
func (c *connection) innerConfig(keys []ssh.Signer) *ssh.ServerConfig {
	cfg := &ssh.ServerConfig{
		Config:                      c.algorithms(),
		PublicKeyAuthAlgorithms:     userKeyAlgorithms(),
		MaxAuthTries:                20,
		ServerVersion:               "SSH-2.0-Sallyport",
		NoClientAuthCallback:        func(ssh.ConnMetadata) (*ssh.Permissions, error) { return nil, errRefused },
		KeyboardInteractiveCallback: c.innerInteractive,
		PreAuthConnCallback: func(p ssh.ServerPreAuthConn) {
			c.pre = p
			_ = c.guarded.allow(c.s.cfg.Guard.Prompt)
		},
	}
	if c.inner.outer.id.KeyFingerprint != "" {
		cfg.PublicKeyCallback, cfg.VerifiedPublicKeyCallback = c.innerKeyOffered, c.innerKeyVerified
	}
	for _, k := range keys {
		cfg.AddHostKey(k)
	}
	return cfg
}

// beginInner starts a conversation for the person of the outer connection; proof is as in auth.Outer.
func (c *connection) beginInner(m ssh.ConnMetadata, proof string) (*auth.Conversation, Login) {
	outer := c.inner.outer
	login := Login{User: outer.id.Login, Account: m.User(), Target: c.inner.target.Name}
	conv := c.s.cfg.Engine.Begin(auth.Attempt{
		ID: c.nonce, Door: audit.DoorSSH, Login: login.User, Source: c.source, Target: login.Target, Account: login.Account,
		Client: string(m.ClientVersion()),
	})
	return conv.WithOuter(auth.Outer{Identity: outer.id, Since: outer.since, Proof: proof}), login
}

// innerInteractive lets in the one connection that needs no proof of its own, and asks all others for a
// code.
func (c *connection) innerInteractive(m ssh.ConnMetadata, challenge ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
	proof := ""
	if c.inner.mayGoOnce() {
		if _, err := challenge("", "", nil, nil); err != nil {
			return nil, errRefused
		}
		if c.inner.mayGoOnce() && c.inner.outer.vouched.CompareAndSwap(false, true) {
			proof = auth.ProofOnce
		}
	}
	conv, login := c.beginInner(m, proof)
	return c.run(conv, login, &asker{c: c, challenge: challenge})
}

// mayGoOnce tells whether this connection may be the one that is let in on the word of the outer one.
func (i *inner) mayGoOnce() bool {
	o := i.outer
	return i.first && o.id.KeyFingerprint == "" && time.Since(o.since) <= o.s.cfg.Guard.Jump && !o.vouched.Load()
}

// innerKeyOffered says whether a key would do: the one of the outer connection.
func (c *connection) innerKeyOffered(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
	if _, isCertificate := key.(*ssh.Certificate); isCertificate || ssh.FingerprintSHA256(key) != c.inner.outer.id.KeyFingerprint {
		return nil, errRefused
	}
	return &ssh.Permissions{}, nil
}

// innerKeyVerified lets in who has proved the key of the outer connection again. Where the rule wants a
// newer code than the outer connection's, that follows.
func (c *connection) innerKeyVerified(m ssh.ConnMetadata, key ssh.PublicKey, _ *ssh.Permissions, _ string) (*ssh.Permissions, error) {
	if ssh.FingerprintSHA256(key) != c.inner.outer.id.KeyFingerprint {
		return nil, errRefused
	}
	conv, login := c.beginInner(m, auth.ProofKey)
	id, err := conv.Run(context.Background(), silent{})
	switch {
	case err == nil:
		return c.admitted(*id, login, nil)
	case !errors.Is(err, errMustAsk):
		return nil, errRefused
	}
	return nil, &ssh.PartialSuccessError{Next: ssh.ServerAuthCallbacks{KeyboardInteractiveCallback: c.innerInteractive}}
}

// accountsHint tells somebody whose inner user name opens nothing which ones would.
func (c *connection) accountsHint(ctx context.Context) string {
	reach, err := c.s.cfg.Engine.Reach(ctx, c.id, c.source)
	if err != nil {
		return ""
	}
	var accounts []string
	for _, d := range reach {
		if d.Target.ID == c.inner.target.ID {
			accounts = append(accounts, d.Account)
		}
	}
	if len(accounts) == 0 || slices.Contains(accounts, c.to.Account) {
		return ""
	}
	return fmt.Sprintf(" You asked for account %s of %s; open to you: %s.", shorten(c.to.Account), c.to.Target, shorten(strings.Join(accounts, ", ")))
}

// hostKeys are shown in the place of a target.
func (s *Server) hostKeys(in inner) ([]ssh.Signer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	ca, err := s.cfg.HostCA(ctx)
	if err != nil {
		return nil, err
	}
	return ca.signers(in.target, in.host, time.Now())
}
