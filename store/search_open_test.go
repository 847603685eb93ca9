package store_test

import (
	"slices"
	"testing"
	"time"

	"sallyport/store"
)

// Of a session that goes on the index belongs to the node that records it, whatever its lease: a worker that took what is due
// would settle half a recording for good, and nobody would ever find the rest.
func TestSearchOfOpenRecordings(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		x := must[store.Session](t)(s.Sessions.Open(ctx, store.Session{User: "alice", Target: "web1", Account: "root", Node: "n1", Started: e.clock.Now()}))
		_, err := s.Search.ClaimOpen(ctx, "w1", "n1", x.ID, 1, lease)
		wantError(t, "claiming a channel that is not there", err, store.ErrNotFound)
		check(t, s.Sessions.OpenChannel(ctx, x.ID, store.Channel{ID: 1, Kind: "shell", Recording: "r", Started: e.clock.Now()}))
		c := must[store.SearchClaim](t)(s.Search.ClaimOpen(ctx, "w1", "n1", x.ID, 1, lease))
		if c.Path != "r" || c.User != "alice" || c.Target != "web1" || c.Node != "n1" {
			t.Errorf("claim %+v", c)
		}
		_, err = s.Search.ClaimOpen(ctx, "w2", "n1", x.ID, 1, lease)
		wantError(t, "claiming it twice", err, store.ErrConflict)
		check(t, s.Search.Add(ctx, c, lease, store.SearchBlock{Begun: e.clock.Now(), Lines: []store.SearchLine{{Text: "needle"}}}))
		commands := []store.Command{{At: time.Second, Text: "a", FoundBy: "prompt"}, {At: 2 * time.Second, Text: "b", FoundBy: "prompt"}}
		check(t, s.Search.Progress(ctx, c, lease, "it goes on", 0, commands))
		commands = append(commands[:1], store.Command{At: 3 * time.Second, Text: "bb", FoundBy: "prompt"}, store.Command{At: 4 * time.Second, Text: "c", FoundBy: "prompt"})
		check(t, s.Search.Progress(ctx, c, lease, "it goes on", 1, commands))
		texts := func() (list []string) {
			for _, c := range must[[]store.Command](t)(s.Search.Commands(ctx, x.ID)) {
				list = append(list, c.Text)
			}
			return list
		}
		if got := texts(); !slices.Equal(got, []string{"a", "bb", "c"}) {
			t.Errorf("commands %q", got)
		}
		if page := must[store.SearchPage](t)(s.Search.Find(ctx, store.SearchFilter{Text: "needle"})); len(page.Hits) != 1 {
			t.Errorf("found %+v", page)
		}
		if states := must[[]store.SearchState](t)(s.Search.States(ctx, x.ID)); len(states) != 1 || states[0].State != store.SearchPending || states[0].Note != "it goes on" {
			t.Errorf("states %+v", states)
		}
		e.clock.Move(time.Hour)
		for _, node := range []string{"n1", "n2"} {
			_, err = s.Search.Claim(ctx, "w2", node, lease)
			wantError(t, "claiming it as one that has ended", err, store.ErrNotFound)
		}
		check(t, s.Search.Progress(ctx, c, lease, "it goes on", 3, commands)) // late, and still its own
		check(t, s.Sessions.CloseChannel(ctx, x.ID, store.Channel{ID: 1, Kind: "shell", BytesOut: 1, Recording: "r", Ended: e.clock.Now()}))
		check(t, s.Search.Finish(ctx, c, store.SearchResult{State: store.SearchDone, Commands: commands[:1]}))
		if got := texts(); !slices.Equal(got, []string{"a"}) {
			t.Errorf("commands %q", got)
		}

		// A node that died while its session went on: what it left is taken by whoever comes when the lease is over.
		y := must[store.Session](t)(s.Sessions.Open(ctx, store.Session{User: "alice", Node: "n1", Started: e.clock.Now()}))
		check(t, s.Sessions.OpenChannel(ctx, y.ID, store.Channel{ID: 1, Kind: "shell", Recording: "r2", Started: e.clock.Now()}))
		must[store.SearchClaim](t)(s.Search.ClaimOpen(ctx, "w1", "n1", y.ID, 1, lease))
		must[[]store.Session](t)(s.Sessions.MarkLost(ctx, "n1"))
		e.clock.Move(2 * lease)
		if c := must[store.SearchClaim](t)(s.Search.Claim(ctx, "w3", "n1", lease)); c.Session != y.ID {
			t.Errorf("claimed %+v", c)
		}
	})
}
