package admin

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/audit"
	"sallyport/identity"
	"sallyport/store"
)

const seeUsers = "see: sallyport user list"

// user finds a person by login.
func (s *Server) user(ctx context.Context, login string) (store.User, error) {
	canonical, err := checkLogin(login)
	if err != nil {
		return store.User{}, err
	}
	u, err := s.cfg.Store.Users.ByLogin(ctx, canonical)
	return u, ifNotFound(err, seeUsers, "there is no user %s", canonical)
}

// localUser finds a person whose password and groups are kept here.
func (s *Server) localUser(ctx context.Context, login string) (store.User, error) {
	u, err := s.user(ctx, login)
	if err == nil && u.Source != store.Local {
		err = conflict("change it in the directory", "%s comes from the directory", u.Login)
	}
	return u, err
}

// addUser makes a local user.
func (s *Server) addUser(ctx context.Context, by Caller, n NewUser) (store.User, error) {
	login, err := checkLogin(n.Login)
	if err != nil {
		return store.User{}, err
	}
	groups := tidy(n.Groups)
	if err := errors.Join(checkGroups(groups), checkText("name", n.Name, 255), checkEmail(n.Email)); err != nil {
		return store.User{}, err
	}
	phone, err := s.checkPhone(n.Phone)
	if err != nil {
		return store.User{}, err
	}
	hash, err := hashPassword(ctx, n.Password, true)
	if err != nil {
		return store.User{}, err
	}
	u, err := s.cfg.Store.Users.Add(ctx, store.User{
		Login: login, Name: n.Name, Email: n.Email, Phone: phone, Source: store.Local, Groups: groups,
	}, hash)
	switch {
	case errors.Is(err, store.ErrExists):
		err = conflict(seeUsers, "there is a user %s already", login)
	case errors.Is(err, store.ErrNameTaken):
		err = conflict("see: sallyport user list, and robot list", "there is a user or a robot %s already", login)
	}
	if err != nil {
		return store.User{}, err
	}
	s.changed(ctx, by, "user.add", audit.Event{User: login, Detail: map[string]string{"groups": strings.Join(groups, ",")}})
	return u, nil
}

// hashPassword checks and hashes a password. An empty one gives an empty hash if none is allowed.
func hashPassword(ctx context.Context, p string, none bool) (string, error) {
	if p == "" && none {
		return "", nil
	}
	if err := checkPassword(p); err != nil {
		return "", err
	}
	return identity.HashPassword(ctx, identity.Password(p))
}

// tidy sorts a list and drops what is there twice; nil becomes empty.
func tidy(list []string) []string {
	sorted := slices.Clone(list)
	slices.Sort(sorted)
	return append([]string{}, slices.Compact(sorted)...)
}

// deleteUser removes a user with tokens, keys and role, and ends their sessions.
func (s *Server) deleteUser(ctx context.Context, by Caller, login string) error {
	u, err := s.user(ctx, login)
	if err != nil {
		return err
	}
	if err := s.cfg.Store.Users.Delete(ctx, u.ID); err != nil {
		return lastAdmin(err, u.Login)
	}
	s.changed(ctx, by, "user.delete", audit.Event{User: u.Login})
	s.endSessions(ctx, by, store.SessionFilter{User: u.Login}, "your account was removed")
	return nil
}

// lockUser refuses a person from now on and ends their sessions. A zero until means until unlocked.
func (s *Server) lockUser(ctx context.Context, by Caller, login, reason string, until time.Time) error {
	u, err := s.user(ctx, login)
	if err != nil {
		return err
	}
	if err := checkText("reason", reason, 500); err != nil {
		return err
	}
	if !until.IsZero() && !until.After(s.cfg.Now()) {
		return invalid("give a time to come, such as --for 8h", "the lock would have ended already")
	}
	if u.ID == by.UserID {
		return conflict("let another administrator do it", "you cannot lock yourself out")
	}
	if err := s.cfg.Store.Users.Lock(ctx, u.ID, reason, until); err != nil {
		return err
	}
	detail := map[string]string{}
	if !until.IsZero() {
		detail["until"] = until.UTC().Format(time.RFC3339)
	}
	s.changed(ctx, by, "user.lock", audit.Event{User: u.Login, Reason: reason, Detail: detail})
	s.endSessions(ctx, by, store.SessionFilter{User: u.Login}, "your account was locked")
	_, err = s.cfg.Store.WebSessions.EndAll(ctx, u.ID)
	return err
}

