package admin

import (
	"sallyport/internal/web"
)

// issuedLink is the dot of the page that shows a link this once.
type issuedLink struct {
	Login, Path, URL string
	Expires          string
}

func (s *Server) enrolLinkForm(v *visit) error {
	login := v.path("login")
	if v.pressed("send") {
		out, err := s.sendEnrolments(v.ctx(), v.by, SendEnrolments{Logins: []string{login}})
		if err != nil {
			return err
		}
		if len(out) != 1 || !out[0].Sent {
			return conflict("", "%s", out[0].Reason)
		}
		return v.done(within("users", login), "A link to set up a token is on its way by mail.")
	}
	url, expires, err := s.enrolLink(v.ctx(), v.by, login, v.pressed("reset"))
	if err != nil {
		return err
	}
	v.show("enrol_link", web.Page{Title: "Link for " + login, Section: "users", Data: issuedLink{
		Login: login, Path: within("users", login), URL: url, Expires: expires.UTC().Format("2006-01-02 15:04") + " UTC",
	}})
	return nil
}

func (s *Server) approveTokenForm(v *visit) error {
	t, err := s.approveToken(v.ctx(), v.by, v.path("login"), v.path("id"))
	if err != nil {
		return err
	}
	return v.tokenChanged(t, "The token is approved.")
}

// waitingView is a token that waits, as the overview shows it.
type waitingView struct{ User, Name, Path string }

func (s *Server) viewWaiting(list []WaitingToken) []waitingView {
	var out []waitingView
	for _, w := range list {
		out = append(out, waitingView{w.User, w.Token.Name, within("users", w.User, "tokens", w.Token.ID)})
	}
	return out
}
