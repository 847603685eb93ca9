package admin

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/store"
)

// scopeKey is where an operation's metadata says which scope of an API key opens it; absent: none does.
const scopeKey = "scope"

// scoped makes an operation one that API keys of a scope may call too.
func scoped(op huma.Operation, scope string) huma.Operation {
	op.Metadata[scopeKey] = scope
	op.Security = []map[string][]string{{"token": {}}, {"key": {scope}}}
	op.Description = "For programs with an API key of the scope " + scope + ", and for administrators."
	return op
}

type (
	enrolmentAsk struct {
		Idempotency string `header:"Idempotency-Key" maxLength:"200" doc:"marks a request that is sent again because its answer was lost: the same answer comes again, for ten minutes, until the token is used"`
		Body        NewEnrolment
	}
	enrolmentAnswer struct {
		CacheControl string `header:"Cache-Control"`
		Body         IssuedEnrolment
	}
)

// programRoutes are what API keys are for, and the keys themselves.
func (s *Server) programRoutes(api huma.API) {
	create := scoped(route(needAdmin, http.MethodPost, "/enrolments", "enrolment-create", "Give a person their first token; the secret is shown this once"), store.ScopeEnrol)
	create.DefaultStatus = http.StatusCreated
	register(s, api, create, func(ctx context.Context, by Caller, in *enrolmentAsk) (*enrolmentAnswer, error) {
		made, err := s.enrolForProgram(ctx, by, in.Body, in.Idempotency)
		if err != nil {
			return nil, err
		}
		return &enrolmentAnswer{"no-store", made}, nil
	})
	register(s, api, scoped(route(needAdmin, http.MethodPost, "/validate", "validate", "Tell whether a code of a person is right, and use it up"), store.ScopeValidate),
		func(ctx context.Context, by Caller, in *with[ValidateCode]) (*body[CodeVerdict], error) {
			ok, err := s.validateCode(ctx, by, in.Body)
			if err != nil {
				return nil, err
			}
			return answer(CodeVerdict{ok}), nil
		})
	register(s, api, route(needAuditor, http.MethodGet, "/api-keys", "api-key-list", "List API keys"),
		func(ctx context.Context, _ Caller, _ *nothing) (*body[[]APIKey], error) {
			keys, err := s.cfg.Store.APIKeys.List(ctx)
			if err != nil {
				return nil, err
			}
			return answer(list(keys, wireAPIKey)), nil
		})
	register(s, api, route(needAdmin, http.MethodPost, "/api-keys", "api-key-add", "Make an API key; the secret is shown this once"),
		func(ctx context.Context, by Caller, in *with[NewAPIKey]) (*body[IssuedAPIKey], error) {
			k, secret, err := s.addAPIKey(ctx, by, in.Body)
			if err != nil {
				return nil, err
			}
			return answer(IssuedAPIKey{wireAPIKey(k), secret}), nil
		})
	register(s, api, route(needAdmin, http.MethodDelete, "/api-keys/{id}", "api-key-revoke", "Make an API key worthless"),
		func(ctx context.Context, by Caller, in *byID) (*nothing, error) {
			return &nothing{}, s.revokeAPIKey(ctx, by, in.ID)
		})
}

func wireAPIKey(k store.APIKey) APIKey {
	return APIKey{
		ID: k.ID, Name: k.Name, Scopes: append([]string{}, k.Scopes...), Sources: append([]string{}, k.Sources...), AssertsSource: k.AssertsSource,
		PerMinute: k.PerMinute, Created: timeOf(k.Created), LastUsed: timeOf(k.LastUsed), LastSource: k.LastSource, Expires: timeOf(k.Expires),
	}
}
