package session

import (
	"fmt"
	"sync/atomic"

	"golang.org/x/crypto/ssh"

	"sallyport/audit"
)

// Recheck asks again for all that is open, and ends what is not allowed any more: the session if its target or
// one of its session channels is not, a forward alone. ask answers for one kind of channel as [Params].Authorize
// does, "" for the target as a whole; its refusals say what has changed, for the person and for the log.
// What is being opened meanwhile is asked for once more by itself. Recheck waits for neither side.
func (s *Session) Recheck(ask func(kind, to, command string) Grant) {
	s.checks.Add(1)
	g := ask("", "", "")
	for _, c := range s.running() {
		if g.Allowed {
			g = first(c.kinds, "", c.command, ask)
			if g.Allowed && c.transfers && g.Files.text() != c.paths {
				g = Grant{Refusal: "the paths that the rules allow for files have changed"}
			}
		}
	}
	if !g.Allowed {
		go s.End(g.Refusal)
		return
	}
	s.takeBack(kindAgent, &s.agent, ask)
	s.takeBack(kindX11, &s.x11, ask)
	if s.listening.TryLock() { // else a request is under way, which looks when it is done
		s.recheckListeners(ask)
		s.listening.Unlock()
	}
	for _, f := range s.carried() {
		if g := first(f.kinds, f.to, "", ask); !g.Allowed {
			f.cut(g.Refusal)
		}
	}
}

// takeBack refuses what the target opens from now on of a kind that was granted and is not allowed any more.
func (s *Session) takeBack(kind string, granted *atomic.Bool, ask func(kind, to, command string) Grant) {
	if !granted.Load() {
		return
	}
	if g := ask(kind, "", ""); !g.Allowed && granted.CompareAndSwap(true, false) {
		s.Refused(kind, g.Refusal)
		s.notice(kind + " was taken back: " + g.Refusal)
	}
}

// first asks for kinds in turn until one is allowed or denied.
func first(kinds []string, to, command string, ask func(kind, to, command string) Grant) (g Grant) {
	for i, kind := range kinds {
		got := ask(kind, to, command)
		if i == 0 || got.Allowed || got.Denied {
			g = got
		}
		if got.Allowed || got.Denied {
			break
		}
	}
	return g
}

// became is what a session channel was asked for when it became something.
type became struct {
	kinds     []string // in this order
	command   string
	transfers bool   // files
	paths     string // that these are held to
}

func (s *Session) running() []became {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []became
	for _, c := range s.channels {
		c.mu.Lock()
		if c.became.kinds != nil {
			list = append(list, c.became)
		}
		c.mu.Unlock()
	}
	return list
}

func (s *Session) carried() []*forward {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*forward, 0, len(s.forwards))
	for _, f := range s.forwards {
		list = append(list, f)
	}
	return list
}

// kindsOf is what a session channel is asked for, in this order.
func kindsOf(kind, command string) []string {
	if kind == kindExec {
		if name := shortcut(command); name != "" {
			return []string{name, kindExec}
		}
	}
	return []string{kind}
}

// cut closes a forward that is not allowed any more, now or as soon as it is open.
func (f *forward) cut(reason string) {
	f.s.mu.Lock()
	known := f.reason != ""
	if !known {
		f.reason = reason
		close(f.stop)
	}
	f.s.mu.Unlock()
	if known {
		return
	}
	what := f.row.Kind
	if f.row.Command != "" {
		what += " to " + f.row.Command
	}
	f.s.notice(fmt.Sprintf("%s was closed: %s", what, reason))
	go f.end()
}

// recheckListeners makes the target stop to listen where that is not allowed any more. s.listening is held.
func (s *Session) recheckListeners(ask func(kind, to, command string) Grant) {
	for l, kind := range s.listeners {
		g := ask(kind, l.String(), "")
		if g.Allowed {
			continue
		}
		delete(s.listeners, l) // what it still sends is refused from now on
		s.listens.Add(-1)
		s.Refused(kind, g.Refusal)
		s.notice(fmt.Sprintf("%s of %s was closed: %s", kind, audit.Escape(l.String()), g.Refusal))
		request, payload := "cancel-tcpip-forward", ssh.Marshal(forwardRequest{l.addr, l.port})
		if kind == kindUnixForward {
			request, payload = "cancel-streamlocal-forward@openssh.com", ssh.Marshal(struct{ Path string }{l.addr})
		}
		go func() { _, _, _ = s.p.Upstream.SendRequest(request, true, payload) }()
	}
}

// askAgain is for what was opened while [Session.Recheck] may have looked: the rules are asked as for something
// new. Without an answer nothing changes.
func (s *Session) askAgain(kind, to, command string) Grant {
	g, err := s.authorize(kind, to, command)
	if err != nil {
		g.Allowed = true
	}
	return g
}

// noteEnv writes the event of a variable that may not pass, once for each session.
func (c *channel) noteEnv(name string) {
	if c.s.envTold.CompareAndSwap(false, true) {
		c.refused("env "+name, "the rule does not let this environment variable pass (further ones of this session are not listed)")
	}
}
