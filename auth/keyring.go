package auth

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/crypto/ssh"

	"sallyport/identity"
	"sallyport/store"
)

// Keyring answers which public keys a login may come with. The person is looked up once, however many keys
// are asked about; nothing of it counts at the verdict.
type Keyring struct {
	e *Engine
	s subject
}

// Keyring looks a login up for questions about keys.
func (e *Engine) Keyring(ctx context.Context, login string) *Keyring {
	return &Keyring{e: e, s: e.lookup(ctx, login)}
}

// Takes tells whether key, which may be a certificate, would do as a first factor from source; the error
// says why not, for the log. Knowing it proves nothing: the door must verify possession before it begins a
// conversation by [Keyring.Begin].
func (k *Keyring) Takes(ctx context.Context, key ssh.PublicKey, source netip.Addr) error {
	ctx, cancel := context.WithTimeout(ctx, k.e.cfg.Budget)
	defer cancel()
	if cert, ok := key.(*ssh.Certificate); ok {
		if k.s.robot != nil {
			return errRobotKey
		}
		_, _, err := k.e.certificate(ctx, k.s, source, cert)
		return err
	}
	if err := identity.CheckUserKey(key); err != nil {
		return err
	}
	fingerprint := ssh.FingerprintSHA256(key)
	switch {
	case k.s.err != nil:
		return k.s.err
	case k.s.robot == nil:
		_, err := k.e.keyOf(ctx, k.s, fingerprint)
		return err
	case k.s.robot.Fingerprint != fingerprint:
		return errRobotKey
	}
	return nil
}

// Begin starts a conversation of somebody who has proved the possession of key. It goes on with what is
// known of them; a is an attempt of the same login.
func (k *Keyring) Begin(a Attempt, key ssh.PublicKey) *Conversation {
	s := k.s
	c := k.e.Begin(a).WithProof(key)
	c.subject = &s
	return c
}

// keyOf finds a public key among those of a person: in the database, whose row it returns, or in the
// directory. A person of the directory without a row has none: the row comes with their first right
// password, and until then nobody here has seen a proof of who they are.
func (e *Engine) keyOf(ctx context.Context, s subject, fingerprint string) (store.UserKey, error) {
	if s.user == nil {
		return store.UserKey{}, fmt.Errorf("%w: no row yet: they must sign in with their password once", ErrUnknownUser)
	}
	k, err := e.cfg.Store.UserKeys.ByFingerprint(ctx, s.user.ID, fingerprint)
	switch {
	case err == nil:
		return k, nil
	case !errors.Is(err, store.ErrNotFound):
		return store.UserKey{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	case s.person != nil && slices.Contains(s.person.Keys, fingerprint):
		return store.UserKey{}, nil
	}
	return store.UserKey{}, fmt.Errorf("%w: key %s is not on file", ErrPassword, fingerprint)
}
