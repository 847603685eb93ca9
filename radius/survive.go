package radius

import (
	"context"
	"fmt"
	"runtime/debug"

	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"

	"sallyport/audit"
)

// survive ends a panic where it is deferred. The node goes on, with everybody's sessions, and the request is not
// answered: nobody is let in, and the client asks another node. c and r are nil as long as they are not known.
func (s *Server) survive(c *client, r *request, d datagram) {
	v := recover()
	if v == nil {
		return
	}
	id, name, from := "", "", d.from.String()
	if c != nil {
		id, name = c.ID, c.Name
	}
	s.cfg.Log.Error("a RADIUS request ended in a panic and is not answered; please report this", "client", name, "from", from,
		"panic", audit.Escape(fmt.Sprint(v)), "stack", string(debug.Stack()))
	s.counts.add(id, countPanic, from, s.cfg.Now())
	if c != nil && r != nil && r.Code == codec.CodeAccessRequest {
		s.noteFailure(c, r, d)
	}
}

// noteFailure tells of a request without a verdict. What made the request fail may be what this needs.
func (s *Server) noteFailure(c *client, r *request, d datagram) {
	defer func() {
		if v := recover(); v != nil {
			s.cfg.Log.Error("writing the event of a RADIUS request that ended in a panic", "client", c.Name, "panic", audit.Escape(fmt.Sprint(v)))
		}
	}()
	ev := audit.Event{
		Type: audit.LoginRefused, Result: audit.Error, Door: audit.DoorRADIUS, User: audit.Escape(s.withoutSuffix(rfc2865.UserName_GetString(r.Packet))), Target: c.Name,
		Reason: "the server failed at this request and did not answer; its log says where",
		Detail: map[string]string{"client": c.Name, "nas": d.from.Addr().String(), "attributes": r.describe()},
	}
	if err := s.cfg.Audit.Emit(context.WithoutCancel(s.ctx), ev); err != nil {
		s.cfg.Log.Error("writing the event of a RADIUS request that ended in a panic", "client", c.Name, "error", err)
	}
}
