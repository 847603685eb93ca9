package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/store"
)

// A row and the event of it are written together or not at all.
func TestSessionsWithEvents(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		event := func(kind string) audit.Event { return audit.Event{Type: kind, Result: audit.OK} }
		x := must[store.Session](t)(s.Sessions.Open(ctx, store.Session{User: "alice"}, event(audit.SessionStarted)))
		check(t, s.Sessions.OpenChannel(ctx, x.ID, store.Channel{ID: 1}, event(audit.ChannelStarted)))
		check(t, s.Sessions.CloseChannel(ctx, x.ID, store.Channel{ID: 1}, event(audit.ChannelEnded)))
		check(t, s.Sessions.End(ctx, x.ID, "done", event(audit.SessionEnded)))

		_, err := s.Sessions.Open(ctx, store.Session{ID: x.ID, User: "alice"}, event("taken"))
		wantError(t, "an id twice", err, store.ErrExists)
		wantError(t, "channel of nothing", s.Sessions.OpenChannel(ctx, "nothing", store.Channel{ID: 1}, event("nothing")), store.ErrNotFound)
		wantError(t, "end of nothing", s.Sessions.End(ctx, "nothing", "", event("nothing")), store.ErrNotFound)

		var kinds []string
		for _, got := range must[[]audit.Event](t)(s.Audit.List(ctx, store.AuditFilter{})) {
			kinds = append(kinds, got.Type)
		}
		want := []string{audit.ChannelEnded, audit.ChannelStarted, audit.SessionEnded, audit.SessionStarted}
		if slices.Sort(kinds); !slices.Equal(kinds, slices.Sorted(slices.Values(want))) {
			t.Errorf("events %q, want %q", kinds, want)
		}
	})
}

// What a session waits for stands in its row while it is live, and is changed no more when it is over.
func TestSessionWaits(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		waits := func(id string) string {
			t.Helper()
			return must[store.Session](t)(s.Sessions.Get(ctx, id)).Waits
		}
		x := must[store.Session](t)(s.Sessions.Open(ctx, store.Session{User: "alice", Waits: store.WaitsModerator}))
		if x.Waits != store.WaitsModerator || waits(x.ID) != store.WaitsModerator {
			t.Errorf("it waits for %q", waits(x.ID))
		}
		check(t, s.Sessions.Waits(ctx, x.ID, ""))
		if waits(x.ID) != "" {
			t.Errorf("it waits for %q", waits(x.ID))
		}
		check(t, s.Sessions.End(ctx, x.ID, "done"))
		check(t, s.Sessions.Waits(ctx, x.ID, store.WaitsModerator))
		if waits(x.ID) != "" {
			t.Error("a session that is over was changed")
		}
	})
}

func TestSessions(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		want := store.Session{
			UserID: "u", User: "alice", Target: "web1", Address: "10.0.0.5:22", Account: "root", Source: "192.0.2.7",
			Client: "SSH-2.0-OpenSSH_9.2", Node: "n1", Rule: "ops", Recording: "required", KeyFingerprint: "SHA256:x",
			State: store.Live, Started: start,
		}
		x := must[store.Session](t)(s.Sessions.Open(ctx, want))
		check(t, s.Sessions.OpenChannel(ctx, x.ID, store.Channel{ID: 1, Kind: "shell", Term: true, Recording: "2026/x.cast"}))
		check(t, s.Sessions.OpenChannel(ctx, x.ID, store.Channel{ID: 2, Kind: "exec", Command: "false"}))
		e.clock.Move(time.Minute)
		status := 1
		check(t, s.Sessions.CloseChannel(ctx, x.ID, store.Channel{
			ID: 2, Kind: "exec", Command: "false", ExitStatus: &status, ExitSignal: "TERM", BytesIn: 1 << 40, BytesOut: 2,
			Recording: "y", SHA256: "ab", Truncated: true, Started: start,
		}))
		check(t, s.Sessions.CloseChannel(ctx, x.ID, store.Channel{ID: 3, Kind: "sftp"})) // its opening was not noted
		wantError(t, "channel of nothing", s.Sessions.OpenChannel(ctx, "nothing", store.Channel{ID: 1}), store.ErrNotFound)

		got := must[store.Session](t)(s.Sessions.Get(ctx, x.ID))
		if len(got.Channels) != 3 || !got.Channels[0].Term || got.Channels[0].ExitStatus != nil || !got.Channels[0].Ended.IsZero() {
			t.Fatalf("channels: got %+v", got.Channels)
		}
		c := got.Channels[1]
		if c.ExitStatus == nil || *c.ExitStatus != 1 || c.ExitSignal != "TERM" || c.BytesIn != 1<<40 || c.BytesOut != 2 ||
			c.SHA256 != "ab" || !c.Truncated || !c.Started.Equal(start) || !c.Ended.Equal(start.Add(time.Minute)) {
			t.Errorf("closed channel: got %+v", c)
		}
		got.Channels = nil
		want.ID = x.ID
		if !equalSessions(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}

		check(t, s.Sessions.End(ctx, x.ID, "closed by the client"))
		check(t, s.Sessions.End(ctx, x.ID, "again"))
		wantError(t, "end of nothing", s.Sessions.End(ctx, "nothing", ""), store.ErrNotFound)
		got = must[store.Session](t)(s.Sessions.Get(ctx, x.ID))
		if got.State != store.Ended || got.Reason != "closed by the client" || !got.Ended.Equal(start.Add(time.Minute)) {
			t.Errorf("after the end: got %+v", got)
		}
		_, err := s.Sessions.Get(ctx, "nothing")
		wantError(t, "nothing", err, store.ErrNotFound)
	})
}

