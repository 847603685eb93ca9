package radius

import (
	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"

	"sallyport/store"
)

// sort decides about a datagram what can be decided without a person, and sends the rest on to be worked on.
func (s *Server) sort(d datagram) {
	defer s.survive(nil, nil, d)
	now, from := s.cfg.Now(), d.from.Addr()
	r, err := parse(d.bytes)
	if err != nil {
		// Whose it is cannot be told by more than the address.
		id, detail := "", from.String()
		if c := s.clients.find(from, "", d.shown); c != nil {
			id, detail = c.ID, err.Error()
		}
		s.counts.add(id, countMalformed, detail, now)
		return
	}
	c := s.clients.find(from, rfc2865.NASIdentifier_GetString(r.Packet), d.shown)
	if c == nil {
		s.counts.add("", countUnknown, from.String(), now)
		return
	}
	if r.Secret = c.secret; d.kind == secured {
		r.Secret = []byte(radsecSecret)
	}
	if !s.authentic(c, r, d) {
		return
	}
	if r.Code == codec.CodeStatusServer {
		s.status(c, r, d)
		return
	}
	s.counts.add(c.ID, countRequest, d.from.String(), now)
	a, reply := s.replies.begin(replyKey{d.socket, d.from, r.Identifier}, r.Authenticator, now)
	if a == nil {
		s.counts.add(c.ID, countRetransmit, d.from.String(), now)
		if reply != nil {
			d.back(reply)
		}
		return
	}
	select {
	case c.slots <- struct{}{}:
	default:
		s.replies.end(a, nil, now)
		s.counts.add(c.ID, countBusy, d.from.String(), now)
		return
	}
	s.work.Go(func() {
		defer func() { <-c.slots }()
		reply := s.workOn(c, r, d)
		s.replies.end(a, reply, s.cfg.Now())
		if reply != nil {
			d.back(reply)
		}
	})
}

// workOn returns the answer to r; nil: there is none.
func (s *Server) workOn(c *client, r *request, d datagram) (reply []byte) {
	defer s.survive(c, r, d)
	if r.Code == codec.CodeAccountingRequest {
		return s.account(c, r, d)
	}
	return s.answer(c, r, d)
}

// authentic tells whether r is what this socket takes and comes from somebody who knows the secret, as far as that
// can be told.
func (s *Server) authentic(c *client, r *request, d datagram) bool {
	now, from := s.cfg.Now(), d.from.String()
	takes := map[kind]codec.Code{authentication: codec.CodeAccessRequest, accounting: codec.CodeAccountingRequest}[d.kind]
	if d.kind == secured && r.Code == codec.CodeAccountingRequest {
		takes = r.Code
	} else if d.kind == secured {
		takes = codec.CodeAccessRequest
	}
	if r.Code != codec.CodeStatusServer && r.Code != takes {
		s.counts.add(c.ID, countMalformed, "code "+r.Code.String(), now)
		return false
	}
	if r.Code == codec.CodeAccountingRequest {
		// RFC 2866, section 3: the authenticator is made with the secret.
		if !codec.IsAuthenticRequest(r.raw, r.Secret) || r.authenticator != 0 && !r.signed(r.Secret) {
			s.counts.add(c.ID, countWrong, from, now)
			return false
		}
		return true
	}
	proxied := r.has(rfc2865.ProxyState_Type)
	if proxied {
		s.counts.add(c.ID, countProxied, from, now)
	}
	switch {
	case r.authenticator != 0 && !r.signed(r.Secret):
		s.counts.add(c.ID, countWrong, from, now)
		return false
	case r.authenticator != 0:
		s.counts.add(c.ID, countSigned, from, now)
		if c.MessageAuthenticator == store.AuthenticatorAuto && c.Authenticated.IsZero() && c.single() {
			s.clients.sawAuthenticator(c, now)
			s.work.Go(func() {
				defer s.survive(c, nil, d)
				if err := s.cfg.Store.RadiusClients.SeenAuthenticated(s.ctx, c.ID); err != nil {
					s.cfg.Log.Warn("noting that a RADIUS client sends Message-Authenticator", "client", c.Name, "error", err)
				}
			})
		}
		return true
	case d.kind == secured && r.Code == codec.CodeAccessRequest:
		return true // TLS has seen to it
	case proxied: // CVE-2024-3596: what an attacker could alter on the way
		s.counts.add(c.ID, countProxyState, from, now)
		return false
	case r.Code == codec.CodeStatusServer, c.DemandsAuthenticator(), // RFC 5997, section 3
		!r.has(rfc2865.UserPassword_Type): // CHAP and the like need no secret: whoever sends from the address could ask
		s.counts.add(c.ID, countDemanded, from, now)
		return false
	}
	s.counts.add(c.ID, countUnsigned, from, now)
	return true
}

// status answers Status-Server (RFC 5997), unless nobody could be let in here: then clients had better ask elsewhere.
func (s *Server) status(c *client, r *request, d datagram) {
	if s.clients.databaseAway() {
		s.counts.add(c.ID, countAway, "status", s.cfg.Now())
		return
	}
	s.counts.add(c.ID, countStatus, d.from.String(), s.cfg.Now())
	code := codec.CodeAccessAccept
	if d.kind == accounting {
		code = codec.CodeAccountingResponse
	}
	reply, err := r.answer(code, true, nil)
	if err == nil {
		d.back(reply)
	}
}
