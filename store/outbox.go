package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Channels by which a message leaves.
const (
	ByMail = "mail"
	BySMS  = "sms"
)

// States of a message.
const (
	MessageWaiting = "waiting"
	MessageSent    = "sent"
	MessageFailed  = "failed" // given up; an operator may try again
)

// KindCode is the kind of message that carries a one-time code. It is never sent again once it was given up.
const KindCode = "code"

// KindEnrolment is the kind of message that carries a one-time link to enrol a token.
const KindEnrolment = "enrolment"

// TopicOutbox is where the bus tells that a message waits which should leave at once.
const TopicOutbox = "outbox"

// maxOutbox is how many messages may wait. What comes then is refused: a server of mail that is away for
// days must not fill the database.
const maxOutbox = 10_000

// keepMessages is how long it can be seen that a message was sent or given up.
const keepMessages = 7 * 24 * time.Hour

// retryFor is how long a message that an operator sends again is tried.
const retryFor = 24 * time.Hour

// ErrOutboxFull is why a message was not taken.
var ErrOutboxFull = fmt.Errorf("%d messages wait already", maxOutbox)

// OutMessage is one mail or short message to one recipient.
type OutMessage struct {
	ID        string
	Same      string // of several messages with this key only the first is taken; "": there is no key
	Channel   string // ByMail or BySMS
	Kind      string // KindCode, or what it tells of
	User      string // login of the person it is about; "": nobody
	Recipient string // e-mail address, or telephone number in E.164
	Subject   string // sealed in the database, as is Text; both are gone once the message was sent
	Text      string
	Urgent    bool      // before others; for what somebody waits for at a prompt
	Expires   time.Time // nobody tries from then on

	State   string
	Tries   int
	Error   string // why the last try failed
	Created time.Time
	Due     time.Time // of the next try, while it waits
	Done    time.Time // when it was sent or given up

	lease string
}

// content is what is sealed of a message.
type content struct {
	Subject string `json:"subject"`
	Text    string `json:"text"`
}

// Outbox is the table of messages to send. A message is delivered at least once: by whoever has a lease on
// it, and if that node dies, by another when the lease has run out.
type Outbox struct{ db *db }

type outRow struct {
	OutMessage
	content string
}

const outColumns = `id, COALESCE(same, ''), channel, kind, user_name, recipient, content, urgent, state, tries, error, lease,
	due, created, expires, done`

func outFields(m *outRow) []any {
	return []any{
		&m.ID, &m.Same, &m.Channel, &m.Kind, &m.User, &m.Recipient, &m.content, &m.Urgent, &m.State, &m.Tries, &m.Error, &m.lease,
		timeColumn{&m.Due}, timeColumn{&m.Created}, timeColumn{&m.Expires}, timeColumn{&m.Done},
	}
}

// Add puts a message into the outbox. A message whose key Same is there already is not added again, which
// is no error. The error is [ErrOutboxFull] if too many wait.
func (s Outbox) Add(ctx context.Context, m OutMessage) error {
	const what = "putting a message into the outbox"
	values, err := s.values(m)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return s.db.changing(ctx, what, func(ctx context.Context, tx querier) error { return addMessage(ctx, tx, values) })
}

// values returns the columns of a new message, its content sealed.
func (s Outbox) values(m OutMessage) ([]any, error) {
	now := s.db.now()
	if m.Channel != ByMail && m.Channel != BySMS || m.Kind == "" || m.Recipient == "" || !m.Expires.After(now) {
		return nil, errors.New("channel, kind, recipient or expiry is missing")
	}
	id, err := newID()
	if err != nil {
		return nil, err
	}
	plain, err := json.Marshal(content{m.Subject, m.Text})
	if err != nil {
		return nil, fmt.Errorf("encoding a message: %w", err)
	}
	sealed, err := s.db.ring.Seal("outbox", "content", id, plain)
	if err != nil {
		return nil, err
	}
	return []any{id, m.Same, m.Channel, m.Kind, m.User, m.Recipient, sealed, m.Urgent, MessageWaiting, ms(now), ms(now), ms(m.Expires)}, nil
}

