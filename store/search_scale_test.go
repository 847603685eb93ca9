package store_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sallyport/internal/testenv"
	"sallyport/store"
	"sallyport/store/storetest"
)

// writer makes lines such as programs print: words of which few are frequent, paths, numbers that come once.
type writer struct {
	rnd   *rand.Rand
	words []string
}

func newWriter() *writer {
	w := &writer{rnd: rand.New(rand.NewPCG(1, 2)), words: []string{"the", "error", "to", "info", "in", "connection", "user", "for", "kernel", "failed"}}
	for len(w.words) < 20_000 {
		b := make([]byte, 3+w.rnd.IntN(8))
		for i := range b {
			b[i] = "etaoinshrdlucmfwypvbgkqjxz"[int(math.Abs(w.rnd.NormFloat64())*8)%26]
		}
		w.words = append(w.words, string(b))
	}
	return w
}

func (w *writer) word() string {
	return w.words[min(int(math.Exp(w.rnd.Float64()*math.Log(float64(len(w.words))))), len(w.words))-1]
}

func (w *writer) line(n int) string {
	var b strings.Builder
	switch w.rnd.IntN(3) {
	case 0:
		fmt.Fprintf(&b, "Nov 23 10:%02d:%02d web%d %s[%d]: ", n/60%60, n%60, w.rnd.IntN(99), w.word(), w.rnd.IntN(99999))
	case 1:
		fmt.Fprintf(&b, "-rw-r--r-- 1 root root %7d Nov 23 10:%02d /srv/%s/%s.", w.rnd.IntN(1e7), n%60, w.word(), w.word())
	}
	for range 3 + w.rnd.IntN(10) {
		b.WriteString(w.word())
		b.WriteByte(' ')
	}
	return b.String()
}

// TestSearchAtScale measures the first page of searches in an index of 1 GiB of lines (SALLYPORT_LONG=1), on both
// databases; without, that a small one gives the same. SALLYPORT_SCALE_MIB is another size. What is in the folder
// SALLYPORT_SCALE_DIR and the database SALLYPORT_SCALE_POSTGRES is kept, and measured again the next time.
func TestSearchAtScale(t *testing.T) {
	size := 2 << 20
	long := os.Getenv("SALLYPORT_LONG") != ""
	if long {
		size = 1 << 30
		if n, err := strconv.Atoi(os.Getenv("SALLYPORT_SCALE_MIB")); err == nil {
			size = n << 20
		}
	} else {
		t.Parallel()
	}
	for _, name := range []string{"sqlite", "postgres"} {
		t.Run(name, func(t *testing.T) {
			if !long {
				t.Parallel()
			}
			dir := os.Getenv("SALLYPORT_SCALE_DIR")
			if dir == "" {
				dir = t.TempDir()
			}
			e := &engine{t: t, name: name, dsn: "sqlite:" + filepath.Join(dir, "scale.db"), ring: newRing(t), clock: testenv.NewClock(start)}
			if name == "postgres" {
				if e.dsn = os.Getenv("SALLYPORT_SCALE_POSTGRES"); e.dsn == "" {
					e.dsn = storetest.Postgres(t)
				}
			}
			scale(t, e, size, long)
		})
	}
}

const perSession = 512 << 10 // bytes of lines

// fill makes an index of sessions over ninety days.
func fill(t *testing.T, s *store.Store, e *engine, sessions int, long bool) {
	ctx, db := t.Context(), raw(t, e.dsn)
	if e.name == "postgres" && long {
		_, err := db.ExecContext(ctx, "DROP INDEX search_words_words")
		check(t, err)
	}
	w := newWriter()
	begun := time.Now()
	var worst time.Duration // of one transaction of the size that the indexer makes
	for i := range sessions {
		e.clock.Move(90 * 24 * time.Hour / time.Duration(sessions))
		filmed(t, s, e, fmt.Sprintf("user%d", i%50), fmt.Sprintf("target%d", i%97))
		c := claim(t, s)
		var blocks []store.SearchBlock
		for text, n := 0, 0; text < perSession; {
			b := store.SearchBlock{Begun: e.clock.Now()}
			for block := 0; block < store.SearchBlockBytes; n++ {
				line := w.line(n)
				switch {
				case n == 100 && i%20 == 0:
					line = fmt.Sprintf("user%d@web:~$ rm -rf /srv/old", i%50)
				case n == 200 && i == sessions/3:
					line = "the only needle of them all"
				}
				b.Lines = append(b.Lines, store.SearchLine{At: time.Duration(n) * 100 * time.Millisecond, Text: line})
				block += len(line)
			}
			for _, l := range b.Lines {
				text += len(l.Text)
			}
			if blocks = append(blocks, b); len(blocks) == 4 || text >= perSession {
				now := time.Now()
				check(t, s.Search.Add(ctx, c, lease, blocks...))
				worst = max(worst, time.Since(now))
				blocks = nil
			}
		}
		check(t, s.Search.Finish(ctx, c, store.SearchResult{State: store.SearchDone}))
	}
	if e.name == "postgres" && long {
		for _, statement := range []string{"CREATE INDEX search_words_words ON search_words USING gin (words) WITH (gin_pending_list_limit = 1024)", "ANALYZE"} {
			_, err := db.ExecContext(ctx, statement)
			check(t, err)
		}
	}
	t.Logf("%s: %d MiB of lines in %d sessions, indexed in %s, longest transaction %s, %s", e.name, sessions*perSession>>20, sessions, time.Since(begun).Round(time.Second), worst.Round(time.Millisecond), indexSize(t, e))
}

