package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"sallyport/audit"
)

// States of a recording.
const (
	RecordingOpen     = "open"
	RecordingPending  = "tail-pending" // its node was lost: there is more on that node's disk
	RecordingSealed   = "sealed"
	RecordingRemoving = "removing" // a node is deleting it
	RecordingRemoved  = "removed"
)

// Recording is what is known of the recording of one channel. It stays when the recording is deleted.
type Recording struct {
	SessionID   string
	Channel     int
	Node        string // that recorded
	Path        string
	State       string
	AtNode      bool   // on the node's disk; else it is in the store of all nodes alone
	Bytes       int64  // of asciicast; 0 while it is open
	Packed      int64  // bytes kept
	Parts       int    // sealed
	Root        string // signed head of the chain, "" while there is none
	Retention   time.Duration
	DeleteAfter time.Time // zero: never
	Held        bool      // not deleted whatever its age
	Removed     time.Time
	GivenUp     time.Time // an operator has said that its node never comes back; zero: nobody did
}

// Hold keeps the recordings of a session from being deleted.
type Hold struct {
	SessionID string
	Reason    string
	Actor     string
	Created   time.Time
}

// SealedRecording is what a recording turned out to be when it was sealed.
type SealedRecording struct {
	Path, Root    string
	Bytes, Packed int64
	Parts         int
}

// RecordingUsage is what is kept of recordings on all nodes.
type RecordingUsage struct {
	Kept    int   // recordings that are not deleted
	Packed  int64 // bytes of those that are sealed
	AtNodes int   // sealed ones that are on a node's disk
	Pending int   // whose tail is missing
	Held    int   // sessions
}

// ErrBeingRemoved is why a session cannot be held: a recording of it is being deleted at this moment.
var ErrBeingRemoved = errors.New("a recording of the session is being deleted")

// Recordings is the table of recordings.
type Recordings struct{ db *db }

const recordingColumns = `session_id, channel, node, path, state, at_node, bytes, packed, parts, root, retention, delete_after, held, removed, given_up`

// msColumn scans a column of milliseconds into a duration.
type msColumn struct{ to *time.Duration }

func (c msColumn) Scan(v any) error {
	n, ok := v.(int64)
	if !ok {
		return fmt.Errorf("scanning %T as a duration", v)
	}
	*c.to = time.Duration(n) * time.Millisecond
	return nil
}

func recordingFields(r *Recording) []any {
	return []any{&r.SessionID, &r.Channel, &r.Node, &r.Path, &r.State, &r.AtNode, &r.Bytes, &r.Packed, &r.Parts, &r.Root,
		msColumn{&r.Retention}, timeColumn{&r.DeleteAfter}, &r.Held, timeColumn{&r.Removed}, timeColumn{&r.GivenUp}}
}

// deletedAt is when something that ended at the given time may go; 0 is never.
func deletedAt(ended time.Time, retention time.Duration) int64 {
	if retention <= 0 {
		return 0
	}
	return ms(ended.Add(retention))
}

// put notes the recording of a channel together with the channel.
func (r Recordings) put(ctx context.Context, q querier, sessionID string, c Channel) error {
	if c.Recording == "" {
		return nil
	}
	state, after := RecordingOpen, int64(0)
	if c.Sealed != nil {
		state, after = RecordingSealed, deletedAt(c.Ended, c.Retention)
	} else {
		c.Sealed = &SealedRecording{}
	}
	// A row of a channel that ends without being sealed stays open: Recover seals it, and says so here.
	_, err := exec(ctx, q, `INSERT INTO recordings (`+recordingColumns+`, pending, claimed)
		VALUES (?, ?, (SELECT node FROM sessions WHERE id = ?), ?, ?, TRUE, ?, ?, ?, ?, ?, ?, EXISTS (SELECT 1 FROM session_holds WHERE session_id = ?), 0, 0, '', 0)
		ON CONFLICT (session_id, channel) DO UPDATE SET path = excluded.path, state = excluded.state, bytes = excluded.bytes,
			packed = excluded.packed, parts = excluded.parts, root = excluded.root, retention = excluded.retention, delete_after = excluded.delete_after
		WHERE recordings.state IN ('open', 'tail-pending')`,
		sessionID, c.ID, sessionID, c.Recording, state, c.Sealed.Bytes, c.Sealed.Packed, c.Sealed.Parts, c.Sealed.Root,
		c.Retention.Milliseconds(), after, sessionID)
	return err
}

