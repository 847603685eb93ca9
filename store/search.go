package store

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
)

// Search is the index of what stood on the screens of recordings. A recording is claimed by one worker at a
// time, its lines are added in blocks, and the claim is settled by [Search.Finish] or [Search.Postpone].
//
// A block is some lines that follow each other: the lines themselves, compressed, and an index entry with each
// word they have, among them one for the session, the user and the target. A search takes blocks that have all words
// of the text, newest first, and looks for the text itself in their lines. Ids of blocks begin with the time of
// their first line, so that their order is that of time.
type Search struct{ db *db }

// States of a recording in the index.
const (
	SearchPending = "pending"
	SearchDone    = "done"
	SearchFailed  = "failed"
	SearchOff     = "off"
)

// Sizes of a block. A search for words that are often apart reads many blocks in vain; more and smaller ones make
// the index large.
const (
	SearchBlockBytes = 8 << 10          // of text, after which a block is closed
	SearchBlockSpan  = 60 * time.Second // from the first line of a block to its last
)

// Bounds of one search: it gives up after so many blocks or so long, and says where to go on.
const (
	searchBatch   = 64
	pgWindow      = 16  // blocks that are looked at one by one on PostgreSQL, first
	lastWindow    = 128 // … and at most
	searchBlocks  = 4096
	searchTime    = 1200 * time.Millisecond
	searchLimit   = 50
	maxSearch     = 1000
	slots         = 1 << 12 // blocks of one second, before the next second's ids are used
	slotSlack     = 5       // seconds that ids may be late by
	clearBatch    = 200
	finishTime    = 20 * time.Second // for all commands of a recording
	searchPatient = 10 * time.Minute // how long a recording waits for the node that made it
)

// SearchClaim is a recording that a worker has to index.
type SearchClaim struct {
	Session string
	Channel int
	Path    string // of the recording
	Node    string // that recorded it
	User    string
	Target  string
	Tries   int // with this one
	worker  string
}

// SearchLine is a line that was seen.
type SearchLine struct {
	At   time.Duration // since the recording began
	Text string
}

// SearchBlock is some lines of a recording, in the order of time.
type SearchBlock struct {
	Begun time.Time // when the recording began
	Lines []SearchLine
}

// SearchResult is how the indexing of a recording ended.
type SearchResult struct {
	State    string // SearchDone, SearchFailed or SearchOff
	Note     string
	Commands []Command
}

// SearchState is how far the index is with a recording.
type SearchState struct {
	Session string
	Channel int
	State   string
	Note    string
	Lines   int64
}

// Command is a command line that was found on the screen of a recording.
type Command struct {
	Channel int
	At      time.Duration // since the recording began
	Text    string
	FoundBy string // "prompt", or "marks" of the shell itself
}

// SearchFilter says what to look for, and where. Empty fields choose all.
type SearchFilter struct {
	Text    string // on one line, upper and lower case alike; "*" at its end: the last word may go on
	Session string
	User    string
	Target  string
	Since   time.Time // seen at this time or later
	Until   time.Time // seen before
	Before  string    // the Next of a page, or the ID of a hit: older ones
	Limit   int       // 0: 50, at most 1000
}

// SearchHit is a line with the text.
type SearchHit struct {
	ID       string
	Session  string
	Channel  int
	User     string
	Target   string
	Account  string
	Time     time.Time     // when it was seen
	At       time.Duration // the same, since the recording began
	Line     string
	From, To int // where in Line the text stands, in bytes
}

// SearchPage is a page of hits, newest first.
type SearchPage struct {
	Hits []SearchHit
	Next string    // Before of the next page; "": there is nothing older
	Upto time.Time // where the search gave up, if it did before the page was full; else zero
}

