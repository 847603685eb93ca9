package admin

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/audit"
	"sallyport/internal/web"
	"sallyport/store"
)

// apiKeyView is an API key as the page shows it.
type apiKeyView struct {
	store.APIKey
	Path    string
	Expired bool
}

// scopeChoice is what a key may be for, in words.
type scopeChoice struct {
	Scope, Text string
	Chosen      bool
}

// scopesInWords has one line for each of store.Scopes.
var scopesInWords = map[string]string{
	store.ScopeEnrol:    "give people their first token",
	store.ScopeAddUsers: "… and make them users first",
	store.ScopeValidate: "have codes validated",
	store.ScopeMetrics:  "read metrics, for Prometheus",
}

// newAPIKey is what was typed into the form of a new key.
type newAPIKey struct {
	Name, Sources, Days, PerMinute string
	Asserts                        bool
	Scopes                         []string
}

type apiKeysData struct {
	Rows   []apiKeyView
	Typed  newAPIKey
	Scopes []scopeChoice
}

func (s *Server) apiKeysData(v *visit, typed newAPIKey) (apiKeysData, error) {
	keys, err := s.cfg.Store.APIKeys.List(v.ctx())
	d := apiKeysData{Typed: typed}
	for _, k := range keys {
		d.Rows = append(d.Rows, apiKeyView{APIKey: k, Path: within("api-keys", k.ID), Expired: !k.Expires.IsZero() && !k.Expires.After(v.now())})
	}
	for _, scope := range store.Scopes {
		d.Scopes = append(d.Scopes, scopeChoice{scope, scopesInWords[scope], slices.Contains(typed.Scopes, scope)})
	}
	return d, err
}

func (s *Server) apiKeysPage(v *visit) error {
	d, err := s.apiKeysData(v, newAPIKey{Days: "90", PerMinute: "60"})
	if err != nil {
		return err
	}
	v.show("api_keys", web.Page{Title: "API keys", Section: "api-keys", Data: d})
	return nil
}

func (s *Server) addAPIKeyForm(v *visit) error {
	typed := newAPIKey{
		Name: v.typed("name"), Sources: v.typed("sources"), Days: v.typed("days"), PerMinute: v.typed("per_minute"), Asserts: v.typed("asserts") != "",
		Scopes: v.r.PostForm["scope"],
	}
	k, secret, err := s.makeAPIKey(v, typed)
	if err != nil {
		d, listing := s.apiKeysData(v, typed)
		if listing != nil {
			return listing
		}
		v.again(err, "api_keys", web.Page{Title: "API keys", Section: "api-keys", Data: d})
		return nil
	}
	v.showSecret("api-keys", issuedSecret{
		Title: "New API key", Name: k.Name, Secret: secret, Path: "/api-keys",
		Text: "The program sends it in the header Authorization, after the word Bearer. It opens: " + strings.Join(k.Scopes, ", ") + ".",
	})
	return nil
}

// makeAPIKey makes a key once all that was typed is right and the administrator has proved that it is them.
func (s *Server) makeAPIKey(v *visit, typed newAPIKey) (store.APIKey, string, error) {
	n := NewAPIKey{Name: typed.Name, Scopes: typed.Scopes, Sources: listOf(typed.Sources), AssertsSource: typed.Asserts}
	expires, err := s.inDays(typed.Days)
	if err != nil {
		return store.APIKey{}, "", err
	}
	n.Expires = expires
	if n.PerMinute, err = strconv.Atoi(typed.PerMinute); err != nil || n.PerMinute < 1 || n.PerMinute > 6000 {
		return store.APIKey{}, "", invalid("write a number from 1 to 6000", "the calls a minute are not a number")
	}
	if _, err := s.checkAPIKey(n); err != nil {
		return store.APIKey{}, "", err
	}
	if err := v.prove("api-key.add"); err != nil {
		return store.APIKey{}, "", err
	}
	return s.addAPIKey(v.ctx(), v.by, n)
}

// apiKey finds a key by the address of the page.
func (s *Server) apiKey(v *visit) (store.APIKey, error) {
	keys, err := s.cfg.Store.APIKeys.List(v.ctx())
	if err != nil {
		return store.APIKey{}, err
	}
	for _, k := range keys {
		if k.ID == v.path("id") {
			return k, nil
		}
	}
	return store.APIKey{}, notFound("", "there is no such API key any more")
}

func (s *Server) confirmRevokeAPIKeyPage(v *visit) error {
	k, err := s.apiKey(v)
	if err != nil {
		return err
	}
	used := "It was never used."
	if !k.LastUsed.IsZero() {
		used = "It was used last at " + k.LastUsed.UTC().Format(time.DateTime) + " UTC, from " + k.LastSource + "."
	}
	return v.confirm("api-keys", "Revoke an API key", confirmation{
		Question: "Revoke the API key " + audit.Escape(k.Name) + " (" + strings.Join(k.Scopes, ", ") + ")?", Consequence: "It opens nothing any more, from the next call on. " + used,
		Action: within("api-keys", k.ID, "revoke"), Button: "Revoke the key", Cancel: "/api-keys",
	})
}

func (s *Server) revokeAPIKeyForm(v *visit) error {
	err := s.revokeAPIKey(v.ctx(), v.by, v.path("id"))
	var p *Problem
	if errors.As(err, &p) {
		return notFound("", "there is no such API key any more")
	}
	if err != nil {
		return err
	}
	return v.done("/api-keys", "The API key was revoked.")
}
