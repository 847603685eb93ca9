package admin

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
)

func TestUnfitFields(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.addUser("dave")
	long := strings.Repeat("a", 70)
	for _, tc := range []struct{ method, path, body, want string }{
		{"POST", "/targets", `{"name":"` + long + `","address":"h"}`, `name: "` + long + `" has 70 characters; at most 63 are allowed`},
		{"POST", "/targets", `{"name":"` + strings.Repeat("é\u202e", 100) + `","address":"h"}`, `name: "` + strings.Repeat(`é\u{202e}`, 50) + `…" has 200 characters; at most 63 are allowed`},
		{"POST", "/targets", `{"name":"","address":"h"}`, `name: it is empty`},
		{"POST", "/targets", `{"address":"h"}`, `name: it is missing`},
		{"POST", "/targets", `{"name":7,"address":"h"}`, `name: it has to be a string, not a number`},
		{"POST", "/targets", `{"name":"x","address":"h","credential":"trust"}`, `credential: "trust" is not one of key, own-key, certificate, password, relayed`},
		{"POST", "/targets", `{"name":"x","address":"h","lockout":2000}`, `lockout: 2000 is more than 1000`},
		{"POST", "/targets", `{"name":"x","address":"h","lockout":"often"}`, `lockout: it has to be a whole number, not a string`},
		{"POST", "/targets", `{"name":"x","address":"h","password":"` + strings.Repeat("hunter2", 200) + `"}`, `password: it has 1400 characters; at most 1024 are allowed`},
		{"POST", "/targets", `{"name":"x","address":"h","passwrod":"hunter2"}`, `passwrod: there is no such field`},
		{"POST", "/targets", `{"name":"x","address":"h","accounts":["a",null]}`, `accounts[1]: it has to be a string, not null`},
		{"POST", "/targets", `[]`, `it has to be an object, not a list`},
		{"POST", "/targets", `{"name":"x","address":"h","labels":[]}`, `labels: it has to be an object, not a list`},
		{"POST", "/targets", `{"name":"` + long + `","address":""}`, `2 fields cannot be used as they are`},
		{"POST", "/api-keys", `{"name":"x","scopes":[]}`, `scopes: it is empty`},
		{"PUT", "/users/dave/lock", `{"until":"tomorrow"}`, `until: it is not a time; write it as 2026-01-31T15:04:05Z`},
		{"GET", "/sessions?limit=many", "", `limit: "many" is not a whole number`},
		{"GET", "/sessions?limit=0", "", `limit: 0 is less than 1`},
		{"GET", "/sessions?since=yesterday", "", `since: "yesterday" is not a time; write it as 2026-01-31T15:04:05Z`},
		{"GET", "/sessions?state=dead%1b", "", `state: "dead\u{1b}" is not one of live, ended, lost`},
		{"GET", "/sessions?stat=live", "", `stat: there is no such parameter`},
		{"GET", "/explain?user=dave", "", `target: it is missing`},
		{"GET", "/users/" + strings.Repeat("b", 300), "", `login: "` + strings.Repeat("b", 100) + `…" has 300 characters; at most 64 are allowed`},
	} {
		var body any
		if tc.body != "" {
			body = tc.body
		}
		if got := f.refused(422, tc.method, tc.path, body); got.Detail != tc.want {
			t.Errorf("%s %.40s %.60s:\n got %s\nwant %s", tc.method, tc.path, tc.body, got.Detail, tc.want)
		}
	}
}

// Whatever field of whatever route is unfit, the answer says so in words, and repeats nothing that may be a secret.
func TestEveryUnfitField(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	type schema struct {
		Ref        string            `json:"$ref"`
		Type       any               `json:"type"`
		MaxLength  int               `json:"maxLength"`
		Enum       []any             `json:"enum"`
		Maximum    float64           `json:"maximum"`
		MaxItems   int               `json:"maxItems"`
		Properties map[string]schema `json:"properties"`
	}
	var api struct {
		Paths map[string]map[string]struct {
			Parameters []struct {
				Name, In string
				Schema   schema
			}
			RequestBody struct {
				Content map[string]struct{ Schema schema }
			} `json:"requestBody"`
		}
		Components struct{ Schemas map[string]schema }
	}
	text, err := f.s.OpenAPI()
	noError(t, err)
	noError(t, json.Unmarshal(text, &api))
	const secret = "hunter2"
	wrong := func(s schema) any {
		switch {
		case s.MaxLength > 0 && s.MaxLength <= 100_000:
			return secret + strings.Repeat("x", s.MaxLength)
		case s.MaxItems > 0:
			return slices.Repeat([]any{true}, s.MaxItems+1)
		case len(s.Enum) > 0 && s.Type == "string":
			return secret
		case s.Maximum > 0:
			return s.Maximum + 1
		}
		return []any{true}
	}
	said := 0
	judge := func(method, path, field string, body any) {
		w := f.request(f.admin, strings.ToUpper(method), path, body)
		var p Problem
		if w.Code != 422 || json.Unmarshal(w.Body.Bytes(), &p) != nil || len(p.Errors) == 0 {
			return // what is wrong was seen by somebody else
		}
		for _, e := range p.Errors {
			said++
			if strings.Contains(e.Message, "expected") || strings.Contains(e.Message, "invalid") || len(e.Message) > 600 {
				t.Errorf("%s %.60s, %s: %s: %s", method, path, field, e.Location, e.Message)
			}
			if strings.Contains(e.Message, secret) && body != nil && !slices.Contains(repeated, field) {
				t.Errorf("%s %.60s repeats %s: %s", method, path, field, e.Message)
			}
		}
	}
	for path, methods := range api.Paths {
		for method, op := range methods {
			place := strings.NewReplacer("{login}", "dave", "{id}", "x", "{name}", "web1", "{token}", "x").Replace(path)
			for _, p := range op.Parameters {
				switch p.In {
				case "query":
					judge(method, place+"?"+url.Values{p.Name: {fmt.Sprint(wrong(p.Schema))}}.Encode(), p.Name, nil)
				case "path":
					judge(method, strings.ReplaceAll(path, "{"+p.Name+"}", fmt.Sprint(wrong(p.Schema))), p.Name, nil)
				}
			}
			s := op.RequestBody.Content["application/json"].Schema
			for field, s := range api.Components.Schemas[strings.TrimPrefix(s.Ref, "#/components/schemas/")].Properties {
				judge(method, place, field, map[string]any{field: wrong(s)})
			}
		}
	}
	if said < 300 {
		t.Errorf("the test has seen %d messages only", said)
	}
}
