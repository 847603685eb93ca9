package store_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/store"
)

const lease = time.Minute

// filmed notes a session of user on target with one recorded channel that has ended.
func filmed(t *testing.T, s *store.Store, e *engine, user, target string) string {
	t.Helper()
	x := must[store.Session](t)(s.Sessions.Open(t.Context(), store.Session{User: user, Target: target, Account: "root", Node: "n1", Started: e.clock.Now()}))
	check(t, s.Sessions.CloseChannel(t.Context(), x.ID, store.Channel{ID: 1, Kind: "shell", BytesOut: 1, Recording: "r/" + x.ID, Started: e.clock.Now(), Ended: e.clock.Now()}))
	return x.ID
}

func claim(t *testing.T, s *store.Store) store.SearchClaim {
	t.Helper()
	must[int64](t)(s.Search.Discover(t.Context(), time.Time{}))
	return must[store.SearchClaim](t)(s.Search.Claim(t.Context(), "w", "n1", lease))
}

// indexed notes a session whose screen showed lines, one second after the other.
func indexed(t *testing.T, s *store.Store, e *engine, user, target string, lines ...string) string {
	t.Helper()
	id := filmed(t, s, e, user, target)
	c := claim(t, s)
	block := store.SearchBlock{Begun: e.clock.Now()}
	for i, text := range lines {
		block.Lines = append(block.Lines, store.SearchLine{At: time.Duration(i+1) * time.Second, Text: text})
	}
	check(t, s.Search.Add(t.Context(), c, lease, block))
	check(t, s.Search.Finish(t.Context(), c, store.SearchResult{State: store.SearchDone}))
	return id
}

func found(t *testing.T, s *store.Store, f store.SearchFilter) []string {
	t.Helper()
	lines := []string{}
	for _, h := range must[store.SearchPage](t)(s.Search.Find(t.Context(), f)).Hits {
		lines = append(lines, h.Line)
	}
	return lines
}

// Both engines find the same: a text with its punctuation, in upper and lower case, between whole words.
func TestSearchFindsExactly(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s := e.open()
		all := []string{
			"$ rm -rf /srv/old", "rm: -rf is no file", "farm -rf", "rm -rfv x", "root:x:0:0:root:/root:/bin/bash in /etc/passwd",
			"max_limit = 100%", "Überraschung in MÜNCHEN", "日本語 テスト", "it's 'quoted' \"twice\" \\ & | ! :* x", "NEAR(a b) AND NOT c OR d",
			strings.Repeat("z", 50) + "a", "tab\there",
		}
		indexed(t, s, e, "alice", "web1", all...)
		for text, want := range map[string][]string{
			"rm -rf":                      {all[0]},
			"RM -RF":                      {all[0]},
			"rm -rf /srv":                 {all[0]},
			"rm":                          {all[3], all[1], all[0]},
			"rm -rf*":                     {all[3], all[0]},
			"-rf":                         {all[2], all[1], all[0]},
			"/etc/passwd":                 {all[4]},
			"passwd":                      {all[4]},
			"etc/pass":                    {},
			"etc/pass*":                   {all[4]},
			"limit = 100%":                {all[5]},
			"max_limit":                   {all[5]},
			"limit = 100 ":                {all[5]},
			"limit  = 100":                {},
			"münchen":                     {all[6]},
			"überraschung in MÜNCHEN":     {all[6]},
			"munchen":                     {},
			"日本語 テスト":                     {all[7]},
			"日本":                          {},
			"it's 'quoted'":               {all[8]},
			`"twice" \ & | ! :* x`:        {all[8]},
			"near(a b) and not c or d":    {all[9]},
			"a AND d":                     {},
			strings.Repeat("z", 50) + "a": {all[10]},
			strings.Repeat("z", 45):       {},
			"tab\there":                   {all[11]},
			"100% ' OR 1=1":               {},
			"nul\x00byte":                 {},
			"r*":                          {}, // one letter is no beginning: the star is meant
		} {
			if got := found(t, s, store.SearchFilter{Text: text}); !slices.Equal(got, want) {
				t.Errorf("%q: got %q, want %q", text, got, want)
			}
		}
		for _, text := range []string{"", "  ", "||", "*", "$ -"} {
			_, err := s.Search.Find(t.Context(), store.SearchFilter{Text: text})
			wantError(t, "searching "+text, err, store.ErrNoWords)
		}
		page := must[store.SearchPage](t)(s.Search.Find(t.Context(), store.SearchFilter{Text: "münchen"}))
		h := page.Hits[0]
		if h.Line[h.From:h.To] != "MÜNCHEN" || h.At != 7*time.Second || !h.Time.Equal(start.Add(7*time.Second)) || h.User != "alice" || h.Target != "web1" || h.Account != "root" || h.Channel != 1 {
			t.Errorf("hit %+v", h)
		}
	})
}