func equalSessions(a, b store.Session) bool {
	a.Channels, b.Channels = nil, nil
	sameTimes := a.Started.Equal(b.Started) && a.Ended.Equal(b.Ended)
	a.Started, a.Ended, b.Started, b.Ended = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	return sameTimes && a.ID == b.ID && a.UserID == b.UserID && a.User == b.User && a.Target == b.Target &&
		a.Address == b.Address && a.Account == b.Account && a.Source == b.Source && a.Client == b.Client &&
		a.Node == b.Node && a.Rule == b.Rule && a.Recording == b.Recording && a.State == b.State && a.Reason == b.Reason &&
		a.KeyFingerprint == b.KeyFingerprint
}

func TestListSessions(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		var ids []string
		for i := range 6 {
			x := must[store.Session](t)(s.Sessions.Open(ctx, store.Session{
				User: []string{"alice", "bob"}[i%2], Target: []string{"web1", "db", "vault"}[i%3], Source: "192.0.2.7", Node: "n1",
			}))
			check(t, s.Sessions.OpenChannel(ctx, x.ID, store.Channel{ID: 1, Kind: "shell"}))
			ids = append(ids, x.ID)
			e.clock.Move(time.Minute)
		}
		check(t, s.Sessions.End(ctx, ids[0], ""))
		for _, c := range []struct {
			name   string
			filter store.SessionFilter
			want   []int
		}{
			{"all", store.SessionFilter{}, []int{5, 4, 3, 2, 1, 0}},
			{"page", store.SessionFilter{Limit: 2}, []int{5, 4}},
			{"next page", store.SessionFilter{Limit: 2, Before: ids[4]}, []int{3, 2}},
			{"live", store.SessionFilter{State: store.Live}, []int{5, 4, 3, 2, 1}},
			{"ended", store.SessionFilter{State: store.Ended}, []int{0}},
			{"user", store.SessionFilter{User: "alice"}, []int{4, 2, 0}},
			{"target", store.SessionFilter{Target: "db"}, []int{4, 1}},
			{"user and target", store.SessionFilter{User: "bob", Target: "db"}, []int{1}},
			{"source", store.SessionFilter{Source: "192.0.2.8"}, nil},
			{"time", store.SessionFilter{Since: start.Add(time.Minute), Until: start.Add(3 * time.Minute)}, []int{2, 1}},
		} {
			var got []int
			for _, x := range must[[]store.Session](t)(s.Sessions.List(ctx, c.filter)) {
				got = append(got, slices.Index(ids, x.ID))
				if len(x.Channels) != 1 {
					t.Errorf("%s: session %d has %d channels, want 1", c.name, slices.Index(ids, x.ID), len(x.Channels))
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%s: got %v, want %v", c.name, got, c.want)
			}
		}
		if got, want := must[store.SessionCounts](t)(s.Sessions.Counts(ctx)), (store.SessionCounts{Live: 5, Ended: 1}); got != want {
			t.Errorf("counts: got %+v, want %+v", got, want)
		}
	})
}

