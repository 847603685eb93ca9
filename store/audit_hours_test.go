package store_test

import (
	"slices"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/store"
)

func TestAuditPerHour(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		hour := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
		for id, at := range map[string]time.Time{
			"019ca800-0000-7000-8000-000000000001": hour.Add(-time.Millisecond), // before
			"f0000000-0000-7000-8000-000000000002": hour,
			"f0000000-0000-7000-8000-000000000003": hour.Add(59*time.Minute + 59*time.Second),
			"f0000000-0000-7000-8000-000000000004": hour.Add(3 * time.Hour),
		} {
			check(t, s.Audit.Append(ctx, audit.Event{ID: id, Time: at, Type: audit.LoginAccepted, Result: audit.OK}))
		}
		check(t, s.Audit.Append(ctx, audit.Event{ID: "f0000000-0000-7000-8000-000000000005", Time: hour, Type: audit.LoginRefused, Result: audit.Refused}))
		check(t, s.Audit.Append(ctx, audit.Event{ID: "f0000000-0000-7000-8000-000000000006", Time: hour, Type: audit.NodeStarted, Result: audit.OK}))
		got, err := s.Audit.PerHour(ctx, []string{audit.LoginAccepted, audit.LoginRefused}, hour)
		check(t, err)
		want := []store.HourCount{
			{Type: audit.LoginAccepted, Hour: hour, Count: 2},
			{Type: audit.LoginRefused, Hour: hour, Count: 1},
			{Type: audit.LoginAccepted, Hour: hour.Add(3 * time.Hour), Count: 1},
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		// What the log itself has just written is counted: its ids begin with the time.
		check(t, s.Audit.Append(ctx, audit.Event{Time: time.Now(), Type: audit.CodeReplayed, Result: audit.Refused}))
		got, err = s.Audit.PerHour(ctx, []string{audit.CodeReplayed}, time.Now().Add(-time.Minute))
		check(t, err)
		if len(got) != 1 || got[0].Count != 1 {
			t.Errorf("just written: %v, want one", got)
		}
		if got, err := s.Audit.PerHour(ctx, nil, hour); err != nil || len(got) > 0 {
			t.Errorf("no types: %v, %v", got, err)
		}
	})
}
