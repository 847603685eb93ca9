package store_test

import (
	"errors"
	"testing"
	"time"

	"sallyport/store"
)

func robot(name string) store.Robot {
	return store.Robot{
		Name: name, PublicKey: "ssh-ed25519 " + name, Fingerprint: "SHA256:" + name, Enabled: true,
		Sources: []string{"192.0.2.0/24"}, Targets: []string{"web1"}, Accounts: []string{"deploy"}, Commands: []string{"true <>&"},
	}
}

func TestRobots(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		r := must[store.Robot](t)(s.Robots.Add(ctx, robot("deploy-bot")))
		if r.ID == "" || r.Commands[0] != "true <>&" || !r.Usable(e.clock.Now()) || !r.Created.Equal(e.clock.Now()) {
			t.Errorf("added %+v", r)
		}
		for what, change := range map[string]func(*store.Robot){
			"without sources":  func(r *store.Robot) { r.Sources = nil },
			"without targets":  func(r *store.Robot) { r.Targets = nil },
			"without accounts": func(r *store.Robot) { r.Accounts = nil },
			"without commands": func(r *store.Robot) { r.Commands = nil },
			"without a key":    func(r *store.Robot) { r.PublicKey = "" },
			"in upper case":    func(r *store.Robot) { r.Name = "Bot" },
		} {
			bad := robot("bad")
			change(&bad)
			if _, err := s.Robots.Add(ctx, bad); err == nil {
				t.Errorf("a robot %s was taken", what)
			}
			if what == "in upper case" {
				continue
			}
			if _, err := s.Robots.Change(ctx, "deploy-bot", func(r *store.Robot) error { change(r); return nil }); err == nil {
				t.Errorf("a robot became one %s", what)
			}
		}
		if got := must[store.Robot](t)(s.Robots.ByName(ctx, "deploy-bot")); got.Sources[0] != "192.0.2.0/24" {
			t.Errorf("a refused change left %+v", got)
		}

		// A name is a user's or a robot's, and so is a key.
		_, err := s.Robots.Add(ctx, robot("deploy-bot"))
		wantError(t, "the same name", err, store.ErrExists)
		same := robot("other-bot")
		same.Fingerprint = r.Fingerprint
		_, err = s.Robots.Add(ctx, same)
		wantError(t, "the same key", err, store.ErrExists)
		u := addUser(t, s, "alice")
		_, err = s.Robots.Add(ctx, robot("alice"))
		wantError(t, "the name of a user", err, store.ErrNameTaken)
		_, err = s.Users.Add(ctx, store.User{Login: "Deploy-Bot"}, "")
		wantError(t, "a user with the name of a robot", err, store.ErrNameTaken)
		_, err = s.UserKeys.Add(ctx, store.UserKey{UserID: u.ID, PublicKey: "k", Fingerprint: r.Fingerprint})
		wantError(t, "a user with the key of a robot", err, store.ErrExists)
		must[store.UserKey](t)(s.UserKeys.Add(ctx, store.UserKey{UserID: u.ID, PublicKey: "k", Fingerprint: "SHA256:alice"}))
		theirs := robot("thief-bot")
		theirs.Fingerprint = "SHA256:alice"
		_, err = s.Robots.Add(ctx, theirs)
		wantError(t, "the key of a user", err, store.ErrExists)
		_, err = s.Robots.Change(ctx, "deploy-bot", func(r *store.Robot) error { r.Fingerprint = "SHA256:alice"; return nil })
		wantError(t, "a change to the key of a user", err, store.ErrExists)

		own := errors.New("own")
		_, err = s.Robots.Change(ctx, "deploy-bot", func(*store.Robot) error { return own })
		wantError(t, "a change that gives up", err, own)
		_, err = s.Robots.Change(ctx, "nobody", func(*store.Robot) error { return nil })
		wantError(t, "a change of nobody", err, store.ErrNotFound)
		r = must[store.Robot](t)(s.Robots.Change(ctx, "deploy-bot", func(r *store.Robot) error {
			r.Expires, r.Note = e.clock.Now().Add(time.Hour), "note"
			return nil
		}))
		if !r.Usable(e.clock.Now()) || r.Usable(e.clock.Now().Add(time.Hour)) {
			t.Errorf("usable at the wrong time: %+v", r)
		}
		if all := must[[]store.Robot](t)(s.Robots.List(ctx)); len(all) != 1 || all[0].Note != "note" {
			t.Errorf("list %+v", all)
		}
		check(t, s.Robots.Delete(ctx, "deploy-bot"))
		wantError(t, "deleting twice", s.Robots.Delete(ctx, "deploy-bot"), store.ErrNotFound)
	})
}

// A robot's use is written with the acceptance, and only while it may come in with this key.
func TestAcceptRobot(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		for name, spoil := range map[string]func(*store.Robot){
			"ok":       nil,
			"disabled": func(r *store.Robot) { r.Enabled = false },
			"expired":  func(r *store.Robot) { r.Expires = e.clock.Now() },
			"re-keyed": func(r *store.Robot) { r.Fingerprint = "SHA256:new" },
		} {
			r := must[store.Robot](t)(s.Robots.Add(ctx, robot(name)))
			if spoil != nil {
				must[store.Robot](t)(s.Robots.Change(ctx, name, func(r *store.Robot) error { spoil(r); return nil }))
			}
			held, _ := reserve(t, s, five(name), store.Reserved)
			err := s.Attempts.Accept(ctx, &store.Acceptance{Reservation: held, Source: addr("::ffff:192.0.2.7"), Robot: &store.RobotUse{ID: r.ID, Fingerprint: r.Fingerprint}})
			after := must[store.Robot](t)(s.Robots.ByName(ctx, name))
			if spoil == nil {
				check(t, err)
				if after.LastSource != "192.0.2.7" || !after.LastUsed.Equal(e.clock.Now()) {
					t.Errorf("after its use: %+v", after)
				}
				continue
			}
			wantError(t, name, err, store.ErrNotFound)
			if !after.LastUsed.IsZero() {
				t.Errorf("%s: a refused login left a trace", name)
			}
		}
	})
}
