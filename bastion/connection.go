package bastion

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/internal/shift"
	"sallyport/policy"
	"sallyport/session"
	"sallyport/store"
	"sallyport/upstream"
)

// maxChannels bounds the channels of all kinds that are open at once in one connection.
const maxChannels = policy.MaxChannels

// Keepalive: a client that answers nothing for this long is gone.
const (
	keepaliveEvery = 15 * time.Second
	keepaliveMiss  = 3
)

// connection is one client's connection.
type connection struct {
	s       *Server
	source  netip.Addr
	guarded *guardedConn
	held    *place                // among the unauthenticated
	pre     ssh.ServerPreAuthConn // sends banners until authentication is over
	nonce   string                // what codes that are sent are bound to
	tries   int                   // conversations begun; callbacks of one connection never run in parallel
	changes int64                 // of rights that there were when it came
	ahead   ahead                 // the connection to the target that is begun meanwhile
	kept    kept                  // the one for which the person had to be asked

	keyrings map[string]*auth.Keyring // by login, as asked about by keys

	// Set when authentication is over:
	conn  *ssh.ServerConn
	id    auth.Identity
	to    Login
	since time.Time

	gone      chan struct{} // closed when the client opens nothing any more
	asked     chan struct{} // closed when somebody else was first asked to agree to something
	askedOnce sync.Once
	asks      asks
	asksMade  atomic.Int64 // requests for approval; of the outermost only

	inner   *inner        // of a connection inside of another one; nil: it came over the network
	inners  *atomic.Int64 // connections inside of this one, and of the one that this is inside of
	vouched atomic.Bool   // one inside has been let in without a proof of its own

	channels   atomic.Int64   // open now
	receptions atomic.Int64   // of them, those without a target
	byClient   sync.WaitGroup // of them, those that the client opened
	refused    atomic.Int64   // turned away so far
	denied     atomic.Int64   // refused by the rules so far, or not reachable

	rights       rights
	sessionsOpen atomic.Int64 // by this connection and those inside of it; of the outermost only

	alive *time.Timer // sends keepalives

	requests     *shift.Loop        // of global requests
	barrier      chan chan struct{} // see inOrder
	barriers     atomic.Int32       // how many are to come by it
	requestsOver chan struct{}      // closed when the client can ask for nothing more

	mu      sync.Mutex // guards the fields below, and is held while the target is dialled
	session *session.Session
	over    bool // no session may be opened any more
}

// authenticated prepares the connection for channels, and begins to answer requests.
func (c *connection) authenticated(sc *ssh.ServerConn, v *verdict, reqs <-chan *ssh.Request) {
	c.conn, c.id, c.to, c.since = sc, v.id, v.login, time.Now()
	c.keyrings = nil
	if c.inners == nil {
		c.inners = new(atomic.Int64)
	}
	c.gone, c.asked = make(chan struct{}), make(chan struct{})
	c.barrier, c.requestsOver = make(chan chan struct{}), make(chan struct{})
	c.enter(c.changes)
	c.globalRequests(reqs)
	c.alive = c.keepAlive()
}

// serve begins to take the channels that the client opens, and calls over when the connection has ended and all of
// them with it.
func (c *connection) serve(chans <-chan ssh.NewChannel, over func()) {
	shift.Each(chans, shift.Channels(c.conn.Conn), c.opens, func() {
		close(c.gone)
		c.mu.Lock()
		s := c.session
		c.over = true
		c.mu.Unlock()
		if s != nil {
			s.Close("the client closed the connection")
		}
		c.byClient.Wait()
		c.alive.Stop()
		over()
	})
}

// opens takes a channel that the client opens.
func (c *connection) opens(nc ssh.NewChannel) {
	if nc.ChannelType() != "session" && (!isForward(nc.ChannelType()) || c.robot()) {
		c.refuseChannel(nc)
		return
	}
	n := c.take()
	if n == 0 {
		_ = nc.Reject(ssh.ResourceShortage, fmt.Sprintf("no more than %d channels at once in one connection", maxChannels))
		return
	}
	c.byClient.Add(1)
	over := func() {
		c.channels.Add(-1)
		c.byClient.Done()
	}
	go func() {
		c.inOrder()
		if s := c.channel(nc, n == 1); s != nil {
			s.Channel(nc, over)
		} else {
			over()
		}
	}()
}

