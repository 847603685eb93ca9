package admin

import (
	"context"
	"errors"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/store"
)

const seeStock = "see: sallyport token list --unassigned"

// assignToken gives a token in stock to a user.
func (s *Server) assignToken(ctx context.Context, by Caller, login string, a TokenAssignment) (store.Token, error) {
	u, err := s.user(ctx, login)
	if err != nil {
		return store.Token{}, err
	}
	var codes *[2]string
	switch {
	case a.First != "" && a.Second != "":
		codes = &[2]string{a.First, a.Second}
	case a.First != "" || a.Second != "":
		return store.Token{}, invalid("give the next code of the device, too, or none at all", "one code proves nothing")
	}
	t, err := s.cfg.Engine.AssignStock(ctx, u.ID, a.Serial, codes)
	switch {
	case errors.Is(err, auth.ErrCode):
		return t, invalid("wait until the device shows a new code, and give that one and the one after it", "these are not two codes in a row of the token %s", audit.Escape(a.Serial))
	case err != nil:
		return t, ifNotFound(err, seeStock, "no token of serial %s is in stock", audit.Escape(a.Serial))
	}
	proved := "two codes"
	if codes == nil {
		proved = "nothing"
	}
	s.changedToken(ctx, by, u, "token.assign", t, map[string]string{"proved": proved})
	return t, nil
}

// discardToken deletes a token in stock.
func (s *Server) discardToken(ctx context.Context, by Caller, serial string) error {
	t, err := s.cfg.Store.Stock.BySerial(ctx, serial)
	if err == nil {
		err = s.cfg.Store.Stock.Delete(ctx, t.ID)
	}
	if err != nil {
		return ifNotFound(err, seeStock, "no token of serial %s is in stock", audit.Escape(serial))
	}
	s.changed(ctx, by, "token.discard", audit.Event{Detail: map[string]string{"id": t.ID, "serial": t.Serial}})
	return nil
}
