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
		state := must[[]byte](t)(s.RadiusStates.Issue(t.Context(), store.RadiusState{ClientID: "c", Login: "alice", Password: []byte("pw")}))
		if len(state) < 16 || strings.Trim(string(state), "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") != "" {
			t.Errorf("State %q", state)
		}
	})
}
