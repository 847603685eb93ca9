package admin

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"

	"sallyport/audit"
	"sallyport/store"
)

const seeUserCAs = "see: sallyport user-ca list"

// trustedCA finds a certificate authority of users by name.
func (s *Server) trustedCA(ctx context.Context, name string) (store.UserCA, error) {
	c, err := s.cfg.Store.UserCAs.ByName(ctx, name)
	return c, ifNotFound(err, seeUserCAs, "there is no user CA %s", audit.Escape(name))
}

// loginCAs lists all with what they have revoked.
func (s *Server) loginCAs(ctx context.Context) ([]LoginCA, error) {
	stored, err := s.cfg.Store.UserCAs.List(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]LoginCA, 0, len(stored))
	for _, c := range stored {
		w, err := s.loginCA(ctx, c)
		if err != nil {
			return nil, err
		}
		out = append(out, w)
	}
	return out, nil
}

func (s *Server) loginCA(ctx context.Context, c store.UserCA) (LoginCA, error) {
	revoked, err := s.cfg.Store.UserCAs.Revocations(ctx, c.ID)
	return wireLoginCA(c, revoked), err
}

// addUserCA lists an authority: its certificates stand for the password of the people they name.
func (s *Server) addUserCA(ctx context.Context, by Caller, n NewLoginCA) (store.UserCA, error) {
	if !targetName.MatchString(n.Name) {
		return store.UserCA{}, invalid(nameHint, "%s cannot be the name of a user CA", audit.Quote(n.Name))
	}
	key, err := parseUserKey(n.PublicKey)
	if err != nil {
		return store.UserCA{}, err
	}
	fingerprint := ssh.FingerprintSHA256(key)
	c, err := s.cfg.Store.UserCAs.Add(ctx, store.UserCA{Name: n.Name, PublicKey: keyLine(key), Fingerprint: fingerprint, Enabled: true})
	if errors.Is(err, store.ErrExists) {
		err = conflict(seeUserCAs, "there is a user CA of this name or with the key %s already", fingerprint)
	}
	if err != nil {
		return store.UserCA{}, err
	}
	s.changed(ctx, by, "user-ca.add", audit.Event{Detail: map[string]string{"ca": c.Name, "key": fingerprint}})
	return c, nil
}

// setUserCA says whether the certificates of an authority count.
func (s *Server) setUserCA(ctx context.Context, by Caller, name string, enabled bool) (store.UserCA, error) {
	c, err := s.trustedCA(ctx, name)
	if err != nil {
		return c, err
	}
	if err := s.cfg.Store.UserCAs.SetEnabled(ctx, c.ID, enabled); err != nil {
		return c, ifNotFound(err, seeUserCAs, "there is no user CA %s", c.Name)
	}
	c.Enabled = enabled
	s.changed(ctx, by, map[bool]string{true: "user-ca.enable", false: "user-ca.disable"}[enabled], audit.Event{Detail: map[string]string{"ca": c.Name}})
	return c, nil
}

// removeUserCA forgets an authority.
func (s *Server) removeUserCA(ctx context.Context, by Caller, name string) error {
	c, err := s.trustedCA(ctx, name)
	if err != nil {
		return err
	}
	if err := s.cfg.Store.UserCAs.Delete(ctx, c.ID); err != nil {
		return ifNotFound(err, seeUserCAs, "there is no user CA %s", c.Name)
	}
	s.changed(ctx, by, "user-ca.remove", audit.Event{Detail: map[string]string{"ca": c.Name, "key": c.Fingerprint}})
	return nil
}

// revokeCertificate takes one certificate back, or all of one key id.
func (s *Server) revokeCertificate(ctx context.Context, by Caller, name string, n NewRevocation) (store.UserCA, error) {
	c, err := s.trustedCA(ctx, name)
	if err != nil {
		return c, err
	}
	r := store.Revocation{Kind: store.RevokedKeyID, Value: n.KeyID}
	switch {
	case (n.Serial == "") == (n.KeyID == ""):
		return c, invalid("say --serial N or --key-id ID", "one of serial number and key id says what to revoke")
	case n.Serial != "":
		serial, err := strconv.ParseUint(strings.TrimSpace(n.Serial), 10, 64)
		if err != nil {
			return c, invalid("ssh-keygen -L -f id-cert.pub shows it", "%s is not a serial number", audit.Quote(n.Serial))
		}
		r = store.Revocation{Kind: store.RevokedSerial, Value: strconv.FormatUint(serial, 10)}
	}
	if err := s.cfg.Store.UserCAs.Revoke(ctx, c.ID, r); err != nil {
		return c, ifNotFound(err, seeUserCAs, "there is no user CA %s", c.Name)
	}
	s.changed(ctx, by, "user-ca.revoke", audit.Event{Detail: map[string]string{"ca": c.Name, r.Kind: r.Value}})
	return c, nil
}