// Of returns the recordings of a session, in the order of its channels.
func (r Recordings) Of(ctx context.Context, sessionID string) (list []Recording, err error) {
	err = r.db.reading(ctx, "reading the recordings of session "+sessionID, func(ctx context.Context, q querier) (err error) {
		list, err = all(ctx, q, recordingFields, "SELECT "+recordingColumns+" FROM recordings WHERE session_id = ? ORDER BY channel", sessionID)
		return err
	})
	return list, err
}

// Seal notes that a recording which a dead process had left was sealed, on the disk of its node, whatever was known of
// it before. The error is ErrNotFound, and nothing is noted, if nothing is known of it here.
func (r Recordings) Seal(ctx context.Context, sessionID string, channel int, s SealedRecording, events ...audit.Event) error {
	return r.seal(ctx, "", sessionID, channel, s, events)
}

// SealLost is Seal by another node, which has found in the store that the recording was sealed before its node was lost.
// The error is ErrConflict, and nothing is noted, if somebody was faster: what is deleted by now must not be there again.
func (r Recordings) SealLost(ctx context.Context, sessionID string, channel int, s SealedRecording, events ...audit.Event) error {
	err := r.seal(ctx, " AND state = 'tail-pending'", sessionID, channel, s, events)
	if errors.Is(err, ErrNotFound) {
		err = fmt.Errorf("sealing a recording of session %s: %w", sessionID, ErrConflict)
	}
	return err
}

func (r Recordings) seal(ctx context.Context, where, sessionID string, channel int, s SealedRecording, events []audit.Event) error {
	now := ms(r.db.now())
	return Sessions{r.db}.together(ctx, "noting that a recording of session "+sessionID+" was sealed", true, events, func(ctx context.Context, q querier) error {
		err := execOne(ctx, q, `UPDATE recordings SET path = ?, state = ?, at_node = TRUE, root = ?, bytes = ?, packed = ?, parts = ?,
			delete_after = CASE WHEN retention > 0 THEN ? + retention ELSE 0 END, removed = 0, given_up = 0 WHERE session_id = ? AND channel = ?`+where,
			s.Path, RecordingSealed, s.Root, s.Bytes, s.Packed, s.Parts, now, sessionID, channel)
		if err != nil {
			return err
		}
		return renamed(ctx, q, sessionID, channel, s.Path)
	})
}

// GiveUp notes that the node which has the tails of recordings of a session never comes back. What other nodes have
// sealed counts as sealed from now on, so that retention deletes it in its time; where nothing of a recording is left
// but on that node it counts as removed. If the node comes back after all, [Recordings.Seal] notes what it has. It
// returns how many those are. The error is ErrNotFound if no tail is missing, and ErrConflict if sealing is set and a
// node has yet to look what has reached the store.
func (r Recordings) GiveUp(ctx context.Context, sessionID string, sealing bool, events ...audit.Event) (n int, err error) {
	err = Sessions{r.db}.together(ctx, "giving up what is missing of session "+sessionID, true, events, func(ctx context.Context, q querier) error {
		const nothing = "pending IN ('', '" + nothingPending + "')"
		now := ms(r.db.now())
		type row struct{ pending string }
		rows, err := all(ctx, q, func(r *row) []any { return []any{&r.pending} }, `UPDATE recordings SET at_node = FALSE, claimed = 0, given_up = ?,
			state = CASE WHEN `+nothing+` THEN 'removed' ELSE 'sealed' END, removed = CASE WHEN `+nothing+` THEN CAST(? AS BIGINT) ELSE 0 END,
			delete_after = CASE WHEN `+nothing+` OR retention = 0 THEN 0 ELSE CAST(? AS BIGINT) + retention END
			WHERE session_id = ? AND state = 'tail-pending' RETURNING pending`, now, now, now, sessionID)
		if err != nil {
			return err
		}
		for _, x := range rows {
			if sealing && x.pending == "" {
				return ErrConflict
			}
		}
		if n = len(rows); n == 0 {
			return ErrNotFound
		}
		return nil
	})
	return n, err
}

