package auth_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/policy"
	"sallyport/store"
)

// What a client asks for with a code alone is accepted in one step: the code, the event of the login and that of the
// decision, and the end of earlier failures. Under a lock it leaves no trace, and the code stays unused.
func TestAdmit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	client := w.vpn()
	alice := w.local("alice", "pw")
	secret := w.token(alice.ID)
	admit := func(code string) (*auth.Identity, auth.Decision, error) {
		a := auth.Attempt{Door: audit.DoorRADIUS, Login: "alice", Target: "vpn", Channel: policy.RADIUS, Peer: "vpn"}
		c := w.Engine.Begin(a)
		id, err := c.RunAnswers(context.Background(), auth.Answers{Elsewhere: true, Code: code})
		if err != nil {
			return nil, auth.Decision{}, err
		}
		d, err := c.Decide(context.Background(), *id)
		return id, d, err
	}
	events := func() (types []string) {
		list, err := w.Store.Audit.List(t.Context(), store.AuditFilter{User: "alice"})
		check(t, err)
		for _, e := range slices.Backward(list) { // newest first
			if e.Type == audit.AccessDecided && (e.Rule != "vpn" || e.Target != "vpn" || e.Detail["channel"] != "radius") {
				t.Errorf("decided %+v", e)
			}
			types = append(types, e.Type)
		}
		return types
	}
	for range 4 {
		_, _, err := admit("000000")
		w.refused(err, auth.ErrCode)
		w.now = w.now.Add(time.Minute + time.Second) // or it is the same wrong code
	}
	before := len(events())
	code := w.code(secret)
	id, d, err := admit(code)
	check(t, err)
	if !d.Allow || d.Rule != "vpn" || d.Target.ID != client.ID || id.UserID != alice.ID || !slices.Equal(id.Factors, []string{"code"}) {
		t.Errorf("%+v, %+v", id, d)
	}
	if got := events()[before:]; !slices.Equal(got, []string{audit.LoginAccepted, audit.AccessDecided}) {
		t.Errorf("events of a login: %q", got)
	}
	_, _, err = admit(code)
	w.refused(err, auth.ErrReplay)
	if got := events(); got[len(got)-1] != audit.CodeReplayed {
		t.Errorf("events of a replay: %q", got[before:])
	}
	for range 4 { // the failures of before are forgotten
		w.now = w.now.Add(time.Minute + time.Second)
		_, _, err = admit("000000")
		w.refused(err, auth.ErrCode)
	}
	code = w.code(secret)
	before = len(events())
	_, _, err = admit(code)
	w.refused(err, auth.ErrLocked)
	if got := events()[before:]; !slices.Equal(got, []string{audit.LoginRefused}) {
		t.Errorf("events under a lock: %q", got)
	}
	check(t, w.clear())
	if _, _, err = admit(code); err != nil {
		t.Errorf("the code that was shown under the lock: %v", err)
	}
}

// A recovery code is never looked at before there is a place for the attempt.
func TestAdmitWithSpareCode(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	w.vpn()
	alice := w.local("alice", "pw")
	w.token(alice.ID)
	codes, err := w.Engine.NewRecoveryCodes(t.Context(), alice, "test")
	check(t, err)
	for range 5 {
		_, err := w.ask("alice", auth.Answers{Joined: "pw-and-no-code"})
		w.refused(err, auth.ErrCode)
	}
	_, err = w.ask("alice", auth.Answers{Elsewhere: true, Code: codes[0]})
	w.refused(err, auth.ErrLocked)
	check(t, w.clear())
	if _, err = w.ask("alice", auth.Answers{Elsewhere: true, Code: codes[0]}); err != nil {
		t.Errorf("the code that was shown under the lock: %v", err)
	}
}
