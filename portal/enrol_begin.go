package portal

import (
	"errors"
	"net/http"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/identity"
	"sallyport/internal/web"
)

func (l *link) beginPage(status int, login, wrong string) {
	l.render(status, "enrol_begin", "Set up your one-time codes", enrolData{Login: login, Wrong: wrong})
}

// beginEnrolForm is enrolment at login for people who come by neither SSH nor a link: the password of somebody without a
// token makes a link, which is this browser's.
func (s *Server) beginEnrolForm(w http.ResponseWriter, r *http.Request) {
	l := s.link(w, r)
	login := r.PostFormValue("login")
	a := auth.Attempt{Door: audit.DoorWeb, Login: login, Source: web.Source(r, s.cfg.Proxies), Client: client(r)}
	id, err := s.cfg.Engine.ProveTokenless(l.ctx(), a, identity.Password(r.PostFormValue("password")))
	switch {
	case errors.Is(err, auth.ErrUnavailable):
		l.refuse(err)
		return
	case err != nil:
		l.beginPage(http.StatusForbidden, login, "That did not work. Check login and password; after several wrong ones nothing is looked at for a while. "+
			"Whoever has a token, even one that is lost, needs a link from an operator.")
		return
	}
	u, err := s.cfg.Store.Users.ByID(l.ctx(), id.UserID)
	if err == nil {
		l.ticket, _, err = s.cfg.Engine.NewEnrolLink(l.ctx(), u)
	}
	if err == nil {
		_, err = l.take()
	}
	if err != nil {
		l.refuse(err)
		return
	}
	l.emit(u.Login, audit.OK, "")
	l.begin(u)
}