func TestMarkLost(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		open := func(node string) string {
			x := must[store.Session](t)(s.Sessions.Open(ctx, store.Session{User: "alice", Node: node}))
			check(t, s.Sessions.OpenChannel(ctx, x.ID, store.Channel{ID: 1, Kind: "shell", Recording: "r"}))
			return x.ID
		}
		ended, mine, other := open("n1"), open("n1"), open("n2")
		check(t, s.Sessions.End(ctx, ended, "done"))
		lost := must[[]store.Session](t)(s.Sessions.MarkLost(ctx, "n1"))
		if len(lost) != 1 || lost[0].ID != mine || len(lost[0].Channels) != 1 || lost[0].State != store.Lost {
			t.Errorf("got %+v", lost)
		}
		for id, want := range map[string]string{ended: store.Ended, mine: store.Lost, other: store.Live} {
			if got := must[store.Session](t)(s.Sessions.Get(ctx, id)).State; got != want {
				t.Errorf("state: got %s, want %s", got, want)
			}
		}
		// Only the process that has the session open ends it: then it was taken for lost wrongly.
		check(t, s.Sessions.End(ctx, mine, "it was not lost"))
		if got := must[store.Session](t)(s.Sessions.Get(ctx, mine)); got.State != store.Ended || got.Reason != "it was not lost" {
			t.Errorf("the session is %s: %s", got.State, got.Reason)
		}
	})
}

// The end of a session is written with the ends of its channels, all of it or nothing.
func TestSessionEndsWithChannels(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		x := must[store.Session](t)(s.Sessions.Open(ctx, store.Session{User: "alice"}))
		check(t, s.Sessions.OpenChannel(ctx, x.ID, store.Channel{ID: 1, Kind: "exec"}))
		one, two := 1, 2
		channels := []store.Channel{{ID: 1, Kind: "exec", ExitStatus: &one}, {ID: 2, Kind: "sftp", ExitStatus: &two}} // the second was not noted when it began
		err := s.Sessions.EndWith(ctx, "nothing", "", channels, audit.Event{Type: "nothing", Result: audit.OK})
		wantError(t, "end of nothing", err, store.ErrNotFound)
		if list := must[[]audit.Event](t)(s.Audit.List(ctx, store.AuditFilter{})); len(list) != 0 {
			t.Errorf("events of nothing: %v", list)
		}
		check(t, s.Sessions.EndWith(ctx, x.ID, "done", channels,
			audit.Event{Type: audit.ChannelEnded, Result: audit.OK}, audit.Event{Type: audit.ChannelEnded, Result: audit.OK}, audit.Event{Type: audit.SessionEnded, Result: audit.OK}))
		got := must[store.Session](t)(s.Sessions.Get(ctx, x.ID))
		if got.State != store.Ended || got.Reason != "done" || len(got.Channels) != 2 {
			t.Fatalf("%+v", got)
		}
		for i, c := range got.Channels {
			if c.Ended.IsZero() || c.ExitStatus == nil || *c.ExitStatus != i+1 {
				t.Errorf("%+v", c)
			}
		}
		if list := must[[]audit.Event](t)(s.Audit.List(ctx, store.AuditFilter{})); len(list) != 3 || list[0].Type != audit.SessionEnded {
			t.Errorf("events %v, want three and the end of the session last", list)
		}
	})
}

// A transaction that fails in any way leaves nothing behind, and the one connection that writes goes on: also when SQLite has
// ended the transaction by itself, when whoever asked has gone, and when what runs in it panics.
func TestChangeThatFails(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s := e.open()
		wrong := errors.New("wrong")
		for name, f := range map[string]func(cancel func(), insert func(string) error) error{
			"an error": func(_ func(), insert func(string) error) error { return errors.Join(insert("error"), wrong) },
			"a statement that fails": func(_ func(), insert func(string) error) error {
				if err := insert("twice"); err != nil {
					return err
				}
				return insert("twice")
			},
			"nobody waits": func(cancel func(), insert func(string) error) error {
				err := insert("gone")
				cancel()
				return err
			},
			"a panic": func(_ func(), insert func(string) error) error {
				_ = insert("panic")
				panic("oops")
			},
			"ended inside": func(_ func(), insert func(string) error) error {
				return errors.Join(insert("inside"), insert("\x00rollback"), wrong)
			},
		} {
			err := func() (err error) {
				defer func() {
					if v := recover(); v != nil {
						err = fmt.Errorf("panic: %v", v)
					}
				}()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				return store.Change(ctx, s, func(insert func(string) error) error { return f(cancel, insert) })
			}()
			if err == nil {
				t.Errorf("%s: no error", name)
			}
		}
		for _, id := range []string{"error", "twice", "gone", "panic", "inside"} {
			if _, found, err := s.Settings.Get(t.Context(), id); err != nil || found {
				t.Errorf("%s is there, or %v", id, err)
			}
		}
		check(t, store.Change(t.Context(), s, func(insert func(string) error) error { return insert("fine") }))
		if _, found, err := s.Settings.Get(t.Context(), "fine"); err != nil || !found {
			t.Errorf("a change afterwards is not there: %v", err)
		}
	})
}
