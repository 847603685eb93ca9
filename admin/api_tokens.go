package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/store"
)

type (
	byToken struct {
		Login string `path:"login" maxLength:"64"`
		Token string `path:"id" maxLength:"100" doc:"id, name or serial"`
	}
	byTokenWith[T any] struct {
		Login string `path:"login" maxLength:"64"`
		Token string `path:"id" maxLength:"100" doc:"id, name or serial"`
		Body  T
	}
)

func (s *Server) tokenRoutes(api huma.API) {
	one := func(t store.Token, err error) (*body[Token], error) {
		if err != nil {
			return nil, err
		}
		return answer(s.wireToken(t)), nil
	}
	register(s, api, route(needAuditor, http.MethodGet, "/users/{login}/tokens", "token-list", "List a user's tokens"),
		func(ctx context.Context, _ Caller, in *byLogin) (*body[[]Token], error) {
			tokens, err := s.tokens(ctx, in.Login)
			if err != nil {
				return nil, err
			}
			return answer(list(tokens, s.wireToken)), nil
		})
	register(s, api, route(needAdmin, http.MethodPost, "/users/{login}/tokens", "token-add", "Give a user a token; the secret is shown this once"),
		func(ctx context.Context, by Caller, in *byLoginWith[NewToken]) (*body[IssuedToken], error) {
			t, err := s.addToken(ctx, by, in.Login, in.Body)
			if err != nil {
				return nil, err
			}
			return answer(IssuedToken{Token: s.wireToken(t.Token), Secret: t.Secret.Base32(), URI: t.URI}), nil
		})
	register(s, api, route(needAuditor, http.MethodGet, "/users/{login}/tokens/{id}", "token-show", "Show a token with its drift and last uses"),
		func(ctx context.Context, _ Caller, in *byToken) (*body[TokenDetail], error) {
			d, err := s.tokenDetail(ctx, in.Login, in.Token)
			if err != nil {
				return nil, err
			}
			return answer(d), nil
		})
	register(s, api, route(needAdmin, http.MethodPut, "/users/{login}/tokens/{id}/name", "token-rename", "Rename a token"),
		func(ctx context.Context, by Caller, in *byTokenWith[NewTokenName]) (*body[Token], error) {
			return one(s.renameToken(ctx, by, in.Login, in.Token, in.Body.Name))
		})
	register(s, api, route(needAdmin, http.MethodPut, "/users/{login}/tokens/{id}/state", "token-state", "Enable or disable a token, or mark it as lost"),
		func(ctx context.Context, by Caller, in *byTokenWith[NewTokenState]) (*body[Token], error) {
			return one(s.setTokenState(ctx, by, in.Login, in.Token, in.Body.State))
		})
	register(s, api, route(needAdmin, http.MethodPost, "/users/{login}/tokens/{id}/resync", "token-resync", "Find out where a token is, by two codes in a row"),
		func(ctx context.Context, by Caller, in *byTokenWith[TokenCodes]) (*body[Token], error) {
			return one(s.resyncToken(ctx, by, in.Login, in.Token, in.Body.First, in.Body.Second))
		})
	register(s, api, route(needAdmin, http.MethodDelete, "/users/{login}/tokens/{id}", "token-delete", "Take a token from a user"),
		func(ctx context.Context, by Caller, in *byToken) (*nothing, error) {
			return &nothing{}, s.deleteToken(ctx, by, in.Login, in.Token)
		})
	s.spareCodeRoutes(api)
	s.enrolRoutes(api)
}

func (s *Server) spareCodeRoutes(api huma.API) {
	register(s, api, route(needAuditor, http.MethodGet, "/users/{login}/recovery-codes", "recovery-codes-count", "Count a user's unused recovery codes"),
		func(ctx context.Context, _ Caller, in *byLogin) (*body[RecoveryCodes], error) {
			n, err := s.recoveryCodesLeft(ctx, in.Login)
			if err != nil {
				return nil, err
			}
			return answer(RecoveryCodes{n}), nil
		})
	register(s, api, route(needAdmin, http.MethodPost, "/users/{login}/recovery-codes", "recovery-codes-new", "Give a user ten new recovery codes in the place of any before; they are shown this once"),
		func(ctx context.Context, by Caller, in *byLogin) (*body[IssuedRecoveryCodes], error) {
			codes, err := s.newRecoveryCodes(ctx, by, in.Login)
			if err != nil {
				return nil, err
			}
			return answer(IssuedRecoveryCodes{codes}), nil
		})
	register(s, api, route(needAdmin, http.MethodDelete, "/users/{login}/recovery-codes", "recovery-codes-remove", "Make all recovery codes of a user worthless"),
		func(ctx context.Context, by Caller, in *byLogin) (*nothing, error) {
			return &nothing{}, s.removeRecoveryCodes(ctx, by, in.Login)
		})
	register(s, api, route(needAuditor, http.MethodGet, "/users/{login}/bypass-codes", "bypass-code-list", "List the unused bypass codes of a user"),
		func(ctx context.Context, _ Caller, in *byLogin) (*body[[]BypassCode], error) {
			codes, err := s.bypassCodes(ctx, in.Login)
			if err != nil {
				return nil, err
			}
			return answer(list(codes, wireBypass)), nil
		})
	register(s, api, route(needAdmin, http.MethodPost, "/users/{login}/bypass-codes", "bypass-code-new", "Give a user a code that stands for one code of a token; it is shown this once"),
		func(ctx context.Context, by Caller, in *byLoginWith[NewBypassCode]) (*body[IssuedBypassCode], error) {
			code, expires, err := s.newBypassCode(ctx, by, in.Login, in.Body.Reason, time.Duration(in.Body.Life)*time.Second)
			if err != nil {
				return nil, err
			}
			return answer(IssuedBypassCode{Code: code, Expires: timeOf(expires)}), nil
		})
	register(s, api, route(needAdmin, http.MethodDelete, "/users/{login}/bypass-codes", "bypass-code-remove", "Make all bypass codes of a user worthless"),
		func(ctx context.Context, by Caller, in *byLogin) (*nothing, error) {
			return &nothing{}, s.removeBypassCodes(ctx, by, in.Login)
		})
}

func wireBypass(c store.SpareCode) BypassCode {
	return BypassCode{ID: c.ID, Reason: c.Reason, Issuer: c.Issuer, Created: timeOf(c.Created), Expires: timeOf(c.Expires)}
}
