package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sallyport/audit"
)

// Watch is one operator who watches a session now.
type Watch struct {
	ID        string
	SessionID string
	Channel   int    // 0: not known yet
	Node      string // at which they watch
	Watcher   string // as the audit log names them
	UserID    string // of a person who may moderate; "" for all others
	Login     string // of a person; "" for programs
	Groups    []string
	Started   time.Time
}

// LiveStream is a channel of a session on its way to another node, where somebody watches it.
type LiveStream struct {
	ID        string
	SessionID string
	Channel   int
	Node      string // that reads it
}

// LiveChunk is one piece of a stream.
type LiveChunk struct {
	Seq  int64 // from 1
	Last bool  // nothing follows
	Data []byte
}

// Watching is the tables of who watches open sessions, and of what goes from node to node for them.
type Watching struct{ db *db }

// TopicLive is where nodes hear that the watchers of a session, or its streams, have changed. The payload is
// the session's id.
const TopicLive = "live"

// TopicLiveChunk is where a node hears that a stream goes on. The payload is the stream's id.
const TopicLiveChunk = "live.chunk"

// Times after which nobody is believed to watch, to read or to send any more.
const (
	liveKept  = 15 * time.Second
	LiveRenew = 4 * time.Second // how often whoever watches, reads or sends has to say so
)

// maxUnread bounds the chunks of a stream that wait for their reader.
const maxUnread = 40

// ErrUnread is why [Watching.Put] did not keep a chunk: its reader is too slow.
var ErrUnread = errors.New("the reader has not read what was sent before")

const watchColumns = "w.id, w.session_id, w.channel, w.node, w.watcher, w.user_id, w.login, w.groups, w.started"

func watchFields(w *Watch) []any {
	return []any{&w.ID, &w.SessionID, &w.Channel, &w.Node, &w.Watcher, &w.UserID, &w.Login, jsonColumn{&w.Groups}, timeColumn{&w.Started}}
}

// tell runs f in one transaction and has every node hear of it.
func (s Watching) tell(ctx context.Context, what, topic, payload string, f func(context.Context, querier) error) error {
	err := s.db.changing(ctx, what, func(ctx context.Context, tx querier) error {
		if err := f(ctx, tx); err != nil {
			return err
		}
		return s.db.bus.publishWith(ctx, tx, topic, payload)
	})
	if err == nil {
		s.db.bus.deliver(Message{Topic: topic, Payload: payload})
	}
	return err
}

// Begin notes that somebody begins to watch, together with the event of it, and tells the node of the session.
// It returns the id. The error is [ErrNotFound] if there is no live session of this id.
func (s Watching) Begin(ctx context.Context, w Watch, e audit.Event) (string, error) {
	what := "noting who watches session " + w.SessionID
	id, err := newID()
	if err != nil {
		return "", fmt.Errorf("%s: %w", what, err)
	}
	event, err := Audit{s.db}.values(e)
	if err != nil {
		return "", fmt.Errorf("%s: %w", what, err)
	}
	groups, err := toJSON(list(w.Groups))
	if err != nil {
		return "", fmt.Errorf("%s: %w", what, err)
	}
	now := s.db.now()
	return id, s.tell(ctx, what, TopicLive, w.SessionID, func(ctx context.Context, tx querier) error {
		err := execOne(ctx, tx, `INSERT INTO live_watches (id, session_id, channel, node, watcher, user_id, login, groups, started, expires)
			SELECT CAST(? AS TEXT), id, CAST(? AS INTEGER), CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS BIGINT), CAST(? AS BIGINT)
			FROM sessions WHERE id = ? AND state = ?`,
			id, w.Channel, w.Node, w.Watcher, w.UserID, w.Login, groups, ms(now), ms(now.Add(liveKept)), w.SessionID, Live)
		if err != nil {
			return err
		}
		return appendEvent(ctx, tx, event)
	})
}

