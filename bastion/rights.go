package bastion

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/policy"
	"sallyport/session"
	"sallyport/store"
)

// How live connections are looked at again.
const (
	entryEvery    = 15 * time.Minute // the directory entry of each live person
	entryRetry    = time.Minute      // … after the directory did not answer
	entryLook     = 5 * time.Second  // how often it is seen to who is due
	recheckRetry  = 5 * time.Second  // after the database did not answer
	recheckAtOnce = 8                // connections that are looked at in parallel
	farewell      = 2 * time.Second  // from telling a person why to cutting their connection
)

// Watch ends what people may not have any more, until ctx ends: at once when the store says that rights have
// changed, and every now and then without being told.
func (s *Server) Watch(ctx context.Context) error {
	messages, cancel := s.cfg.Store.Bus.Subscribe(store.TopicRights)
	defer cancel()
	var entries sync.WaitGroup
	defer entries.Wait()
	entries.Go(func() { s.watchEntries(ctx) })
	version := int64(-1) // looked at last
	look := time.NewTicker(s.lookEvery)
	defer look.Stop()
	retry := time.NewTimer(0)
	retry.Stop()
	for {
		var users map[string]bool // nil: everybody
		select {
		case <-ctx.Done():
			return nil
		case m, ok := <-messages:
			if !ok {
				return nil // the store was closed
			}
			users = concerned(m, messages)
		case <-retry.C:
		case <-look.C:
			now, err := s.cfg.Store.Rules.Version(ctx)
			if err != nil || now == version {
				continue
			}
			version = now
		}
		// Whoever was allowed something before this and is entered after the look asks once more.
		s.changes.Add(1)
		if err := s.recheck(ctx, s.live(users), false); err != nil && ctx.Err() == nil {
			s.cfg.Log.Error("looking again at what is open; trying again", "error", err)
			retry.Reset(recheckRetry)
		}
	}
}

// concerned collects whom m and the messages that wait concern; nil if that is everybody.
func concerned(m store.Message, messages <-chan store.Message) map[string]bool {
	users := map[string]bool{}
	for {
		if m.Missed || m.Payload == "" {
			users = nil
		} else if users != nil {
			users[m.Payload] = true
		}
		select {
		case next, ok := <-messages:
			if !ok {
				return users
			}
			m = next
		default:
			return users
		}
	}
}

// watchEntries reads the directory entry of each live person every quarter of an hour, spread over that time.
func (s *Server) watchEntries(ctx context.Context) {
	tick := time.NewTicker(entryLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := time.Now()
		var due []*connection
		for _, c := range s.live(nil) {
			if c.entryDue(now) {
				due = append(due, c)
			}
		}
		if err := s.recheck(ctx, due, true); err != nil && ctx.Err() == nil {
			s.cfg.Log.Warn("people with live connections could not be looked up; they stay, and are looked up again", "error", err)
		}
	}
}

// Recheck looks now at every live connection of this node, as [Server.Watch] does when it is time: entries tells
// whether directory entries are read too. What could not be looked at goes on; the error tells of it.
func (s *Server) Recheck(ctx context.Context, entries bool) error {
	return s.recheck(ctx, s.live(nil), entries)
}

// live lists the authenticated connections of users, of everybody if nil.
func (s *Server) live(users map[string]bool) []*connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*connection
	for c := range s.conns {
		if id, ready := c.person(); ready && (users == nil || users[id.UserID]) {
			list = append(list, c)
		}
	}
	return list
}

// recheck looks at connections, a few at a time.
func (s *Server) recheck(ctx context.Context, conns []*connection, entries bool) error {
	next := make(chan *connection)
	errs := make([]error, min(recheckAtOnce, len(conns)))
	var workers sync.WaitGroup
	for i := range errs {
		workers.Go(func() {
			for c := range next {
				if err := c.recheck(ctx, entries); err != nil {
					errs[i] = err // one of many that say the same
				}
			}
		})
	}
	for _, c := range conns {
		next <- c
	}
	close(next)
	workers.Wait()
	return errors.Join(errs...)
}

