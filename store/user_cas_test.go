package store_test

import (
	"math"
	"testing"

	"sallyport/store"
)

func TestUserCAs(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		ca := must[store.UserCA](t)(s.UserCAs.Add(ctx, store.UserCA{Name: "people", PublicKey: "k", Fingerprint: "SHA256:ca", Enabled: true}))
		_, err := s.UserCAs.Add(ctx, store.UserCA{Name: "people", PublicKey: "k2", Fingerprint: "SHA256:other", Enabled: true})
		wantError(t, "the same name", err, store.ErrExists)
		_, err = s.UserCAs.Add(ctx, store.UserCA{Name: "others", PublicKey: "k", Fingerprint: "SHA256:ca", Enabled: true})
		wantError(t, "the same key", err, store.ErrExists)
		if got := must[store.UserCA](t)(s.UserCAs.Trusted(ctx, "SHA256:ca")); got.ID != ca.ID || got.Name != "people" {
			t.Errorf("trusted %+v", got)
		}
		check(t, s.UserCAs.SetEnabled(ctx, ca.ID, false))
		_, err = s.UserCAs.Trusted(ctx, "SHA256:ca")
		wantError(t, "a disabled CA", err, store.ErrNotFound)
		check(t, s.UserCAs.SetEnabled(ctx, ca.ID, true))

		check(t, s.UserCAs.Revoke(ctx, ca.ID, store.Revocation{Kind: store.RevokedSerial, Value: "18446744073709551615"}))
		check(t, s.UserCAs.Revoke(ctx, ca.ID, store.Revocation{Kind: store.RevokedSerial, Value: "18446744073709551615"}))
		check(t, s.UserCAs.Revoke(ctx, ca.ID, store.Revocation{Kind: store.RevokedKeyID, Value: "laptop"}))
		if err := s.UserCAs.Revoke(ctx, ca.ID, store.Revocation{Kind: "any", Value: "x"}); err == nil {
			t.Error("a revocation of no kind was taken")
		}
		wantError(t, "a revocation for nobody", s.UserCAs.Revoke(ctx, "none", store.Revocation{Kind: store.RevokedKeyID, Value: "x"}), store.ErrNotFound)
		for _, c := range []struct {
			serial  uint64
			keyID   string
			revoked bool
		}{{math.MaxUint64, "other", true}, {1, "laptop", true}, {1, "other", false}, {0, "18446744073709551615", false}, {0, "Laptop", false}} {
			if got := must[bool](t)(s.UserCAs.Revoked(ctx, ca.ID, c.serial, c.keyID)); got != c.revoked {
				t.Errorf("serial %d, key id %s: revoked %v", c.serial, c.keyID, got)
			}
		}
		if list := must[[]store.Revocation](t)(s.UserCAs.Revocations(ctx, ca.ID)); len(list) != 2 {
			t.Errorf("revocations %+v", list)
		}
		check(t, s.UserCAs.Delete(ctx, ca.ID))
		if n := count(t, e, "revoked_certificates"); n != 0 {
			t.Errorf("%d revocations outlived their CA", n)
		}
		wantError(t, "deleting twice", s.UserCAs.Delete(ctx, ca.ID), store.ErrNotFound)
	})
}

// A login by certificate is accepted only while its CA counts and nothing is revoked, however late that
// comes.
func TestAcceptCertificate(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		for name, spoil := range map[string]func(store.UserCA) error{
			"ok":       nil,
			"disabled": func(c store.UserCA) error { return s.UserCAs.SetEnabled(ctx, c.ID, false) },
			"removed":  func(c store.UserCA) error { return s.UserCAs.Delete(ctx, c.ID) },
			"serial": func(c store.UserCA) error {
				return s.UserCAs.Revoke(ctx, c.ID, store.Revocation{Kind: store.RevokedSerial, Value: "7"})
			},
			"key-id": func(c store.UserCA) error {
				return s.UserCAs.Revoke(ctx, c.ID, store.Revocation{Kind: store.RevokedKeyID, Value: "laptop"})
			},
		} {
			ca := must[store.UserCA](t)(s.UserCAs.Add(ctx, store.UserCA{Name: name, PublicKey: name, Fingerprint: "SHA256:ca " + name, Enabled: true}))
			a := acceptable(t, s, name, 7)
			a.KeyID, a.Certificate = "", &store.CertificateUse{CAID: ca.ID, Serial: 7, KeyID: "laptop"}
			if spoil == nil {
				check(t, s.Attempts.Accept(ctx, &a))
				if got := must[store.UserCA](t)(s.UserCAs.ByName(ctx, name)); !got.LastUsed.Equal(e.clock.Now()) {
					t.Errorf("last used %v", got.LastUsed)
				}
				continue
			}
			check(t, spoil(ca))
			before := tracesOf(t, s, a)
			wantError(t, name, s.Attempts.Accept(ctx, &a), store.ErrNotFound)
			if got := tracesOf(t, s, a); got != before {
				t.Errorf("%s: traces before %+v, after %+v", name, before, got)
			}
		}
	})
}
