// Package portal is people's own pages: what they sign in with, from where, and what was done in their name;
// and the one-time link by which a person without a token enrols one.
//
// The pages are below [signin.OwnPages], on the same listener and in the same frame as the operators'. Nobody
// needs a role, and nobody sees or changes anything but their own: every id that a page is given is looked up
// among the things of whoever is signed in. What gives new ways in asks for a fresh code first. Every change
// leaves an audit event, from which the person gets a mail.
package portal

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"sallyport/auth"
	"sallyport/internal/auditlog"
	"sallyport/internal/web"
	"sallyport/session"
	"sallyport/signin"
	"sallyport/store"
)

//go:embed templates/*.html
var pageTemplates embed.FS

// Config of a [Server]. The Config must not be modified after New.
type Config struct {
	Store    *store.Store
	Engine   *auth.Engine
	Sessions *session.Manager
	Audit    *auditlog.Log
	Site     *web.Site
	SignIn   *signin.Service

	Secure  bool             // the web is served by TLS, here or by a proxy in front
	Proxies []netip.Prefix   // peers whose X-Forwarded-For is believed
	Log     *slog.Logger     // nil: slog.Default()
	Now     func() time.Time // nil: time.Now
}

// Server answers people. It is safe for concurrent use.
type Server struct {
	cfg   Config
	pages *web.Templates
}

// New returns a Server.
func New(cfg Config) (*Server, error) {
	if cfg.Store == nil || cfg.Engine == nil || cfg.Sessions == nil || cfg.Audit == nil || cfg.Site == nil || cfg.SignIn == nil {
		return nil, errors.New("portal: Config needs Store, Engine, Sessions, Audit, Site and SignIn")
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Server{cfg: cfg}
	templates, err := fs.Sub(pageTemplates, "templates")
	if err != nil {
		return nil, fmt.Errorf("opening embedded templates: %w", err)
	}
	if s.pages, err = cfg.Site.Templates(templates); err != nil {
		return nil, err
	}
	return s, nil
}

// sections of people's own pages.
var sections = []web.NavItem{
	{Key: "tokens", Title: "Tokens", Path: signin.OwnPages, Icon: "key"},
	{Key: "places", Title: "Trusted places", Path: signin.OwnPages + "/places", Icon: "lockouts"},
	{Key: "keys", Title: "Keys", Path: signin.OwnPages + "/keys", Icon: "robots"},
	{Key: "approvals", Title: "Approvals", Path: approvalsPath, Icon: "ok"},
	{Key: "activity", Title: "Activity", Path: signin.OwnPages + "/activity", Icon: "sessions"},
}

// operators leads people with a role back to the operators' pages.
var operators = web.NavItem{Key: "operators", Title: "Administration", Path: "/", Icon: "admins"}

// Routes registers the pages below [signin.OwnPages] and /enrol on mux; every other path goes to others. The
// handler that it returns carries all that pages need around them.
func (s *Server) Routes(mux *http.ServeMux) {
	own := http.NewServeMux()
	for pattern, serve := range map[string]func(*visit) error{
		"GET /me":                     s.tokensPage,
		"POST /me/tokens/new":         s.newTokenForm,
		"POST /me/tokens":             s.confirmTokenForm,
		"GET /me/tokens/{id}":         s.tokenPage,
		"POST /me/tokens/{id}/rename": s.renameTokenForm,
		"POST /me/tokens/{id}/resync": s.resyncTokenForm,
		"POST /me/tokens/{id}/lost":   s.lostTokenForm,
		"POST /me/tokens/{id}/remove": s.removeTokenForm,
		"POST /me/recovery-codes":     s.newRecoveryCodesForm,
		"GET /me/places":              s.placesPage,
		"POST /me/places/forget":      s.forgetForm,
		"GET /me/keys":                s.keysPage,
		"POST /me/keys":               s.addKeyForm,
		"GET /me/keys/{id}/remove":    s.confirmRemoveKeyPage,
		"POST /me/keys/{id}/remove":   s.removeKeyForm,
		"GET /me/approvals":           s.approvalsPage,
		"POST /me/approvals/{code}":   s.decideForm,
		"GET /me/activity":            s.activityPage,
		"POST /me/activity/end":       s.endWebSessionForm,
		"GET /me/not-me":              s.confirmAlarmPage,
		"POST /me/not-me":             s.alarmForm,
		"GET /me/{rest...}":           s.nothingHere,
		"POST /me/{rest...}":          s.nothingHere,
	} {
		own.HandleFunc(pattern, s.open(serve))
	}
	own.HandleFunc("GET /enrol", s.enrolPage)
	own.HandleFunc("POST /enrol", s.enrolPasswordForm)
	own.HandleFunc("POST /enrol/begin", s.beginEnrolForm)
	own.HandleFunc("POST /enrol/open", s.openEnrolForm)
	own.HandleFunc("POST /enrol/code", s.enrolCodeForm)
	wrapped := s.cfg.SignIn.Wrap(own)
	for _, path := range []string{signin.OwnPages, signin.OwnPages + "/", "/enrol", "/enrol/"} {
		mux.Handle(path, wrapped)
	}
}