// take takes a place among the channels that may be open at once, whoever opens them, and returns how
// many are open with this one; 0: too many.
func (c *connection) take() int64 {
	n := c.channels.Add(1)
	if n > maxChannels {
		c.channels.Add(-1)
		return 0
	}
	return n
}

// channel opens the session if this is the connection's first channel, and gives it for the channel; nil: there is
// nothing left to do for that. alone: no other channel was open when the client asked for this one.
func (c *connection) channel(nc ssh.NewChannel, alone bool) *session.Session {
	if isForward(nc.ChannelType()) {
		c.forward(nc, alone)
		return nil
	}
	if refusal := c.needsTarget(); refusal != "" {
		c.reportRefused("no target was named", "channel-type", nc.ChannelType())
		session.Tell(nc, refusal)
		return nil
	}
	if c.to.Target == "" {
		c.reception(nc)
		return nil
	}
	s, refusal, approval := c.openNow(nil)
	if approval != nil {
		c.holdChannel(nc, approval) // by reference: what stands on this stack stays as long as the channel
		return nil
	}
	if s == nil {
		session.Tell(nc, refusal)
		return nil
	}
	c.afterAsking()
	return s
}

// open is openNow for what cannot tell the person to wait for an approval, and waits for it all the same. what says
// what the client came with.
func (c *connection) open(what string) (s *session.Session, refusal string) {
	s, refusal, approval := c.openNow(nil)
	if approval == nil {
		return s, refusal
	}
	a, leave := c.join(*approval, what, "")
	defer leave("the client closed the connection")
	select {
	case <-a.done:
		return a.session, a.refusal
	case <-c.gone:
		return nil, "the connection is gone"
	}
}

// openNow gives the connection's session, opening it at first; refusal says in words for the person why
// there is none. A later channel asks again: rules and targets may have changed. approval is not nil if others
// have to agree first, and ap is not what they have agreed to.
func (c *connection) openNow(ap *approved) (s *session.Session, refusal string, approval *auth.Decision) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session != nil {
		return c.session, "", nil
	}
	if c.over {
		return nil, "the connection is gone", nil
	}
	if c.to.Target == "" {
		c.reportRefused("no target was named", "request", "forward")
		return nil, "no target was named: a forward needs one, as in ssh -L ... user@target@bastion", nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), openTime)
	defer cancel()
	s, refusal, approval = c.openAsking(ctx, c.id, c.to, c.conn, nil, ap)
	if s == nil && approval == nil && c.inner != nil {
		refusal += c.accountsHint(context.Background())
	}
	c.session = s
	return s, refusal, approval
}

// openAsking opens a session to where to says; client is what the session ends with. id is the connection's, or the
// same person with a code for this session alone. ask has the person answer what the target wants to hear; nil:
// there is no way to. ap is what others have agreed to, which is used up, or worth nothing if there is no session;
// approval is not nil if they have to agree to something else before.
func (c *connection) openAsking(ctx context.Context, id auth.Identity, to Login, client ssh.Conn, ask upstream.Ask, ap *approved) (s *session.Session, refusal string, approval *auth.Decision) {
	defer func() {
		if s == nil && ap != nil {
			ap.wait.Withdraw("the session did not start: " + refusal)
		}
	}()
	if c.denied.Load() >= maxRefusedEvents { // an attempt costs the target a connection too
		return nil, "too much was refused in this connection; connect again", nil
	}
	if refusal := c.standsStill(ctx, id, ap); refusal != "" {
		return nil, refusal, nil
	}
	changes := c.s.changes.Load()
	d, decided, err := c.decide(ctx, id, auth.Request{Target: to.Target, Account: to.Account, Source: c.source})
	// It is written with the session, or else here.
	note := func() {
		if decided.Type != "" {
			_ = c.s.cfg.Audit.Emit(context.WithoutCancel(ctx), decided)
			decided = audit.Event{}
		}
	}
	defer note()
	switch {
	case err != nil:
		c.s.cfg.Log.Error("asking the rules", "user", c.id.Login, "error", err)
		return nil, "the rules cannot be read just now; try again in a minute.", nil
	case !d.Allow:
		return nil, d.Refusal, nil
	case d.Approval != nil && ap != nil && !ap.covers(d):
		return nil, "what the rules ask for has changed while others were asked; connect again.", nil
	}
	held, refusal := c.hold(d)
	if held == nil {
		return nil, refusal, nil
	}
	release := func() { c.drop(held) }
	defer func() {
		if s == nil {
			release()
		}
	}()
	// Where sessions are counted, opening them takes locks for which others wait: the less is written under these the better.
	if quota(d.Limits) != (store.Quota{}) {
		note()
	}
	// Whether there is a place is decided when the session is opened; without one now, the target is spared.
	if err := c.room(ctx, d); err != nil {
		return nil, c.noRoom(ctx, d, err), nil
	}
	if d.Approval != nil && ap == nil {
		return nil, "others have to agree first", &d
	}
	var r *reached
	if ap == nil {
		r = c.kept.take(d)
	}
	if r == nil {
		if ask != nil { // people take their time
			note()
		}
		r = c.reach(ctx, id, d, ask, ap)
	}
	if r.refusal != "" {
		note()
		c.unreached(ctx, id, r)
		return nil, r.refusal, nil
	}
	params := c.params(id, d, r.up, client)
	params.Row.ID, params.Closed, params.Decided = r.id, release, decided
	decided = audit.Event{}
	if ap != nil {
		params.Row.Approval, params.ApprovedBy = ap.wait.ID, ap.by
	}
	opened, err := c.s.cfg.Sessions.Open(ctx, params)
	if err != nil {
		_ = r.up.Close()
		if text := c.overQuota(ctx, d, err); text != "" {
			return nil, text, nil
		}
		c.s.cfg.Log.Error("opening a session", "user", c.id.Login, "target", d.Target.Name, "error", err)
		if ap != nil && errors.Is(err, store.ErrConflict) {
			return nil, "the approval is not good any more; connect again.", nil
		}
		return nil, "the session could not be opened; try again in a minute.", nil
	}
	c.opened(held, opened, changes)
	return opened, "", nil
}