func scale(t *testing.T, e *engine, size int, long bool) {
	s, ctx := e.open(), t.Context()
	sessions := size / perSession
	if n := must[map[string]int](t)(s.Search.Counts(ctx))[store.SearchDone]; n != sessions {
		if n != 0 {
			t.Fatalf("the kept index has %d sessions, want %d", n, sessions)
		}
		fill(t, s, e, sessions, long)
	}
	for _, c := range []struct {
		name string
		f    store.SearchFilter
		hits int  // at least
		hard bool // held to nothing here: the race detector, with which test-long runs, makes it several times as slow
	}{
		{"one line of all", store.SearchFilter{Text: "only needle of them"}, 1, false},
		{"a command", store.SearchFilter{Text: "rm -rf"}, min(50, (sessions+19)/20), false},
		{"nothing", store.SearchFilter{Text: "nowhere to be found"}, 0, false},
		{"a frequent word", store.SearchFilter{Text: "error"}, 50, false},
		{"a frequent word of one user", store.SearchFilter{Text: "error", User: "user3", Target: "target3"}, 1, false},
		{"a command of one user", store.SearchFilter{Text: "rm -rf", User: "user0"}, 1, false},
		{"a frequent word long ago", store.SearchFilter{Text: "error", Until: start.Add(45 * 24 * time.Hour)}, 50, false},
		{"the beginning of a frequent word", store.SearchFilter{Text: "conn*"}, 50, false},
		{"the beginning of a frequent word, one user", store.SearchFilter{Text: "conn*", User: "user3", Target: "target3"}, 1, false},
		{"the beginning of a rare word", store.SearchFilter{Text: "need*"}, 1, true},
		{"the beginning of many words", store.SearchFilter{Text: "in*"}, 50, false},
		{"two frequent words side by side", store.SearchFilter{Text: "kernel error"}, 1, true},
		{"two frequent words, the second begun", store.SearchFilter{Text: "kernel conn*"}, 1, true},
		{"frequent words that are never side by side", store.SearchFilter{Text: "error; kernel; the"}, 0, true},
	} {
		var took []time.Duration
		var page store.SearchPage
		for range 5 {
			now := time.Now()
			page = must[store.SearchPage](t)(s.Search.Find(ctx, c.f))
			took = append(took, time.Since(now))
		}
		first := took[0]
		slices.Sort(took)
		t.Logf("%s: %-44s %4d hits, first %s, median %s", e.name, c.name, len(page.Hits), first.Round(100*time.Microsecond), took[2].Round(100*time.Microsecond))
		if len(page.Hits) < c.hits {
			t.Errorf("%s: %d hits, want %d", c.name, len(page.Hits), c.hits)
		}
		if long && !c.hard && first > 200*time.Millisecond {
			t.Errorf("%s: %s until the first results, want 200ms", c.name, first)
		}
	}
}

func indexSize(t *testing.T, e *engine) string {
	t.Helper()
	query := `SELECT pg_total_relation_size('search_blocks') + pg_total_relation_size('search_words')`
	if e.name == "sqlite" {
		query = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
	}
	var n int64
	check(t, raw(t, e.dsn).QueryRowContext(t.Context(), query).Scan(&n))
	return fmt.Sprintf("%d MiB in the database", n>>20)
}
