package admin

import (
	"time"

	"sallyport/internal/web"
	"sallyport/store"
)

// bastionKey is a key by which the bastion proves itself, as the pages show it.
type bastionKey struct {
	State       string // as store.CAKey has it
	Fingerprint string
	Since       time.Time
	Line        string // for those who are to trust it; "": there is nobody yet
}

// bastionKeys is the dot of the page about the keys of the bastion.
type bastionKeys struct {
	HostCA, UserCA       []bastionKey
	HostWaits, UserWaits bool // a next key
	UserOld              bool
	Recordings           []RecordingKey
}

func (s *Server) bastionKeysPage(v *visit) error {
	host, err := s.hostCA(v.ctx(), "")
	if err != nil {
		return err
	}
	b := bastionKeys{HostCA: []bastionKey{hostCAView(store.CAActive, host.HostCAKey)}}
	if host.Next != nil {
		b.HostCA, b.HostWaits = append(b.HostCA, hostCAView(store.CANext, *host.Next)), true
	}
	user, err := s.userCA(v.ctx())
	if err != nil {
		return err
	}
	for _, k := range user.Keys {
		b.UserCA = append(b.UserCA, bastionKey{k.State, k.Fingerprint, whenOf(k.Created), k.PublicKey})
		b.UserWaits, b.UserOld = b.UserWaits || k.State == store.CANext, b.UserOld || k.State == store.CAOld
	}
	if s.cfg.Recorder != nil {
		if b.Recordings, err = s.keys(); err != nil {
			return err
		}
	}
	v.show("bastion_keys", web.Page{Title: "Keys of the bastion", Section: "targets", Data: b})
	return nil
}

func hostCAView(state string, k HostCAKey) bastionKey {
	return bastionKey{state, k.Fingerprint, whenOf(k.Since), k.KnownHosts}
}

func whenOf(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}
