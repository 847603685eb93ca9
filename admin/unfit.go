package admin

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/audit"
	"sallyport/internal/web"
)

// repeated are the fields of bodies of which an error may say what was typed. Of all others it says only what is wrong
// with it: it may be a secret.
var repeated = []string{
	"account", "accounts", "address", "algorithm", "channel", "credential", "digits", "email", "format", "group", "groups",
	"host_key_mode", "kind", "level", "life", "lock", "lockout", "login", "logins", "message_authenticator", "mode", "name",
	"networks", "per_minute", "period", "phone", "remember", "role", "scopes", "source", "source_attribute", "sources", "state",
	"target", "targets", "user", "users", "via", "window", "failures", "counter",
}

// unfit says of each field of a request what is wrong with it: what was given and what is allowed. The detail of a single
// one is the whole of it.
func unfit(m *huma.ErrorModel) *Problem {
	p := &Problem{Title: http.StatusText(m.Status), Status: m.Status, Detail: m.Detail, Hint: "the fields are described in docs/openapi.json"}
	for _, e := range m.Errors {
		p.Errors = append(p.Errors, unfitField(e))
		if hint := nameHintOf(e); hint != "" {
			p.Hint = hint
		}
	}
	switch n := len(p.Errors); {
	case n == 1:
		p.Detail = p.Errors[0].said()
	case n > 1:
		p.Detail = strconv.Itoa(n) + " fields cannot be used as they are"
	}
	return p
}

// nameHintOf is what the name may be that e is about; empty if it is about something else.
func nameHintOf(e *huma.ErrorDetail) string {
	switch place, field, _ := strings.Cut(e.Location, "."); {
	case field == "login":
		return loginHint
	case place == "path":
		return "list what there is"
	case field == "name" && e.Message == "expected length <= 63":
		return nameHint
	case field == "name":
		return "give one that tells it from others"
	case field == "source":
		return "give an address such as 203.0.113.7"
	}
	return ""
}

// said is the problem with the field in front, as a person knows it.
func (f ProblemField) said() string {
	name := f.Location
	if place, rest, ok := strings.Cut(name, "."); ok && slices.Contains([]string{"body", "path", "query", "header"}, place) {
		name = rest
	}
	if name == "" || name == "body" {
		return f.Message
	}
	return name + ": " + f.Message
}

// unfitField puts what huma says of a field into a sentence that says what was given, and what is allowed.
func unfitField(e *huma.ErrorDetail) ProblemField {
	f := ProblemField{Message: e.Message, Location: audit.Escape(e.Location)}
	it := "it"
	if mayRepeat(e.Location) {
		switch v := e.Value.(type) {
		case string:
			it = audit.Quote(v)
		case int, int64, float64, bool:
			it = fmt.Sprint(v)
		}
	}
	const oneOf = "expected value to be one of "
	switch text := e.Message; {
	case strings.HasPrefix(text, oneOf):
		f.Message = it + " is not one of " + strings.Trim(strings.TrimPrefix(text, oneOf), `"`)
	case text == "unexpected property":
		f.Message = "there is no such field"
	case text == "unknown query parameter":
		f.Message = "there is no such parameter"
	case strings.HasPrefix(text, "required ") && strings.HasSuffix(text, " is missing"):
		f.Message = "it is missing"
	case text == "expected string to be RFC 3339 date-time", strings.HasPrefix(text, "invalid date/time"):
		f.Message = it + " is not a time; write it as 2026-01-31T15:04:05Z"
	case text == "invalid integer":
		f.Message = it + " is not a whole number"
	case text == "invalid boolean":
		f.Message = it + " is neither true nor false"
	default:
		if rest, ok := strings.CutPrefix(text, "expected required property "); ok {
			name, _, _ := strings.Cut(rest, " ")
			f.Location, f.Message = f.Location+"."+name, "it is missing"
		} else if kind, ok := strings.CutPrefix(text, "expected "); ok && article[kind] != "" {
			f.Message = "it has to be " + article[kind] + ", not " + kindOf(e.Value)
		} else if said := outOfBounds(text, it, e.Value); said != "" {
			f.Message = said
		}
	}
	return f
}

// article are the kinds of JSON values as huma names them, in a sentence.
var article = map[string]string{
	"string": "a string", "number": "a number", "integer": "a whole number", "boolean": "true or false", "array": "a list", "object": "an object",
}

func kindOf(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		return "a string"
	case bool:
		return strconv.FormatBool(v)
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	}
	return "a number"
}

// outOfBounds says of a length or number what it is and what it may be. It is empty if text is about nothing of the kind.
func outOfBounds(text, it string, v any) string {
	var n int
	switch {
	case scan(text, "expected length <= %d", &n):
		return fmt.Sprintf("%s has %s; at most %d are allowed", it, characters(length(v)), n)
	case scan(text, "expected length >= %d", &n):
		if length(v) == 0 {
			return "it is empty"
		}
		return fmt.Sprintf("%s has %s; at least %d are needed", it, characters(length(v)), n)
	case scan(text, "expected array length <= %d", &n):
		return "it has more than " + web.Plural(n, "entry", "entries")
	case scan(text, "expected array length >= %d", &n):
		if n == 1 {
			return "it is empty"
		}
		return "it has less than " + web.Plural(n, "entry", "entries")
	}
	for sign, words := range map[string]string{"<= ": "more", ">= ": "less"} {
		if bound, ok := strings.CutPrefix(text, "expected number "+sign); ok {
			return it + " is " + words + " than " + bound
		}
	}
	return ""
}

func scan(text, format string, n *int) bool {
	_, err := fmt.Sscanf(text, format, n)
	return err == nil
}

func characters(n int) string { return web.Plural(n, "character", "characters") }

func length(v any) int {
	s, _ := v.(string)
	return utf8.RuneCountInString(s)
}

// mayRepeat is true for what stands in the URL, which is in logs anyway, and for fields of bodies that are no secrets.
func mayRepeat(location string) bool {
	place, rest, _ := strings.Cut(location, ".")
	name, _, _ := strings.Cut(rest, "[") // body.accounts[0]
	return place == "path" || place == "query" || place == "body" && slices.Contains(repeated, name)
}
