package admin

import (
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/hashicorp/golang-lru/v2/expirable"
	"golang.org/x/time/rate"

	"sallyport/audit"
	"sallyport/internal/web"
	"sallyport/store"
)

// Role is what a caller may do. The zero value may do nothing.
type Role string

// Roles.
const (
	RoleAdmin   Role = store.RoleAdmin   // everything
	RoleAuditor Role = store.RoleAuditor // reads, replays and exports; changes nothing
)

// need is what a route asks of its caller. The zero value asks most.
type need int

const (
	needAdmin need = iota
	needAuditor
	needNobody // open to everybody, signed in or not
)

func (n need) allows(r Role) bool {
	switch n {
	case needNobody:
		return true
	case needAuditor:
		return r == RoleAuditor || r == RoleAdmin
	}
	return r == RoleAdmin
}

// Caller is who asks, as the audit log will name them.
type Caller struct {
	Actor  string // login of a person, "api-token NAME", "api-key NAME", or "console"
	UserID string // "" unless a person
	Role   Role
	Key    *store.APIKey // of a program that may call what its scopes name, and has no role; nil: anybody else
	Door   string        // audit.DoorWeb, audit.DoorAPI or audit.DoorConsole
	Source netip.Addr    // invalid on the unix socket
}

// source is for the audit log: empty on the unix socket.
func (c Caller) source() string {
	if !c.Source.IsValid() {
		return ""
	}
	return c.Source.String()
}

// console is whoever may open the unix socket.
var console = Caller{Actor: "console", Role: RoleAdmin, Door: audit.DoorConsole}

// errNoCaller: nobody is signed in and no token was shown.
var errNoCaller = &Problem{
	Status: http.StatusUnauthorized, Detail: "nobody is signed in",
	Hint: "send an API token as 'Authorization: Bearer sp_…' (sallyport api-token add), or sign in at /",
}

var errBadToken = &Problem{
	Status: http.StatusUnauthorized, Detail: "this API token is not known, has expired or was deleted",
	Hint: "make a new one on the server: sallyport api-token add",
}

// webCaller finds out who sent a request to the web listener. A request with an Authorization header
// stands or falls by it; the web session is not tried.
func (s *Server) webCaller(r *http.Request) (Caller, error) {
	header, shown := r.Header["Authorization"]
	if !shown {
		return s.signedIn(r)
	}
	source := web.Source(r, s.cfg.Proxies)
	if wait := s.throttle.wait(source, s.cfg.Now()); wait > 0 {
		return Caller{}, tooManyTokens(wait)
	}
	scheme, secret, _ := strings.Cut(strings.Join(header, ","), " ")
	if !strings.EqualFold(scheme, "Bearer") || secret == "" {
		return Caller{}, errNoCaller
	}
	secret = strings.TrimSpace(secret)
	if strings.HasPrefix(secret, store.APIKeyPrefix) {
		return s.program(r.Context(), secret, source, r.URL.Path)
	}
	t, err := s.cfg.Store.APITokens.Check(r.Context(), secret)
	switch {
	case errors.Is(err, store.ErrNotFound):
		s.throttle.failed(source, s.cfg.Now())
		s.refusedToken(r, source)
		return Caller{}, errBadToken
	case err != nil:
		return Caller{}, err
	}
	return Caller{Actor: "api-token " + t.Name, Role: Role(t.Role), Door: audit.DoorAPI, Source: source}, nil
}

// refusedToken leaves an event; the throttle bounds how many one source can cause.
func (s *Server) refusedToken(r *http.Request, source netip.Addr) {
	s.emit(r.Context(), audit.Event{
		Type: audit.LoginRefused, Result: audit.Refused, Door: audit.DoorAPI, Source: source.String(),
		Reason: "unknown API token", Detail: map[string]string{"path": r.URL.Path},
	})
}

// callerKey is where the guard leaves the caller in the context of a request to the API.
type callerKey struct{}

// guard is the one place where roles are asked for, before anything else is read from a request.
func (s *Server) guard(api huma.API, callerOf func(*http.Request) (Caller, error)) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		needs, _ := ctx.Operation().Metadata[needKey].(need)
		if needs == needNobody {
			next(ctx)
			return
		}
		r, _ := humago.Unwrap(ctx)
		c, err := callerOf(r)
		switch {
		case err != nil:
		case c.Key != nil:
			scope, _ := ctx.Operation().Metadata[scopeKey].(string)
			err = c.may(scope)
		case !needs.allows(c.Role):
			err = forbidden(c)
		}
		if err != nil {
			s.writeProblem(api, ctx, err)
			return
		}
		next(huma.WithValue(ctx, callerKey{}, c))
	}
}

func forbidden(c Caller) error {
	return &Problem{
		Status: http.StatusForbidden, Detail: "the role " + string(c.Role) + " may read, replay and export, and change nothing",
		Hint: "ask an administrator",
	}
}

// Failures that one source may have, and how fast they are forgotten.
const (
	throttleBurst  = 10
	throttleRefill = 6 * time.Second
	throttleKept   = 4096 // sources
)

// throttle slows down those who try API tokens. Tokens hold 128 random bits and cannot be guessed;
// this keeps the trying from filling the log.
type throttle struct {
	failures *expirable.LRU[netip.Prefix, *rate.Limiter]
}

func newThrottle() *throttle {
	return &throttle{expirable.NewLRU[netip.Prefix, *rate.Limiter](throttleKept, nil, 2*throttleBurst*throttleRefill)}
}

// wait tells how long source must wait, 0 if it need not.
func (t *throttle) wait(source netip.Addr, now time.Time) time.Duration {
	l, ok := t.failures.Get(network(source))
	if !ok || l.TokensAt(now) >= 1 {
		return 0
	}
	return throttleRefill
}

func (t *throttle) failed(source netip.Addr, now time.Time) {
	key := network(source)
	l, ok := t.failures.Get(key)
	if !ok {
		l = rate.NewLimiter(rate.Every(throttleRefill), throttleBurst)
		t.failures.Add(key, l)
	}
	l.AllowN(now, 1)
}

// network is what a source is counted by: one host has a whole /64 of IPv6 addresses.
func network(source netip.Addr) netip.Prefix {
	bits := source.BitLen()
	if source.Is6() {
		bits = 64
	}
	p, err := source.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
