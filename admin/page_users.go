package admin

import (
	"fmt"
	"html/template"
	"time"

	"sallyport/audit"
	"sallyport/internal/web"
	"sallyport/otp"
	"sallyport/store"
)

// userRows bounds the list of users; a search finds the others.
const userRows = 500

type userList struct {
	Query string
	Rows  []userView
	More  bool // there are more than are shown
}

// userView is a user as the pages show them.
type userView struct {
	store.User
	Path   string
	Locked bool // now
}

func (s *Server) viewUser(u store.User) userView {
	return userView{User: u, Path: within("users", u.Login), Locked: u.LockedNow(s.cfg.Now())}
}

func (s *Server) usersPage(v *visit) error {
	d := userList{Query: v.query("q")}
	list, err := s.cfg.Store.Users.List(v.ctx(), store.UserFilter{Query: d.Query, Limit: userRows + 1})
	if err != nil {
		return err
	}
	if d.More = len(list) > userRows; d.More {
		list = list[:userRows]
	}
	for _, u := range list {
		d.Rows = append(d.Rows, s.viewUser(u))
	}
	v.show("users", web.Page{Title: "Users", Section: "users", Data: d})
	return nil
}

// newUser is what was typed into the form of a new user.
type newUser struct{ Login, Name, Email, Groups string }

func (s *Server) newUserPage(v *visit) error {
	v.show("user_new", web.Page{Title: "New user", Section: "users", Data: newUser{}})
	return nil
}

func (s *Server) addUserForm(v *visit) error {
	typed := newUser{v.typed("login"), v.typed("name"), v.typed("email"), v.typed("groups")}
	u, err := s.addUser(v.ctx(), v.by, NewUser{
		Login: typed.Login, Name: typed.Name, Email: typed.Email, Groups: listOf(typed.Groups), Password: v.r.PostFormValue("password"),
	})
	if err != nil {
		v.again(err, "user_new", web.Page{Title: "New user", Section: "users", Data: typed})
		return nil
	}
	return v.done(within("users", u.Login), "User %s was added. Next, give them a token.", u.Login)
}

// userData is the dot of one user's page.
type userData struct {
	userView
	Role       string
	TokenRows  []tokenView
	Recovery   int // codes left
	Bypasses   []store.SpareCode
	Keys       []store.UserKey
	Places     []store.Place
	Refused    []store.Place
	Grants     []Grant
	Recent     []sessionView
	LockLength []lockLength
	Local      bool
	Self       bool // the user is who looks
}

type lockLength struct{ Value, Text string }

var lockLengths = []lockLength{{"", "until unlocked"}, {"1h", "for an hour"}, {"24h", "for a day"}, {"168h", "for a week"}}

func (s *Server) userPage(v *visit) error {
	u, err := s.user(v.ctx(), v.path("login"))
	if err != nil {
		return err
	}
	d, err := s.userData(v, u)
	if err != nil {
		return err
	}
	v.show("user", web.Page{Title: u.Login, Section: "users", Data: d})
	return nil
}

func (s *Server) userData(v *visit, u store.User) (userData, error) {
	d := userData{
		userView: s.viewUser(u), LockLength: lockLengths, Local: u.Source == store.Local, Self: u.ID == v.by.UserID,
	}
	tokens, err := s.cfg.Store.Tokens.List(v.ctx(), u.ID)
	if err != nil {
		return d, err
	}
	for _, t := range tokens {
		d.TokenRows = append(d.TokenRows, s.viewToken(u.Login, t))
	}
	if d.Recovery, err = s.cfg.Store.SpareCodes.Left(v.ctx(), u.ID); err != nil {
		return d, err
	}
	if d.Bypasses, err = s.cfg.Store.SpareCodes.Bypasses(v.ctx(), u.ID); err != nil {
		return d, err
	}
	if d.Keys, err = s.cfg.Store.UserKeys.List(v.ctx(), u.ID); err != nil {
		return d, err
	}
	if d.Grants, err = s.grants(v.ctx(), u.Login); err != nil {
		return d, err
	}
	if d.Places, err = s.cfg.Store.Places.List(v.ctx(), u.ID); err != nil {
		return d, err
	}
	d.Places = d.Places[:min(len(d.Places), 10)]
	if d.Refused, err = s.cfg.Store.Places.ListRefused(v.ctx(), u.ID); err != nil {
		return d, err
	}
	d.Refused = d.Refused[:min(len(d.Refused), 10)]
	recent, err := s.sessionList(v.ctx(), store.SessionFilter{User: u.Login, Limit: 5})
	if err != nil {
		return d, err
	}
	d.Recent = s.viewSessions(recent)
	d.Role, err = s.roleOf(v, u)
	return d, err
}

// roleOf is the user's role among the administrators, "" for most people.
func (s *Server) roleOf(v *visit, u store.User) (string, error) {
	list, err := s.cfg.Store.Admins.List(v.ctx())
	for _, a := range list {
		if a.UserID == u.ID {
			return a.Role, nil
		}
	}
	return "", err
}

func (s *Server) setGroupsForm(v *visit) error {
	login := v.path("login")
	if err := s.setGroups(v.ctx(), v.by, login, listOf(v.typed("groups"))); err != nil {
		return err
	}
	return v.done(within("users", login), "The groups were changed; they hold from the next decision on.")
}

func (s *Server) setPasswordForm(v *visit) error {
	login := v.path("login")
	if err := s.setPassword(v.ctx(), v.by, login, v.r.PostFormValue("password")); err != nil {
		return err
	}
	return v.done(within("users", login), "The password was changed.")
}

