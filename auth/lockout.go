package auth

import (
	"context"
	"net/netip"
	"time"

	"sallyport/store"
)

// Block locks a source for everybody, or for one person if u is not nil, at every door: nothing that is typed
// from there is looked at. until zero: until it is cleared. A person as a whole is locked by store.Users.Lock.
func (e *Engine) Block(ctx context.Context, u *store.User, source netip.Addr, author, reason string, until time.Time) (store.Lock, error) {
	kind, key := kindSource, counterSource(source)
	if u != nil {
		kind, key = kindPair, personKey(*u)+"|"+key
	}
	return e.cfg.Store.Attempts.Lock(ctx, kind, key, author, reason, until)
}

// personKey is what the failures of a person with a row are counted under.
func personKey(u store.User) string {
	if u.Source == store.Directory {
		return "directory:" + u.ExternalID
	}
	return "user:" + u.ID
}