// rights is what a connection knows for being looked at again.
type rights struct {
	mu    sync.Mutex // guards the fields below; nothing is waited for while it is held
	ready bool       // the fields of the connection that authentication sets are set
	due   time.Time  // when the directory entry is read next
	held  map[*heldSession]bool
	over  string        // why the person may do nothing any more
	news  chan struct{} // closed, and forgotten, when that or what the person may reach may have changed; nil: nobody waits
}

// heldSession is a session of the connection that is open, or is being opened.
type heldSession struct {
	target, account string
	session         *session.Session // nil while it is being opened
}

// enter makes the connection known to [Server.Watch]. before is how many changes there were when the person was
// not yet authenticated; what changed since is made up for.
func (c *connection) enter(before int64) {
	c.rights.mu.Lock()
	c.rights.ready = true
	c.rights.due = time.Now().Add(entryEvery/2 + rand.N(entryEvery/2))
	c.rights.mu.Unlock()
	if c.s.changes.Load() != before {
		c.recheckNow()
	}
}

func (c *connection) person() (auth.Identity, bool) {
	c.rights.mu.Lock()
	defer c.rights.mu.Unlock()
	if !c.rights.ready || c.rights.over != "" {
		return auth.Identity{}, false
	}
	return c.id, true
}

// entryDue tells whether the person's directory entry is to be read now.
func (c *connection) entryDue(now time.Time) bool {
	c.rights.mu.Lock()
	defer c.rights.mu.Unlock()
	return !now.Before(c.rights.due)
}

// recheckNow is for what was decided while a change was on its way. If the database does not answer, Watch
// finds that out too and tries again.
func (c *connection) recheckNow() {
	if err := c.recheck(context.Background(), false); err != nil {
		c.s.cfg.Log.Warn("looking again at what is open", "user", c.id.Login, "error", err)
	}
}

// recheck ends what the person may not have any more.
func (c *connection) recheck(ctx context.Context, entry bool) error {
	now, err := c.s.cfg.Engine.Recheck(ctx, c.id, entry)
	if entry {
		wait := entryEvery - entryEvery/20 + rand.N(entryEvery/10)
		if err != nil {
			wait = entryRetry
		}
		c.rights.mu.Lock()
		c.rights.due = time.Now().Add(wait)
		c.rights.mu.Unlock()
	}
	if err != nil {
		return err
	}
	if now.Refusal != "" {
		c.end(now.Refusal)
		return nil
	}
	for _, h := range c.sessions() {
		h.session.Recheck(func(kind, to, command string) session.Grant {
			d, failed := now.Decide(ctx, auth.Request{Target: h.target, Account: h.account, Channel: kind, To: to, Command: command, Source: c.source})
			if failed != nil {
				err = failed
				return session.Grant{Allowed: true} // nobody said no
			}
			return session.Grant{Allowed: d.Allow, Denied: !d.Allow && d.Rule != "", Refusal: d.Refusal, Files: files(d.Files)}
		})
	}
	c.rights.mu.Lock()
	defer c.rights.mu.Unlock()
	c.rights.tell()
	return err
}

// tell wakes those who wait for news. r.mu is held.
func (r *rights) tell() {
	if r.news != nil {
		close(r.news)
		r.news = nil
	}
}

// sessions are those that are open.
func (c *connection) sessions() []heldSession {
	c.rights.mu.Lock()
	defer c.rights.mu.Unlock()
	var list []heldSession
	for h := range c.rights.held {
		if h.session != nil {
			list = append(list, *h)
		}
	}
	return list
}

// end tells the person why on everything that is open, and then cuts the connection.
func (c *connection) end(reason string) {
	c.rights.mu.Lock()
	if c.rights.over != "" {
		c.rights.mu.Unlock()
		return
	}
	c.rights.over = reason
	c.rights.tell()
	c.rights.mu.Unlock()
	open := c.sessions()
	for _, h := range open {
		go h.session.End(reason)
	}
	if len(open) == 0 {
		_ = c.s.cfg.Audit.Emit(context.Background(), audit.Event{
			Type: audit.ConnEnded, Result: audit.OK, Door: audit.DoorSSH, User: c.id.Login, Source: c.source.String(), Reason: reason,
		})
	}
	time.AfterFunc(farewell, func() { _ = c.conn.Close() })
}

