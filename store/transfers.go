package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"sallyport/audit"
)

// Transfer is one line of the ledger of files: a file from open to close, or what else was done to one. The
// words are those of package ledger.
type Transfer struct {
	SessionID string
	Channel   int
	Seq       int    // from 1 in each channel, in the order in which they began
	Op        string // read, write, rename, …
	Path      string // any bytes
	NewPath   string // any bytes; of a rename and of links
	Bytes     int64
	First     int64  // offset of the first of them
	SHA256    string // of these bytes; "" where it is not known
	InOrder   bool   // they passed in their order
	Result    string
	Detail    string
	Started   time.Time
	Ended     time.Time // zero while it is not over
}

// Transfers is the table of them.
type Transfers struct{ db *db }

const transferColumns = `session_id, channel, seq, op, path, new_path, bytes, first, sha256, in_order, result, detail, started, ended`

func transferFields(t *Transfer) []any {
	return []any{
		&t.SessionID, &t.Channel, &t.Seq, &t.Op, bytesColumn{&t.Path}, bytesColumn{&t.NewPath}, &t.Bytes, &t.First, &t.SHA256, &t.InOrder,
		&t.Result, &t.Detail, timeColumn{&t.Started}, timeColumn{&t.Ended},
	}
}

// bytesColumn scans a column of any bytes.
type bytesColumn struct{ to *string }

func (c bytesColumn) Scan(v any) error {
	switch v := v.(type) {
	case []byte:
		*c.to = string(v)
	case string:
		*c.to = v
	default:
		return fmt.Errorf("scanning %T as bytes", v)
	}
	return nil
}

// transferRows is how many rows one statement writes; SQLite takes 32766 parameters.
const transferRows = 200

// Put writes lines of one channel, all or none. One that is there already is replaced unless that one is over:
// a file may be noted while it is open, and what is repeated after a lost answer changes nothing. The error is
// [ErrNotFound] if there is no such session.
func (s Transfers) Put(ctx context.Context, sessionID string, channel int, list []Transfer) error {
	if len(list) == 0 {
		return nil
	}
	what := "noting files of session " + sessionID
	return s.db.changing(ctx, what, func(ctx context.Context, tx querier) error {
		for rest := list; len(rest) > 0; {
			n := min(len(rest), transferRows)
			var args []any
			for _, t := range rest[:n] {
				args = append(args, sessionID, channel, t.Seq, t.Op, []byte(t.Path), []byte(t.NewPath), t.Bytes, t.First, t.SHA256, t.InOrder,
					t.Result, t.Detail, ms(t.Started), ms(t.Ended))
			}
			values := strings.TrimSuffix(strings.Repeat("(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?), ", n), ", ")
			_, err := exec(ctx, tx, "INSERT INTO transfers ("+transferColumns+") VALUES "+values+`
				ON CONFLICT (session_id, channel, seq) DO UPDATE SET op = excluded.op, path = excluded.path, new_path = excluded.new_path,
					bytes = excluded.bytes, first = excluded.first, sha256 = excluded.sha256, in_order = excluded.in_order,
					result = excluded.result, detail = excluded.detail, started = excluded.started, ended = excluded.ended
				WHERE transfers.ended = 0`, args...)
			if err != nil {
				return err
			}
			rest = rest[n:]
		}
		return nil
	})
}

// TransferFilter chooses lines of one session.
type TransferFilter struct {
	SessionID string // required
	Channel   int    // 0: all
	After     string // what [Transfer.Key] gives of the last line of the page before
	Limit     int    // 0: 100, at most 10000
}

// Key is what a page goes on after: "CHANNEL.SEQ".
func (t Transfer) Key() string { return strconv.Itoa(t.Channel) + "." + strconv.Itoa(t.Seq) }

// ErrKey tells that a place to go on from is not what [Transfer.Key] gives.
var ErrKey = errors.New("is not CHANNEL.SEQ")

