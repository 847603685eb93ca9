package admin

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"strings"
	"time"

	"sallyport/audit"
	"sallyport/internal/web"
	"sallyport/signin"
	"sallyport/store"
)

//go:embed templates/*.html
var pageTemplates embed.FS

// The folder vendor holds third-party scripts once `make assets` has fetched them, and nothing but a
// README before; the pages work without.
//
//go:embed static
var pageStatic embed.FS

// webDoor is what the pages need beside the operations.
type webDoor struct {
	site   *web.Site
	signin *signin.Service
	pages  *web.Templates
	stats  statsCache
	player bool // the scripts of the player are part of this build
}

var sections = []web.NavItem{
	{Key: "overview", Title: "Overview", Path: "/", Icon: "overview"},
	{Key: "sessions", Title: "Sessions", Path: "/sessions", Icon: "sessions"},
	{Key: "search", Title: "Search", Path: "/search", Icon: "search"},
	{Key: "approvals", Title: "Approvals", Path: "/approvals", Icon: "ok"},
	{Key: "users", Title: "Users", Path: "/users", Icon: "users"},
	{Key: "robots", Title: "Robots", Path: "/robots", Icon: "robots"},
	{Key: "api-keys", Title: "API keys", Path: "/api-keys", Icon: "programs"},
	{Key: "radius", Title: "RADIUS", Path: "/radius", Icon: "gateways"},
	{Key: "targets", Title: "Targets", Path: "/targets", Icon: "targets"},
	{Key: "rules", Title: "Rules", Path: "/rules", Icon: "rules"},
	{Key: "lockouts", Title: "Lockouts", Path: "/lockouts", Icon: "lockouts"},
	{Key: "audit", Title: "Audit log", Path: "/audit", Icon: "audit"},
	{Key: "admins", Title: "Administrators", Path: "/administrators", Icon: "admins"},
	{Key: "me", Title: "Your own pages", Path: signin.OwnPages, Icon: "key"},
}

// openWeb prepares what the pages need.
func (s *Server) openWeb() error {
	static, err := fs.Sub(pageStatic, "static")
	if err != nil {
		return fmt.Errorf("opening embedded files: %w", err)
	}
	templates, err := fs.Sub(pageTemplates, "templates")
	if err != nil {
		return fmt.Errorf("opening embedded templates: %w", err)
	}
	site, err := web.NewSite(web.Config{
		Static: []fs.FS{static}, Nav: sections, Demo: s.cfg.Demo, Secure: s.cfg.Secure, Version: s.cfg.Version, Log: s.cfg.Log, Now: s.cfg.Now,
	})
	if err != nil {
		return err
	}
	pages, err := site.Templates(templates)
	if err != nil {
		return err
	}
	door, err := signin.New(signin.Config{
		Store: s.cfg.Store, Engine: s.cfg.Engine, Audit: s.cfg.Audit, Site: site,
		Secure: s.cfg.Secure, Proxies: s.cfg.Proxies, Log: s.cfg.Log, Now: s.cfg.Now,
	})
	if err != nil {
		return err
	}
	s.web.site, s.web.pages, s.web.signin = site, pages, door
	s.web.player = site.Assets().Has(playerScript) && site.Assets().Has(playerStyle)
	return nil
}

// Web returns the frame of the pages and the sign-in, for other pages on the same listener.
func (s *Server) Web() (*web.Site, *signin.Service) { return s.web.site, s.web.signin }

// signedIn finds out who sent a request by the web session that comes with it.
func (s *Server) signedIn(r *http.Request) (Caller, error) {
	u, err := s.web.signin.User(r)
	switch {
	case errors.Is(err, signin.ErrNobody), err == nil && u.Role == "":
		return Caller{}, errNoCaller // people without a role have pages of their own, and no API
	case err != nil:
		return Caller{}, err
	}
	return s.person(r, u), nil
}

func (s *Server) person(r *http.Request, u signin.User) Caller {
	return Caller{Actor: u.Login, UserID: u.UserID, Role: Role(u.Role), Door: audit.DoorWeb, Source: web.Source(r, s.cfg.Proxies)}
}

// page is one address of the pages and what it asks of whoever opens it.
type page struct {
	pattern string // of http.ServeMux
	needs   need
	serve   func(*visit) error
}

