package identity

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestPasswordNeverShows(t *testing.T) {
	t.Parallel()
	const secret = "correct horse"
	p := Password(secret)
	holder := struct {
		P Password
		Q *Password
		M map[string]Password
	}{p, &p, map[string]Password{"x": p}}

	var shown []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%c"} {
		shown = append(shown, fmt.Sprintf(verb, p), fmt.Sprintf(verb, holder), fmt.Sprintf(verb, []Password{p}))
	}
	shown = append(shown, p.String(), p.GoString(), fmt.Sprint(p), fmt.Sprintln(p))
	for _, v := range []any{p, holder} {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		shown = append(shown, string(b))
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "password", p, "config", LDAPConfig{BindPassword: p})
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "password", p, "config", LDAPConfig{BindPassword: p})
	shown = append(shown, log.String())

	for _, s := range shown {
		if strings.Contains(s, "correct") || strings.Contains(strings.ToLower(s), "636f7272656374") {
			t.Errorf("the password shows in %q", s)
		}
	}
}
