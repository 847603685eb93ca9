package store_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"sallyport/store"
)

func TestTargetSecrets(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		secret := store.CredentialSecret("hunter2 hunter2")
		x := must[store.Target](t)(s.Targets.AddWithSecret(ctx, store.Target{Name: "web1", Address: "x:22", Credential: store.CredentialPassword}, secret))
		y := must[store.Target](t)(s.Targets.AddWithSecret(ctx, store.Target{Name: "web2", Address: "x:22", Credential: store.CredentialOwnKey}, store.CredentialSecret("another")))
		if got := must[store.CredentialSecret](t)(s.Targets.Secret(ctx, x.ID)); string(got) != string(secret) {
			t.Error("the secret is not the one that was kept")
		}
		if text := fmt.Sprintf("%v %+v %#v %s %x", secret, secret, secret, secret, secret); strings.Contains(text, "hunter2") || strings.Contains(text, "68756e") {
			t.Errorf("the secret prints as %s", text)
		}
		if text, err := json.Marshal(secret); err != nil || strings.Contains(string(text), "aHVudGVy") {
			t.Errorf("the secret is marshalled as %s, %v", text, err)
		}
		for _, bad := range []struct {
			credential string
			secret     store.CredentialSecret
		}{{store.CredentialPassword, nil}, {store.CredentialOwnKey, nil}, {store.CredentialKey, secret}, {store.CredentialCertificate, secret}, {"any", nil}} {
			if _, err := s.Targets.AddWithSecret(ctx, store.Target{Name: "bad", Address: "x:22", Credential: bad.credential}, bad.secret); err == nil {
				t.Errorf("credential %s with a secret of %d bytes was taken", bad.credential, len(bad.secret))
			}
		}
		plain := must[store.Target](t)(s.Targets.Add(ctx, store.Target{Name: "plain", Address: "x:22"}))
		if plain.Credential != store.CredentialKey {
			t.Errorf("credential %q, want the bastion's key", plain.Credential)
		}
		_, err := s.Targets.Secret(ctx, plain.ID)
		wantError(t, "secret of a target without one", err, store.ErrNotFound)

		keep := func(*store.Target) (store.CredentialSecret, error) { return nil, nil }
		must[store.Target](t)(s.Targets.Change(ctx, "web1", keep))
		if got := must[store.CredentialSecret](t)(s.Targets.Secret(ctx, x.ID)); string(got) != string(secret) {
			t.Error("a change of something else changed the secret")
		}
		must[store.Target](t)(s.Targets.Change(ctx, "web2", func(t *store.Target) (store.CredentialSecret, error) {
			t.Credential = store.CredentialCertificate
			return nil, nil
		}))
		_, err = s.Targets.Secret(ctx, y.ID)
		wantError(t, "secret after another credential", err, store.ErrNotFound)
		if _, err := s.Targets.Change(ctx, "web1", func(t *store.Target) (store.CredentialSecret, error) {
			t.Credential = store.CredentialOwnKey
			return nil, nil
		}); err == nil {
			t.Error("a password became a key")
		}
	})
}

// A sealed secret opens only in the row it was sealed for.
func TestTargetSecretInAnotherRow(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		if e.name == "memory" {
			return // cannot be opened below the store
		}
		s, ctx := e.open(), t.Context()
		x := must[store.Target](t)(s.Targets.AddWithSecret(ctx, store.Target{Name: "web1", Address: "x:22", Credential: store.CredentialPassword}, store.CredentialSecret("one")))
		y := must[store.Target](t)(s.Targets.AddWithSecret(ctx, store.Target{Name: "web2", Address: "x:22", Credential: store.CredentialPassword}, store.CredentialSecret("two")))
		db := raw(t, e.dsn)
		_, err := db.ExecContext(ctx, "UPDATE targets SET secret = (SELECT secret FROM targets WHERE name = 'web1') WHERE name = 'web2'")
		check(t, err)
		if got, err := s.Targets.Secret(ctx, y.ID); err == nil {
			t.Errorf("a secret of %d bytes opened in another row", len(got))
		}
		if _, err := s.Targets.Secret(ctx, x.ID); err != nil {
			t.Error(err)
		}
		_, err = db.ExecContext(ctx, "INSERT INTO secrets (name, value, created) SELECT 'moved', secret, 0 FROM targets WHERE name = 'web1'")
		check(t, err)
		if _, err := s.Secrets.Get(ctx, "moved"); err == nil {
			t.Error("a target's secret opened in the table of shared secrets")
		}
	})
}

