package store_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/store"
)

func radiusClient(name string) store.RadiusClient {
	return store.RadiusClient{
		Name: name, Networks: []string{"192.0.2.1/32"}, Mode: store.RadiusChallenge, MessageAuthenticator: store.AuthenticatorAuto,
		SendsAuthenticator: true, SourceAttribute: 31, Remember: time.Hour, Enabled: true,
	}
}

var sharedSecret = store.SharedSecret("0123456789abcdef")

func TestRadiusClients(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		c := must[store.RadiusClient](t)(s.RadiusClients.Add(ctx, radiusClient("vpn"), sharedSecret))
		if c.ID == "" || !c.Created.Equal(e.clock.Now()) || c.Remember != time.Hour || c.DemandsAuthenticator() {
			t.Errorf("added %+v", c)
		}
		if got := must[store.SharedSecret](t)(s.RadiusClients.Secret(ctx, c.ID)); string(got) != string(sharedSecret) {
			t.Error("another secret came back")
		}
		if got := fmt.Sprintf("%v %s %#v %x", sharedSecret, sharedSecret, sharedSecret, sharedSecret); got != "[secret] [secret] [secret] [secret]" {
			t.Errorf("a secret prints as %s", got)
		}
		_, err := s.RadiusClients.Add(ctx, radiusClient("vpn"), sharedSecret)
		wantError(t, "the same name", err, store.ErrExists)
		if _, err := s.RadiusClients.Add(ctx, radiusClient("short"), sharedSecret[:15]); err == nil {
			t.Error("a secret of 15 bytes was taken")
		}
		check(t, s.RadiusClients.SeenAuthenticated(ctx, c.ID))
		if c = must[store.RadiusClient](t)(s.RadiusClients.ByName(ctx, "vpn")); !c.DemandsAuthenticator() {
			t.Error("with auto Message-Authenticator is not demanded after the first one")
		}
		other := store.SharedSecret("another secret of enough length")
		c = must[store.RadiusClient](t)(s.RadiusClients.Change(ctx, "vpn", func(c *store.RadiusClient) (store.SharedSecret, error) {
			c.Mode = store.RadiusCode
			return other, nil
		}))
		if got := must[store.SharedSecret](t)(s.RadiusClients.Secret(ctx, c.ID)); string(got) != string(other) || c.Mode != store.RadiusCode || c.Authenticated.IsZero() {
			t.Errorf("changed to %+v", c)
		}
		for range 2 {
			check(t, s.RadiusClients.Count(ctx, []store.RadiusCount{{ClientID: c.ID, Kind: "request", Times: 3, Last: e.clock.Now(), Detail: "x"}, {Kind: "unknown", Times: 1}}))
		}
		if counts := must[[]store.RadiusCount](t)(s.RadiusClients.Counts(ctx, &c.ID)); len(counts) != 1 || counts[0].Times != 6 || !counts[0].Last.Equal(e.clock.Now()) {
			t.Errorf("counted %+v", counts)
		}
		check(t, s.RadiusClients.Delete(ctx, "vpn"))
		wantError(t, "deleting again", s.RadiusClients.Delete(ctx, "vpn"), store.ErrNotFound)
		if counts := must[[]store.RadiusCount](t)(s.RadiusClients.Counts(ctx, nil)); len(counts) != 1 || counts[0].ClientID != "" {
			t.Errorf("of a client that is gone remains %+v", counts)
		}
	})
}

