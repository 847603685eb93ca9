package admin

import (
	"errors"
	"net/http"

	"sallyport/auth"
	"sallyport/internal/web"
	"sallyport/store"
)

// issuedSecret is the dot of the page that shows a secret this once.
type issuedSecret struct {
	Title, Name string
	Secret      string
	Text        string // what is done with it
	Path        string // where it goes on
}

func (v *visit) showSecret(section string, d issuedSecret) {
	v.show("secret", web.Page{Title: d.Title, Section: section, Data: d})
}

// prove asks for the fresh code that a form must bring which gives a program a way in: that lasts longer than being
// signed in does. purpose is for the audit log.
func (v *visit) prove(purpose string) error {
	id := auth.Returning(store.User{ID: v.by.UserID, Login: v.by.Actor}, v.by.Door, v.by.Source)
	err := v.s.cfg.Engine.ProveCode(v.ctx(), id, v.typed("code"), purpose)
	var refused *auth.Refused
	if errors.As(err, &refused) && !errors.Is(err, auth.ErrUnavailable) {
		return &Problem{Status: http.StatusForbidden, Detail: refused.Public}
	}
	return err
}
