package admin

import (
	"context"
	"net/http"
	"net/netip"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/policy"
)

type explainQuery struct {
	User    string    `query:"user" required:"true" maxLength:"255"`
	Target  string    `query:"target" required:"true" maxLength:"255"`
	Account string    `query:"account" maxLength:"64"`
	From    string    `query:"from" maxLength:"64" doc:"address the person comes from"`
	Channel string    `query:"channel" maxLength:"32" doc:"channel word; absent: the whole connection"`
	To      string    `query:"to" maxLength:"300" doc:"destination of a forward, host:port"`
	At      time.Time `query:"at" doc:"absent: now"`
}

func (s *Server) ruleRoutes(api huma.API) {
	register(s, api, route(needAuditor, http.MethodGet, "/rules", "rules-show", "Show the rules in force"),
		func(ctx context.Context, _ Caller, _ *nothing) (*body[Rules], error) {
			r, err := s.cfg.Store.Rules.Current(ctx)
			if err != nil {
				return nil, err
			}
			return answer(wireRules(r)), nil
		})
	register(s, api, route(needAdmin, http.MethodPut, "/rules", "rules-put", "Put rules in force, or tell what that would change"),
		func(ctx context.Context, by Caller, in *with[NewRules]) (*body[RulesChange], error) {
			change, err := s.putRules(ctx, by, in.Body)
			if err != nil {
				return nil, err
			}
			return answer(change), nil
		})
	register(s, api, route(needAuditor, http.MethodGet, "/explain", "explain", "Tell what the rules decide, and why"),
		func(ctx context.Context, _ Caller, in *explainQuery) (*body[Explanation], error) {
			e, err := s.explain(ctx, *in)
			if err != nil {
				return nil, err
			}
			return answer(e), nil
		})
}

// explain asks the rules about anybody at any time.
func (s *Server) explain(ctx context.Context, q explainQuery) (Explanation, error) {
	login, err := checkLogin(q.User)
	if err != nil {
		return Explanation{}, err
	}
	if err := checkChannel(q.Channel); err != nil {
		return Explanation{}, err
	}
	if q.Channel == policy.RADIUS {
		_, err = s.radiusClient(ctx, q.Target)
	} else {
		_, err = s.target(ctx, q.Target)
	}
	if err != nil {
		return Explanation{}, err
	}
	r := auth.ExplainRequest{User: login, Target: q.Target, Account: q.Account, Channel: q.Channel, To: q.To, At: q.At}
	if q.From != "" {
		if r.Source, err = netip.ParseAddr(q.From); err != nil {
			return Explanation{}, invalid("write one address, such as 192.0.2.7 or 2001:db8::7", "%s is not an address", audit.Quote(q.From))
		}
	}
	d, err := s.cfg.Engine.Explain(ctx, r)
	if err := ifNotFound(err, seeUsers, "there is no user %s", login); err != nil {
		return Explanation{}, err
	}
	return wireDecision(login, d), nil
}
