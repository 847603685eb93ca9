package radius

import (
	"context"
	"errors"
	"fmt"

	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2866"

	"sallyport/audit"
	"sallyport/identity"
	"sallyport/store"
)

// account takes note of an Accounting-Request (RFC 2866). It is answered once it is written down, so that the client
// sends again what was not.
func (s *Server) account(c *client, r *request, d datagram) []byte {
	now := s.cfg.Now()
	if err := s.takeNote(context.WithoutCancel(s.ctx), c, r, d); err != nil {
		s.counts.add(c.ID, countAway, audit.Escape(err.Error()), now)
		return nil
	}
	s.counts.add(c.ID, countAccount, d.from.String(), now)
	reply, err := r.answer(codec.CodeAccountingResponse, false, nil)
	if err != nil {
		s.cfg.Log.Error("making a RADIUS answer", "client", c.Name, "error", err)
		return nil
	}
	return reply
}

func (s *Server) takeNote(ctx context.Context, c *client, r *request, d datagram) error {
	status, login := rfc2866.AcctStatusType_Get(r.Packet), s.withoutSuffix(rfc2865.UserName_GetString(r.Packet))
	if status == rfc2866.AcctStatusType_Value_AccountingOn || status == rfc2866.AcctStatusType_Value_AccountingOff {
		// The client begins anew: nobody is connected through it any more.
		if err := s.cfg.Store.RadiusGrants.EndAll(ctx, c.ID); err != nil {
			return err
		}
	}
	a := s.attempt(c, r, d, login)
	ev := audit.Event{
		Type: audit.RadiusAccounting, Result: audit.OK, Door: audit.DoorRADIUS, User: login, Target: c.Name,
		Detail: map[string]string{"status": statusName(status), "nas": a.Detail["nas"], "attributes": a.Detail["attributes"]},
	}
	if a.Source.IsValid() {
		ev.Source = a.Source.String()
	}
	if login != "" {
		if err := s.moved(ctx, c, r, status, login); err != nil {
			return err
		}
	}
	if status == rfc2866.AcctStatusType_Value_InterimUpdate {
		return nil // many of them, and nothing new
	}
	return s.cfg.Audit.Emit(ctx, ev)
}

// moved takes note of where the VPN has put a person, and forgets the code of one who has gone.
func (s *Server) moved(ctx context.Context, c *client, r *request, status rfc2866.AcctStatusType, login string) error {
	canonical, err := identity.CanonicalLogin(login)
	if err != nil {
		return nil // nobody has such a name
	}
	u, err := s.cfg.Store.Users.ByLogin(ctx, canonical)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil:
		return fmt.Errorf("looking up user: %w", err)
	}
	switch status {
	case rfc2866.AcctStatusType_Value_Stop:
		return s.cfg.Store.RadiusGrants.End(ctx, u.ID, c.ID, station(r))
	case rfc2866.AcctStatusType_Value_Start:
		if inside := r.addressIn(rfc2865.FramedIPAddress_Type); c.AssertsSource && inside.IsValid() {
			return s.cfg.Store.Places.Seen(ctx, u.ID, inside)
		}
	}
	return nil
}

func statusName(s rfc2866.AcctStatusType) string {
	switch s {
	case rfc2866.AcctStatusType_Value_Start:
		return "start"
	case rfc2866.AcctStatusType_Value_Stop:
		return "stop"
	case rfc2866.AcctStatusType_Value_InterimUpdate:
		return "interim"
	case rfc2866.AcctStatusType_Value_AccountingOn:
		return "on"
	case rfc2866.AcctStatusType_Value_AccountingOff:
		return "off"
	}
	return fmt.Sprint(uint32(s))
}
