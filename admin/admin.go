// Package admin is the operators' door: pages for people at /, and a JSON API at /api/v1 for programs
// and for the command line, over the web listener or over a unix socket.
//
// Whoever comes through it is a [Caller] with a [Role]: an administrator may do everything, an auditor
// may read, replay and export. One guard asks for the role before any handler runs; a route that
// does not say what it needs is for administrators only. Each operation that changes something lives
// once (files ops_*.go), is used by pages and API alike, and leaves an audit event that names the
// caller.
package admin

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/hashicorp/golang-lru/v2/expirable"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/internal/auditlog"
	"sallyport/internal/notify"
	"sallyport/internal/web"
	"sallyport/recorder"
	"sallyport/replay"
	"sallyport/session"
	"sallyport/store"
	"sallyport/upstream"
)

// Config of a [Server]. The Config must not be modified after New.
type Config struct {
	Store    *store.Store
	Engine   *auth.Engine
	Sessions *session.Manager
	Dialer   *upstream.Dialer
	Recorder *recorder.Recorder
	Audit    *auditlog.Log

	Replays      *replay.Library                                   // of Recorder; nil: the Server makes one
	Heads        func(context.Context) ([]audit.Checkpoint, error) // of the audit chain, kept outside of the database; nil: there are none
	Chain        *auditlog.Chainer                                 // chains audit events on this node; nil: nobody does
	Addresses    []string                                          // the bastion's addresses as targets see them, for from="…" when onboarding
	SSHAddress   string                                            // host:port of the SSH door as people reach it
	Secure       bool                                              // the web is served by TLS, here or by a proxy in front
	Proxies      []netip.Prefix                                    // peers whose X-Forwarded-For is believed
	Numbers      notify.Numbers                                    // how telephone numbers are read
	Messages     bool                                              // this node sends mail or SMS
	Mail         bool                                              // mail is sent
	Name         string                                            // of the installation, in mail
	URL          string                                            // of the web as browsers know it, without a slash at its end, for links; "": there is none
	WithoutToken int                                               // logins without a code for people who never had a token
	Compat       Compat                                            // calls of other products that are answered
	Search       bool                                              // what was on the screens can be searched
	Demo         bool                                              // pages say that this is a demo
	Reserve      int64                                             // bytes that are kept free for open recordings; 0: none
	Quota        int64                                             // bytes of recordings from which on none is begun; 0: no bound
	Version      string
	Metrics      http.Handler   // answers Prometheus, at /metrics; nil: nobody does
	MetricsFrom  []netip.Prefix // sources that need no key for it
	Node         string
	Log          *slog.Logger     // nil: slog.Default()
	Now          func() time.Time // nil: time.Now
}

// Server answers operators. It is safe for concurrent use.
type Server struct {
	cfg      Config
	throttle *throttle
	web      webDoor
	replays  *replay.Library
	views    *expirable.LRU[string, struct{}] // recordings whose view by somebody is in the audit log
}

// New returns a Server.
func New(cfg Config) (*Server, error) {
	if cfg.Store == nil || cfg.Engine == nil || cfg.Sessions == nil || cfg.Dialer == nil || cfg.Recorder == nil || cfg.Audit == nil {
		return nil, errors.New("admin: Config needs Store, Engine, Sessions, Dialer, Recorder and Audit")
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Server{cfg: cfg, throttle: newThrottle(), replays: cfg.Replays, views: expirable.NewLRU[string, struct{}](viewsKept, nil, viewedFor)}
	if s.replays == nil {
		var err error
		if s.replays, err = replay.NewLibrary(cfg.Recorder, cfg.Log); err != nil {
			return nil, err
		}
	}
	if err := s.openWeb(); err != nil {
		return nil, err
	}
	return s, nil
}

// Handler serves pages at / and the JSON API at /api/v1. Callers show an API token or a web session.
func (s *Server) Handler() http.Handler {
	own := http.NewServeMux()
	s.api(own, s.webCaller)
	own.HandleFunc(livePath, s.liveSocket)
	mux := http.NewServeMux()
	// Pages of other sites must not make a signed-in browser do anything here.
	mux.Handle(apiPath+"/", web.Headers(s.cfg.Secure, http.NewCrossOriginProtection().Handler(own)))
	s.pages(mux)
	s.compat(mux)
	s.metricsRoute(mux, s.metricsCaller)
	return mux
}

// SocketHandler serves the JSON API to whoever may open the unix socket: the owner of the data folder,
// who could change the database anyway, is an administrator.
func (s *Server) SocketHandler() http.Handler {
	mux := http.NewServeMux()
	mayAll := func(*http.Request) (Caller, error) { return console, nil }
	s.api(mux, mayAll)
	s.metricsRoute(mux, mayAll)
	return mux
}
