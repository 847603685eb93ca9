package store

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
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

// Discover makes pending what was recorded by channels that ended since the given time, or whose node died, and is
// not known yet. It returns how many there were. What ended without any output is done with that: there are many such
// commands, and a claim costs as much as a login.
func (s Search) Discover(ctx context.Context, since time.Time) (int64, error) {
	var found int64
	err := s.db.writing(ctx, "looking for new recordings", func(ctx context.Context, q querier) error {
		for _, ended := range []string{
			"c.ended > 0 AND c.ended >= ?",
			"c.ended = 0 AND s.state = 'lost' AND s.ended >= ?", // nobody noted the end of their channels
		} {
			n, err := exec(ctx, q, `INSERT INTO search_recordings (session_id, channel, state, note, node, found, worker, due, tries, line_count)
				SELECT c.session_id, c.id, CASE WHEN c.ended > 0 AND c.bytes_out = 0 THEN ? ELSE ? END, '', s.node, ?, '', 0, 0, 0 FROM session_channels c JOIN sessions s ON s.id = c.session_id
				WHERE `+ended+` AND c.recording <> '' AND NOT EXISTS
					(SELECT 1 FROM search_recordings r WHERE r.session_id = c.session_id AND r.channel = c.id)
				ORDER BY c.ended DESC, c.session_id DESC LIMIT 1000
				ON CONFLICT (session_id, channel) DO NOTHING`, SearchDone, SearchPending, ms(s.db.now()), ms(since))
			if err != nil {
				return err
			}
			found += n
		}
		return nil
	})
	return found, err
}

// Claim takes a recording for a worker until the lease is over: one that this node made, else one whose own node
// has left it alone for ten minutes. Of any number of workers one gets it. The error is [ErrNotFound] if none is due.
func (s Search) Claim(ctx context.Context, worker, node string, lease time.Duration) (SearchClaim, error) {
	c := SearchClaim{worker: worker}
	err := s.db.writing(ctx, "claiming a recording to index", func(ctx context.Context, q querier) error {
		now := s.db.now()
		skip := ""
		if s.db.postgres() {
			skip = " FOR UPDATE SKIP LOCKED"
		}
		claimed, err := one(ctx, q, func(c *SearchClaim) []any { return []any{&c.Session, &c.Channel, &c.Tries} },
			`WITH next AS MATERIALIZED (SELECT session_id, channel FROM search_recordings
				WHERE state = ? AND due <= ? AND (node = ? OR found <= ?) AND NOT EXISTS
					(SELECT 1 FROM session_channels c JOIN sessions s ON s.id = c.session_id
					WHERE c.session_id = search_recordings.session_id AND c.id = search_recordings.channel AND c.ended = 0 AND s.state = 'live')
				ORDER BY due, session_id DESC LIMIT 1`+skip+`)
			UPDATE search_recordings SET worker = ?, due = ?, tries = tries + 1, line_count = 0
			WHERE (session_id, channel) = (SELECT session_id, channel FROM next) RETURNING session_id, channel, tries`,
			SearchPending, ms(now), node, ms(now.Add(-searchPatient)), worker, ms(now.Add(lease)))
		if err != nil {
			return err
		}
		c.Session, c.Channel, c.Tries = claimed.Session, claimed.Channel, claimed.Tries
		return c.about(ctx, q)
	})
	return c, err
}

// about reads what a recording is of.
func (c *SearchClaim) about(ctx context.Context, q querier) error {
	about, err := one(ctx, q, func(c *SearchClaim) []any { return []any{&c.Path, &c.Node, &c.User, &c.Target} },
		`SELECT c.recording, s.node, s.user_name, s.target FROM session_channels c JOIN sessions s ON s.id = c.session_id
		WHERE c.session_id = ? AND c.id = ?`, c.Session, c.Channel)
	c.Path, c.Node, c.User, c.Target = about.Path, about.Node, about.User, about.Target
	return err
}

