package admin

import (
	"net/http"
	"net/netip"
	"slices"

	"sallyport/internal/web"
	"sallyport/store"
)

// metricsPath is where Prometheus looks by itself.
const metricsPath = "/metrics"

// metricsRoute has Prometheus answered. It may ask with an API key of a scope of its own; whoever may read the
// operators' pages may look, too.
func (s *Server) metricsRoute(mux *http.ServeMux, callerOf func(*http.Request) (Caller, error)) {
	if s.cfg.Metrics == nil {
		return
	}
	mux.HandleFunc("GET "+metricsPath, func(w http.ResponseWriter, r *http.Request) {
		c, err := callerOf(r)
		if err == nil && !needAuditor.allows(c.Role) {
			err = c.may(store.ScopeMetrics)
		}
		if err != nil {
			s.sendProblem(w, r, err)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		s.cfg.Metrics.ServeHTTP(w, r)
	})
}

// metricsCaller finds out who asks for metrics. Sources that the configuration lists are not asked for a key, so
// that they are answered while the database is away.
func (s *Server) metricsCaller(r *http.Request) (Caller, error) {
	source := web.Source(r, s.cfg.Proxies)
	if slices.ContainsFunc(s.cfg.MetricsFrom, func(p netip.Prefix) bool { return p.Contains(source) }) {
		return Caller{Actor: "metrics", Role: RoleAuditor, Source: source}, nil
	}
	return s.webCaller(r)
}
