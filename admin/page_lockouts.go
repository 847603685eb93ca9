package admin

import "sallyport/internal/web"

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
