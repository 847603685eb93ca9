package store_test

import (
	"fmt"
	"regexp"
	"slices"
	"testing"
	"time"

	"sallyport/store"
)

// shown is a line that stood on a screen.
type shown struct {
	session, user string
	seen          time.Time
	text          string
}

// Words and beginnings of words that stand in nearly all blocks, then in few or none for longer than a window, then in
// nearly all again are found as a look at each line finds them, page by page.
func TestSearchFindsWhatEachLineHas(t *testing.T) {
	const perSession, sessions = 40, 12
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		var all []shown // the newest first
		number := 0
		for i := range sessions {
			e.clock.Move(time.Hour)
			user := []string{"alice", "bob"}[i%2]
			id := filmed(t, s, e, user, "web1")
			c := claim(t, s)
			var blocks []store.SearchBlock
			for range perSession {
				lines := []string{"hay", "reconnect"}[: 1+number%2 : 1+number%2]
				switch dense := i < 4 || i >= 8; {
				case dense && number%7 != 0:
					lines = append(lines, "Connection refused", "kernel: connecting", "kernel", "a con", "unconnected")
				case number%37 == 0:
					lines = append(lines, "kernel connection", "CONN")
				}
				b := store.SearchBlock{Begun: e.clock.Now()}
				for j, text := range lines {
					l := store.SearchLine{At: time.Duration(number%perSession)*10*time.Second + time.Duration(j)*time.Second, Text: fmt.Sprintf("%s #%d-%d", text, number, j)}
					b.Lines = append(b.Lines, l)
					all = append(all, shown{id, user, b.Begun.Add(l.At), l.Text})
				}
				blocks = append(blocks, b)
				number++
			}
			check(t, s.Search.Add(ctx, c, lease, blocks...))
			check(t, s.Search.Finish(ctx, c, store.SearchResult{State: store.SearchDone}))
		}
		slices.Reverse(all)
		middle := all[len(all)/2]
		for _, f := range []store.SearchFilter{
			{Text: "conn*"},
			{Text: "conn*", User: "alice"},
			{Text: "conn*", User: "nobody"},
			{Text: "conn*", Session: middle.session},
			{Text: "conn*", Until: middle.seen},
			{Text: "conn*", Since: middle.seen, User: "bob"},
			{Text: "connectio*"},
			{Text: "kernel conn*"},
			{Text: "kernel: conn*"},
			{Text: "kernel: conn*", User: "bob", Until: middle.seen},
			{Text: "hay #10*"},
			{Text: "needle*"},
			{Text: "reconn*"},
			{Text: "connection"},
			{Text: "kernel connection"},
			{Text: "kernel: connecting", User: "alice"},
		} {
			pattern := `(?i)(^|[^a-z0-9])` + regexp.QuoteMeta(f.Text) + `($|[^a-z0-9])`
			if n := len(f.Text) - 1; f.Text[n] == '*' {
				pattern = `(?i)(^|[^a-z0-9])` + regexp.QuoteMeta(f.Text[:n])
			}
			matches := regexp.MustCompile(pattern)
			var want []string
			for _, l := range all {
				if matches.MatchString(l.text) && (f.User == "" || f.User == l.user) && (f.Session == "" || f.Session == l.session) &&
					!l.seen.Before(f.Since) && (f.Until.IsZero() || l.seen.Before(f.Until)) {
					want = append(want, l.text)
				}
			}
			for _, f.Limit = range []int{70, 1000} {
				var got []string
				for f.Before = ""; ; {
					page := must[store.SearchPage](t)(s.Search.Find(ctx, f))
					for _, h := range page.Hits {
						got = append(got, h.Line)
					}
					if f.Before = page.Next; page.Next == "" {
						break
					}
				}
				if !slices.Equal(got, want) {
					t.Errorf("%+v: %d hits, want %d\ngot  %q\nwant %q", f, len(got), len(want), got[:min(5, len(got))], want[:min(5, len(want))])
				}
			}
		}
	})
}

// A page that goes on where a recording stood that was deleted meanwhile skips nothing of the next one.
func TestSearchGoesOnAfterWhatIsGone(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s := e.open()
		indexed(t, s, e, "alice", "web1", "needle 1", "needle 2", "needle 3")
		e.clock.Move(time.Hour)
		gone := indexed(t, s, e, "alice", "web1", "hay", "needle 4")
		page := must[store.SearchPage](t)(s.Search.Find(t.Context(), store.SearchFilter{Text: "needle", Limit: 1}))
		if len(page.Hits) != 1 || page.Next == "" {
			t.Fatalf("first page: %+v", page)
		}
		check(t, s.Search.Forget(t.Context(), gone, 1, "deleted"))
		for _, text := range []string{"needle", "need*"} {
			if got, want := found(t, s, store.SearchFilter{Text: text, Before: page.Next}), []string{"needle 3", "needle 2", "needle 1"}; !slices.Equal(got, want) {
				t.Errorf("%s: got %q, want %q", text, got, want)
			}
		}
	})
}
