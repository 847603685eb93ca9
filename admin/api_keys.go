package admin

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/store"
)

// States of a key.
const (
	KeyActive  = "active"  // seals new values
	KeyOpens   = "opens"   // opens older ones
	KeyMissing = "missing" // is not in the key ring: what it sealed cannot be opened
)

// Key is a key that seals secrets in the database, by its id.
type Key struct {
	ID     string         `json:"id"`
	State  string         `json:"state" enum:"active,opens,missing"`
	Rows   int            `json:"rows" doc:"how many values it has sealed"`
	Tables map[string]int `json:"tables" nullable:"false" doc:"the same by table and column"`
}

// WireKeyUse is a key as the API shows it.
func WireKeyUse(u store.KeyUse) Key {
	k := Key{ID: u.ID, State: KeyOpens, Rows: u.Rows, Tables: u.Tables}
	switch {
	case u.Active:
		k.State = KeyActive
	case !u.InRing:
		k.State = KeyMissing
	}
	return k
}

func (s *Server) keyRoutes(api huma.API) {
	register(s, api, route(needAuditor, http.MethodGet, "/keys", "key-list", "List the keys that seal secrets in the database, the active one first"),
		func(ctx context.Context, _ Caller, _ *struct{}) (*body[[]Key], error) {
			uses, err := s.cfg.Store.Keys.Uses(ctx)
			if err != nil {
				return nil, err
			}
			return answer(list(uses, WireKeyUse)), nil
		})
}
