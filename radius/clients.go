package radius

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"sallyport/store"
)

// client is a RADIUS client and what this node knows of it.
type client struct {
	store.RadiusClient
	secret   store.SharedSecret
	networks []netip.Prefix
	slots    chan struct{} // a place for each request in work
}

// single tells whether the client is one machine.
func (c *client) single() bool { return len(c.networks) == 1 && c.networks[0].IsSingleIP() }

// clients are those of the database, as of a second ago at most.
type clients struct {
	store *store.Store
	log   *slog.Logger

	reading sync.Mutex      // held by who reads the list
	told    map[string]bool // that a client cannot be read; of who holds reading

	mu    sync.Mutex // guards the fields below
	list  []*client
	at    time.Time
	away  bool // the database did not answer
	slots map[string]chan struct{}
}

func (c *clients) fresh(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	age := now.Sub(c.at)
	return age >= 0 && age < clientsLife
}

// read reads the list, unless somebody has done so while this waited.
func (c *clients) read(ctx context.Context, clock func() time.Time) error {
	c.reading.Lock()
	defer c.reading.Unlock()
	if c.fresh(clock()) {
		return nil
	}
	list, err := c.load(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at, c.away = clock(), err != nil
	if err != nil {
		return err
	}
	slots := map[string]chan struct{}{}
	for _, r := range list {
		if r.slots = c.slots[r.ID]; r.slots == nil {
			r.slots = make(chan struct{}, maxInWork)
		}
		slots[r.ID] = r.slots
	}
	c.list, c.slots = list, slots
	return nil
}

func (c *clients) load(ctx context.Context) ([]*client, error) {
	rows, err := c.store.RadiusClients.List(ctx)
	if err != nil {
		return nil, err
	}
	var list []*client
	unreadable := map[string]bool{}
	for _, r := range rows {
		if !r.Enabled {
			continue
		}
		n, err := c.whole(ctx, r)
		switch {
		case errors.Is(err, store.ErrNotFound):
			continue // deleted just now
		case errors.Is(err, store.ErrUnavailable), err != nil && ctx.Err() != nil:
			return nil, err
		case err != nil: // it is none; the others are what they are now, and not what they were before
			if !c.told[r.ID] {
				c.log.Error("a RADIUS client cannot be read, and is not answered", "client", r.Name, "error", err)
			}
			unreadable[r.ID] = true
			continue
		}
		list = append(list, n)
	}
	c.told = unreadable
	return list, nil
}

// whole reads what else belongs to a client.
func (c *clients) whole(ctx context.Context, r store.RadiusClient) (*client, error) {
	secret, err := c.store.RadiusClients.Secret(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	n := &client{RadiusClient: r, secret: secret}
	for _, word := range r.Networks {
		p, err := netip.ParsePrefix(word)
		if err != nil {
			return nil, err
		}
		n.networks = append(n.networks, p)
	}
	return n, nil
}

// find returns the client that an address belongs to: the one with the narrowest network, and among equals the one
// whose NAS-Identifier is named, else one that has none. Nil: nobody.
//
// A client with a certificate, or a name in one, is one by TLS alone, and with that. Whose certificate is listed goes
// before whose name is.
func (c *clients) find(from netip.Addr, nas string, by *shown) *client {
	c.mu.Lock()
	defer c.mu.Unlock()
	var best *client
	bits := -1
	for _, r := range c.list {
		if !by.of(r) || r.NASIdentifier != "" && r.NASIdentifier != nas {
			continue
		}
		for _, p := range r.networks {
			if !p.Contains(from) || p.Bits() < bits || p.Bits() == bits && best.goesBefore(r) {
				continue
			}
			best, bits = r, p.Bits()
		}
	}
	return best
}

// goesBefore tells whether c, which was found, stays so when o is found at the same addresses.
func (c *client) goesBefore(o *client) bool {
	if named := c.NASIdentifier != ""; named != (o.NASIdentifier != "") {
		return named
	}
	if listed := c.Certificate != ""; listed != (o.Certificate != "") {
		return listed
	}
	return c.NASIdentifier != ""
}

// listed tells whether any client shows that certificate and comes from that address.
func (c *clients) listed(from netip.Addr, by *shown) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.list {
		if by.of(r) && slices.ContainsFunc(r.networks, func(p netip.Prefix) bool { return p.Contains(from) }) {
			return true
		}
	}
	return false
}

func (c *clients) databaseAway() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.away
}

// sawAuthenticator notes the first valid Message-Authenticator of a client.
func (c *clients) sawAuthenticator(of *client, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, r := range c.list {
		if r.ID == of.ID && r.Authenticated.IsZero() {
			noted := *r
			noted.Authenticated = now
			c.list[i] = &noted
		}
	}
}
