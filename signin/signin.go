// Package signin signs people in to the web, and keeps their web sessions.
//
// A sign-in is one form with login, password and code. It runs a conversation of package auth like
// every other door, and gives a web session to anybody. The operators' pages demand a role among the
// administrators besides; whoever has none comes to their own pages.
// The id of a web session is made anew at sign-in, lives in a cookie that no other site can use
// (SameSite=Strict, HttpOnly, Secure under TLS) and ends after a time without activity or at a fixed
// age. Role and lock are read again for every request, so that taking them away works at once.
//
// The first administrator comes by a one-time link (see [PurposeFirstAdmin]).
package signin

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/alexedwards/scs/v2"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/internal/auditlog"
	"sallyport/internal/web"
	"sallyport/store"
)

// PurposeFirstAdmin is the purpose of the ticket whose holder becomes administrator at
// /setup?ticket=SECRET.
const PurposeFirstAdmin = "first-admin"

// RefreshHeader marks a request that a page made by itself; it does not count as activity.
const RefreshHeader = "Sallyport-Refresh"

//go:embed templates/*.html
var templates embed.FS

// Config of a [Service]. The Config must not be modified after New.
type Config struct {
	Store  *store.Store
	Engine *auth.Engine
	Audit  *auditlog.Log
	Site   *web.Site

	Secure  bool           // the web is served by TLS
	Proxies []netip.Prefix // peers whose X-Forwarded-For is believed
	Idle    time.Duration  // a web session without activity ends after this; 0: 30 min
	Max     time.Duration  // a web session ends at this age; 0: 12 h
	Log     *slog.Logger   // nil: slog.Default()
	Now     func() time.Time
}

// User is whoever is signed in.
type User struct {
	UserID string
	Login  string
	Name   string
	Role   string // store.RoleAdmin, store.RoleAuditor, or "" for everybody else
}

// OwnPages is where people's own pages are, for which no role is asked.
const OwnPages = "/me"

// Service is the sign-in of one server. It is safe for concurrent use.
type Service struct {
	cfg   Config
	sm    *scs.SessionManager
	pages *web.Templates
}

// New returns a Service.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Engine == nil || cfg.Audit == nil || cfg.Site == nil {
		return nil, errors.New("signin: Config needs Store, Engine, Audit and Site")
	}
	if cfg.Idle == 0 {
		cfg.Idle = 30 * time.Minute
	}
	if cfg.Max == 0 {
		cfg.Max = 12 * time.Hour
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Service{cfg: cfg}
	own, err := fs.Sub(templates, "templates")
	if err != nil {
		return nil, fmt.Errorf("opening embedded templates: %w", err)
	}
	if s.pages, err = cfg.Site.Templates(own); err != nil {
		return nil, err
	}
	s.sm = scs.New()
	s.sm.Store = cfg.Store.WebSessions
	s.sm.Lifetime = cfg.Max
	s.sm.Cookie.Name = "sallyport"
	if cfg.Secure {
		// Browsers take a name with this prefix only from this very host and only over TLS.
		s.sm.Cookie.Name = "__Host-sallyport"
	}
	s.sm.Cookie.Secure = cfg.Secure
	s.sm.Cookie.SameSite = http.SameSiteStrictMode
	s.sm.Cookie.Persist = false
	s.sm.ErrorFunc = s.broken
	return s, nil
}

// Routes registers /signin, /signout and /setup.
func (s *Service) Routes(mux *http.ServeMux) {
	mux.HandleFunc("GET /signin", s.showForm)
	mux.HandleFunc("POST /signin", s.signIn)
	mux.HandleFunc("POST /signout", s.signOut)
	mux.HandleFunc("GET /setup", s.showSetup)
	mux.HandleFunc("POST /setup", s.setup)
}

// Wrap puts around all pages what they rely on: security headers, protection against forms of other
// sites, and the web session.
func (s *Service) Wrap(next http.Handler) http.Handler {
	remembered := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), memoKey{}, new(memo))))
	})
	withSession := s.sm.LoadAndSave(remembered)
	foreign := http.NewCrossOriginProtection()
	foreign.SetDenyHandler(http.HandlerFunc(s.foreign))
	return web.Headers(s.cfg.Secure, foreign.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/static/") {
			next.ServeHTTP(w, r) // nothing personal in there: the database is not asked
			return
		}
		withSession.ServeHTTP(w, r)
	})))
}

// Require is for operators' pages: it lets nobody in who has no role. Whoever is not signed in is sent to the
// sign-in, and afterwards back to the page asked for.
func (s *Service) Require(next func(http.ResponseWriter, *http.Request, User)) http.HandlerFunc {
	return s.RequireAnybody(func(w http.ResponseWriter, r *http.Request, u User) {
		switch {
		case u.Role != "":
			next(w, r, u)
		case r.Method == http.MethodGet && r.URL.Path == "/":
			http.Redirect(w, r, OwnPages, http.StatusSeeOther)
		default:
			s.emit(r, audit.Event{Type: audit.AccessDecided, Result: audit.Refused, User: u.Login, Reason: "no administrator"})
			s.pages.Render(w, r, http.StatusForbidden, "sorry", web.Page{Title: "For administrators", Data: sorry{
				"This page is for administrators.", "Your own pages are at " + OwnPages + ". An administrator can give you a role under Administrators.",
			}})
		}
	})
}

// RequireAnybody is [Service.Require] for pages that are for everybody who is signed in.
func (s *Service) RequireAnybody(next func(http.ResponseWriter, *http.Request, User)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		u, err := s.User(r)
		switch {
		case err == nil:
			next(w, r, u)
		case !errors.Is(err, ErrNobody):
			s.broken(w, r, err)
		case r.Method == http.MethodGet && r.Header.Get("Sec-Fetch-Site") == "cross-site":
			// The cookie is withheld when another site's link leads here. The page asks again
			// from our own site, and then the cookie comes along.
			s.pages.Render(w, r, http.StatusOK, "again", web.Page{Title: "One moment", Data: r.URL.RequestURI()})
		default:
			http.Redirect(w, r, signInPath(r), http.StatusSeeOther)
		}
	}
}

func signInPath(r *http.Request) string {
	path := "/signin"
	if r.Method == http.MethodGet && r.URL.RequestURI() != "/" {
		path += "?" + nextQuery(r.URL.RequestURI())
	}
	return path
}

// foreign answers a form that another site's page sent.
func (s *Service) foreign(w http.ResponseWriter, r *http.Request) {
	s.pages.Render(w, r, http.StatusForbidden, "sorry", web.Page{Title: "Refused", Data: sorry{
		"This request came from another site's page.",
		"Open Sallyport in the browser yourself and do it there. If you did: the proxy in front must pass the Host header on unchanged.",
	}})
}

// Unavailable answers when the database could not be asked.
func (s *Service) Unavailable(w http.ResponseWriter, r *http.Request, err error) { s.broken(w, r, err) }

// broken answers when the web session cannot be read or written.
func (s *Service) broken(w http.ResponseWriter, r *http.Request, err error) {
	s.cfg.Log.ErrorContext(r.Context(), "web session", "err", err)
	s.pages.Render(w, r, http.StatusServiceUnavailable, "sorry", web.Page{Title: "Not possible just now", Data: sorry{
		"Sallyport cannot reach its database.", "Sessions that are open go on. Try again in a minute; if it stays so, look at the server's log.",
	}})
}

// sorry is what the page of that name shows.
type sorry struct{ What, Next string }