// room is nil if there is a place for a session.
func (c *connection) room(ctx context.Context, d auth.Decision) error {
	return c.s.cfg.Store.Sessions.Room(ctx, store.Session{UserID: c.id.UserID, Rule: d.Rule, Target: d.Target.Name}, quota(d.Limits))
}

// noRoom tells why there is none, the audit log too.
func (c *connection) noRoom(ctx context.Context, d auth.Decision, err error) string {
	if text := c.overQuota(ctx, d, err); text != "" {
		return text
	}
	return "the sessions cannot be counted just now; try again in a minute."
}

func (c *connection) params(id auth.Identity, d auth.Decision, up *upstream.Upstream, client ssh.Conn) session.Params {
	// What the session keeps does not keep all of d: it lasts for hours.
	asked := auth.Request{Target: d.Target.Name, Account: d.Account, Source: c.source}
	env, approval, moderator := d.Env, d.Approval, d.Moderator
	return session.Params{
		Row: store.Session{
			UserID: id.UserID, User: id.Login, Target: d.Target.Name, Address: d.Target.Address, Account: d.Account,
			Source: c.source.String(), Client: audit.Escape(string(c.conn.ClientVersion())), Rule: d.Rule,
			Recording: recordingWord(d), KeyFingerprint: id.KeyFingerprint,
		},
		Client: client, Upstream: up,
		Limits:   session.Limits{Idle: d.Limits.Idle, KeyboardIdle: d.Limits.KeyboardIdle, Max: d.Limits.Max, Channels: d.Limits.Channels},
		Only:     c.only(),
		Quota:    quota(d.Limits),
		Env:      func(name string) bool { return name != reasonEnv && env.Allows(name) },
		Greeting: trustLine(id, time.Now()),
		Authorize: func(ctx context.Context, kind, to, command string) (session.Grant, error) {
			r := asked
			r.Channel, r.To, r.Command = kind, to, command
			g, err := c.authorize(ctx, id, r, approval, moderator)
			if err != nil {
				return g, err
			}
			return c.authorizeForward(ctx, r.Target, kind, to, g), nil
		},
		Silent: d.Silent, Moderation: moderation(d),
		Place:  func() bool { return c.take() > 0 },
		Vacate: func() { c.channels.Add(-1) },
	}
}

// moderation is the demand of the rules that somebody watches; nil: there is none.
func moderation(d auth.Decision) *session.Moderation {
	m := d.Moderator
	if m == nil {
		return nil
	}
	return &session.Moderation{May: m.May, By: m.Who(), Pause: m.Pause, Within: m.Within}
}

