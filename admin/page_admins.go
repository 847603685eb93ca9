package admin

import (
	"sallyport/internal/web"
	"sallyport/store"
)

// adminsData is the dot of the list of administrators.
type adminsData struct {
	Rows    []store.Admin
	Self    string   // id of whoever looks
	Logins  []string // people who may be chosen
	OnlyOne bool     // there is one administrator
}

func (s *Server) adminsPage(v *visit) error {
	admins, err := s.cfg.Store.Admins.List(v.ctx())
	if err != nil {
		return err
	}
	d := adminsData{Rows: admins, Self: v.by.UserID}
	has := map[string]bool{}
	count := 0
	for _, a := range admins {
		has[a.UserID] = true
		if a.Role == store.RoleAdmin {
			count++
		}
	}
	d.OnlyOne = count == 1
	if v.canWrite() {
		users, err := s.cfg.Store.Users.List(v.ctx(), store.UserFilter{Limit: userRows})
		if err != nil {
			return err
		}
		for _, u := range users {
			if !has[u.ID] {
				d.Logins = append(d.Logins, u.Login)
			}
		}
	}
	v.show("admins", web.Page{Title: "Administrators", Section: "admins", Data: d})
	return nil
}

func (s *Server) setRoleForm(v *visit) error {
	a, err := s.setRole(v.ctx(), v.by, v.typed("login"), Role(v.typed("role")))
	if err != nil {
		return err
	}
	if a.Role == store.RoleAdmin {
		return v.done("/administrators", "%s is an administrator now.", a.Login)
	}
	return v.done("/administrators", "%s is an auditor now.", a.Login)
}

func (s *Server) confirmRemoveRolePage(v *visit) error {
	u, err := s.user(v.ctx(), v.path("login"))
	if err != nil {
		return err
	}
	return v.confirm("admins", "Take a role away", confirmation{
		Question:    "Take the role away from " + u.Login + "?",
		Consequence: "Their open pages are signed out at once. The user stays, and so does what the rules let them do.",
		Action:      within("administrators", u.Login, "remove"), Button: "Take the role away", Cancel: "/administrators",
	})
}

func (s *Server) removeRoleForm(v *visit) error {
	login := v.path("login")
	if err := s.removeRole(v.ctx(), v.by, login); err != nil {
		return err
	}
	if login == v.by.Actor {
		return v.redirect("/signin?out=1")
	}
	return v.done("/administrators", "%s has no role any more.", login)
}