// unlockUser takes back a lock by an operator. Locks after failures are lockouts, see clearLockout.
func (s *Server) unlockUser(ctx context.Context, by Caller, login string) error {
	u, err := s.user(ctx, login)
	if err != nil {
		return err
	}
	if err := s.cfg.Store.Users.Unlock(ctx, u.ID); err != nil {
		return err
	}
	s.changed(ctx, by, "user.unlock", audit.Event{User: u.Login})
	return nil
}

// setPassword replaces a local user's password and ends their web sessions.
func (s *Server) setPassword(ctx context.Context, by Caller, login, password string) error {
	u, err := s.localUser(ctx, login)
	if err != nil {
		return err
	}
	hash, err := hashPassword(ctx, password, false)
	if err != nil {
		return err
	}
	if err := s.cfg.Store.Users.SetPassword(ctx, u.ID, hash); err != nil {
		return err
	}
	s.changed(ctx, by, "user.password", audit.Event{User: u.Login})
	_, err = s.cfg.Store.WebSessions.EndAll(ctx, u.ID)
	return err
}

// setGroups replaces a local user's groups.
func (s *Server) setGroups(ctx context.Context, by Caller, login string, groups []string) error {
	u, err := s.localUser(ctx, login)
	if err != nil {
		return err
	}
	groups = tidy(groups)
	if err := checkGroups(groups); err != nil {
		return err
	}
	if err := s.cfg.Store.Users.SetGroups(ctx, u.ID, groups); err != nil {
		return err
	}
	s.changed(ctx, by, "user.groups", audit.Event{User: u.Login, Detail: map[string]string{"groups": strings.Join(groups, ",")}})
	return nil
}

// addUserKey lets a public key stand for the password of login.
func (s *Server) addUserKey(ctx context.Context, by Caller, login string, n NewUserKey) (store.UserKey, error) {
	u, err := s.user(ctx, login)
	if err != nil {
		return store.UserKey{}, err
	}
	key, err := parseUserKey(n.PublicKey)
	if err != nil {
		return store.UserKey{}, err
	}
	name := n.Name
	if name == "" {
		_, comment, _ := identity.ParseUserKey(n.PublicKey)
		name = audit.Escape(comment)
	}
	if name == "" {
		name = key.Type()
	}
	if err := checkText("name", name, 200); err != nil {
		return store.UserKey{}, err
	}
	fingerprint := ssh.FingerprintSHA256(key)
	k, err := s.cfg.Store.UserKeys.Add(ctx, store.UserKey{UserID: u.ID, Name: name, PublicKey: keyLine(key), Fingerprint: fingerprint})
	if errors.Is(err, store.ErrExists) {
		err = conflict("a key belongs to one person; delete it there first: sallyport user key delete", "the key %s belongs to a user or a robot already", fingerprint)
	}
	if err != nil {
		return store.UserKey{}, err
	}
	s.changed(ctx, by, "user.key.add", audit.Event{User: u.Login, Detail: map[string]string{"key": fingerprint, "id": k.ID}})
	return k, nil
}

// deleteUserKey takes a public key from login.
func (s *Server) deleteUserKey(ctx context.Context, by Caller, login, id string) error {
	u, err := s.user(ctx, login)
	if err != nil {
		return err
	}
	err = s.cfg.Store.UserKeys.Delete(ctx, u.ID, id)
	if err := ifNotFound(err, "see: sallyport user key list "+u.Login, "%s has no key of that id", u.Login); err != nil {
		return err
	}
	s.changed(ctx, by, "user.key.delete", audit.Event{User: u.Login, Detail: map[string]string{"id": id}})
	return nil
}