// decide asks the rules. What they allow always leaves an event, which whoever asks writes with what they open; of what
// they refuse, the first in a connection do: a client may ask without end.
func (c *connection) decide(ctx context.Context, id auth.Identity, r auth.Request) (d auth.Decision, allowed audit.Event, err error) {
	if c.denied.Load() >= maxRefusedEvents {
		if d, err := c.s.cfg.Engine.Preview(ctx, id, r); err != nil || !d.Allow {
			return d, audit.Event{}, err
		}
	}
	d, allowed, err = c.s.cfg.Engine.Decide(ctx, id, r)
	if err == nil && !d.Allow && c.denied.Add(1) == maxRefusedEvents {
		c.reportRefused("further refusals of this connection leave no event", "channel", r.Channel)
	}
	return d, allowed, err
}

// recordingWord is how a session is recorded, for its row.
func recordingWord(d auth.Decision) string {
	if d.BreakGlass {
		return session.BreakGlass
	}
	return d.Recording.String()
}

// authorize asks the rules for one channel of a session: what was asked of others when that was opened, approval and
// moderator, holds for the whole of it, and what the rules ask by now must be no more.
func (c *connection) authorize(ctx context.Context, id auth.Identity, r auth.Request, approval *policy.Approval, moderator *policy.Moderator) (session.Grant, error) {
	d, decided, err := c.decide(ctx, id, r)
	if err != nil {
		return session.Grant{}, err
	}
	missing := ""
	switch {
	case d.Allow && !approval.Covers(d.Approval):
		missing = "an approval"
	case d.Allow && !moderator.Covers(d.Moderator):
		missing = "a moderator"
	}
	if missing != "" {
		return session.Grant{Refusal: "the rules ask for " + missing + " of this by now; connect again."}, c.s.cfg.Audit.Emit(ctx, decided)
	}
	return session.Grant{
		Decided: decided,
		Allowed: d.Allow, Refusal: d.Refusal, Denied: !d.Allow && d.Rule != "",
		Record: d.Recording != policy.RecordOff, Required: d.Recording == policy.RecordRequired, RecordLimit: d.RecordLimit,
		Unsearched: d.Unsearched,
		Retention:  c.s.retention(d.Retention),
		Input:      d.RecordInput, BreakGlass: d.BreakGlass,
		Files: files(d.Files),
	}, nil
}

// retention is how long a recording is kept whose rule says d; 0: for ever.
func (s *Server) retention(d time.Duration) time.Duration {
	switch d {
	case 0:
		return s.cfg.Retention
	case policy.Forever:
		return 0
	}
	return d
}

// maxRefusedEvents bounds the audit events that one connection can cause by opening what it may not.
const maxRefusedEvents = 100

// refuseChannel turns away a channel of a kind that does not pass.
func (c *connection) refuseChannel(nc ssh.NewChannel) {
	kind := audit.Escape(nc.ChannelType())
	c.reportRefused("channels of this kind do not pass", "channel-type", kind)
	_ = nc.Reject(ssh.Prohibited, kind+" is not allowed through this bastion")
}

func (c *connection) reportRefused(reason, what, value string) {
	if c.refused.Add(1) > maxRefusedEvents {
		return
	}
	_ = c.s.cfg.Audit.Emit(context.Background(), audit.Event{
		Type: audit.ChannelRefused, Result: audit.Refused, Door: audit.DoorSSH, User: c.id.Login, Source: c.source.String(),
		Target: c.to.Target, Reason: reason, Detail: map[string]string{what: value},
	})
}

// keepAlive notices within a minute that the client is gone without a word. Between two probes it
// holds a timer and no goroutine.
func (c *connection) keepAlive() *time.Timer {
	answered := make(chan struct{}, 1)
	answered <- struct{}{}
	missed := 0
	var t *time.Timer
	probe := func() {
		select {
		case <-answered:
			missed = 0
			go func() {
				if _, _, err := c.conn.SendRequest("keepalive@openssh.com", true, nil); err == nil {
					answered <- struct{}{}
				}
			}()
		default:
			if missed++; missed >= keepaliveMiss {
				_ = c.guarded.Close()
				return
			}
		}
		t.Reset(keepaliveEvery)
	}
	ready := make(chan struct{})
	t = time.AfterFunc(keepaliveEvery, func() { <-ready; probe() })
	close(ready)
	return t
}