func TestSearchFilters(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s := e.open()
		first := indexed(t, s, e, "alice", "web1", "needle 1", "needle 2")
		e.clock.Move(time.Hour)
		indexed(t, s, e, "bob'); --", "web1", "needle 3")
		e.clock.Move(time.Hour)
		indexed(t, s, e, "alice", "db1", "needle 4", "needle 5", "hay")
		for _, c := range []struct {
			f    store.SearchFilter
			want []string
		}{
			{store.SearchFilter{}, []string{"needle 5", "needle 4", "needle 3", "needle 2", "needle 1"}},
			{store.SearchFilter{User: "alice"}, []string{"needle 5", "needle 4", "needle 2", "needle 1"}},
			{store.SearchFilter{User: "bob'); --"}, []string{"needle 3"}},
			{store.SearchFilter{User: "alice", Target: "web1"}, []string{"needle 2", "needle 1"}},
			{store.SearchFilter{User: "nobody"}, []string{}},
			{store.SearchFilter{Session: first}, []string{"needle 2", "needle 1"}},
			{store.SearchFilter{Since: start.Add(2 * time.Second)}, []string{"needle 5", "needle 4", "needle 3", "needle 2"}},
			{store.SearchFilter{Since: start.Add(time.Hour), Until: start.Add(2*time.Hour + 2*time.Second)}, []string{"needle 4", "needle 3"}},
			{store.SearchFilter{Until: start.Add(2 * time.Second)}, []string{"needle 1"}},
			{store.SearchFilter{Until: start}, []string{}},
		} {
			c.f.Text = "needle"
			if got := found(t, s, c.f); !slices.Equal(got, c.want) {
				t.Errorf("%+v: got %q, want %q", c.f, got, c.want)
			}
			// Page by page it is the same, each hit once.
			var paged []string
			for c.f.Limit = 1; ; {
				page := must[store.SearchPage](t)(s.Search.Find(t.Context(), c.f))
				for _, h := range page.Hits {
					paged = append(paged, h.Line)
				}
				if c.f.Before = page.Next; page.Next == "" || len(paged) > 9 {
					break
				}
			}
			if !slices.Equal(paged, c.want) && len(paged)+len(c.want) > 0 {
				t.Errorf("%+v by pages: got %q, want %q", c.f, paged, c.want)
			}
		}
		_, err := s.Search.Find(t.Context(), store.SearchFilter{Text: "x", Before: "'; --"})
		wantError(t, "a place that is none", err, store.ErrNotFound)
	})
}

// Many blocks of one second get ids of their own, and none is lost.
func TestSearchManyBlocksInOneSecond(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s := e.open()
		filmed(t, s, e, "alice", "web1")
		c := claim(t, s)
		const n = 300
		for i := range n / 20 {
			var blocks []store.SearchBlock
			for j := range 20 {
				blocks = append(blocks, store.SearchBlock{Begun: e.clock.Now(), Lines: []store.SearchLine{{Text: fmt.Sprintf("common number%d", i*20+j)}}})
			}
			check(t, s.Search.Add(t.Context(), c, lease, blocks...))
		}
		for _, text := range []string{"common", "comm*"} {
			if got := found(t, s, store.SearchFilter{Text: text, Limit: 1000}); len(got) != n {
				t.Errorf("%s: found %d of %d", text, len(got), n)
			}
		}
	})
}

// Of many workers on several nodes each recording is claimed by one; a dead one's claim ends with its lease.
// A channel without output needs no worker; of a dead node's nobody knows whether it had any.
func TestSearchSkipsWhatIsEmpty(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		x := must[store.Session](t)(s.Sessions.Open(ctx, store.Session{User: "alice", Node: "n1", Started: e.clock.Now()}))
		check(t, s.Sessions.CloseChannel(ctx, x.ID, store.Channel{ID: 1, Kind: "exec", Command: "true", Recording: "r/1", Started: e.clock.Now(), Ended: e.clock.Now()}))
		if n := must[int64](t)(s.Search.Discover(ctx, time.Time{})); n != 1 {
			t.Errorf("%d recordings are new, want 1", n)
		}
		_, err := s.Search.Claim(ctx, "w", "n1", lease)
		wantError(t, "claiming what is empty", err, store.ErrNotFound)
		if states := must[[]store.SearchState](t)(s.Search.States(ctx, x.ID)); len(states) != 1 || states[0].State != store.SearchDone {
			t.Errorf("states %+v", states)
		}
	})
}