// renamed gives the channel of a recording its path: that of a sealed one is another. There may be more in it now.
func renamed(ctx context.Context, q querier, sessionID string, channel int, path string) error {
	if _, err := exec(ctx, q, "UPDATE session_channels SET recording = ? WHERE session_id = ? AND id = ?", path, sessionID, channel); err != nil {
		return err
	}
	return indexAgain(ctx, q, sessionID, channel)
}

// AtNode lists the sealed recordings that are on the disk of a node as far as is known here, at most
// 1000, those first that were sealed first.
func (r Recordings) AtNode(ctx context.Context, node string) (list []Recording, err error) {
	err = r.db.reading(ctx, "listing the recordings on the disk of node "+node, func(ctx context.Context, q querier) (err error) {
		list, err = all(ctx, q, recordingFields, "SELECT "+recordingColumns+` FROM recordings
			WHERE node = ? AND at_node AND state = 'sealed' ORDER BY session_id, channel LIMIT 1000`, node)
		return err
	})
	return list, err
}

// Unsealed lists the recordings of a node of which it is not known here that they were sealed, at most 1000, newest first: those are
// of the process that died last.
func (r Recordings) Unsealed(ctx context.Context, node string) (list []Recording, err error) {
	err = r.db.reading(ctx, "listing the unsealed recordings of node "+node, func(ctx context.Context, q querier) (err error) {
		list, err = all(ctx, q, recordingFields, "SELECT "+recordingColumns+` FROM recordings
			WHERE node = ? AND at_node AND state IN ('open', 'tail-pending') ORDER BY session_id DESC, channel LIMIT 1000`, node)
		return err
	})
	return list, err
}

// Stored notes that a recording is in the store of all nodes and not on the disk of its node any more.
func (r Recordings) Stored(ctx context.Context, sessionID string, channel int) error {
	return r.db.writing(ctx, "noting that a recording of session "+sessionID+" is in the store", func(ctx context.Context, q querier) error {
		_, err := exec(ctx, q, "UPDATE recordings SET at_node = FALSE WHERE session_id = ? AND channel = ? AND state = 'sealed'", sessionID, channel)
		return err
	})
}

// recordingClaim is how long another node leaves a recording alone that one has begun to work on.
const recordingClaim = 10 * time.Minute

// ClaimPending gives a node the recordings of lost nodes of which nobody has sealed what is in the
// store, a few at once. Of several nodes that ask one gets each.
func (r Recordings) ClaimPending(ctx context.Context, node string) (list []Recording, err error) {
	now := r.db.now()
	err = r.db.writing(ctx, "looking for recordings of lost nodes", func(ctx context.Context, q querier) (err error) {
		list, err = all(ctx, q, recordingFields, `UPDATE recordings SET claimed = ?
			WHERE state = 'tail-pending' AND pending = '' AND node <> ? AND claimed < ? AND (session_id, channel) IN
				(SELECT session_id, channel FROM recordings WHERE state = 'tail-pending' AND pending = '' AND node <> ? AND claimed < ? LIMIT 20)
			RETURNING `+recordingColumns, ms(now), node, ms(now.Add(-recordingClaim)), node, ms(now.Add(-recordingClaim)))
		return err
	})
	return list, err
}

// nothingPending stands for a recording of which nothing had reached the store.
const nothingPending = "-"

