package web

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"strings"
	"time"
)

//go:embed templates/*.html
var layouts embed.FS

//go:embed static
var static embed.FS

// Config of a [Site].
type Config struct {
	Static  []fs.FS   // static files besides those every page needs
	Nav     []NavItem // sections of the site, shown to whoever is signed in
	Demo    bool      // every page says that this is a demonstration
	Secure  bool      // served by TLS: cookies are sent over TLS only
	Version string
	Log     *slog.Logger     // nil: slog.Default()
	Now     func() time.Time // nil: time.Now
}

// NavItem is one section of the site.
type NavItem struct {
	Key, Title, Path, Icon string
}

// Site is the frame around all pages of one server: layout, navigation, static files, theme. It is
// safe for concurrent use.
type Site struct {
	cfg    Config
	assets *Assets
	layout *template.Template
}

// NewSite returns a Site. The Config must not be modified afterwards.
func NewSite(cfg Config) (*Site, error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	own, err := fs.Sub(static, "static")
	if err != nil {
		return nil, fmt.Errorf("opening embedded files: %w", err)
	}
	s := &Site{cfg: cfg}
	if s.assets, err = NewAssets(append([]fs.FS{own}, cfg.Static...)...); err != nil {
		return nil, err
	}
	if s.layout, err = template.New("layout").Funcs(s.funcs()).ParseFS(layouts, "templates/*.html"); err != nil {
		return nil, fmt.Errorf("parsing layout: %w", err)
	}
	return s, nil
}

// Assets returns the static files.
func (s *Site) Assets() *Assets { return s.assets }

// Routes registers the static files and the choice of theme.
func (s *Site) Routes(mux *http.ServeMux) {
	mux.Handle("GET /static/", s.assets)
	mux.HandleFunc("POST /theme", s.setTheme)
}

// Account is whoever is signed in.
type Account struct {
	Login, Role string
	CanWrite    bool
	Nav         []NavItem // sections in the place of the site's; nil: the site's
}

// Notice is a message above the page: what was done, or why it was not.
type Notice struct {
	Kind string // "ok", "bad" or "info"
	Text string
	Next string // what to do about it; ""
}

// Page is what a handler gives to [Templates.Render].
type Page struct {
	Title   string
	Section string   // key of a NavItem
	Account *Account // nil: nobody is signed in
	Notice  *Notice
	Wide    bool // uses the whole width of the window
	Refresh bool // its live parts are read again every few seconds
	Data    any
}

// frame is the dot of the layout.
type frame struct {
	Page
	Nav     []NavItem
	Demo    bool
	Version string
	Theme   string // "", "light" or "dark"
	Here    string // path and query of this page
}

// Templates are the pages of one package.
type Templates struct {
	site  *Site
	pages map[string]*template.Template
}

// Templates parses every *.html of dir that does not begin with an underscore as a page, which
// defines "main"; the others hold parts that all these pages may use.
func (s *Site) Templates(dir fs.FS) (*Templates, error) {
	names, err := fs.Glob(dir, "*.html")
	if err != nil {
		return nil, fmt.Errorf("listing templates: %w", err)
	}
	base, err := s.layout.Clone()
	if err != nil {
		return nil, fmt.Errorf("copying layout: %w", err)
	}
	for _, name := range names {
		if strings.HasPrefix(name, "_") {
			if base, err = base.ParseFS(dir, name); err != nil {
				return nil, fmt.Errorf("parsing template %s: %w", name, err)
			}
		}
	}
	t := &Templates{site: s, pages: map[string]*template.Template{}}
	for _, name := range names {
		if strings.HasPrefix(name, "_") {
			continue
		}
		page, err := base.Clone()
		if err == nil {
			page, err = page.ParseFS(dir, name)
		}
		if err != nil {
			return nil, fmt.Errorf("parsing template %s: %w", name, err)
		}
		t.pages[strings.TrimSuffix(name, ".html")] = page
	}
	return t, nil
}

// Render writes the page called name with status. A page is written whole or not at all.
func (t *Templates) Render(w http.ResponseWriter, r *http.Request, status int, name string, p Page) {
	s := t.site
	f := frame{Page: p, Demo: s.cfg.Demo, Version: s.cfg.Version, Theme: theme(r), Here: "/"}
	if p.Account != nil {
		if f.Nav = s.cfg.Nav; p.Account.Nav != nil {
			f.Nav = p.Account.Nav
		}
	}
	if r.Method == http.MethodGet {
		f.Here = r.URL.RequestURI()
	}
	var buf bytes.Buffer
	page, ok := t.pages[name]
	err := fmt.Errorf("no template %q", name)
	if ok {
		err = page.ExecuteTemplate(&buf, "layout", f)
	}
	if err != nil {
		s.cfg.Log.ErrorContext(r.Context(), "rendering page", "page", name, "err", err)
		http.Error(w, "This page cannot be shown because of a mistake in the program. The log of the server has the details.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = buf.WriteTo(w) // the browser went away
	}
}

const themeCookie = "theme"

func theme(r *http.Request) string {
	c, err := r.Cookie(themeCookie)
	if err != nil || (c.Value != "light" && c.Value != "dark") {
		return ""
	}
	return c.Value
}

// setTheme keeps the choice light, dark or automatic in a cookie for a year.
func (s *Site) setTheme(w http.ResponseWriter, r *http.Request) {
	c := &http.Cookie{
		Name: themeCookie, Path: "/", Value: r.PostFormValue("theme"), MaxAge: 365 * 24 * 3600,
		HttpOnly: true, Secure: s.cfg.Secure, SameSite: http.SameSiteLaxMode,
	}
	if c.Value != "light" && c.Value != "dark" {
		c.Value, c.MaxAge = "", -1
	}
	http.SetCookie(w, c)
	http.Redirect(w, r, LocalPath(r.PostFormValue("next")), http.StatusSeeOther)
}
