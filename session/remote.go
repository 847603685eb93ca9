package session

import (
	"net"
	"strconv"
	"sync/atomic"

	"golang.org/x/crypto/ssh"

	"sallyport/audit"
)

// maxListening bounds what one connection may have the target listen on.
const maxListening = 64

// listener is an address or a socket that the target listens on for the client, in the client's words.
type listener struct {
	addr string // or path
	port uint32 // as bound; 0 for a socket
}

// String is host:port as rules have it, "*" for all addresses, or the path.
func (l listener) String() string {
	switch {
	case l.port == 0 && len(l.addr) > 0 && l.addr[0] == '/':
		return l.addr
	case l.addr == "":
		return "*:" + strconv.Itoa(int(l.port))
	}
	return net.JoinHostPort(l.addr, strconv.Itoa(int(l.port)))
}

// forwardRequest is the payload of tcpip-forward and its cancel (RFC 4254, section 7.1).
type forwardRequest struct {
	Addr string
	Port uint32
}

// forwardedTCPIP is the payload of a forwarded-tcpip open (RFC 4254, section 7.2).
type forwardedTCPIP struct {
	Addr       string
	Port       uint32
	OriginAddr string
	OriginPort uint32
}

// forwardedStreamLocal is the payload of a forwarded-streamlocal@openssh.com open (OpenSSH PROTOCOL, 2.4).
type forwardedStreamLocal struct{ Path, Reserved string }

// ListenRequest decides, passes on and answers a global request of the client that makes the target
// listen, or stop that. It must be called for one request after the other, in their order.
func (s *Session) ListenRequest(r *ssh.Request) {
	checks := s.checks.Load()
	l, kind, cancel, ok := parseListen(r)
	if ok && !cancel {
		ok = s.mayListen(kind, l)
	}
	// Until the client has the answer, no channel for it may arrive there, and none of it is judged.
	s.listening.Lock()
	defer s.listening.Unlock()
	if ok && cancel {
		_, ok = s.listeners[l]
	}
	var payload []byte
	if ok {
		var err error
		// A reply is always wanted: who asked for none still gets only what was granted.
		ok, payload, err = s.p.Upstream.SendRequest(r.Type, true, r.Payload)
		ok = ok && err == nil
	}
	switch {
	case ok && cancel:
		delete(s.listeners, l)
		s.listens.Add(-1)
	case ok:
		ok, payload = s.note(l, kind, payload)
	}
	if r.WantReply {
		_ = r.Reply(ok, payload)
	}
	if s.checks.Load() != checks { // a recheck could not look meanwhile
		s.recheckListeners(s.askAgain)
	}
}

// note keeps what the target has granted. The answer has the port where the client left the choice.
func (s *Session) note(l listener, kind string, payload []byte) (bool, []byte) {
	if kind == kindRemoteForward && l.port == 0 {
		var bound struct{ Port uint32 }
		if ssh.Unmarshal(payload, &bound) != nil || bound.Port == 0 || bound.Port > 65535 {
			return false, nil
		}
		l.port = bound.Port
	} else {
		payload = nil
	}
	if _, had := s.listeners[l]; !had {
		s.listeners[l] = kind
		s.listens.Add(1)
	}
	return true, payload
}

func parseListen(r *ssh.Request) (l listener, kind string, cancel, ok bool) {
	switch r.Type {
	case "tcpip-forward", "cancel-tcpip-forward":
		var p forwardRequest
		ok = ssh.Unmarshal(r.Payload, &p) == nil && p.Port <= 65535 && len(p.Addr) <= 255
		return listener{p.Addr, p.Port}, kindRemoteForward, r.Type != "tcpip-forward", ok
	case "streamlocal-forward@openssh.com", "cancel-streamlocal-forward@openssh.com":
		var p struct{ Path string }
		ok = ssh.Unmarshal(r.Payload, &p) == nil && p.Path != "" && len(p.Path) <= 255
		return listener{addr: p.Path}, kindUnixForward, r.Type != "streamlocal-forward@openssh.com", ok
	}
	return listener{}, "", false, false
}

// mayListen asks the rules, and tells the person why not: the answer to the request has no words.
func (s *Session) mayListen(kind string, l listener) bool {
	refusal := ""
	if s.listens.Load() >= maxListening {
		refusal = "no more than 64 remote forwards at once in one connection"
	} else if g, err := s.authorize(kind, l.String(), ""); err != nil {
		refusal = "the rules could not be read; try again in a minute"
	} else if !g.Allowed {
		refusal = g.Refusal
	}
	if refusal != "" {
		s.Refused(kind, refusal)
		s.notice(refusal)
	}
	return refusal == ""
}

