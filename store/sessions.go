package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"sallyport/audit"
)

// States of a session.
const (
	Live  = "live"
	Ended = "ended"
	Lost  = "lost" // its node died
)

// WaitsModerator is that a session stands still until somebody watches who may moderate it.
const WaitsModerator = "moderator"

// Session is a person's connection through the bastion to a target.
type Session struct {
	ID             string
	UserID         string
	User           string // login
	Target         string
	Address        string
	Account        string
	Source         string
	Client         string // version string of the client
	Node           string
	Rule           string
	Recording      string // "required", "best-effort" or "off"
	State          string // Live, Ended or Lost
	Reason         string // why it ended
	Started        time.Time
	Ended          time.Time
	KeyFingerprint string // of the key that proved the person, if any
	Waits          string // of a live one: WaitsModerator while it stands still; "": it goes on
	Approval       string // id of the approval that opening uses up; of sessions that are read, empty
	Channels       []Channel
}

// Channel is one channel of a session.
type Channel struct {
	ID         int
	Kind       string
	Command    string
	Term       bool // has a PTY
	ExitStatus *int // nil until known
	ExitSignal string
	BytesIn    int64  // from the client
	BytesOut   int64  // to the client
	Recording  string // relative path, empty if there is none
	SHA256     string
	Truncated  bool // the recording stopped at its limit
	Started    time.Time
	Ended      time.Time

	FilesRead, FilesWritten int // transferred by it, as the ledger counts

	// Of the recording, for [Sessions.OpenChannel] and CloseChannel only; see [Recording].
	Retention time.Duration    // 0: for ever
	Sealed    *SealedRecording // nil: it is open, or could not be sealed
}

// SessionFilter chooses sessions. Empty fields choose all.
type SessionFilter struct {
	State  string
	User   string
	Target string
	Source string
	Since  time.Time // started at or after
	Until  time.Time // started before
	Before string    // older than the session of this id: the next page
	Limit  int       // 0: 100, at most 10000
}

// SessionCounts tells how many sessions there are in each state.
type SessionCounts struct{ Live, Ended, Lost int }

// Sessions is the table of sessions and their channels.
type Sessions struct{ db *db }

const sessionColumns = `id, user_id, user_name, target, address, account, source, client, node, rule, recording, state,
	reason, started, ended, key_fingerprint, waits`

func sessionFields(x *Session) []any {
	return []any{
		&x.ID, &x.UserID, &x.User, &x.Target, &x.Address, &x.Account, &x.Source, &x.Client, &x.Node, &x.Rule,
		&x.Recording, &x.State, &x.Reason, timeColumn{&x.Started}, timeColumn{&x.Ended}, &x.KeyFingerprint, &x.Waits,
	}
}

// channelRow is a channel and the session it belongs to.
type channelRow struct {
	Channel
	sessionID  string
	exitStatus sql.NullInt64
}

const channelColumns = `session_id, id, kind, command, term, exit_status, exit_signal, bytes_in, bytes_out, recording,
	sha256, truncated, started, ended, files_read, files_written`

func channelFields(c *channelRow) []any {
	return []any{
		&c.sessionID, &c.ID, &c.Kind, &c.Command, &c.Term, &c.exitStatus, &c.ExitSignal, &c.BytesIn, &c.BytesOut,
		&c.Recording, &c.SHA256, &c.Truncated, timeColumn{&c.Started}, timeColumn{&c.Ended},
		&c.FilesRead, &c.FilesWritten,
	}
}

// together runs f and keeps what happened, in one transaction if there are events or atomic.
func (s Sessions) together(ctx context.Context, what string, atomic bool, events []audit.Event, f func(context.Context, querier) error) error {
	if len(events) == 0 && !atomic {
		return s.db.writing(ctx, what, f)
	}
	return s.db.withEvents(ctx, s.db.changing, what, events, f)
}

