package admin

import (
	"sallyport/internal/web"
	"sallyport/store"
)

// userCAView is an authority of people's certificates as the pages show it.
type userCAView struct {
	store.UserCA
	Path    string
	Revoked []store.Revocation
}

func (s *Server) userCAsPage(v *visit) error {
	cas, err := s.cfg.Store.UserCAs.List(v.ctx())
	if err != nil {
		return err
	}
	rows := make([]userCAView, 0, len(cas))
	for _, c := range cas {
		revoked, err := s.cfg.Store.UserCAs.Revocations(v.ctx(), c.ID)
		if err != nil {
			return err
		}
		rows = append(rows, userCAView{c, within("user-cas", c.Name), revoked})
	}
	v.show("user_cas", web.Page{Title: "Certificate authorities", Section: "users", Data: rows})
	return nil
}

func (s *Server) addUserCAForm(v *visit) error {
	c, err := s.addUserCA(v.ctx(), v.by, NewLoginCA{Name: v.typed("name"), PublicKey: v.typed("key")})
	if err != nil {
		return err
	}
	return v.done("/user-cas", "Certificates of %s stand for the password of the people they name.", c.Name)
}

func (s *Server) setUserCAForm(enabled bool) func(*visit) error {
	return func(v *visit) error {
		c, err := s.setUserCA(v.ctx(), v.by, v.path("name"), enabled)
		switch {
		case err != nil:
			return err
		case enabled:
			return v.done("/user-cas", "Certificates of %s count again.", c.Name)
		}
		return v.done("/user-cas", "Certificates of %s are refused from now on.", c.Name)
	}
}

func (s *Server) revokeCertificateForm(v *visit) error {
	c, err := s.revokeCertificate(v.ctx(), v.by, v.path("name"), NewRevocation{Serial: v.typed("serial"), KeyID: v.typed("key-id")})
	if err != nil {
		return err
	}
	return v.done("/user-cas", "Certificates of %s were revoked.", c.Name)
}

func (s *Server) confirmRemoveUserCAPage(v *visit) error {
	c, err := s.trustedCA(v.ctx(), v.path("name"))
	if err != nil {
		return err
	}
	return v.confirm("users", "Remove a certificate authority", confirmation{
		Question:    "Remove the certificate authority " + c.Name + "?",
		Consequence: "Its certificates are refused from now on, and what was revoked of it is forgotten. If it may come back, disable it instead.",
		Action:      within("user-cas", c.Name, "delete"), Button: "Remove " + c.Name, Cancel: "/user-cas",
	})
}

func (s *Server) removeUserCAForm(v *visit) error {
	if err := s.removeUserCA(v.ctx(), v.by, v.path("name")); err != nil {
		return err
	}
	return v.done("/user-cas", "The certificate authority was removed.")
}