// States tells how far the index is with the recordings of a session, in the order of channels.
func (s Search) States(ctx context.Context, session string) ([]SearchState, error) {
	var states []SearchState
	err := s.db.reading(ctx, "reading the index of session "+session, func(ctx context.Context, q querier) (err error) {
		states, err = all(ctx, q, func(x *SearchState) []any { return []any{&x.Session, &x.Channel, &x.State, &x.Note, &x.Lines} },
			"SELECT session_id, channel, state, note, line_count FROM search_recordings WHERE session_id = ? ORDER BY channel", session)
		return err
	})
	return states, err
}

// Counts tells how many recordings are in each state.
func (s Search) Counts(ctx context.Context) (map[string]int, error) {
	type row struct {
		state string
		n     int
	}
	counts := map[string]int{}
	err := s.db.reading(ctx, "counting what is indexed", func(ctx context.Context, q querier) error {
		rows, err := all(ctx, q, func(r *row) []any { return []any{&r.state, &r.n} }, "SELECT state, COUNT(*) FROM search_recordings GROUP BY state")
		for _, r := range rows {
			counts[r.state] = r.n
		}
		return err
	})
	return counts, err
}

// Commands returns the commands that were found on the screens of a session, in the order of channels and time.
func (s Search) Commands(ctx context.Context, session string) ([]Command, error) {
	var list []Command
	err := s.db.reading(ctx, "reading the commands of session "+session, func(ctx context.Context, q querier) (err error) {
		list, err = all(ctx, q, func(c *Command) []any { return []any{&c.Channel, microColumn{&c.At}, &c.Text, &c.FoundBy} },
			"SELECT channel, at, command, found_by FROM session_commands WHERE session_id = ? ORDER BY channel, number", session)
		return err
	})
	return list, err
}

// microColumn scans a column of microseconds.
type microColumn struct{ to *time.Duration }

func (c microColumn) Scan(v any) error {
	n, ok := v.(int64)
	if !ok {
		return fmt.Errorf("scanning %T as a duration", v)
	}
	*c.to = time.Duration(n) * time.Microsecond
	return nil
}

// searchRow is a block and the session it belongs to.
type searchRow struct {
	id    int64
	hit   SearchHit // without a line
	begun time.Time
	body  []byte
	plain string // the body unpacked, once it was asked for
}

// text is the body unpacked. It is "" if that is damaged: then it hides its own lines and no others.
func (r *searchRow) text() string {
	if r.plain == "" {
		text, err := blockDecoder.DecodeAll(r.body, nil)
		if err != nil {
			return ""
		}
		r.plain = string(text)
	}
	return r.plain
}

func searchFields(r *searchRow) []any {
	return []any{&r.id, &r.hit.Session, &r.hit.Channel, timeColumn{&r.begun}, &r.body, &r.hit.User, &r.hit.Target, &r.hit.Account}
}

// Find looks for a text. The error is [ErrNoWords] for a text that nothing can be looked for with.
func (s Search) Find(ctx context.Context, f SearchFilter) (SearchPage, error) {
	q, err := parseSearched(f.Text)
	if err != nil {
		return SearchPage{}, err
	}
	if f.Limit <= 0 {
		f.Limit = searchLimit
	}
	f.Limit = min(f.Limit, maxSearch)
	first, before, err := f.begin()
	if err != nil {
		return SearchPage{}, err
	}
	lowest := int64(0)
	if !f.Since.IsZero() {
		lowest = secondID(f.Since.Add(-SearchBlockSpan))
	}
	var subjects []string
	for kind, name := range map[string]string{"s": f.Session, "t": f.Target, "u": f.User} {
		if name != "" {
			subjects = append(subjects, subject(kind, name))
		}
	}
	var page SearchPage
	err = s.db.reading(ctx, "searching", func(ctx context.Context, c querier) error {
		begun, from, window := time.Now(), first, s.firstWindow(q)
		for seen := 0; ; {
			rows, bottom, err := s.candidates(ctx, c, q, subjects, lowest, from, window)
			if err != nil {
				return err
			}
			for i := range rows {
				line := 0
				if rows[i].id == first {
					line = before
				}
				if !page.take(q, f, &rows[i], line) {
					return nil
				}
			}
			if bottom <= lowest {
				return nil
			}
			from = bottom - 1
			switch {
			case window == 0:
				window = s.firstWindow(q) // what is rare above may be frequent below
			case len(rows) > window/8:
				window = min(2*window, lastWindow)
			default:
				window = 0
			}
			if seen += len(rows); seen >= searchBlocks || time.Since(begun) > searchTime {
				page.Next, page.Upto = hitID(from, 0), time.Unix(from/slots, 0).UTC()
				return nil
			}
		}
	})
	if err != nil {
		return SearchPage{}, err
	}
	return page, nil
}