// SetPending keeps the end that a node has signed for what had reached the store; an empty line if
// there was nothing. The error is ErrConflict, and nothing is kept, if the recording's own node or
// another one was faster.
func (r Recordings) SetPending(ctx context.Context, x Recording, line []byte, s SealedRecording, events ...audit.Event) error {
	text := string(line)
	if text == "" {
		text, events = nothingPending, nil
	}
	return Sessions{r.db}.together(ctx, "noting what was sealed of a recording of session "+x.SessionID, false, events, func(ctx context.Context, q querier) error {
		n, err := exec(ctx, q, `UPDATE recordings SET pending = ?, root = ?, bytes = ?, packed = ?, parts = ?, claimed = 0
			WHERE session_id = ? AND channel = ? AND state = 'tail-pending' AND pending = ''`,
			text, s.Root, s.Bytes, s.Packed, s.Parts, x.SessionID, x.Channel)
		if err == nil && n == 0 {
			err = ErrConflict
		}
		if err != nil || s.Path == "" {
			return err
		}
		return renamed(ctx, q, x.SessionID, x.Channel, s.Path)
	})
}

// Pending returns the end that another node has signed for a recording while its own node was away,
// nil if none did.
func (r Recordings) Pending(ctx context.Context, sessionID string, channel int) ([]byte, error) {
	var line string
	err := r.db.reading(ctx, "reading what was sealed of a recording of session "+sessionID, func(ctx context.Context, q querier) (err error) {
		line, err = scalar[string](ctx, q, "SELECT pending FROM recordings WHERE session_id = ? AND channel = ?", sessionID, channel)
		return err
	})
	if errors.Is(err, ErrNotFound) || err == nil && (line == "" || line == nothingPending) {
		return nil, nil
	}
	return []byte(line), err
}

// ClaimExpired gives a node recordings that are to be deleted, a few at once: those of its own disk,
// and any that are in the store alone. Of several nodes that ask one gets each; from then on they
// cannot be held any more. Those that a node began to delete and did not finish are given out again.
func (r Recordings) ClaimExpired(ctx context.Context, node string) (list []Recording, err error) {
	now := r.db.now()
	err = r.db.writing(ctx, "looking for recordings to delete", func(ctx context.Context, q querier) (err error) {
		const due = `NOT held AND (node = ? OR NOT at_node) AND delete_after > 0 AND delete_after <= ?
			AND (state = 'sealed' OR state = 'removing' AND claimed < ?) AND session_id NOT IN (SELECT session_id FROM session_holds)`
		args := []any{node, ms(now), ms(now.Add(-recordingClaim))}
		list, err = all(ctx, q, recordingFields, `UPDATE recordings SET state = 'removing', claimed = ? WHERE `+due+` AND (session_id, channel) IN
				(SELECT session_id, channel FROM recordings WHERE `+due+` ORDER BY delete_after LIMIT 50)
			RETURNING `+recordingColumns, slices.Concat([]any{ms(now)}, args, args)...)
		return err
	})
	return list, err
}

// Removed notes that a recording is deleted. Its root stays. With the last one of a session its ledger goes. The error is
// ErrConflict, and nothing is noted, if somebody else has noted it, or it is not being deleted any more.
func (r Recordings) Removed(ctx context.Context, x Recording, events ...audit.Event) error {
	return Sessions{r.db}.together(ctx, "noting that a recording of session "+x.SessionID+" was deleted", true, events, func(ctx context.Context, q querier) error {
		n, err := exec(ctx, q, "UPDATE recordings SET state = 'removed', at_node = FALSE, removed = ?, claimed = 0 WHERE session_id = ? AND channel = ? AND state = 'removing'",
			ms(r.db.now()), x.SessionID, x.Channel)
		if err == nil && n == 0 {
			err = ErrConflict
		}
		if err != nil {
			return err
		}
		_, err = exec(ctx, q, `DELETE FROM transfers WHERE session_id = ?
			AND NOT EXISTS (SELECT 1 FROM recordings WHERE session_id = ? AND state <> 'removed')`, x.SessionID, x.SessionID)
		return err
	})
}

// Postpone gives a recording back that could not be deleted, to be deleted at another time.
func (r Recordings) Postpone(ctx context.Context, x Recording, until time.Time) error {
	return r.db.writing(ctx, "postponing the deletion of a recording of session "+x.SessionID, func(ctx context.Context, q querier) error {
		_, err := exec(ctx, q, "UPDATE recordings SET state = 'sealed', claimed = 0, delete_after = ? WHERE session_id = ? AND channel = ? AND state = 'removing'",
			ms(until), x.SessionID, x.Channel)
		return err
	})
}

