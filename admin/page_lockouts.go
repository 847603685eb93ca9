package admin

import (
	"time"

	"sallyport/audit"
	"sallyport/internal/web"
)

func (s *Server) lockoutsPage(v *visit) error {
	locks, err := s.lockouts(v.ctx())
	if err != nil {
		return err
	}
	v.show("lockouts", web.Page{Title: "Lockouts", Section: "lockouts", Refresh: true, Data: locks})
	return nil
}

func (s *Server) clearLockoutForm(v *visit) error {
	if err := s.clearLockout(v.ctx(), v.by, v.r.PostFormValue("id")); err != nil {
		return err
	}
	return v.done("/lockouts", "The lock was lifted, and the failures that led to it are forgotten.")
}

func (s *Server) addLockoutForm(v *visit) error {
	n := NewLockout{Source: v.r.PostFormValue("source"), User: v.r.PostFormValue("user"), Reason: v.r.PostFormValue("reason")}
	if text := v.r.PostFormValue("for"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil || d <= 0 {
			return invalid("choose one of the list", "%s is no time", audit.Quote(text))
		}
		until := s.cfg.Now().Add(d)
		n.Until = &until
	}
	if n.Reason == "" {
		return invalid("say why, for whoever finds the lock later", "the reason is missing")
	}
	if _, err := s.addLockout(v.ctx(), v.by, n); err != nil {
		return err
	}
	return v.done("/lockouts", "The address is locked.")
}