// pageList is every page there is. What changes something is a POST and needs an administrator.
func (s *Server) pageList() []page {
	return []page{
		{"GET /{$}", needAuditor, s.overviewPage},

		{"GET /sessions", needAuditor, s.sessionsPage},
		{"GET /sessions/{id}", needAuditor, s.sessionPage},
		{"GET /sessions/{id}/recordings/{file}", needAuditor, s.recordingFile},
		{"GET /sessions/{id}/channels/{channel}/replay.json", needAuditor, s.replayIndex},
		{"GET /sessions/{id}/channels/{channel}/replay/{segment}", needAuditor, s.replaySegment},
		{"GET /sessions/{id}/channels/{channel}/pauses.json", needAuditor, s.replayPauses},
		{"GET /sessions/{id}/live", needAuditor, s.watchPage},
		{"GET /sessions/{id}/files", needAuditor, s.filesPage},
		{"GET /sessions/{id}/files.csv", needAuditor, s.filesCSV},
		{"GET /sessions/{id}/end", needAdmin, s.confirmEndPage},
		{"POST /sessions/{id}/end", needAdmin, s.endSessionForm},
		{"GET /sessions/{id}/hold", needAdmin, s.confirmHoldPage},
		{"POST /sessions/{id}/hold", needAdmin, s.holdForm},
		{"GET /sessions/{id}/give-up", needAdmin, s.confirmGiveUpPage},
		{"POST /sessions/{id}/give-up", needAdmin, s.giveUpForm},
		{"GET /sessions/{id}/release", needAdmin, s.confirmReleasePage},
		{"POST /sessions/{id}/release", needAdmin, s.releaseForm},

		{"GET /search", needAuditor, s.searchPage},

		{"GET /approvals", needAuditor, s.approvalsPage},
		{"GET /approvals/{id}/refuse", needAdmin, s.confirmRefusePage},
		{"POST /approvals/{id}/refuse", needAdmin, s.refuseForm},

		{"GET /users", needAuditor, s.usersPage},
		{"POST /users", needAdmin, s.addUserForm},
		{"GET /users/new", needAdmin, s.newUserPage},
		{"GET /users/{login}", needAuditor, s.userPage},
		{"POST /users/{login}/groups", needAdmin, s.setGroupsForm},
		{"POST /users/{login}/password", needAdmin, s.setPasswordForm},
		{"POST /users/{login}/lock", needAdmin, s.lockUserForm},
		{"POST /users/{login}/unlock", needAdmin, s.unlockUserForm},
		{"POST /users/{login}/grants/revoke", needAdmin, s.revokeGrantForm},
		{"POST /users/{login}/tokens", needAdmin, s.addTokenForm},
		{"GET /users/{login}/tokens/{id}", needAuditor, s.tokenPage},
		{"POST /users/{login}/tokens/{id}/rename", needAdmin, s.renameTokenForm},
		{"POST /users/{login}/tokens/{id}/state", needAdmin, s.tokenStateForm},
		{"POST /users/{login}/tokens/{id}/resync", needAdmin, s.resyncTokenForm},
		{"POST /users/{login}/recovery-codes", needAdmin, s.newRecoveryCodesForm},
		{"POST /users/{login}/recovery-codes/remove", needAdmin, s.removeRecoveryCodesForm},
		{"POST /users/{login}/bypass-codes", needAdmin, s.newBypassCodeForm},
		{"POST /users/{login}/bypass-codes/remove", needAdmin, s.removeBypassCodesForm},
		{"GET /users/{login}/tokens/{id}/delete", needAdmin, s.confirmDeleteTokenPage},
		{"POST /users/{login}/tokens/{id}/delete", needAdmin, s.deleteTokenForm},
		{"POST /users/{login}/enrol-link", needAdmin, s.enrolLinkForm},
		{"POST /users/{login}/tokens/{id}/approve", needAdmin, s.approveTokenForm},
		{"POST /users/{login}/keys", needAdmin, s.addKeyForm},
		{"GET /users/{login}/keys/{id}/delete", needAdmin, s.confirmDeleteKeyPage},
		{"POST /users/{login}/keys/{id}/delete", needAdmin, s.deleteKeyForm},
		{"GET /users/{login}/delete", needAdmin, s.confirmDeleteUserPage},
		{"POST /users/{login}/delete", needAdmin, s.deleteUserForm},

		{"GET /import", needAdmin, s.importPage},
		{"POST /import/tokens", needAdmin, s.importForm(store.ImportTokens)},
		{"POST /import/users", needAdmin, s.importForm(store.ImportUsers)},
		{"POST /import/commit", needAdmin, s.commitImportForm},

		{"GET /user-cas", needAuditor, s.userCAsPage},
		{"POST /user-cas", needAdmin, s.addUserCAForm},
		{"POST /user-cas/{name}/disable", needAdmin, s.setUserCAForm(false)},
		{"POST /user-cas/{name}/enable", needAdmin, s.setUserCAForm(true)},
		{"POST /user-cas/{name}/revoke", needAdmin, s.revokeCertificateForm},
		{"GET /user-cas/{name}/delete", needAdmin, s.confirmRemoveUserCAPage},
		{"POST /user-cas/{name}/delete", needAdmin, s.removeUserCAForm},

		{"GET /robots", needAuditor, s.robotsPage},
		{"POST /robots", needAdmin, s.addRobotForm},
		{"GET /api-keys", needAuditor, s.apiKeysPage},
		{"POST /api-keys", needAdmin, s.addAPIKeyForm},
		{"GET /api-keys/{id}/revoke", needAdmin, s.confirmRevokeAPIKeyPage},
		{"POST /api-keys/{id}/revoke", needAdmin, s.revokeAPIKeyForm},
		{"GET /radius", needAuditor, s.radiusPage},
		{"POST /radius", needAdmin, s.addRadiusForm},
		{"GET /radius/new", needAdmin, s.newRadiusPage},
		{"GET /radius/{name}/edit", needAdmin, s.editRadiusPage},
		{"POST /radius/{name}/edit", needAdmin, s.changeRadiusForm},
		{"POST /radius/{name}/disable", needAdmin, s.setRadiusForm(false)},
		{"POST /radius/{name}/enable", needAdmin, s.setRadiusForm(true)},
		{"GET /radius/{name}/delete", needAdmin, s.confirmDeleteRadiusPage},
		{"POST /radius/{name}/delete", needAdmin, s.deleteRadiusForm},
		{"POST /robots/{name}/disable", needAdmin, s.setRobotForm(false)},
		{"POST /robots/{name}/enable", needAdmin, s.setRobotForm(true)},
		{"GET /robots/{name}/delete", needAdmin, s.confirmDeleteRobotPage},
		{"POST /robots/{name}/delete", needAdmin, s.deleteRobotForm},

		{"GET /bastion-keys", needAuditor, s.bastionKeysPage},
		{"GET /targets", needAuditor, s.targetsPage},
		{"POST /targets", needAdmin, s.addTargetForm},
		{"GET /targets/new", needAdmin, s.newTargetPage},
		{"GET /targets/{name}", needAuditor, s.targetPage},
		{"POST /targets/{name}/check", needAdmin, s.checkTargetForm},
		{"GET /targets/{name}/hostkeys/{id}", needAdmin, s.confirmHostKeyPage},
		{"POST /targets/{name}/hostkeys/{id}", needAdmin, s.hostKeyForm},
		{"GET /targets/{name}/delete", needAdmin, s.confirmDeleteTargetPage},
		{"POST /targets/{name}/delete", needAdmin, s.deleteTargetForm},

		{"GET /rules", needAuditor, s.rulesPage},
		{"POST /rules", needAdmin, s.putRulesForm},
		{"GET /rules/history", needAuditor, s.rulesHistoryPage},
		{"GET /rules/history/{version}", needAuditor, s.rulesVersionPage},
		{"GET /explain", needAuditor, s.explainPage},

		{"GET /lockouts", needAuditor, s.lockoutsPage},
		{"POST /lockouts/clear", needAdmin, s.clearLockoutForm},
		{"POST /lockouts/add", needAdmin, s.addLockoutForm},

		{"GET /audit", needAuditor, s.auditPage},
		{"GET /audit/verify", needAuditor, s.auditVerifyPage},

		{"GET /administrators", needAuditor, s.adminsPage},
		{"POST /administrators", needAdmin, s.setRoleForm},
		{"GET /administrators/{login}/remove", needAdmin, s.confirmRemoveRolePage},
		{"POST /administrators/{login}/remove", needAdmin, s.removeRoleForm},
	}
}