// List returns the lines that f chooses, by channel and in the order in which they began.
func (s Transfers) List(ctx context.Context, f TransferFilter) ([]Transfer, error) {
	what := "listing the files of session " + f.SessionID
	var where conditions
	where.add("session_id = ?", f.SessionID)
	if f.Channel != 0 {
		where.add("channel = ?", f.Channel)
	}
	if f.After != "" {
		channel, seq, ok := strings.Cut(f.After, ".")
		c, err1 := strconv.ParseInt(channel, 10, 32)
		n, err2 := strconv.ParseInt(seq, 10, 32)
		if !ok || err1 != nil || err2 != nil {
			return nil, fmt.Errorf("%s: after: %w", what, ErrKey)
		}
		where.add("(channel, seq) > (?, ?)", c, n)
	}
	where.limit(f.Limit)
	rest := where.sql("channel, seq")
	var list []Transfer
	err := s.db.reading(ctx, what, func(ctx context.Context, q querier) (err error) {
		list, err = all(ctx, q, transferFields, "SELECT "+transferColumns+" FROM transfers "+rest, where.args...)
		return err
	})
	return list, err
}

// ExpiredLedger is the lines of a channel that was not recorded, and whose time is over.
type ExpiredLedger struct {
	SessionID string
	Channel   int
	Lines     int
	Retention time.Duration
}

// Expired lists lines to delete, of a few channels at once: those whose session has been over for longer than the
// retention of the channel, has no recording any more and is not held.
func (s Transfers) Expired(ctx context.Context) (list []ExpiredLedger, err error) {
	now := ms(s.db.now())
	err = s.db.writing(ctx, "looking for lists of files to delete", func(ctx context.Context, q querier) error {
		rows, err := all(ctx, q, func(x *ExpiredLedger) []any {
			return []any{&x.SessionID, &x.Channel, msColumn{&x.Retention}, &x.Lines}
		}, `SELECT c.session_id, c.id, c.retention, (SELECT COUNT(*) FROM transfers t WHERE t.session_id = c.session_id AND t.channel = c.id)
			FROM session_channels c JOIN sessions s ON s.id = c.session_id
			WHERE c.retention > 0 AND s.state <> ? AND s.ended > 0 AND s.ended + c.retention <= ?
				AND NOT EXISTS (SELECT 1 FROM recordings r WHERE r.session_id = c.session_id AND r.state <> 'removed')
				AND NOT EXISTS (SELECT 1 FROM session_holds h WHERE h.session_id = c.session_id)
			ORDER BY c.session_id, c.id LIMIT 100`, Live, now)
		if err != nil {
			return err
		}
		list = nil
		for _, x := range rows {
			if x.Lines > 0 {
				list = append(list, x)
				continue
			}
			// There never was one, or it has gone with the recordings.
			if _, err := exec(ctx, q, "UPDATE session_channels SET retention = 0 WHERE session_id = ? AND id = ?", x.SessionID, x.Channel); err != nil {
				return err
			}
		}
		return nil
	})
	return list, err
}

// Remove deletes the lines of x, with the event of it. The error is ErrConflict, and nothing is deleted, if somebody
// was faster, or holds the session by now.
func (s Transfers) Remove(ctx context.Context, x ExpiredLedger, events ...audit.Event) error {
	return Sessions{s.db}.together(ctx, "deleting the list of files of session "+x.SessionID, true, events, func(ctx context.Context, tx querier) error {
		if err := lockSession(ctx, tx, x.SessionID); err != nil {
			return err
		}
		// A statement of its own: it has to see who held the session while this one waited.
		n, err := exec(ctx, tx, `UPDATE session_channels SET retention = 0 WHERE session_id = ? AND id = ? AND retention > 0
			AND NOT EXISTS (SELECT 1 FROM session_holds WHERE session_id = ?)`, x.SessionID, x.Channel, x.SessionID)
		if err != nil {
			return err
		}
		if n == 0 {
			return ErrConflict
		}
		_, err = exec(ctx, tx, "DELETE FROM transfers WHERE session_id = ? AND channel = ?", x.SessionID, x.Channel)
		return err
	})
}

// lockSession has other transactions that do the same wait. The error is ErrNotFound if there is no such session.
func lockSession(ctx context.Context, tx querier, id string) error {
	return execOne(ctx, tx, "UPDATE sessions SET state = state WHERE id = ?", id)
}