func addMessage(ctx context.Context, tx querier, values []any) error {
	waiting, err := scalar[int](ctx, tx, "SELECT COUNT(*) FROM outbox WHERE state = ?", MessageWaiting)
	if err != nil {
		return err
	}
	if waiting >= maxOutbox {
		return ErrOutboxFull
	}
	_, err = exec(ctx, tx, `INSERT INTO outbox
		(id, same, channel, kind, user_name, recipient, content, urgent, state, tries, error, lease, leased_until, due, created, expires, done)
		VALUES (?, NULLIF(?, ''), ?, ?, ?, ?, ?, ?, ?, 0, '', '', 0, ?, ?, ?, 0) ON CONFLICT (same) DO NOTHING`, values...)
	return err
}

// Claim takes the message that has waited longest, urgent ones first, of those that leave by one of
// channels. For the time of the lease nobody else gets it. The error is [ErrNotFound] if none is due.
func (s Outbox) Claim(ctx context.Context, lease time.Duration, channels ...string) (OutMessage, error) {
	const what = "taking a message out of the outbox"
	if len(channels) == 0 {
		return OutMessage{}, fmt.Errorf("%s: %w", what, ErrNotFound)
	}
	id, err := newID()
	if err != nil {
		return OutMessage{}, fmt.Errorf("%s: %w", what, err)
	}
	now := s.db.now()
	skip := ""
	if s.db.postgres() {
		skip = " FOR UPDATE SKIP LOCKED"
	}
	args := []any{id, ms(now.Add(lease)), ms(now), ms(now), ms(now)}
	for _, c := range channels {
		args = append(args, c)
	}
	var m outRow
	err = s.db.writing(ctx, what, func(ctx context.Context, q querier) (err error) {
		m, err = one(ctx, q, outFields, `UPDATE outbox SET lease = ?, leased_until = ?, tries = tries + 1
			WHERE id = (SELECT id FROM outbox
				WHERE state = 'waiting' AND due <= ? AND leased_until <= ? AND expires > ? AND channel IN (?`+strings.Repeat(", ?", len(channels)-1)+`)
				ORDER BY urgent DESC, due, id LIMIT 1`+skip+`)
			RETURNING `+outColumns, args...)
		return err
	})
	if err != nil {
		return OutMessage{}, err
	}
	plain, err := s.db.ring.Open("outbox", "content", m.ID, m.content)
	if err == nil {
		var c content
		err = json.Unmarshal(plain, &c)
		m.Subject, m.Text = c.Subject, c.Text
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", what, err)
		return OutMessage{}, errors.Join(err, s.Fail(ctx, m.OutMessage, "its content cannot be opened"))
	}
	return m.OutMessage, nil
}

// Sent notes that a claimed message has left; what was in it is forgotten. The error is [ErrNotFound] if the
// lease had run out and somebody else has the message now, who then sends it a second time.
func (s Outbox) Sent(ctx context.Context, m OutMessage) error {
	return s.settle(ctx, "noting that a message was sent", "state = 'sent', content = '', error = '', done = ?", m, ms(s.db.now()))
}

// Later puts a claimed message back, to be tried again at due.
func (s Outbox) Later(ctx context.Context, m OutMessage, due time.Time, cause string) error {
	return s.settle(ctx, "putting a message back", "due = ?, error = ?", m, ms(due), cause)
}

// Fail gives a claimed message up. Its content stays until it is purged, so that an operator may send it
// again, except that of a code.
func (s Outbox) Fail(ctx context.Context, m OutMessage, cause string) error {
	return s.settle(ctx, "giving a message up",
		"state = 'failed', content = CASE WHEN kind = 'code' THEN '' ELSE content END, error = ?, done = ?", m, cause, ms(s.db.now()))
}

func (s Outbox) settle(ctx context.Context, what, assignments string, m OutMessage, args ...any) error {
	return s.db.writing(ctx, what, func(ctx context.Context, q querier) error {
		return execOne(ctx, q, "UPDATE outbox SET lease = '', leased_until = 0, "+assignments+" WHERE id = ? AND lease = ? AND lease <> ''",
			append(args, m.ID, m.lease)...)
	})
}