// pages registers the pages, the sign-in and the static files.
func (s *Server) pages(mux *http.ServeMux) {
	own := http.NewServeMux()
	s.web.site.Routes(own)
	s.web.signin.Routes(own)
	for _, p := range s.pageList() {
		own.HandleFunc(p.pattern, s.open(p))
	}
	own.HandleFunc("GET /", s.nothingHere)
	mux.Handle("/", s.web.signin.Wrap(own))
}

// open lets those in whom the page is for; it is the one place where pages ask for roles.
func (s *Server) open(p page) http.HandlerFunc {
	return s.web.signin.Require(func(w http.ResponseWriter, r *http.Request, u signin.User) {
		v := &visit{s: s, w: w, r: r, by: s.person(r, u)}
		err := forbidden(v.by)
		if p.needs.allows(v.by.Role) {
			if err = readForm(r); err == nil {
				err = p.serve(v)
			}
		}
		if err != nil {
			v.fail(err)
		}
	})
}

// readForm reads the form of a POST, and refuses one that is too large or broken: a form that was cut
// off must not be taken for what was meant.
func readForm(r *http.Request) error {
	err := r.ParseForm()
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return &Problem{Status: http.StatusRequestEntityTooLarge, Detail: fmt.Sprintf("this is more than %s", web.Size(large.Limit))}
	case err != nil:
		return &Problem{Status: http.StatusBadRequest, Detail: "the form could not be read"}
	}
	return nil
}

