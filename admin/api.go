package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"sallyport/audit"
)

// apiPath is where the JSON API lives.
const apiPath = "/api/v1"

// maxBody bounds the body of a request in bytes.
const maxBody = 1 << 20

// maxDepth bounds how deeply JSON may be nested; our own types need four levels.
const maxDepth = 32

// needKey is where an operation's metadata says what it needs.
const needKey = "need"

// api adds the routes of the JSON API to mux. callerOf finds out who sent a request.
func (s *Server) api(mux *http.ServeMux, callerOf func(*http.Request) (Caller, error)) huma.API {
	api := humago.NewWithPrefix(mux, apiPath, s.apiConfig())
	api.UseMiddleware(s.guard(api, callerOf))
	s.serverRoutes(api)
	s.userRoutes(api)
	s.tokenRoutes(api)
	s.keyRoutes(api)
	s.robotRoutes(api)
	s.radiusRoutes(api)
	s.adminRoutes(api)
	s.targetRoutes(api)
	s.ruleRoutes(api)
	s.sessionRoutes(api)
	s.liveRoutes(api, callerOf)
	s.approvalRoutes(api)
	s.auditRoutes(api)
	s.searchRoutes(api)
	s.auditChainRoutes(api)
	s.messageRoutes(api)
	s.transferRoutes(api)
	s.programRoutes(api)
	for _, unused := range []string{"ErrorModel", "ErrorDetail"} { // huma's own errors; ours is Problem
		delete(api.OpenAPI().Components.Schemas.Map(), unused)
	}
	mux.HandleFunc(apiPath+"/", func(w http.ResponseWriter, r *http.Request) {
		s.sendProblem(w, r, notFound("the routes are in docs/openapi.json", "there is no such route"))
	})
	return api
}

func (s *Server) apiConfig() huma.Config {
	config := huma.DefaultConfig("Sallyport", "1")
	config.Info.Description = "What operators see and change. Lists are newest first; times are RFC 3339 in UTC, sizes bytes, durations seconds."
	config.Servers = []*huma.Server{{URL: apiPath}}
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token": {Type: "http", Scheme: "bearer", Description: "made by: sallyport api-token add"},
		"key":   {Type: "http", Scheme: "bearer", Description: "of a program, made by: sallyport api-key add; it opens what its scopes name"},
	}
	config.Security = []map[string][]string{{"token": {}}}
	// No pages of documentation: those that come with huma load scripts from elsewhere.
	config.DocsPath, config.OpenAPIPath, config.SchemasPath, config.CreateHooks = "", "", "", nil
	config.RejectUnknownQueryParameters = true
	format := huma.Format{Marshal: huma.DefaultJSONFormat.Marshal, Unmarshal: unmarshalStrictly}
	config.Formats = map[string]huma.Format{"application/json": format, "json": format}
	config.Transformers = []huma.Transformer{s.tidyProblem}
	return config
}

// OpenAPI returns the description of the JSON API, as kept in docs/openapi.json.
func (s *Server) OpenAPI() ([]byte, error) {
	api := s.api(http.NewServeMux(), func(*http.Request) (Caller, error) { return Caller{}, errNoCaller })
	text, err := json.MarshalIndent(api.OpenAPI(), "", "  ")
	if err != nil {
		return nil, fmt.Errorf("describing the API: %w", err)
	}
	return append(text, '\n'), nil
}

// route describes one operation. What it needs is part of the description, and asked for by the guard.
func route(needs need, method, path, id, summary string) huma.Operation {
	op := huma.Operation{
		OperationID: id, Method: method, Path: path, Summary: summary, MaxBodyBytes: maxBody,
		Metadata: map[string]any{needKey: needs},
	}
	switch needs {
	case needNobody:
		op.Security = []map[string][]string{}
		op.Description = "Open to everybody."
	case needAuditor:
		op.Description = "For administrators and auditors."
	default:
		op.Description = "For administrators."
	}
	if method == http.MethodDelete || method == http.MethodPost && strings.HasPrefix(summary, "End ") {
		op.DefaultStatus = http.StatusNoContent
	}
	return op
}

// register adds an operation whose handler gets the caller that the guard let through.
func register[I, O any](s *Server, api huma.API, op huma.Operation, handle func(context.Context, Caller, *I) (*O, error)) {
	if op.Responses == nil {
		op.Responses = map[string]*huma.Response{}
	}
	op.Responses["default"] = &huma.Response{
		Description: "Refused; detail says why, hint what to do.",
		Content: map[string]*huma.MediaType{"application/problem+json": {
			Schema: api.OpenAPI().Components.Schemas.Schema(problemType, true, "Problem"),
		}},
	}
	huma.Register(api, op, func(ctx context.Context, in *I) (*O, error) {
		c, _ := ctx.Value(callerKey{}).(Caller)
		out, err := handle(ctx, c, in)
		if err != nil {
			return nil, s.problemOf(ctx, err)
		}
		return out, nil
	})
}

// Bodies of answers.
type (
	body[T any] struct{ Body T }
	nothing     struct{}
)

func answer[T any](v T) *body[T] { return &body[T]{v} }

// tidyProblem gives every error of the API one shape.
func (s *Server) tidyProblem(_ huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	return unfit(m), nil
}

// writeProblem answers with a refusal before any handler ran.
func (s *Server) writeProblem(_ huma.API, ctx huma.Context, err error) {
	r, w := humago.Unwrap(ctx)
	s.sendProblem(w, r, err)
}

func (s *Server) sendProblem(w http.ResponseWriter, r *http.Request, err error) {
	p := s.problemOf(r.Context(), err)
	h := w.Header()
	h.Set("Content-Type", p.ContentType(""))
	h.Set("Cache-Control", "no-store")
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", "Bearer") // RFC 9110, section 11.6.1
	}
	if p.retry > 0 {
		h.Set("Retry-After", fmt.Sprint(int(p.retry.Seconds())))
	}
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the caller went away
}

// unmarshalStrictly is json.Unmarshal, except that a name that occurs twice in an object is an error,
// also in another case, and so is deep nesting: two readers of the same bytes must not differ.
func unmarshalStrictly(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	if err := checkValue(d, 0); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is more after the JSON value")
	}
	return json.Unmarshal(data, v)
}

func checkValue(d *json.Decoder, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("nested more than %d deep", maxDepth)
	}
	t, err := d.Token()
	if err != nil {
		return fmt.Errorf("reading JSON: %w", err)
	}
	delim, ok := t.(json.Delim)
	if !ok {
		return nil
	}
	seen := map[string]bool{}
	for d.More() {
		if delim == '{' {
			if err := checkName(d, seen); err != nil {
				return err
			}
		}
		if err := checkValue(d, depth+1); err != nil {
			return err
		}
	}
	_, err = d.Token() // the closing bracket
	return err
}

func checkName(d *json.Decoder, seen map[string]bool) error {
	t, err := d.Token()
	if err != nil {
		return fmt.Errorf("reading JSON: %w", err)
	}
	name, _ := t.(string)
	if folded := strings.ToLower(name); seen[folded] {
		return fmt.Errorf("the field %s is there twice", audit.Quote(name))
	} else {
		seen[folded] = true
	}
	return nil
}