// TryAgain has a deletion that has begun, and failed, given out again after some time. Until then the recording
// cannot be held: there is no whole one any more.
func (r Recordings) TryAgain(ctx context.Context, x Recording, after time.Duration) error {
	return r.db.writing(ctx, "putting off the rest of the deletion of a recording of session "+x.SessionID, func(ctx context.Context, q querier) error {
		_, err := exec(ctx, q, "UPDATE recordings SET claimed = ? WHERE session_id = ? AND channel = ? AND state = 'removing'",
			ms(r.db.now().Add(after-recordingClaim)), x.SessionID, x.Channel)
		return err
	})
}

// Usage tells what is kept.
func (r Recordings) Usage(ctx context.Context) (u RecordingUsage, err error) {
	err = r.db.reading(ctx, "counting recordings", func(ctx context.Context, q querier) (err error) {
		u, err = one(ctx, q, func(u *RecordingUsage) []any { return []any{&u.Kept, &u.Packed, &u.AtNodes, &u.Pending, &u.Held} }, `SELECT
			COALESCE(SUM(CASE WHEN state <> 'removed' THEN 1 ELSE 0 END), 0),
			CAST(COALESCE(SUM(CASE WHEN state <> 'removed' THEN packed ELSE 0 END), 0) AS BIGINT),
			COALESCE(SUM(CASE WHEN state = 'sealed' AND at_node THEN 1 ELSE 0 END), 0),
			COALESCE(SUM(CASE WHEN state = 'tail-pending' THEN 1 ELSE 0 END), 0),
			(SELECT COUNT(*) FROM session_holds) FROM recordings`)
		return err
	})
	return u, err
}

// Hold keeps the recordings of a session from being deleted, from now on until [Recordings.Release]. On
// a session that is held it replaces the reason. ErrNotFound if there is no such session,
// ErrBeingRemoved if it is too late for one of them.
func (r Recordings) Hold(ctx context.Context, h Hold, events ...audit.Event) error {
	return Sessions{r.db}.together(ctx, "holding session "+h.SessionID, true, events, func(ctx context.Context, q querier) error {
		if err := lockSession(ctx, q, h.SessionID); err != nil {
			return err
		}
		_, err := exec(ctx, q, `INSERT INTO session_holds (session_id, reason, actor, created) VALUES (?, ?, ?, ?)
			ON CONFLICT (session_id) DO UPDATE SET reason = excluded.reason, actor = excluded.actor`, h.SessionID, h.Reason, h.Actor, ms(r.db.now()))
		if err != nil {
			return err
		}
		// The claim of a node that deletes changes the same rows: one of the two comes first.
		rows, err := all(ctx, q, recordingFields, "UPDATE recordings SET held = TRUE WHERE session_id = ? RETURNING "+recordingColumns, h.SessionID)
		if err != nil {
			return err
		}
		for _, x := range rows {
			if x.State == RecordingRemoving {
				return ErrBeingRemoved
			}
		}
		return nil
	})
}

// Release ends a hold. ErrNotFound if the session is not held.
func (r Recordings) Release(ctx context.Context, sessionID string, events ...audit.Event) error {
	return Sessions{r.db}.together(ctx, "releasing session "+sessionID, true, events, func(ctx context.Context, q querier) error {
		if err := execOne(ctx, q, "DELETE FROM session_holds WHERE session_id = ?", sessionID); err != nil {
			return err
		}
		_, err := exec(ctx, q, "UPDATE recordings SET held = FALSE WHERE session_id = ?", sessionID)
		return err
	})
}