func TestSearchClaims(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		stores := []*store.Store{e.open(), e.open()}
		s := stores[0]
		want := map[string]bool{}
		for range 12 {
			want[filmed(t, s, e, "alice", "web1")] = true
		}
		live := must[store.Session](t)(s.Sessions.Open(t.Context(), store.Session{User: "alice", Node: "n1"}))
		check(t, s.Sessions.OpenChannel(t.Context(), live.ID, store.Channel{ID: 1, Recording: "open"}))
		check(t, s.Sessions.CloseChannel(t.Context(), live.ID, store.Channel{ID: 2, Kind: "sftp"}))
		var mu sync.Mutex
		var wg sync.WaitGroup
		got := map[string]int{}
		for i := range 8 {
			st := stores[i%len(stores)]
			wg.Go(func() {
				if _, err := st.Search.Discover(t.Context(), start); err != nil {
					t.Error(err)
				}
				for {
					c, err := st.Search.Claim(t.Context(), fmt.Sprint("w", i), "n1", lease)
					if errors.Is(err, store.ErrNotFound) {
						return
					}
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					got[c.Session]++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		for id, n := range got {
			if !want[id] || n != 1 {
				t.Errorf("session %s was claimed %d times", id, n)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%d of %d were claimed", len(got), len(want))
		}
		e.clock.Move(lease)
		c := must[store.SearchClaim](t)(s.Search.Claim(t.Context(), "late", "n1", lease))
		if c.Tries != 2 || c.Path != "r/"+c.Session || c.User != "alice" || c.Target != "web1" || c.Node != "n1" {
			t.Errorf("claim %+v", c)
		}
	})
}

// Whoever has lost the claim adds and settles nothing.
func TestSearchClaimIsLost(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		id := filmed(t, s, e, "alice", "web1")
		slow := claim(t, s)
		block := store.SearchBlock{Begun: start, Lines: []store.SearchLine{{Text: "needle"}}}
		check(t, s.Search.Add(ctx, slow, lease, block))
		e.clock.Move(lease)
		c := must[store.SearchClaim](t)(s.Search.Claim(ctx, "other", "n1", lease))
		wantError(t, "add", s.Search.Add(ctx, slow, lease, block), store.ErrConflict)
		wantError(t, "clear", s.Search.Clear(ctx, slow, lease), store.ErrConflict)
		wantError(t, "finish", s.Search.Finish(ctx, slow, store.SearchResult{State: store.SearchDone}), store.ErrConflict)
		wantError(t, "postpone", s.Search.Postpone(ctx, slow, "", start), store.ErrConflict)
		check(t, s.Search.Clear(ctx, c, lease))
		if got := found(t, s, store.SearchFilter{Text: "needle"}); len(got) != 0 {
			t.Errorf("what the slow one left is still there: %q", got)
		}
		check(t, s.Search.Add(ctx, c, lease, block))
		commands := []store.Command{{Channel: 1, At: time.Second, Text: "ls", FoundBy: "prompt"}, {Channel: 1, At: 2 * time.Second, Text: "rm -rf x\x00", FoundBy: "marks"}}
		check(t, s.Search.Finish(ctx, c, store.SearchResult{State: store.SearchDone, Note: "cut", Commands: commands}))
		got := must[[]store.Command](t)(s.Search.Commands(ctx, id))
		if commands[1].Text = "rm -rf x\uFFFD"; !slices.Equal(got, commands) {
			t.Errorf("commands %+v", got)
		}
		states := must[[]store.SearchState](t)(s.Search.States(ctx, id))
		if len(states) != 1 || states[0].State != store.SearchDone || states[0].Note != "cut" || states[0].Lines != 1 {
			t.Errorf("states %+v", states)
		}
		check(t, s.Search.Again(ctx, id, 1))
		if c = must[store.SearchClaim](t)(s.Search.Claim(ctx, "w", "n1", lease)); c.Session != id || c.Tries != 1 {
			t.Errorf("again: %+v", c)
		}
		check(t, s.Search.Postpone(ctx, c, "not here", e.clock.Now().Add(time.Hour)))
		_, err := s.Search.Claim(ctx, "w", "n1", lease)
		wantError(t, "claim of what was put off", err, store.ErrNotFound)
	})
}

// What a node left behind when it died is not forgotten, although nobody noted the end of its channels.
func TestSearchFindsWhatLostSessionsLeft(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		x := must[store.Session](t)(s.Sessions.Open(ctx, store.Session{User: "alice", Target: "web1", Node: "n1"}))
		check(t, s.Sessions.OpenChannel(ctx, x.ID, store.Channel{ID: 1, Recording: "r"}))
		if n := must[int64](t)(s.Search.Discover(ctx, start)); n != 0 {
			t.Errorf("%d recordings of a live session", n)
		}
		must[[]store.Session](t)(s.Sessions.MarkLost(ctx, "n1"))
		if n := must[int64](t)(s.Search.Discover(ctx, start)); n != 1 {
			t.Errorf("%d recordings of a lost session", n)
		}
	})
}