// fromTarget takes a channel that the target opens, if something was granted that it can be for. It
// waits for nothing but the target.
func (s *Session) fromTarget(nc ssh.NewChannel) bool {
	var expected bool
	switch nc.ChannelType() {
	case "auth-agent@openssh.com":
		expected = s.agent.Load()
	case "x11":
		expected = s.x11.Load()
	case "forwarded-tcpip", "forwarded-streamlocal@openssh.com":
		expected = true // judged when no request is under way whose answer could have granted it
	}
	if !expected {
		return false
	}
	if !s.p.Place() {
		_ = nc.Reject(ssh.ResourceShortage, "too many channels at once in this connection")
		return true
	}
	go func() {
		defer s.p.Vacate()
		s.targetChannel(nc)
	}()
	return true
}

// targetChannel carries a channel that the target opened to the client.
func (s *Session) targetChannel(nc ssh.NewChannel) {
	kind, to, ok := s.granted(nc)
	if !ok {
		_ = nc.Reject(ssh.Prohibited, "not requested")
		s.Refused(nc.ChannelType(), "the target opened a channel that nobody asked for")
		return
	}
	f, err := s.begin(kind, []string{kind}, to, audit.Event{})
	if err != nil {
		_ = nc.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	down, downReqs, err := s.p.Client.OpenChannel(nc.ChannelType(), nc.ExtraData())
	if err != nil {
		_ = nc.Reject(ssh.ConnectionFailed, "the client refused: "+audit.Escape(err.Error()))
		f.finish(audit.Error, "the client refused: "+err.Error())
		return
	}
	up, upReqs, err := nc.Accept()
	if err != nil {
		_ = down.Close()
		f.finish(audit.Error, "the target is gone")
		return
	}
	f.relay(down, up, downReqs, upReqs)
}

// granted gives the kind of a channel that the target opened and what it came in by.
func (s *Session) granted(nc ssh.NewChannel) (kind, to string, ok bool) {
	var l listener
	switch nc.ChannelType() {
	case "auth-agent@openssh.com":
		return kindAgent, "", true
	case "x11":
		return kindX11, "", true
	case "forwarded-tcpip":
		var p forwardedTCPIP
		if ssh.Unmarshal(nc.ExtraData(), &p) != nil {
			return "", "", false
		}
		l, kind = listener{p.Addr, p.Port}, kindRemoteForward
	default:
		var p forwardedStreamLocal
		if ssh.Unmarshal(nc.ExtraData(), &p) != nil {
			return "", "", false
		}
		l, kind = listener{addr: p.Path}, kindUnixForward
	}
	s.listening.Lock()
	defer s.listening.Unlock()
	return kind, l.String(), s.listeners[l] == kind
}

// carryRequest decides and passes on a request after which the target opens channels of its own.
func (c *channel) carryRequest(r *ssh.Request, kind string, granted *atomic.Bool) bool {
	if c.running || len(r.Payload) > 4<<10 {
		return false
	}
	checks := c.s.checks.Load()
	g, err := c.s.authorize(kind, "", "")
	if err != nil {
		g.Refusal = "the rules could not be read"
	}
	if err != nil || !g.Allowed {
		c.refused(r.Type, g.Refusal)
		return false
	}
	before := granted.Swap(true) // before the target hears of it: its first channel may come at once
	gone := c.s.checks.Load() != checks && !c.s.askAgain(kind, "", "").Allowed
	if gone || !c.pass(r) {
		granted.Store(before)
		return false
	}
	return true
}

// notice tells the person something that no channel is the place for: on those that run something, or
// else on the next one that does.
func (s *Session) notice(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.channels) == 0 {
		if len(s.notices) < 10 {
			s.notices = append(s.notices, text)
		}
		return
	}
	for _, c := range s.channels {
		go c.announce(text)
	}
}

// greet tells a person at a terminal, once.
func (s *Session) greet(c *channel) {
	if s.p.Greeting == "" || c.term == nil || c.row.Kind != kindShell {
		return
	}
	s.mu.Lock()
	first := !s.greeted
	s.greeted = true
	s.mu.Unlock()
	if first {
		say(c.down, true, s.p.Greeting)
	}
}

// tellNotices says on c what was waiting for a channel.
func (s *Session) tellNotices(c *channel) {
	s.mu.Lock()
	waiting := s.notices
	s.notices = nil
	s.mu.Unlock()
	for _, text := range waiting {
		say(c.down, c.term != nil, audit.Escape(text))
	}
}