// Holds returns the holds of some sessions by their ids.
func (r Recordings) Holds(ctx context.Context, ids ...string) (map[string]Hold, error) {
	found := map[string]Hold{}
	if len(ids) == 0 {
		return found, nil
	}
	err := r.db.reading(ctx, "reading holds", func(ctx context.Context, q querier) error {
		query, args, err := sqlx.In("SELECT session_id, reason, actor, created FROM session_holds WHERE session_id IN (?)", ids)
		if err != nil {
			return err
		}
		list, err := all(ctx, q, func(h *Hold) []any { return []any{&h.SessionID, &h.Reason, &h.Actor, timeColumn{&h.Created}} }, query, args...)
		for _, h := range list {
			found[h.SessionID] = h
		}
		return err
	})
	return found, err
}

// LostAfter is how long a node may say nothing before other nodes take it for lost.
const LostAfter = 40 * time.Second

// MarkLostNodes makes Lost what is Live on nodes that have said nothing for the given time, and their
// open recordings tail-pending. Of several nodes that do it at once one gets each session; event
// makes the audit event that is kept with it.
func (s Sessions) MarkLostNodes(ctx context.Context, self string, silence time.Duration, event func(Session) (audit.Event, error)) (lost []Session, err error) {
	err = s.db.changing(ctx, "marking the sessions of lost nodes", func(ctx context.Context, tx querier) (err error) {
		lost, err = all(ctx, tx, sessionFields,
			`UPDATE sessions SET state = ?, reason = ?, ended = ? WHERE state = ? AND node <> ?
				AND node IN (SELECT name FROM nodes WHERE seen < `+s.db.clockSQL()+" - ?) RETURNING "+sessionColumns,
			Lost, "its node is lost", ms(s.db.now()), Live, self, silence.Milliseconds())
		if err != nil || len(lost) == 0 {
			return err
		}
		slices.SortFunc(lost, func(a, b Session) int { return strings.Compare(b.ID, a.ID) })
		if err := (Recordings{s.db}).lost(ctx, tx, lost); err != nil {
			return err
		}
		for _, x := range lost {
			e, err := event(x)
			if err != nil {
				return err
			}
			values, err := Audit{s.db}.values(e)
			if err != nil {
				return err
			}
			if err := appendEvent(ctx, tx, values); err != nil {
				return err
			}
		}
		return nil
	})
	return lost, err
}

// lost notes that open recordings of lost sessions have their tails on the disks of their nodes.
func (r Recordings) lost(ctx context.Context, tx querier, sessions []Session) error {
	return inChunks(sessions, func(ids []string) error {
		query, args, err := sqlx.In("UPDATE recordings SET state = 'tail-pending' WHERE state = 'open' AND session_id IN (?)", ids)
		if err != nil {
			return err
		}
		_, err = exec(ctx, tx, query, args...)
		return err
	})
}

// inChunks gives f the ids of sessions, not more at once than a statement may have arguments.
func inChunks(sessions []Session, f func(ids []string) error) error {
	for chunk := range slices.Chunk(sessions, 500) {
		ids := make([]string, len(chunk))
		for i, x := range chunk {
			ids[i] = x.ID
		}
		if err := f(ids); err != nil {
			return err
		}
	}
	return nil
}

// Revive makes Live again those of the given sessions of a node that others took for lost while the
// node could not reach the database, and returns them. What was sealed of their recordings stays as it is.
func (s Sessions) Revive(ctx context.Context, node string, ids []string) (back []Session, err error) {
	if len(ids) == 0 {
		return nil, nil
	}
	err = s.db.changing(ctx, "taking back that sessions of node "+node+" are lost", func(ctx context.Context, tx querier) error {
		for chunk := range slices.Chunk(ids, 500) {
			query, args, err := sqlx.In(`UPDATE sessions SET state = 'live', reason = '', ended = 0
				WHERE node = ? AND state = 'lost' AND id IN (?) RETURNING `+sessionColumns, node, chunk)
			if err != nil {
				return err
			}
			list, err := all(ctx, tx, sessionFields, query, args...)
			if err != nil {
				return err
			}
			back = append(back, list...)
		}
		return inChunks(back, func(ids []string) error {
			query, args, err := sqlx.In("UPDATE recordings SET state = 'open' WHERE state = 'tail-pending' AND session_id IN (?)", ids)
			if err != nil {
				return err
			}
			_, err = exec(ctx, tx, query, args...)
			return err
		})
	})
	return back, err
}
