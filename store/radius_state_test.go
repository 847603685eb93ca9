package store_test

import (
	"strings"
	"testing"

	"sallyport/store"
)

// State has no octet that a client in C could lose, and none that another could escape.
func TestRadiusStateIsText(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s := e.open()
		c := must[store.RadiusClient](t)(s.RadiusClients.Add(t.Context(), store.RadiusClient{
			Name: "vpn", Networks: []string{"192.0.2.1/32"}, Mode: store.RadiusChallenge, MessageAuthenticator: store.AuthenticatorYes,
		}, store.SharedSecret("0123456789abcdef")))
		state := must[[]byte](t)(s.RadiusStates.Issue(t.Context(), store.RadiusState{ClientID: c.ID, Login: "alice", Password: []byte("pw")}))
		if len(state) < 16 || strings.Trim(string(state), "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") != "" {
			t.Errorf("State %q", state)
		}
	})
}