// ended tells why the person may do nothing any more; "" if they may.
func (c *connection) ended() string {
	c.rights.mu.Lock()
	defer c.rights.mu.Unlock()
	return c.rights.over
}

// newsNow gives a channel that is closed when what the person may reach may have changed since now.
func (c *connection) newsNow() <-chan struct{} {
	c.rights.mu.Lock()
	defer c.rights.mu.Unlock()
	if c.rights.news == nil {
		c.rights.news = make(chan struct{})
	}
	return c.rights.news
}

// hold takes a place for a session of this connection; the refusal says why there is none.
func (c *connection) hold(d auth.Decision) (h *heldSession, refusal string) {
	c.rights.mu.Lock()
	defer c.rights.mu.Unlock()
	if c.rights.over != "" {
		return nil, c.rights.over + "."
	}
	open, most := &c.outermost().sessionsOpen, int64(d.Limits.ConnectionSessions)
	if n := open.Add(1); most > 0 && n > most {
		open.Add(-1)
		return nil, fmt.Sprintf("this connection has %s open, and rule %s allows %d (limits: connection-sessions). End one first.", audit.Counted(n-1, "session", "sessions"), d.Rule, most)
	}
	h = &heldSession{target: d.Target.Name, account: d.Account}
	if c.rights.held == nil {
		c.rights.held = map[*heldSession]bool{}
	}
	c.rights.held[h] = true
	return h, ""
}

// outermost is the connection that came over the network.
func (c *connection) outermost() *connection {
	for c.inner != nil {
		c = c.inner.outer
	}
	return c
}

// opened enters the session that h was held for. before is how many changes of rights there were before
// anything was decided.
func (c *connection) opened(h *heldSession, s *session.Session, before int64) {
	c.rights.mu.Lock()
	h.session = s
	over := c.rights.over
	c.rights.mu.Unlock()
	switch {
	case over != "":
		go s.End(over)
	case c.s.changes.Load() != before:
		c.recheckNow()
	}
}

// drop gives the place back; a second call does nothing.
func (c *connection) drop(h *heldSession) {
	c.rights.mu.Lock()
	defer c.rights.mu.Unlock()
	if c.rights.held[h] {
		delete(c.rights.held, h)
		c.outermost().sessionsOpen.Add(-1)
	}
}

// quota is what the rule says of sessions that are open at once, on all nodes.
func quota(l policy.Limits) store.Quota {
	return store.Quota{Sessions: l.Sessions, UserSessions: l.UserSessions, RuleSessions: l.RuleSessions, TargetSessions: l.TargetSessions}
}

// overQuota tells the person, and the audit log, why there is no place for a session; "" if err is of another
// kind.
func (c *connection) overQuota(ctx context.Context, d auth.Decision, err error) string {
	var q *store.QuotaError
	if !errors.As(err, &q) {
		return ""
	}
	var text string
	switch q.Limit {
	case "sessions":
		text = fmt.Sprintf("you have %s open under rule %s, which allows %d (limits: sessions). End one first.", audit.Counted(q.Open, "session", "sessions"), d.Rule, q.Max)
	case "user-sessions":
		text = fmt.Sprintf("you have %s open, and rule %s allows %d in all (limits: user-sessions). End one first.", audit.Counted(q.Open, "session", "sessions"), d.Rule, q.Max)
	case "rule-sessions":
		text = fmt.Sprintf("%s open under rule %s, which allows %d for everybody together (limits: rule-sessions). Try again when one has ended.", audit.Counted(q.Open, "session is", "sessions are"), d.Rule, q.Max)
	default:
		text = fmt.Sprintf("%s open on %s, and rule %s allows %d (limits: %s). Try again when one has ended.", audit.Counted(q.Open, "session is", "sessions are"), d.Target.Name, d.Rule, q.Max, q.Limit)
	}
	if c.denied.Add(1) > maxRefusedEvents {
		return text
	}
	_ = c.s.cfg.Audit.Emit(ctx, audit.Event{
		Type: audit.SessionStarted, Result: audit.Refused, Door: audit.DoorSSH, User: c.id.Login, Source: c.source.String(),
		Target: d.Target.Name, Account: d.Account, Rule: d.Rule, Reason: text,
	})
	return text
}
