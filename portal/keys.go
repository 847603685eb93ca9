package portal

import (
	"errors"
	"net/url"
	"strings"

	"golang.org/x/crypto/ssh"

	"sallyport/audit"
	"sallyport/identity"
	"sallyport/internal/web"
	"sallyport/signin"
	"sallyport/store"
)

const keysPath = signin.OwnPages + "/keys"

type keysData struct {
	Rows  []store.UserKey
	Typed string
}

func (v *visit) keysPage() (web.Page, error) {
	keys, err := v.s.cfg.Store.UserKeys.List(v.ctx(), v.me.ID)
	return web.Page{Title: "Keys", Section: "keys", Data: keysData{Rows: keys, Typed: v.typed("key")}}, err
}

func (s *Server) keysPage(v *visit) error {
	p, err := v.keysPage()
	if err != nil {
		return err
	}
	return v.show("keys", p)
}

// addKeyForm lets a public key stand for the person's password. The key is looked at before the code, so that a slip
// of the pen costs no code.
func (s *Server) addKeyForm(v *visit) error {
	again := func(why error) error {
		p, err := v.keysPage()
		if err != nil {
			return err
		}
		return v.again(why, "keys", p)
	}
	key, comment, err := identity.ParseUserKey(v.typed("key"))
	if err != nil {
		return again(wrong("This key cannot be used.", "Paste the line that begins with ssh-ed25519, ecdsa-sha2-…, ssh-rsa or sk-…, such as from ~/.ssh/id_ed25519.pub."))
	}
	name := audit.Escape(comment)
	if name == "" {
		name = key.Type()
	}
	if err := checkName(name); err != nil {
		name = key.Type()
	}
	if err := v.prove("key.add"); err != nil {
		return again(err)
	}
	fingerprint := ssh.FingerprintSHA256(key)
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
	k, err := s.cfg.Store.UserKeys.Add(v.ctx(), store.UserKey{UserID: v.me.ID, Name: name, PublicKey: line, Fingerprint: fingerprint})
	if errors.Is(err, store.ErrExists) {
		return again(wrong("This key is on file already.", "A key belongs to one person. Make another one: ssh-keygen"))
	}
	if err != nil {
		return err
	}
	v.changed("key.add", map[string]string{"id": k.ID, "key": fingerprint})
	return v.done(keysPath, "The key was added. It stands for your password; the code stays.")
}

// key finds one of the person's keys.
func (v *visit) key() (store.UserKey, error) {
	keys, err := v.s.cfg.Store.UserKeys.List(v.ctx(), v.me.ID)
	if err != nil {
		return store.UserKey{}, err
	}
	for _, k := range keys {
		if k.ID == v.r.PathValue("id") {
			return k, nil
		}
	}
	return store.UserKey{}, errNotYours
}

func (s *Server) confirmRemoveKeyPage(v *visit) error {
	k, err := v.key()
	if err != nil {
		return err
	}
	return v.show("confirm", web.Page{Title: "Remove a key", Section: "keys", Data: confirmation{
		Question: "Remove the key " + audit.Escape(k.Name) + "?", Consequence: k.Fingerprint + ". Whoever comes with it is asked for the password again.",
		Action: keysPath + "/" + url.PathEscape(k.ID) + "/remove", Button: "Remove the key", Cancel: keysPath,
	}})
}

func (s *Server) removeKeyForm(v *visit) error {
	k, err := v.key()
	if err != nil {
		return err
	}
	if err := s.cfg.Store.UserKeys.Delete(v.ctx(), v.me.ID, k.ID); err != nil {
		return err
	}
	v.changed("key.delete", map[string]string{"id": k.ID, "key": k.Fingerprint})
	return v.done(keysPath, "The key was removed.")
}
