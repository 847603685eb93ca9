package store

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"time"
)

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
