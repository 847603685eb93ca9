package store_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/store"
)

func TestAudit(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		want := audit.Event{
			ID: "01", Time: start, Type: audit.LoginRefused, Result: audit.Refused, Door: audit.DoorSSH, User: "al\x1b[2Jice",
			Actor: "root", Source: "192.0.2.7", Target: "web1", Account: "www", Session: "s1", Rule: "ops", Reason: "a\nb",
			Node: "n1", Detail: map[string]string{"client": "x\x00y"},
		}
		check(t, s.Audit.Append(ctx, want))
		check(t, s.Audit.Append(ctx, want)) // written again after a doubt
		events := must[[]audit.Event](t)(s.Audit.List(ctx, store.AuditFilter{}))
		if len(events) != 1 {
			t.Fatalf("got %d events, want 1", len(events))
		}
		got := events[0]
		want = want.Escaped()
		if !got.Time.Equal(want.Time) || !maps.Equal(got.Detail, want.Detail) {
			t.Errorf("got %+v, want %+v", got, want)
		}
		got.Time, want.Time, got.Detail, want.Detail = time.Time{}, time.Time{}, nil, nil
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
		check(t, s.Audit.Append(ctx, audit.Event{Type: audit.NodeStarted, User: strings.Repeat("я", 100_000), Reason: strings.Repeat("\xff", 100_000)}))
		if got := must[[]audit.Event](t)(s.Audit.List(ctx, store.AuditFilter{Type: audit.NodeStarted})); len(got) != 1 || got[0].ID == "" || !got[0].Time.Equal(start) {
			t.Errorf("got %d events", len(got))
		}
	})
}

func TestListAudit(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		for i := range 6 {
			check(t, s.Audit.Append(ctx, audit.Event{
				ID: fmt.Sprint(i), Type: []string{audit.LoginAccepted, audit.LoginRefused}[i%2], Result: []audit.Result{audit.OK, audit.Refused}[i%2],
				User: []string{"alice", "bob", "carol"}[i%3], Target: "web" + fmt.Sprint(i), Session: "s" + fmt.Sprint(i/3), Reason: "50% Sure_" + fmt.Sprint(i),
				Detail: map[string]string{"n": fmt.Sprint("deep", i)}, Time: start.Add(time.Duration(i) * time.Minute),
			}))
		}
		for _, c := range []struct {
			name   string
			filter store.AuditFilter
			want   string
		}{
			{"all", store.AuditFilter{}, "543210"},
			{"page", store.AuditFilter{Limit: 2}, "54"},
			{"next page", store.AuditFilter{Limit: 2, Before: "4"}, "32"},
			{"tail", store.AuditFilter{After: "3"}, "54"},
			{"tail that is behind", store.AuditFilter{After: "0", Limit: 2}, "21"},
			{"type", store.AuditFilter{Type: audit.LoginRefused}, "531"},
			{"result", store.AuditFilter{Result: "ok"}, "420"},
			{"user", store.AuditFilter{User: "alice"}, "30"},
			{"target", store.AuditFilter{Target: "web4"}, "4"},
			{"session", store.AuditFilter{Session: "s1"}, "543"},
			{"time", store.AuditFilter{Since: start.Add(time.Minute), Until: start.Add(3 * time.Minute)}, "21"},
			{"text", store.AuditFilter{Query: "SURE_4"}, "4"},
			{"text in details", store.AuditFilter{Query: "deep2"}, "2"},
			{"percent", store.AuditFilter{Query: "50%"}, "543210"},
			{"no wildcard", store.AuditFilter{Query: "5%sure"}, ""},
		} {
			got := ""
			for _, ev := range must[[]audit.Event](t)(s.Audit.List(ctx, c.filter)) {
				got += ev.ID
			}
			if got != c.want {
				t.Errorf("%s: got %q, want %q", c.name, got, c.want)
			}
		}
	})
}