// nothingHere is for addresses that are no page. It is the same for everybody.
func (s *Server) nothingHere(w http.ResponseWriter, r *http.Request) {
	s.web.pages.Render(w, r, http.StatusNotFound, "problem", web.Page{
		Title: "Nothing here", Data: &Problem{Status: http.StatusNotFound, Detail: "There is no page at this address."},
	})
}

// visit is one request to a page by somebody who may see it.
type visit struct {
	s  *Server
	w  http.ResponseWriter
	r  *http.Request
	by Caller
}

func (v *visit) ctx() context.Context       { return v.r.Context() }
func (v *visit) path(name string) string    { return v.r.PathValue(name) }
func (v *visit) query(name string) string   { return strings.TrimSpace(v.r.URL.Query().Get(name)) }
func (v *visit) typed(name string) string   { return strings.TrimSpace(v.r.PostFormValue(name)) }
func (v *visit) pressed(action string) bool { return v.r.PostFormValue("action") == action }
func (v *visit) canWrite() bool             { return v.by.Role == RoleAdmin }
func (v *visit) now() time.Time             { return v.s.cfg.Now() }
func (v *visit) show(n string, p web.Page)  { v.render(http.StatusOK, n, p) }

// render writes a page in the frame of whoever is signed in.
func (v *visit) render(status int, name string, p web.Page) {
	p.Account = &web.Account{Login: v.by.Actor, Role: string(v.by.Role), CanWrite: v.canWrite()}
	if p.Notice == nil {
		p.Notice = v.s.web.signin.Told(v.r)
	}
	v.s.web.pages.Render(v.w, v.r, status, name, p)
}

// done tells what was done on the page it leads to.
func (v *visit) done(path, format string, args ...any) error {
	v.s.web.signin.Tell(v.r, web.Notice{Kind: "ok", Text: fmt.Sprintf(format, args...)})
	return v.redirect(path)
}

func (v *visit) redirect(path string) error {
	http.Redirect(v.w, v.r, path, http.StatusSeeOther)
	return nil
}

// fail shows why something was not done.
func (v *visit) fail(err error) {
	p := v.problem(err)
	v.render(p.Status, "problem", web.Page{Title: p.Title, Data: p})
}

// problem turns an error into what a person at a page may read. Hints that speak of commands are for
// the command line.
func (v *visit) problem(err error) *Problem {
	p := v.s.problemOf(v.ctx(), err)
	if strings.Contains(p.Hint, "sallyport ") || strings.Contains(p.Hint, "--") {
		p.Hint = ""
	}
	return p
}

// again shows a form once more with what was typed and why it was not taken.
func (v *visit) again(err error, name string, p web.Page) {
	why := v.problem(err)
	p.Notice = &web.Notice{Kind: "bad", Text: web.Sentence(why.Detail), Next: web.Sentence(why.Hint)}
	v.render(why.Status, name, p)
}

// confirmation is a page that asks before something is taken away; it needs no script.
type confirmation struct {
	Question, Consequence string
	Action                string // where the answer goes
	Button                string
	Cancel                string // where "no" leads
	Message               bool   // asks for a text that the person will read
	Reason                bool   // asks why, for the record
}

func (v *visit) confirm(section, title string, c confirmation) error {
	v.show("confirm", web.Page{Title: title, Section: section, Data: c})
	return nil
}

// within makes the address of something below a section.
func within(parts ...string) string {
	path := ""
	for _, p := range parts {
		path += "/" + url.PathEscape(p)
	}
	return path
}

// listOf splits what was typed as a list, by comma or line.
func listOf(typed string) []string {
	var list []string
	for _, item := range strings.FieldsFunc(typed, func(r rune) bool { return r == ',' || r == '\n' || r == '\r' }) {
		if item = strings.TrimSpace(item); item != "" {
			list = append(list, item)
		}
	}
	return list
}
