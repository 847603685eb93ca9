package portal

import (
	"sallyport/audit"
	"sallyport/internal/web"
	"sallyport/signin"
	"sallyport/store"
)

// shownPlaces bounds the list of addresses.
const shownPlaces = 50

type placesData struct {
	Grants []store.Grant
	Places []store.Place
}

func (s *Server) placesPage(v *visit) error {
	var d placesData
	var err error
	if d.Grants, err = s.cfg.Store.Grants.List(v.ctx(), v.me.ID); err != nil {
		return err
	}
	if d.Places, err = s.cfg.Store.Places.List(v.ctx(), v.me.ID); err != nil {
		return err
	}
	d.Places = d.Places[:min(len(d.Places), shownPlaces)]
	return v.show("places", web.Page{Title: "Trusted places", Section: "places", Data: d})
}

// forgetForm ends one grant of the person's, or all of them if none is named.
func (s *Server) forgetForm(v *visit) error {
	const path = signin.OwnPages + "/places"
	id := v.r.PostFormValue("id")
	if id == "" {
		n, err := s.cfg.Engine.Forget(v.ctx(), v.identity())
		if err != nil {
			return err
		}
		return v.done(path, "%s forgotten: a code is asked for in the next connection.", web.Plural(n, "place was", "places were"))
	}
	if err := s.cfg.Store.Grants.Revoke(v.ctx(), v.me.ID, id); err != nil {
		return err
	}
	v.emit(audit.Event{Type: audit.GrantsRevoked, Reason: "by the person", Detail: map[string]string{"id": id, "grants": "1"}})
	return v.done(path, "That place was forgotten: a code is asked for there again.")
}
