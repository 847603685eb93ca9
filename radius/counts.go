package radius

import (
	"context"
	"sync"
	"time"

	"sallyport/store"
)

// What is counted of each client. The names are part of the API; see docs/radius.md.
const (
	countRequest    = "request"                       // well-formed, of a known client
	countSigned     = "message-authenticator"         // … with a valid Message-Authenticator
	countUnsigned   = "no-message-authenticator"      // … without one, and taken
	countDemanded   = "message-authenticator-missing" // discarded
	countWrong      = "message-authenticator-wrong"   // discarded
	countProxied    = "proxy-state"                   // with Proxy-State
	countProxyState = "proxy-state-discarded"         // Proxy-State without Message-Authenticator
	countRetransmit = "retransmit"                    // answered as before, or still in work
	countSecret     = "secret-suspect"                // the password decodes to nothing that can be typed; discarded
	countMalformed  = "malformed"                     // discarded
	countBusy       = "busy"                          // discarded: too many in work
	countMethod     = "unsupported-method"            // refused: EAP, CHAP where it cannot be, no password at all
	countPanic      = "failed"                        // not answered: a fault of this program; the log says where
	countAway       = "unavailable"                   // not answered: database or directory was away
	countStatus     = "status"                        // Status-Server
	countAccept     = "accept"
	countReject     = "reject"
	countChallenge  = "challenge"
	countDrift      = "drift" // time steps by which the last code was ahead
	countAccount    = "accounting"
	countUnknown    = "unknown-client"
)

// counts are kept here for a while, and then added to those of all nodes.
type counts struct {
	store *store.Store
	told  func(kind string) // nil: nobody

	mu    sync.Mutex // guards the field below
	since map[[2]string]store.RadiusCount
}

// add counts one. Kinds and clients are few, so that nobody can make this grow.
func (c *counts) add(clientID, kind, detail string, now time.Time) {
	if c.told != nil {
		c.told(kind)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.since == nil {
		c.since = map[[2]string]store.RadiusCount{}
	}
	key := [2]string{clientID, kind}
	n := c.since[key]
	c.since[key] = store.RadiusCount{ClientID: clientID, Kind: kind, Times: n.Times + 1, Last: now, Detail: detail}
}

func (c *counts) flush(ctx context.Context) error {
	c.mu.Lock()
	taken := c.since
	c.since = nil
	c.mu.Unlock()
	if len(taken) == 0 {
		return nil
	}
	list := make([]store.RadiusCount, 0, len(taken))
	for _, n := range taken {
		list = append(list, n)
	}
	err := c.store.RadiusClients.Count(ctx, list)
	if err == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.since == nil {
		c.since = map[[2]string]store.RadiusCount{}
	}
	for key, n := range taken {
		if newer, ok := c.since[key]; ok {
			newer.Times += n.Times
			n = newer
		}
		c.since[key] = n
	}
	return err
}
