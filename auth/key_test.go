package auth_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"testing"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/otp"
	"sallyport/store"
)

// mute can ask nothing, as the SSH method publickey.
type mute struct{}

var errMute = errors.New("mute")

func (mute) Ask(context.Context, string, []auth.Prompt) ([]string, error) { return nil, errMute }
func (mute) Show(context.Context, string) error                           { return errMute }

// A verified key and a code: what the first step finds out serves the second, the code is used up with
// the acceptance, and also when the key turns out to be gone.
func TestKeyAndCode(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	ctx := t.Context()
	u := w.local("alice", "pw")
	secret := w.token(u.ID)
	key, err := w.Store.UserKeys.Add(ctx, store.UserKey{UserID: u.ID, PublicKey: "k", Fingerprint: "SHA256:k"})
	check(t, err)
	attempt := auth.Attempt{Door: audit.DoorSSH, Login: "alice", Source: source, Target: "web1"}
	enter := func(code string) (*auth.Identity, error) {
		t.Helper()
		c := w.Engine.Begin(attempt).WithKey(key.Fingerprint)
		if _, err := c.Run(ctx, mute{}); !errors.Is(err, errMute) {
			t.Fatalf("without a code: %v", err)
		}
		return c.Run(ctx, &script{answers: map[string]string{auth.PromptCode: code}})
	}
	events := func(kind string) int {
		t.Helper()
		list, err := w.Store.Audit.List(ctx, store.AuditFilter{Type: kind, User: "alice"})
		check(t, err)
		return len(list)
	}

	_, err = enter("000000")
	w.refused(err, auth.ErrCode)
	id, err := enter(w.code(secret))
	check(t, err)
	if id.UserID != u.ID || id.KeyFingerprint != key.Fingerprint || len(id.Factors) != 2 || id.CodeAt.IsZero() {
		t.Errorf("identity %+v", id)
	}
	_, err = enter(w.code(secret))
	w.refused(err, auth.ErrReplay)
	if a, r := events(audit.LoginAccepted), events(audit.CodeReplayed); a != 1 || r != 1 {
		t.Errorf("%d accepted, %d replayed", a, r)
	}
	if seen, err := w.Store.Places.List(ctx, u.ID); err != nil || len(seen) != 1 || seen[0].Count != 1 {
		t.Errorf("places %+v, %v", seen, err)
	}

	w.now = w.now.Add(2 * otp.DefaultParams().StepEnd(1).Sub(otp.DefaultParams().StepEnd(0)))
	check(t, w.Store.UserKeys.Delete(ctx, u.ID, key.ID))
	_, err = enter(w.code(secret))
	w.refused(err, auth.ErrPassword)
	tokens, err := w.Store.Tokens.List(ctx, u.ID)
	check(t, err)
	if want := otp.DefaultParams().StepAt(w.now); tokens[0].LastStep != want {
		t.Errorf("last step %d, want %d: a code that was right is used", tokens[0].LastStep, want)
	}
}

// An acceptance that cannot be written whole lets nobody in and leaves nothing.
func TestAcceptanceNotWritten(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "db")
	w := newWorld(t, "sqlite:"+path)
	ctx := t.Context()
	u := w.local("alice", "pw")
	secret := w.token(u.ID)
	_, err := w.Store.UserKeys.Add(ctx, store.UserKey{UserID: u.ID, PublicKey: "k", Fingerprint: "SHA256:k"})
	check(t, err)
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(60000)")
	check(t, err)
	defer db.Close()
	enter := func() (*auth.Identity, error) {
		return w.Engine.Begin(auth.Attempt{Door: audit.DoorSSH, Login: "alice", Source: source}).WithKey("SHA256:k").
			Run(ctx, &script{answers: map[string]string{auth.PromptCode: w.code(secret)}})
	}

	_, err = db.ExecContext(ctx, "ALTER TABLE audit_events RENAME TO away")
	check(t, err)
	_, err = enter()
	w.refused(err, auth.ErrUnavailable)
	_, err = db.ExecContext(ctx, "ALTER TABLE away RENAME TO audit_events")
	check(t, err)
	if list, err := w.Store.Audit.List(ctx, store.AuditFilter{Type: audit.LoginAccepted}); err != nil || len(list) != 0 {
		t.Errorf("events %+v, %v", list, err)
	}
	_, err = enter() // the same code: it was not accepted before
	check(t, err)
}