// ClaimOpen takes a recording that is still being written, for the worker of the node that writes it. The error is
// [ErrConflict] if another worker has it or it is settled, and [ErrNotFound] if there is no such channel.
func (s Search) ClaimOpen(ctx context.Context, worker, node, session string, channel int, lease time.Duration) (SearchClaim, error) {
	c := SearchClaim{Session: session, Channel: channel, worker: worker}
	err := s.db.writing(ctx, "claiming an open recording to index", func(ctx context.Context, q querier) error {
		if err := c.about(ctx, q); err != nil {
			return err
		}
		now := s.db.now()
		n, err := exec(ctx, q, `INSERT INTO search_recordings (session_id, channel, state, note, node, found, worker, due, tries, line_count)
			VALUES (?, ?, ?, '', ?, ?, ?, ?, 0, 0)
			ON CONFLICT (session_id, channel) DO UPDATE SET worker = excluded.worker, due = excluded.due
			WHERE search_recordings.state = excluded.state AND search_recordings.due <= ?`,
			session, channel, SearchPending, node, ms(now), worker, ms(now.Add(lease)), ms(now))
		if err == nil && n == 0 {
			err = ErrConflict
		}
		return err
	})
	return c, err
}

// Progress renews the claim of a recording that goes on, notes how far its index goes, and writes the commands that
// were found so far; the first of them, as many as settled says, are as they were at the last call.
func (s Search) Progress(ctx context.Context, c SearchClaim, lease time.Duration, note string, settled int, commands []Command) error {
	return s.db.changingWithin(ctx, finishTime, "indexing session "+c.Session, func(ctx context.Context, tx querier) error {
		if err := s.held(ctx, tx, c, "note = ?, due = ?", note, ms(s.db.now().Add(lease))); err != nil {
			return err
		}
		return putCommands(ctx, tx, c, settled, commands)
	})
}

// putCommands writes the commands of a recording behind the first, which are there.
func putCommands(ctx context.Context, tx querier, c SearchClaim, settled int, commands []Command) error {
	if _, err := exec(ctx, tx, "DELETE FROM session_commands WHERE session_id = ? AND channel = ? AND number > ?", c.Session, c.Channel, settled); err != nil {
		return err
	}
	for i := settled; i < len(commands); i++ {
		x := commands[i]
		if _, err := exec(ctx, tx, `INSERT INTO session_commands (session_id, channel, number, at, command, found_by) VALUES (?, ?, ?, ?, ?, ?)`,
			c.Session, c.Channel, i+1, x.At.Microseconds(), x.Text, x.FoundBy); err != nil {
			return err
		}
	}
	return nil
}

// held goes on with a claim in a transaction, or says [ErrConflict] if it is not the worker's any more.
func (s Search) held(ctx context.Context, tx querier, c SearchClaim, set string, args ...any) error {
	n, err := exec(ctx, tx, "UPDATE search_recordings SET "+set+" WHERE session_id = ? AND channel = ? AND worker = ? AND state = ?",
		append(args, c.Session, c.Channel, c.worker, SearchPending)...)
	if err == nil && n == 0 {
		err = ErrConflict
	}
	return err
}

// Clear removes what an earlier worker left of a claimed recording.
func (s Search) Clear(ctx context.Context, c SearchClaim, lease time.Duration) error {
	return s.clear(ctx, c.Session, c.Channel, func(ctx context.Context, tx querier) error {
		return s.held(ctx, tx, c, "due = ?", ms(s.db.now().Add(lease)))
	})
}