// Renew says that somebody still watches, and which channel. The error is [ErrNotFound] if nobody believed it any more.
func (s Watching) Renew(ctx context.Context, id string, channel int) error {
	return s.db.writing(ctx, "noting that a session is still watched", func(ctx context.Context, q querier) error {
		now := s.db.now()
		return execOne(ctx, q, "UPDATE live_watches SET expires = ?, channel = ? WHERE id = ? AND expires > ?", ms(now.Add(liveKept)), channel, id, ms(now))
	})
}

// End notes that somebody does not watch any more.
func (s Watching) End(ctx context.Context, id, sessionID string, e audit.Event) error {
	what := "noting who watched session " + sessionID
	event, err := Audit{s.db}.values(e)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return s.tell(ctx, what, TopicLive, sessionID, func(ctx context.Context, tx querier) error {
		if _, err := exec(ctx, tx, "DELETE FROM live_watches WHERE id = ?", id); err != nil {
			return err
		}
		return appendEvent(ctx, tx, event)
	})
}

// Watches returns who watches a session now, in the order in which they began.
func (s Watching) Watches(ctx context.Context, sessionID string) ([]Watch, error) {
	return s.watches(ctx, "w.session_id = ?", sessionID)
}

// WatchesAt returns who watches live sessions of a node now.
func (s Watching) WatchesAt(ctx context.Context, node string) ([]Watch, error) {
	return s.watches(ctx, "w.session_id IN (SELECT id FROM sessions WHERE state = ? AND node = ?)", Live, node)
}

func (s Watching) watches(ctx context.Context, where string, args ...any) (list []Watch, err error) {
	err = s.db.reading(ctx, "reading who watches", func(ctx context.Context, q querier) (err error) {
		list, err = all(ctx, q, watchFields, "SELECT "+watchColumns+" FROM live_watches w WHERE "+where+" AND w.expires > ? ORDER BY w.started, w.id",
			append(args, ms(s.db.now()))...)
		return err
	})
	return list, err
}

// Ask asks the node of a session to send one of its channels, and returns the id of the stream.
func (s Watching) Ask(ctx context.Context, x LiveStream) (string, error) {
	id, err := newID()
	if err != nil {
		return "", fmt.Errorf("asking for session %s: %w", x.SessionID, err)
	}
	now := s.db.now()
	return id, s.tell(ctx, "asking for session "+x.SessionID, TopicLive, x.SessionID, func(ctx context.Context, tx querier) error {
		_, err := exec(ctx, tx, "INSERT INTO live_streams (id, session_id, channel, node, got, alive, expires) VALUES (?, ?, ?, ?, 0, 0, ?)",
			id, x.SessionID, x.Channel, x.Node, ms(now.Add(liveKept)))
		return err
	})
}

// Streams returns what sessions of a node are asked for now. They may be over: what ended at once is still to be seen.
func (s Watching) Streams(ctx context.Context, node string) (list []LiveStream, err error) {
	err = s.db.reading(ctx, "reading what is watched", func(ctx context.Context, q querier) (err error) {
		list, err = all(ctx, q, func(x *LiveStream) []any { return []any{&x.ID, &x.SessionID, &x.Channel, &x.Node} },
			`SELECT id, session_id, channel, node FROM live_streams WHERE expires > ?
			AND EXISTS (SELECT 1 FROM sessions WHERE sessions.id = live_streams.session_id AND sessions.node = ?)`, ms(s.db.now()), node)
		return err
	})
	return list, err
}