// take adds the hits of one block, the newest first, from before its line of that number on (0: from its end). It is
// false when the page is full.
func (p *SearchPage) take(q searched, f SearchFilter, r *searchRow, before int) bool {
	if f.Session != "" && r.hit.Session != f.Session || f.User != "" && r.hit.User != plain(f.User) || f.Target != "" && r.hit.Target != plain(f.Target) {
		return true // two names of one hash
	}
	text := r.text()
	if !strings.Contains(strings.ToLower(text), q.plain) {
		return true
	}
	lines := splitLines(text)
	if before > 0 {
		lines = lines[:min(before-1, len(lines))]
	}
	for i := len(lines) - 1; i >= 0; i-- {
		l := lines[i]
		seen := r.begun.Add(l.At)
		if !f.Since.IsZero() && seen.Before(f.Since) || !f.Until.IsZero() && !seen.Before(f.Until) {
			continue
		}
		from, to := q.find(l.Text)
		if from < 0 {
			continue
		}
		if len(p.Hits) == f.Limit {
			p.Next = p.Hits[len(p.Hits)-1].ID
			return false
		}
		hit := r.hit
		hit.ID, hit.Time, hit.At, hit.Line, hit.From, hit.To = hitID(r.id, i+1), seen, l.At, l.Text, from, to
		p.Hits = append(p.Hits, hit)
	}
	return true
}

// begin is the block a search begins with, and the number of the line in it before which it does; 0: its end.
func (f SearchFilter) begin() (id int64, line int, err error) {
	id = int64(1) << 62
	if !f.Until.IsZero() {
		id = secondID(f.Until.Add((slotSlack+1)*time.Second)) - 1
	}
	if f.Before == "" {
		return id, 0, nil
	}
	block, number, _ := strings.Cut(f.Before, "-")
	from, err := strconv.ParseInt(block, 36, 64)
	if err == nil {
		line, err = strconv.Atoi(number)
	}
	if err != nil || line < 0 || from < 0 {
		return 0, 0, fmt.Errorf("searching before %q: %w", f.Before, ErrNotFound)
	}
	return min(id, from), line, nil
}

// hitID names line number n of a block, counted from 1; 0 stands for its end.
func hitID(block int64, n int) string { return strconv.FormatInt(block, 36) + "-" + strconv.Itoa(n) }

// Blocks are so small that nothing is gained by a coder for each goroutine. Neither can fail to be made with these
// options, and both may be used by several goroutines at once.
var (
	blockEncoder, _ = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(64<<10))
	blockDecoder, _ = zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(64<<20))
)

// packLines is the body of a block: a line of text for each line, that begins with its time in microseconds and a tab.
func packLines(lines []SearchLine) []byte {
	var text []byte
	for _, l := range lines {
		text = strconv.AppendInt(text, l.At.Microseconds(), 36)
		text = append(text, '\t')
		text = append(text, strings.NewReplacer("\n", " ", "\r", " ").Replace(plain(l.Text))...)
		text = append(text, '\n')
	}
	return blockEncoder.EncodeAll(text, nil)
}

// splitLines reads what packLines wrote.
func splitLines(text string) []SearchLine {
	var lines []SearchLine
	for line := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n") {
		at, rest, _ := strings.Cut(line, "\t")
		micros, err := strconv.ParseInt(at, 36, 64)
		if err == nil {
			lines = append(lines, SearchLine{At: time.Duration(micros) * time.Microsecond, Text: rest})
		}
	}
	return lines
}