// clear removes the blocks and commands of a recording in short transactions, each of which begins with first.
func (s Search) clear(ctx context.Context, session string, channel int, first func(context.Context, querier) error) error {
	for n := int64(clearBatch); n == clearBatch; {
		err := s.db.changing(ctx, "clearing the index of session "+session, func(ctx context.Context, tx querier) (err error) {
			if err = first(ctx, tx); err != nil {
				return err
			}
			if _, err = exec(ctx, tx, "DELETE FROM session_commands WHERE session_id = ? AND channel = ?", session, channel); err != nil {
				return err
			}
			n, err = exec(ctx, tx, `DELETE FROM search_blocks WHERE id IN
				(SELECT id FROM search_blocks WHERE session_id = ? AND channel = ? LIMIT ?)`, session, channel, clearBatch)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Add adds blocks to a claimed recording and renews the claim. After [ErrConflict] another worker has it.
func (s Search) Add(ctx context.Context, c SearchClaim, lease time.Duration, blocks ...SearchBlock) error {
	subjects := []string{subject("s", c.Session), subject("t", c.Target), subject("u", c.User)}
	// What takes time is done before the transaction: SQLite has one writer, and logins wait for it.
	lines := 0
	packed := make([]packedBlock, 0, len(blocks))
	for _, b := range blocks {
		if lines += len(b.Lines); len(b.Lines) > 0 {
			packed = append(packed, packedBlock{
				id: firstBlockID(b.Begun.Add(b.Lines[0].At), c.Session, c.Channel), begun: b.Begun,
				body: packLines(b.Lines), words: strings.Join(blockWords(b.Lines, subjects), " "),
			})
		}
	}
	return s.db.changing(ctx, "indexing session "+c.Session, func(ctx context.Context, tx querier) error {
		if err := s.held(ctx, tx, c, "due = ?, line_count = line_count + ?", ms(s.db.now().Add(lease)), lines); err != nil {
			return err
		}
		for _, b := range packed {
			if err := s.addBlock(ctx, tx, c, b); err != nil {
				return err
			}
		}
		return nil
	})
}

// packedBlock is a block as the tables keep it.
type packedBlock struct {
	id    int64 // or one a little above
	begun time.Time
	body  []byte
	words string
}

func (s Search) addBlock(ctx context.Context, tx querier, c SearchClaim, b packedBlock) error {
	for tries := 0; ; tries++ {
		n, err := exec(ctx, tx, `INSERT INTO search_blocks (id, session_id, channel, begun, body) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (id) DO NOTHING`, b.id, c.Session, c.Channel, ms(b.begun), b.body)
		if err != nil {
			return err
		}
		if n == 1 {
			break
		}
		if tries == slotSlack*slots {
			return errors.New("too many lines were seen in one second")
		}
		b.id++
	}
	insert := "INSERT INTO search_words (rowid, words) VALUES (?, ?)"
	if s.db.postgres() {
		insert = "INSERT INTO search_words (id, words) VALUES (?, array_to_tsvector(string_to_array(?, ' ')))"
	}
	_, err := exec(ctx, tx, insert, b.id, b.words)
	return err
}

// firstBlockID is where the id of a block is looked for first. Recordings begin at different places of a second.
func firstBlockID(seen time.Time, session string, channel int) int64 {
	h := fnv.New32a()
	fmt.Fprint(h, session, channel)
	return secondID(seen) + int64(h.Sum32()%slots)
}

// secondID is the lowest id of a block of that second.
func secondID(t time.Time) int64 { return max(t.Unix(), 0) * slots }

// Finish settles a claim.
func (s Search) Finish(ctx context.Context, c SearchClaim, r SearchResult) error {
	return s.db.changingWithin(ctx, finishTime, "settling the index of session "+c.Session, func(ctx context.Context, tx querier) error {
		if err := s.held(ctx, tx, c, "note = ?, due = 0, state = ?", r.Note, r.State); err != nil {
			return err
		}
		return putCommands(ctx, tx, c, 0, r.Commands)
	})
}

// Postpone gives a claim back until a time, and notes why.
func (s Search) Postpone(ctx context.Context, c SearchClaim, note string, until time.Time) error {
	return s.db.changing(ctx, "putting off the index of session "+c.Session, func(ctx context.Context, tx querier) error {
		return s.held(ctx, tx, c, "note = ?, due = ?, worker = ''", note, ms(until))
	})
}

// Forget removes a recording from the index for good and notes why. Whoever deletes a recording calls it, or
// deletes the row of the session, with which all of its index goes.
func (s Search) Forget(ctx context.Context, session string, channel int, note string) error {
	return s.clear(ctx, session, channel, func(ctx context.Context, tx querier) error {
		_, err := exec(ctx, tx, `INSERT INTO search_recordings (session_id, channel, state, note, node, found, worker, due, tries, line_count)
			VALUES (?, ?, ?, ?, '', ?, '', 0, 0, 0)
			ON CONFLICT (session_id, channel) DO UPDATE SET state = excluded.state, note = excluded.note, worker = '', due = 0, line_count = 0`,
			session, channel, SearchOff, note, ms(s.db.now()))
		return err
	})
}

// Again has a recording indexed anew, unless it is off: there is more of it than there was.
func (s Search) Again(ctx context.Context, session string, channel int) error {
	return s.db.writing(ctx, "having session "+session+" indexed again", func(ctx context.Context, q querier) error {
		return indexAgain(ctx, q, session, channel)
	})
}

func indexAgain(ctx context.Context, q querier, session string, channel int) error {
	_, err := exec(ctx, q, "UPDATE search_recordings SET state = ?, note = '', worker = '', due = 0, tries = 0 WHERE session_id = ? AND channel = ? AND state <> ?",
		SearchPending, session, channel, SearchOff)
	return err
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