// Put sends a chunk. The error is [ErrNotFound] if nobody reads the stream any more, and [ErrUnread] if too
// much waits for its reader; the last chunk is kept all the same.
func (s Watching) Put(ctx context.Context, streamID string, c LiveChunk) error {
	id := fmt.Sprintf("%s/%d", streamID, c.Seq)
	sealed, err := s.db.ring.Seal("live_chunks", "data", id, c.Data)
	if err != nil {
		return fmt.Errorf("sealing what is watched: %w", err)
	}
	now := s.db.now()
	return s.tell(ctx, "sending what is watched", TopicLiveChunk, streamID, func(ctx context.Context, tx querier) error {
		got, err := scalar[int64](ctx, tx, "UPDATE live_streams SET alive = ? WHERE id = ? AND expires > ? RETURNING got", ms(now), streamID, ms(now))
		if err != nil {
			return err
		}
		if c.Seq-got > maxUnread && !c.Last {
			return ErrUnread
		}
		_, err = exec(ctx, tx, "INSERT INTO live_chunks (id, stream_id, seq, last, data) VALUES (?, ?, ?, ?, ?)", id, streamID, c.Seq, c.Last, sealed)
		return err
	})
}

// Sending says that the node of the session still sends the stream, also while there is nothing to send. The
// error is [ErrNotFound] if nobody reads it any more.
func (s Watching) Sending(ctx context.Context, streamID string) error {
	return s.db.writing(ctx, "noting that a session is still sent", func(ctx context.Context, q querier) error {
		now := s.db.now()
		return execOne(ctx, q, "UPDATE live_streams SET alive = ? WHERE id = ? AND expires > ?", ms(now), streamID, ms(now))
	})
}

// Read returns what has come after the chunk that was read last, in order, and whether the sender is there:
// it has said so within the last 15 seconds.
func (s Watching) Read(ctx context.Context, streamID string, after int64) (list []LiveChunk, alive bool, err error) {
	type row struct {
		LiveChunk
		id, sealed string
	}
	var rows []row
	err = s.db.reading(ctx, "reading what is watched", func(ctx context.Context, q querier) (err error) {
		since, err := scalar[int64](ctx, q, "SELECT alive FROM live_streams WHERE id = ?", streamID)
		if err != nil {
			return err
		}
		alive = s.db.now().Sub(time.UnixMilli(since)) < liveKept
		rows, err = all(ctx, q, func(r *row) []any { return []any{&r.id, &r.Seq, &r.Last, &r.sealed} },
			"SELECT id, seq, last, data FROM live_chunks WHERE stream_id = ? AND seq > ? ORDER BY seq", streamID, after)
		return err
	})
	if err != nil {
		return nil, false, err
	}
	for _, r := range rows {
		if r.Data, err = s.db.ring.Open("live_chunks", "data", r.id, r.sealed); err != nil {
			return nil, false, fmt.Errorf("opening what is watched: %w", err)
		}
		list = append(list, r.LiveChunk)
	}
	return list, alive, nil
}

// Keep says that a stream is still read, up to the chunk that was read last; those up to it go.
func (s Watching) Keep(ctx context.Context, streamID string, got int64) error {
	return s.db.changing(ctx, "noting what was read", func(ctx context.Context, tx querier) error {
		if err := execOne(ctx, tx, "UPDATE live_streams SET got = ?, expires = ? WHERE id = ?", got, ms(s.db.now().Add(liveKept)), streamID); err != nil {
			return err
		}
		_, err := exec(ctx, tx, "DELETE FROM live_chunks WHERE stream_id = ? AND seq <= ?", streamID, got)
		return err
	})
}

// Drop says that a stream is not read any more. Nothing of it is kept.
func (s Watching) Drop(ctx context.Context, x LiveStream) error {
	return s.tell(ctx, "noting that nobody watches", TopicLive, x.SessionID, func(ctx context.Context, tx querier) error {
		_, err := exec(ctx, tx, "DELETE FROM live_streams WHERE id = ?", x.ID)
		return err
	})
}

// purge removes what is left of watchers and readers who went without a word.
func (s Watching) purge(ctx context.Context) error {
	return s.db.changing(ctx, "removing what nobody watches", func(ctx context.Context, tx querier) error {
		now := ms(s.db.now())
		if _, err := exec(ctx, tx, "DELETE FROM live_streams WHERE expires <= ?", now); err != nil {
			return err
		}
		_, err := exec(ctx, tx, "DELETE FROM live_watches WHERE expires <= ?", now)
		return err
	})
}
