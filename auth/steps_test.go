package auth_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/policy"
)

// Where codes are sent, the password alone does not give a token, also at a target where a sent code does not do: whoever
// has the password and not the mailbox would get one by it.
func TestNoEnrolmentInThePlaceOfASentCode(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", sendsMail, func(c *auth.Config) { c.EnrolAtLogin = true })
	w.mailed("ada", "ada@example.org")
	_, err := w.Store.Rules.Put(t.Context(), "version: 1\nrules:\n  - {name: strong, users: [\"*\"], targets: [vault], token-only: true}\n", "test", 1)
	check(t, err)
	s := typed("the password", "000000")
	if _, err := w.Engine.Begin(auth.Attempt{Door: audit.DoorSSH, Login: "ada", Target: "vault", Source: source}).Run(t.Context(), s); err == nil {
		t.Error("got in")
	}
	if !slices.Equal(s.asked, []string{auth.PromptPassword, auth.PromptCode}) || s.shown != "" {
		t.Errorf("asked %q, shown %q", s.asked, s.shown)
	}
	if _, err := w.Engine.ProveTokenless(t.Context(), auth.Attempt{Door: audit.DoorWeb, Login: "ada", Source: source}, "the password"); err == nil {
		t.Error("the password enrols on the web")
	}
}

// What is kept between two steps shows no password by accident.
func TestPendingIsSecret(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	a := auth.Attempt{Door: audit.DoorRADIUS, Login: "alice", Target: "vpn", Channel: policy.RADIUS, Peer: "vpn"}
	_, p, err := w.Engine.Begin(a).RunPassword(t.Context(), auth.Answers{Both: &auth.Both{Password: "hunter2"}})
	check(t, err)
	b, err := json.Marshal(p)
	check(t, err)
	if text := fmt.Sprintf("%v %+v %s", p, *p, b); strings.Contains(text, "hunter2") {
		t.Errorf("it prints as %s", text)
	}
	again, err := auth.PendingOf(p.Secret())
	if err != nil || string(again.Secret()) != string(p.Secret()) {
		t.Errorf("%v, %v", again, err)
	}
	if _, err := auth.PendingOf([]byte("hunter2")); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("what has another form: %v", err)
	}
}
