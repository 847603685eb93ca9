package admin

import (
	"context"
	"errors"

	"sallyport/audit"
	"sallyport/store"
	"sallyport/upstream"
)

const seeCA = "see: sallyport ca show"

// userCA is what signs certificates for targets, and how a target trusts it.
func (s *Server) userCA(ctx context.Context) (UserCA, error) {
	list, err := s.cfg.Store.CAKeys.List(ctx)
	if err != nil {
		return UserCA{}, err
	}
	if len(list) == 0 {
		return UserCA{}, notFound("see the server's log", "this installation has no user CA")
	}
	ca := UserCA{Config: []string{
		"TrustedUserCAKeys /etc/ssh/sallyport-user-ca.pub",
		"# A certificate names the account it is for, and opens no other. Where AuthorizedPrincipalsFile is",
		"# set, the file of each account has to hold the account's name.",
	}}
	for _, k := range list {
		comment := " sallyport-user-ca"
		if k.State != store.CAActive {
			comment += "-" + k.State
		}
		ca.Keys = append(ca.Keys, CAKey{ID: k.ID, State: k.State, PublicKey: k.PublicKey + comment, Fingerprint: fingerprintOf(k.PublicKey), Created: timeOf(k.Created)})
	}
	ca.PublicKey, ca.Fingerprint = ca.Keys[0].PublicKey, ca.Keys[0].Fingerprint
	return ca, nil
}

// rotateCA makes the key that is to follow.
func (s *Server) rotateCA(ctx context.Context, by Caller) error {
	public, secret, err := upstream.NewCA()
	if err != nil {
		return err
	}
	k, err := s.cfg.Store.CAKeys.Rotate(ctx, public, secret)
	if errors.Is(err, store.ErrExists) {
		return conflict("have the targets trust it, then: sallyport ca activate; or do without it: sallyport ca drop", "a next key of the user CA waits already")
	}
	return s.changedCA(ctx, by, "ca.rotate", k, err)
}

// dropCA removes the key that was to follow; the one of now goes on.
func (s *Server) dropCA(ctx context.Context, by Caller, in DropKey) error {
	k, err := s.cfg.Store.CAKeys.Drop(ctx, func(next store.CAKey) error {
		if found := fingerprintOf(next.PublicKey); in.Fingerprint != "" && in.Fingerprint != found {
			return conflict(seeCA, "the next key of the user CA is another one by now: %s", found)
		}
		return nil
	})
	if errors.Is(err, store.ErrNotFound) {
		return conflict(seeCA, "there is no next key of the user CA")
	}
	return s.changedCA(ctx, by, "ca.drop", k, err)
}

// activateCA has the next key sign.
func (s *Server) activateCA(ctx context.Context, by Caller) error {
	k, err := s.cfg.Store.CAKeys.Activate(ctx)
	if errors.Is(err, store.ErrNotFound) {
		return conflict("make one: sallyport ca rotate", "there is no next key of the user CA")
	}
	return s.changedCA(ctx, by, "ca.activate", k, err)
}

// retireCA removes the old key.
func (s *Server) retireCA(ctx context.Context, by Caller) error {
	k, err := s.cfg.Store.CAKeys.Retire(ctx)
	if errors.Is(err, store.ErrNotFound) {
		return conflict(seeCA, "there is no old key of the user CA")
	}
	return s.changedCA(ctx, by, "ca.retire", k, err)
}

func (s *Server) changedCA(ctx context.Context, by Caller, action string, k store.CAKey, err error) error {
	if errors.Is(err, store.ErrConflict) {
		return conflict("when no target needs it any more: sallyport ca retire", "an old key of the user CA was not retired yet")
	}
	if err == nil {
		s.changed(ctx, by, action, audit.Event{Detail: map[string]string{"fingerprint": fingerprintOf(k.PublicKey)}})
	}
	return err
}