func (s *Server) lockUserForm(v *visit) error {
	login := v.path("login")
	var until time.Time
	if typed := v.typed("for"); typed != "" {
		d, err := time.ParseDuration(typed)
		if err != nil || d <= 0 {
			return invalid("choose one of the list", "%s is not a length of time", audit.Quote(typed))
		}
		until = s.cfg.Now().Add(d)
	}
	if err := s.lockUser(v.ctx(), v.by, login, v.typed("reason"), until); err != nil {
		return err
	}
	return v.done(within("users", login), "%s is locked, and their sessions were ended.", login)
}

func (s *Server) unlockUserForm(v *visit) error {
	login := v.path("login")
	if err := s.unlockUser(v.ctx(), v.by, login); err != nil {
		return err
	}
	return v.done(within("users", login), "%s may sign in again.", login)
}

func (s *Server) confirmDeleteUserPage(v *visit) error {
	u, err := s.user(v.ctx(), v.path("login"))
	if err != nil {
		return err
	}
	path := within("users", u.Login)
	consequence := "Tokens, keys and role go with it, and open sessions are ended. Past sessions, recordings and the audit log stay."
	if u.Source != store.Local {
		consequence += " A person of the directory comes back at their next login."
	}
	return v.confirm("users", "Delete a user", confirmation{
		Question: "Delete the user " + u.Login + "?", Consequence: consequence,
		Action: path + "/delete", Button: "Delete " + u.Login, Cancel: path,
	})
}

func (s *Server) deleteUserForm(v *visit) error {
	login := v.path("login")
	if err := s.deleteUser(v.ctx(), v.by, login); err != nil {
		return err
	}
	return v.done("/users", "User %s was deleted.", login)
}

// issuedToken is the dot of the page that shows a new token this once.
type issuedToken struct {
	Login, Path string
	Name        string
	QR          template.HTML
	Secret      string // in groups of four
	URI         string
	Digits      int
	Period      int
	Algorithm   string
}

// addTokenForm makes a token and shows it in the answer itself: the secret is in no address, no
// cookie and no second page.
func (s *Server) addTokenForm(v *visit) error {
	login := v.path("login")
	t, err := s.addToken(v.ctx(), v.by, login, NewToken{Name: v.typed("name")})
	if err != nil {
		return err
	}
	qr, err := otp.SVG(t.URI)
	if err != nil {
		return err
	}
	// The picture is drawn by package otp out of black squares; no text of the URI is in it.
	v.show("token", web.Page{Title: "New token", Section: "users", Data: issuedToken{
		Login: login, Path: within("users", login), Name: t.Token.Name, QR: template.HTML(qr), Secret: web.Groups(t.Secret.Base32()),
		URI: t.URI, Digits: t.Token.Digits, Period: t.Token.Period, Algorithm: t.Token.Algorithm,
	}})
	return nil
}

func (s *Server) confirmDeleteTokenPage(v *visit) error {
	u, t, err := s.token(v.ctx(), v.path("login"), v.path("id"))
	if err != nil {
		return err
	}
	path := within("users", u.Login)
	return v.confirm("users", "Delete a token", confirmation{
		Question:    fmt.Sprintf("Delete the token %s of %s?", audit.Escape(t.Name), u.Login),
		Consequence: "Its codes are refused from now on.",
		Action:      path + within("tokens", t.ID, "delete"), Button: "Delete the token", Cancel: path,
	})
}

func (s *Server) deleteTokenForm(v *visit) error {
	login := v.path("login")
	if err := s.deleteToken(v.ctx(), v.by, login, v.path("id")); err != nil {
		return err
	}
	return v.done(within("users", login), "The token was deleted.")
}

func (s *Server) addKeyForm(v *visit) error {
	login := v.path("login")
	k, err := s.addUserKey(v.ctx(), v.by, login, NewUserKey{Name: v.typed("name"), PublicKey: v.typed("key")})
	if err != nil {
		return err
	}
	return v.done(within("users", login), "The key %s was added; it stands for the password.", k.Fingerprint)
}

func (s *Server) confirmDeleteKeyPage(v *visit) error {
	u, err := s.user(v.ctx(), v.path("login"))
	if err != nil {
		return err
	}
	keys, err := s.cfg.Store.UserKeys.List(v.ctx(), u.ID)
	if err != nil {
		return err
	}
	path := within("users", u.Login)
	for _, k := range keys {
		if k.ID == v.path("id") {
			return v.confirm("users", "Delete a key", confirmation{
				Question: fmt.Sprintf("Delete the key %s of %s?", audit.Escape(k.Name), u.Login), Consequence: k.Fingerprint,
				Action: path + within("keys", k.ID, "delete"), Button: "Delete the key", Cancel: path,
			})
		}
	}
	return notFound("", "there is no such key any more")
}

func (s *Server) deleteKeyForm(v *visit) error {
	login := v.path("login")
	if err := s.deleteUserKey(v.ctx(), v.by, login, v.path("id")); err != nil {
		return err
	}
	return v.done(within("users", login), "The key was deleted.")
}

func (s *Server) revokeGrantForm(v *visit) error {
	login := v.r.PathValue("login")
	if id := v.r.PostFormValue("id"); id != "" {
		if err := s.revokeGrant(v.ctx(), v.by, login, id); err != nil {
			return err
		}
		return v.done(within("users", login), "That place is no longer trusted.")
	}
	n, err := s.revokeGrants(v.ctx(), v.by, login)
	if err != nil {
		return err
	}
	return v.done(within("users", login), "%s no longer trusted: a code is asked for at the next login.", web.Plural(n, "place is", "places are"))
}