func TestWaitingHostKeys(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		x := must[store.Target](t)(s.Targets.Add(ctx, store.Target{Name: "web1", Address: "x:22", HostKeys: []string{"ssh-ed25519 OLD"}}))
		for range 3 {
			check(t, s.HostKeys.Wait(ctx, x.ID, "ssh-ed25519 NEW", "x:22"))
		}
		check(t, s.HostKeys.Wait(ctx, x.ID, "ssh-ed25519 OTHER", "y:22"))
		waiting := must[[]store.WaitingKey](t)(s.HostKeys.List(ctx, x.ID))
		if len(waiting) != 2 || waiting[1].Seen != 3 || waiting[1].Key != "ssh-ed25519 NEW" || waiting[1].Target != "web1" || waiting[0].Address != "y:22" || !waiting[0].First.Equal(start) {
			t.Fatalf("waiting: %+v", waiting)
		}
		if n := must[int](t)(s.HostKeys.Waiting(ctx)); n != 2 {
			t.Errorf("%d wait", n)
		}
		w, before, err := s.HostKeys.Approve(ctx, waiting[1].ID, false)
		check(t, err)
		after := must[store.Target](t)(s.Targets.ByID(ctx, x.ID))
		if w.Key != "ssh-ed25519 NEW" || !slices.Equal(before.HostKeys, []string{"ssh-ed25519 OLD"}) || !slices.Equal(after.HostKeys, []string{"ssh-ed25519 NEW"}) {
			t.Errorf("approved %+v, before %v, after %v", w, before.HostKeys, after.HostKeys)
		}
		if left := must[[]store.WaitingKey](t)(s.HostKeys.List(ctx, "")); len(left) != 0 {
			t.Errorf("after the approval still waiting: %+v", left)
		}

		check(t, s.HostKeys.Wait(ctx, x.ID, "ssh-rsa MORE", "x:22"))
		check(t, s.HostKeys.Wait(ctx, x.ID, "ssh-rsa WRONG", "x:22"))
		waiting = must[[]store.WaitingKey](t)(s.HostKeys.List(ctx, x.ID))
		_, _, err = s.HostKeys.Reject(ctx, waiting[0].ID)
		check(t, err)
		_, _, err = s.HostKeys.Approve(ctx, waiting[1].ID, true)
		check(t, err)
		after = must[store.Target](t)(s.Targets.ByID(ctx, x.ID))
		if !slices.Equal(after.HostKeys, []string{"ssh-ed25519 NEW", "ssh-rsa MORE"}) || !slices.Equal(after.RevokedKeys, []string{"ssh-rsa WRONG"}) {
			t.Errorf("after: keys %v, revoked %v", after.HostKeys, after.RevokedKeys)
		}
		_, _, err = s.HostKeys.Approve(ctx, waiting[0].ID, false)
		wantError(t, "approval of what was rejected", err, store.ErrNotFound)

		for i := range 50 {
			check(t, s.HostKeys.Wait(ctx, x.ID, fmt.Sprintf("ssh-ed25519 FLOOD%d", i), "x:22"))
		}
		if waiting = must[[]store.WaitingKey](t)(s.HostKeys.List(ctx, x.ID)); len(waiting) != 20 {
			t.Errorf("%d keys wait after a flood, want 20", len(waiting))
		}
		check(t, s.HostKeys.Forget(ctx, x.ID, []string{"ssh-ed25519 FLOOD3"}))
		check(t, s.Targets.Delete(ctx, "web1"))
		if left := must[[]store.WaitingKey](t)(s.HostKeys.List(ctx, "")); len(left) != 0 {
			t.Errorf("keys wait for a target that is gone: %+v", left)
		}
		wantError(t, "key of a target that is gone", s.HostKeys.Wait(ctx, x.ID, "ssh-ed25519 NEW", "x:22"), store.ErrNotFound)

		ca := must[store.Target](t)(s.Targets.Add(ctx, store.Target{Name: "ca", Address: "x:22", HostKeyMode: store.HostCA, HostCAs: []string{"ssh-ed25519 CA"}}))
		check(t, s.HostKeys.Wait(ctx, ca.ID, "ssh-ed25519 NEW", "x:22"))
		waiting = must[[]store.WaitingKey](t)(s.HostKeys.List(ctx, ca.ID))
		_, _, err = s.HostKeys.Approve(ctx, waiting[0].ID, false)
		wantError(t, "approval for a target with a CA", err, store.ErrConflict)
	})
}

// Of many decisions about the keys that wait for one target at once, one counts.
func TestHostKeyApprovedOnce(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		nodes, ctx := e.nodes(), t.Context()
		x := must[store.Target](t)(nodes[0].Targets.Add(ctx, store.Target{Name: "web1", Address: "x:22", HostKeys: []string{"ssh-ed25519 OLD"}}))
		for i := range 5 {
			check(t, nodes[0].HostKeys.Wait(ctx, x.ID, fmt.Sprintf("ssh-ed25519 NEW%d", i), "x:22"))
		}
		waiting := must[[]store.WaitingKey](t)(nodes[0].HostKeys.List(ctx, x.ID))
		var approved atomic.Int32
		var key atomic.Value
		parallel(30, func(i int) {
			w, _, err := nodes[i%2].HostKeys.Approve(ctx, waiting[i%5].ID, false)
			if err == nil {
				approved.Add(1)
				key.Store(w.Key)
				return
			}
			wantError(t, "later approval", err, store.ErrNotFound)
		})
		after := must[store.Target](t)(nodes[1].Targets.ByID(ctx, x.ID))
		if approved.Load() != 1 || !slices.Equal(after.HostKeys, []string{key.Load().(string)}) {
			t.Errorf("%d approvals counted, the target is known by %v", approved.Load(), after.HostKeys)
		}

		check(t, nodes[0].HostKeys.Wait(ctx, x.ID, "ssh-ed25519 LAST", "x:22"))
		id := must[[]store.WaitingKey](t)(nodes[0].HostKeys.List(ctx, x.ID))[0].ID
		var decided atomic.Int32
		parallel(20, func(i int) {
			var err error
			if i%2 == 0 {
				_, _, err = nodes[i%2].HostKeys.Approve(ctx, id, false)
			} else {
				_, _, err = nodes[i%2].HostKeys.Reject(ctx, id)
			}
			if err == nil {
				decided.Add(1)
			}
		})
		after = must[store.Target](t)(nodes[0].Targets.ByID(ctx, x.ID))
		if decided.Load() != 1 || slices.Contains(after.HostKeys, "ssh-ed25519 LAST") == slices.Contains(after.RevokedKeys, "ssh-ed25519 LAST") {
			t.Errorf("%d decisions counted: keys %v, revoked %v", decided.Load(), after.HostKeys, after.RevokedKeys)
		}
	})
}