// Retry makes a message due now, also one that was given up. The error is [ErrNotFound] if there is none of
// that id whose content is still there: a code is never sent again.
func (s Outbox) Retry(ctx context.Context, id string) error {
	now := s.db.now()
	return s.db.writing(ctx, "trying message "+id+" again", func(ctx context.Context, q querier) error {
		return execOne(ctx, q, `UPDATE outbox SET state = 'waiting', due = ?, done = 0,
				expires = CASE WHEN kind = 'code' THEN expires ELSE ? END
			WHERE id = ? AND content <> '' AND leased_until <= ?`, ms(now), ms(now.Add(retryFor)), id, ms(now))
	})
}

// Drop deletes a message, whatever its state. The error is [ErrNotFound] if there is none.
func (s Outbox) Drop(ctx context.Context, id string) error {
	return s.db.writing(ctx, "dropping message "+id, func(ctx context.Context, q querier) error {
		return execOne(ctx, q, "DELETE FROM outbox WHERE id = ?", id)
	})
}

// Get returns a message without its content, or [ErrNotFound].
func (s Outbox) Get(ctx context.Context, id string) (OutMessage, error) {
	var m outRow
	err := s.db.reading(ctx, "reading message "+id, func(ctx context.Context, q querier) (err error) {
		m, err = one(ctx, q, outFields, "SELECT "+outColumns+" FROM outbox WHERE id = ?", id)
		return err
	})
	return m.OutMessage, err
}

// List returns messages without their content, newest first: those in a state, or all if it is empty. A
// limit of 0 means 100.
func (s Outbox) List(ctx context.Context, state string, limit int) ([]OutMessage, error) {
	var where conditions
	where.equal("state", state)
	where.limit(limit)
	var messages []OutMessage
	err := s.db.reading(ctx, "listing the outbox", func(ctx context.Context, q querier) error {
		rows, err := all(ctx, q, outFields, "SELECT "+outColumns+" FROM outbox "+where.sql("id DESC"), where.args...)
		for _, r := range rows {
			messages = append(messages, r.OutMessage)
		}
		return err
	})
	return messages, err
}

// OutboxCounts tells how the outbox stands.
type OutboxCounts struct {
	Waiting int
	Retried int // of those that wait: at least one try has failed
	Failed  int
}

// Counts tells how the outbox stands.
func (s Outbox) Counts(ctx context.Context) (OutboxCounts, error) {
	var c OutboxCounts
	err := s.db.reading(ctx, "counting the outbox", func(ctx context.Context, q querier) (err error) {
		c, err = one(ctx, q, func(c *OutboxCounts) []any { return []any{&c.Waiting, &c.Retried, &c.Failed} },
			`SELECT COALESCE(SUM(CASE WHEN state = 'waiting' THEN 1 ELSE 0 END), 0),
				COALESCE(SUM(CASE WHEN state = 'waiting' AND error <> '' THEN 1 ELSE 0 END), 0),
				COALESCE(SUM(CASE WHEN state = 'failed' THEN 1 ELSE 0 END), 0) FROM outbox WHERE state <> 'sent'`)
		return err
	})
	return c, err
}

// purgeOutbox gives up what has expired and forgets what was settled long ago.
func purgeOutbox(ctx context.Context, q querier, now time.Time) error {
	if _, err := exec(ctx, q, `UPDATE outbox SET state = 'failed', done = ?, content = CASE WHEN kind = 'code' THEN '' ELSE content END,
			error = CASE WHEN error = '' THEN 'nobody could send it in time' ELSE error END
		WHERE state = 'waiting' AND expires <= ? AND leased_until <= ?`, ms(now), ms(now), ms(now)); err != nil {
		return err
	}
	_, err := exec(ctx, q, "DELETE FROM outbox WHERE state <> 'waiting' AND done <= ?", ms(now.Add(-keepMessages)))
	return err
}