// withEvents runs f and keeps what happened, in one transaction of the kind of change.
func (d *db) withEvents(ctx context.Context, change func(context.Context, string, func(context.Context, querier) error) error,
	what string, events []audit.Event, f func(context.Context, querier) error) error {
	rows := make([][]any, len(events))
	for i, e := range events {
		var err error
		if rows[i], err = (Audit{d}).values(e); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return change(ctx, what, func(ctx context.Context, tx querier) error {
		if err := f(ctx, tx); err != nil {
			return err
		}
		return appendEvents(ctx, tx, rows)
	})
}

// Open notes a session that begins. A missing id or start is filled in; the state is Live. Here and below
// events are kept in the same transaction: all or nothing.
func (s Sessions) Open(ctx context.Context, x Session, events ...audit.Event) (Session, error) {
	return s.OpenWithin(ctx, x, Quota{}, events...)
}

// OpenWithin is Open if there is a place for x under each limit of quota; else the error is a *[QuotaError].
// Of any number of parallel calls on all nodes exactly as many get a place as the limits allow. Sessions that
// are live count, but for those of nodes that do not live any more. If x names an approval, that is used up, and the
// error is [ErrConflict] if it is not for this session, was used before or is too old.
func (s Sessions) OpenWithin(ctx context.Context, x Session, quota Quota, events ...audit.Event) (Session, error) {
	what := "noting a session of " + x.User
	if x.ID == "" {
		id, err := newID()
		if err != nil {
			return Session{}, fmt.Errorf("%s: %w", what, err)
		}
		x.ID = id
	}
	if x.Started.IsZero() {
		x.Started = s.db.now()
	}
	err := s.db.withEvents(ctx, s.db.changingTogether, what, events, func(ctx context.Context, q querier) (err error) {
		if x.Approval != "" {
			if err := (Approvals{s.db}).use(ctx, q, x); err != nil {
				return err
			}
		}
		if quota != (Quota{}) {
			if err := s.holdPlaces(ctx, q, x, quota); err != nil {
				return err
			}
			// A statement of its own: it has to see what was committed while this one waited.
			if err := s.within(ctx, q, x, quota); err != nil {
				return err
			}
		}
		x, err = one(ctx, q, sessionFields, "INSERT INTO sessions ("+sessionColumns+`)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '', ?, 0, ?, ?) RETURNING `+sessionColumns,
			x.ID, x.UserID, x.User, x.Target, x.Address, x.Account, x.Source, x.Client, x.Node, x.Rule, x.Recording, Live,
			ms(x.Started), x.KeyFingerprint, x.Waits)
		return err
	})
	if err != nil {
		return Session{}, err
	}
	return x, nil
}

// Waits notes what a live session waits for, "" if it goes on.
func (s Sessions) Waits(ctx context.Context, id, waits string) error {
	return s.db.writing(ctx, "noting what session "+id+" waits for", func(ctx context.Context, q querier) error {
		_, err := exec(ctx, q, "UPDATE sessions SET waits = ? WHERE id = ? AND state = ?", waits, id, Live)
		return err
	})
}

// OpenChannel notes a channel that begins.
func (s Sessions) OpenChannel(ctx context.Context, sessionID string, c Channel, events ...audit.Event) error {
	return s.db.withEvents(ctx, s.db.changingTogether, "noting a channel of session "+sessionID, events, func(ctx context.Context, q querier) error {
		return s.putChannel(ctx, q, sessionID, c)
	})
}

// CloseChannel replaces what is known of a channel by c, which has ended. It may come without
// [Sessions.OpenChannel], if the database did not answer then.
func (s Sessions) CloseChannel(ctx context.Context, sessionID string, c Channel, events ...audit.Event) error {
	return s.CloseChannels(ctx, sessionID, []Channel{c}, events...)
}

// CloseChannels is [Sessions.CloseChannel] for several channels of a session: all of them or none.
func (s Sessions) CloseChannels(ctx context.Context, sessionID string, list []Channel, events ...audit.Event) error {
	return s.db.withEvents(ctx, s.db.changingTogether, "noting the end of channels of session "+sessionID, events, func(ctx context.Context, q querier) error {
		return s.closeChannels(ctx, q, sessionID, list)
	})
}

func (s Sessions) closeChannels(ctx context.Context, q querier, sessionID string, list []Channel) error {
	for _, c := range list {
		if c.Ended.IsZero() {
			c.Ended = s.db.now()
		}
		if err := s.putChannel(ctx, q, sessionID, c); err != nil {
			return err
		}
	}
	return nil
}

func (s Sessions) putChannel(ctx context.Context, q querier, sessionID string, c Channel) error {
	if c.Started.IsZero() {
		c.Started = s.db.now()
	}
	var status sql.NullInt64
	if c.ExitStatus != nil {
		status = sql.NullInt64{Int64: int64(*c.ExitStatus), Valid: true}
	}
	_, err := exec(ctx, q, "INSERT INTO session_channels ("+channelColumns+`)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (session_id, id) DO UPDATE SET kind = excluded.kind, command = excluded.command,
				term = excluded.term, exit_status = excluded.exit_status, exit_signal = excluded.exit_signal,
				bytes_in = excluded.bytes_in, bytes_out = excluded.bytes_out, recording = excluded.recording,
				sha256 = excluded.sha256, truncated = excluded.truncated, started = excluded.started,
				ended = excluded.ended, files_read = excluded.files_read, files_written = excluded.files_written`,
		sessionID, c.ID, c.Kind, c.Command, c.Term, status, c.ExitSignal, c.BytesIn, c.BytesOut, c.Recording,
		c.SHA256, c.Truncated, ms(c.Started), ms(c.Ended), c.FilesRead, c.FilesWritten)
	if err != nil {
		return err
	}
	if c.Recording == "" && c.Retention > 0 {
		_, err := exec(ctx, q, "UPDATE session_channels SET retention = ? WHERE session_id = ? AND id = ?", c.Retention.Milliseconds(), sessionID, c.ID)
		return err
	}
	return Recordings{s.db}.put(ctx, q, sessionID, c)
}

// End notes that a session has ended now, one too that another node took for lost. On one that has ended
// it does nothing; the error is [ErrNotFound] if there is none.
func (s Sessions) End(ctx context.Context, id, reason string, events ...audit.Event) error {
	return s.EndWith(ctx, id, reason, nil, events...)
}

// EndWith is [Sessions.End] together with [Sessions.CloseChannels]: all of it or nothing.
func (s Sessions) EndWith(ctx context.Context, id, reason string, channels []Channel, events ...audit.Event) error {
	return s.db.withEvents(ctx, s.db.changingTogether, "noting the end of session "+id, events, func(ctx context.Context, q querier) error {
		if err := s.closeChannels(ctx, q, id, channels); err != nil {
			return err
		}
		n, err := exec(ctx, q, "UPDATE sessions SET state = ?, reason = ?, ended = ? WHERE id = ? AND state IN (?, ?)",
			Ended, reason, ms(s.db.now()), id, Live, Lost)
		if err != nil || n == 1 {
			return err
		}
		_, err = scalar[string](ctx, q, "SELECT state FROM sessions WHERE id = ?", id)
		return err
	})
}

// MarkLost makes Lost what a node left Live when it died, and returns these sessions, newest
// first, with their channels. A node calls it once when it starts, before its first session.
func (s Sessions) MarkLost(ctx context.Context, node string) ([]Session, error) {
	var lost []Session
	err := s.db.changing(ctx, "marking the lost sessions of node "+node, func(ctx context.Context, tx querier) (err error) {
		lost, err = all(ctx, tx, sessionFields,
			"UPDATE sessions SET state = ?, reason = ?, ended = ? WHERE node = ? AND state = ? RETURNING "+sessionColumns,
			Lost, "the node stopped without notice", ms(s.db.now()), node, Live)
		if err != nil {
			return err
		}
		slices.SortFunc(lost, func(a, b Session) int { return strings.Compare(b.ID, a.ID) })
		if err := (Recordings{s.db}).lost(ctx, tx, lost); err != nil {
			return err
		}
		return addChannels(ctx, tx, lost)
	})
	if err != nil {
		return nil, err
	}
	return lost, nil
}

// Get returns a session with its channels, or [ErrNotFound].
func (s Sessions) Get(ctx context.Context, id string) (Session, error) {
	list, err := s.find(ctx, "reading session "+id, "WHERE id = ?", id)
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("reading session %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return Session{}, err
	}
	return list[0], nil
}

// List returns the sessions that f chooses, newest first, with their channels.
func (s Sessions) List(ctx context.Context, f SessionFilter) ([]Session, error) {
	var where conditions
	where.equal("state", f.State)
	where.equalPrefixed("user_name", f.User)
	where.equalPrefixed("target", f.Target)
	where.equal("source", f.Source)
	where.between("started", f.Since, f.Until)
	where.less("id", f.Before)
	where.limit(f.Limit)
	return s.find(ctx, "listing sessions", where.sql("id DESC"), where.args...)
}

func (s Sessions) find(ctx context.Context, what, rest string, args ...any) ([]Session, error) {
	var list []Session
	err := s.db.reading(ctx, what, func(ctx context.Context, q querier) (err error) {
		if list, err = all(ctx, q, sessionFields, "SELECT "+sessionColumns+" FROM sessions "+rest, args...); err != nil {
			return err
		}
		return addChannels(ctx, q, list)
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// addChannels reads the channels of sessions, in the order of their ids.
func addChannels(ctx context.Context, q querier, sessions []Session) error {
	if len(sessions) == 0 {
		return nil
	}
	place, ids := make(map[string]int, len(sessions)), make([]string, len(sessions))
	for i, x := range sessions {
		place[x.ID], ids[i] = i, x.ID
	}
	query, args, err := sqlx.In("SELECT "+channelColumns+" FROM session_channels WHERE session_id IN (?) ORDER BY session_id, id", ids)
	if err != nil {
		return err
	}
	rows, err := all(ctx, q, channelFields, query, args...)
	for _, r := range rows {
		if r.exitStatus.Valid {
			status := int(r.exitStatus.Int64)
			r.ExitStatus = &status
		}
		x := &sessions[place[r.sessionID]]
		x.Channels = append(x.Channels, r.Channel)
	}
	return err
}

// Counts tells how many sessions there are.
func (s Sessions) Counts(ctx context.Context) (SessionCounts, error) {
	type row struct {
		state string
		n     int
	}
	var counts SessionCounts
	err := s.db.reading(ctx, "counting sessions", func(ctx context.Context, q querier) error {
		rows, err := all(ctx, q, func(r *row) []any { return []any{&r.state, &r.n} },
			"SELECT state, COUNT(*) FROM sessions GROUP BY state")
		for _, r := range rows {
			switch r.state {
			case Live:
				counts.Live = r.n
			case Ended:
				counts.Ended = r.n
			case Lost:
				counts.Lost = r.n
			}
		}
		return err
	})
	return counts, err
}