// A recording waits for its own node; when that does not come, another one may have it.
func TestSearchWaitsForItsNode(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s := e.open()
		id := filmed(t, s, e, "alice", "web1")
		must[int64](t)(s.Search.Discover(t.Context(), time.Time{}))
		_, err := s.Search.Claim(t.Context(), "w", "n2", lease)
		wantError(t, "claim of another node's", err, store.ErrNotFound)
		e.clock.Move(10 * time.Minute)
		if c := must[store.SearchClaim](t)(s.Search.Claim(t.Context(), "w", "n2", lease)); c.Session != id {
			t.Errorf("claim %+v", c)
		}
	})
}

// The index of a recording goes with it, in both ways in which it can go, and stays gone.
func TestSearchForgets(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		kept := indexed(t, s, e, "alice", "web1", "needle kept")
		gone := indexed(t, s, e, "alice", "web1", "needle gone")
		check(t, s.Search.Forget(ctx, gone, 1, "the recording was deleted"))
		if got := found(t, s, store.SearchFilter{Text: "needle"}); !slices.Equal(got, []string{"needle kept"}) {
			t.Errorf("found %q", got)
		}
		check(t, s.Search.Again(ctx, gone, 1))
		if n := must[int64](t)(s.Search.Discover(ctx, time.Time{})); n != 0 {
			t.Errorf("%d recordings are new", n)
		}
		_, err := s.Search.Claim(ctx, "w", "n1", lease)
		wantError(t, "claim of what was forgotten", err, store.ErrNotFound)
		if got := must[map[string]int](t)(s.Search.Counts(ctx)); got[store.SearchDone] != 1 || got[store.SearchOff] != 1 {
			t.Errorf("counts %v", got)
		}
		check(t, s.Search.Forget(ctx, kept, 1, "x"))
		if e.name == "memory" {
			return
		}
		again := indexed(t, s, e, "alice", "web1", "needle again")
		query := "DELETE FROM sessions WHERE id = $1"
		db := raw(t, e.dsn)
		if e.name == "sqlite" {
			db.SetMaxOpenConns(1)
			_, err := db.ExecContext(ctx, "PRAGMA foreign_keys = 1")
			check(t, err)
		}
		_, err = db.ExecContext(ctx, query, again)
		check(t, err)
		for _, table := range []string{"search_blocks", "search_recordings", "session_commands"} {
			var n int
			check(t, db.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+table+" WHERE session_id = $1", again).Scan(&n))
			if n != 0 {
				t.Errorf("%d rows of %s are left", n, table)
			}
		}
		words := "SELECT COUNT(*) FROM search_words"
		var n int
		check(t, db.QueryRowContext(ctx, words).Scan(&n))
		if n != 0 {
			t.Errorf("%d blocks are left in the full-text index", n)
		}
	})
}

// A text of as many words as the API takes is no burden for either engine.
func TestSearchForManyWords(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s := e.open()
		var b strings.Builder
		for i := range 166 {
			fmt.Fprintf(&b, "%c%c ", 'a'+i%26, 'a'+i/26)
		}
		indexed(t, s, e, "alice", "web1", b.String(), "aa")
		if got := found(t, s, store.SearchFilter{Text: b.String()}); len(got) != 1 {
			t.Errorf("found %q", got)
		}
	})
}