// A challenge is answered once, of however many answers at however many nodes, by the one it was made for, in time.
func TestRadiusStates(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		nodes := []*store.Store{s, e.open()}
		c := must[store.RadiusClient](t)(s.RadiusClients.Add(ctx, radiusClient("vpn"), sharedSecret))
		other := must[store.RadiusClient](t)(s.RadiusClients.Add(ctx, radiusClient("other"), sharedSecret))
		issue := func() []byte {
			return must[[]byte](t)(s.RadiusStates.Issue(ctx, store.RadiusState{ClientID: c.ID, Login: "alice", Station: "198.51.100.7", Password: []byte("pass\x00word")}))
		}
		state := issue()
		for what, take := range map[string]func() error{
			"another client":  func() error { _, err := s.RadiusStates.Take(ctx, state, other.ID, "alice", "198.51.100.7"); return err },
			"another person":  func() error { _, err := s.RadiusStates.Take(ctx, state, c.ID, "bob", "198.51.100.7"); return err },
			"another station": func() error { _, err := s.RadiusStates.Take(ctx, state, c.ID, "alice", "198.51.100.8"); return err },
			"another State": func() error {
				_, err := s.RadiusStates.Take(ctx, state[:31], c.ID, "alice", "198.51.100.7")
				return err
			},
		} {
			wantError(t, what, take(), store.ErrNotFound)
		}
		var took atomic.Int64
		var all sync.WaitGroup
		for i := range 40 {
			all.Go(func() {
				switch r, err := nodes[i%2].RadiusStates.Take(ctx, state, c.ID, "alice", "198.51.100.7"); {
				case err == nil && string(r.Password) == "pass\x00word":
					took.Add(1)
				case !errors.Is(err, store.ErrNotFound):
					t.Error(err)
				}
			})
		}
		all.Wait()
		if took.Load() != 1 {
			t.Errorf("%d of 40 took it", took.Load())
		}
		state = issue()
		e.clock.Move(store.RadiusStateLife)
		_, err := s.RadiusStates.Take(ctx, state, c.ID, "alice", "198.51.100.7")
		wantError(t, "too late", err, store.ErrNotFound)
		check(t, s.Purge(ctx))
		if n := count(t, e, "radius_states"); n != 0 {
			t.Errorf("%d challenges are kept after their time", n)
		}
	})
}

// A grant is good for the same person, client and station, until it ends by time or by hand.
func TestRadiusGrants(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		c := must[store.RadiusClient](t)(s.RadiusClients.Add(ctx, radiusClient("vpn"), sharedSecret))
		u := addUser(t, s, "alice")
		put := func(station string) {
			check(t, s.RadiusGrants.Put(ctx, store.RadiusGrant{UserID: u.ID, ClientID: c.ID, Station: station, CodeAt: e.clock.Now(), Expires: e.clock.Now().Add(time.Hour), Assurance: store.FromSent}))
		}
		if err := s.RadiusGrants.Put(ctx, store.RadiusGrant{UserID: u.ID, ClientID: c.ID}); err == nil {
			t.Error("a grant was written for nowhere")
		}
		put("a")
		put("b")
		if g := must[store.RadiusGrant](t)(s.RadiusGrants.Find(ctx, u.ID, c.ID, "a")); !g.CodeAt.Equal(e.clock.Now()) || g.Assurance != store.FromSent {
			t.Errorf("found %+v", g)
		}
		check(t, s.RadiusGrants.End(ctx, u.ID, c.ID, "a"))
		_, err := s.RadiusGrants.Find(ctx, u.ID, c.ID, "a")
		wantError(t, "ended", err, store.ErrNotFound)
		e.clock.Move(time.Hour)
		_, err = s.RadiusGrants.Find(ctx, u.ID, c.ID, "b")
		wantError(t, "expired", err, store.ErrNotFound)
		for what, end := range map[string]func() error{
			"revoking all": func() error { _, err := s.Grants.RevokeAll(ctx, u.ID); return err },
			"a lock":       func() error { return s.Users.Lock(ctx, u.ID, "test", time.Time{}) },
			"a token lost": func() error {
				token := must[store.Token](t)(s.Tokens.Add(ctx, store.Token{UserID: u.ID, Name: "t", Enabled: true}, secret))
				put("b")
				return s.Tokens.SetState(ctx, token.ID, store.TokenLost)
			},
		} {
			put("b")
			check(t, end())
			_, err = s.RadiusGrants.Find(ctx, u.ID, c.ID, "b")
			wantError(t, "after "+what, err, store.ErrNotFound)
		}
		put("b")
		check(t, s.RadiusGrants.End(ctx, u.ID, c.ID, ""))
		_, err = s.RadiusGrants.Find(ctx, u.ID, c.ID, "b")
		wantError(t, "ended everywhere", err, store.ErrNotFound)
	})
}
