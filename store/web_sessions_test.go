package store_test

import (
	"strings"
	"testing"
	"time"

	"github.com/alexedwards/scs/v2"

	"sallyport/store"
)

// webSession returns the content of a session as scs writes it.
func webSession(t *testing.T, userID string) []byte {
	t.Helper()
	data, err := scs.GobCodec{}.Encode(start.Add(time.Hour), map[string]any{
		store.WebUser: userID, store.WebSource: "192.0.2.7", store.WebClient: "Firefox", "secret": "in-session",
	})
	check(t, err)
	return data
}

func TestWebSessions(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open().WebSessions, t.Context()
		find := func(token string) bool {
			t.Helper()
			_, found, err := s.FindCtx(ctx, token)
			check(t, err)
			return found
		}
		data, end := webSession(t, "u1"), start.Add(time.Hour)
		for _, token := range []string{"t1", "t2", "t3", "t4"} {
			check(t, s.CommitCtx(ctx, token, data, end))
		}
		check(t, s.Commit("other", webSession(t, "u2"), end))
		if got, found, err := s.Find("t1"); err != nil || !found || string(got) != string(data) {
			t.Errorf("got %d bytes, found %v, error %v", len(got), found, err)
		}
		list := must[[]store.WebSession](t)(s.List(ctx, "u1"))
		if len(list) != 4 || list[0].Source != "192.0.2.7" || list[0].Client != "Firefox" || !list[0].Expires.Equal(end) {
			t.Fatalf("got %+v", list)
		}
		if find(list[0].ID) {
			t.Error("what the list shows works as a token")
		}

		check(t, s.Delete("t1"))
		check(t, s.Delete("no such token"))
		wantError(t, "another's session", s.End(ctx, "u2", list[0].ID), store.ErrNotFound)
		if got := must[int](t)(s.EndAll(ctx, "u1")); got != 3 {
			t.Errorf("ended %d sessions, want 3", got)
		}
		// A request that had begun before puts its session back.
		for _, token := range []string{"t1", "t2"} {
			check(t, s.CommitCtx(ctx, token, data, end.Add(time.Hour)))
			if find(token) {
				t.Errorf("the ended session %s is alive again", token)
			}
		}
		if !find("other") {
			t.Error("another user's session was ended")
		}
		other := must[[]store.WebSession](t)(s.List(ctx, "u2"))
		check(t, s.End(ctx, "u2", other[0].ID))
		if find("other") {
			t.Error("the ended session is alive")
		}
		check(t, s.Commit("short", data, start.Add(time.Minute)))
		e.clock.Move(time.Minute)
		if find("short") {
			t.Error("an expired session is alive")
		}
		if err := s.Commit("bad", []byte("not gob"), end); err == nil {
			t.Error("a session that nobody can read was kept")
		}
	})
}

func TestWebSessionIsNotStoredInTheClear(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		if e.name == "memory" {
			return // leaves nothing
		}
		check(t, e.open().WebSessions.Commit("the-token", webSession(t, "u1"), start.Add(time.Hour)))
		var row string
		check(t, raw(t, e.dsn).QueryRowContext(t.Context(), "SELECT token_hash || data FROM web_sessions").Scan(&row))
		if strings.Contains(row, "the-token") || strings.Contains(row, "in-session") {
			t.Errorf("the row holds the token or the data: %s", row)
		}
	})
}
