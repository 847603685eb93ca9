package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sallyport/audit"
)

// AuditFilter chooses events. Empty fields choose all.
type AuditFilter struct {
	Type    string
	User    string
	Target  string
	Result  string
	Session string
	Query   string    // part of any text, in any case
	Since   time.Time // at or after
	Until   time.Time // before
	After   string    // newer than the event of this id: what has come since
	Before  string    // older than the event of this id: the next page
	Limit   int       // 0: 100, at most 10000
}

// Audit is the table of audit events.
type Audit struct{ db *db }

const auditColumns = `id, at, type, result, door, user_name, actor, source, target, account, session_id, rule, reason,
	node, detail`

func auditFields(e *audit.Event) []any {
	return []any{
		&e.ID, timeColumn{&e.Time}, &e.Type, &e.Result, &e.Door, &e.User, &e.Actor, &e.Source, &e.Target, &e.Account,
		&e.Session, &e.Rule, &e.Reason, &e.Node, jsonColumn{&e.Detail},
	}
}

// Append keeps an event for good, escaped. A missing id or time is filled in. An event whose id is
// there already was written before, and nothing is done.
func (s Audit) Append(ctx context.Context, e audit.Event) error {
	what := "writing audit event " + e.Type
	values, err := s.values(e)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	add := s.db.changingTogether
	if s.db.postgres() {
		add = s.db.writing // one statement
	}
	return add(ctx, what, func(ctx context.Context, q querier) error { return appendEvent(ctx, q, values) })
}

// Alert is a message that tells of an event.
type Alert struct {
	Message OutMessage
	PerHour int // messages of this kind to this recipient in any hour; what is more is not sent
}

// AppendWith is [Audit.Append] together with the messages that tell of the event: all of it is in the
// database, or nothing. An event that was written before is not told again. Messages for which there is no
// room, in the hour or in the outbox, are left out; the event is written all the same.
func (s Audit) AppendWith(ctx context.Context, e audit.Event, alerts ...Alert) error {
	if len(alerts) == 0 {
		return s.Append(ctx, e)
	}
	what := "writing audit event " + e.Type
	values, err := s.values(e)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	alerts = slices.Clone(alerts)
	slices.SortFunc(alerts, func(a, b Alert) int { return strings.Compare(a.key(), b.key()) }) // see countSends
	messages := make([][]any, len(alerts))
	for i, a := range alerts {
		if messages[i], err = (Outbox{s.db}).values(a.Message); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return s.db.changing(ctx, what, func(ctx context.Context, tx querier) error {
		if isNew, err := insertEvent(ctx, tx, values); err != nil || !isNew {
			return err
		}
		for i, a := range alerts {
			err := countSends(ctx, tx, []sendCount{{kind: "alert", key: a.key(), perHour: a.PerHour}}, s.db.now())
			if err == nil {
				err = addMessage(ctx, tx, messages[i])
			}
			if err != nil && !errors.Is(err, ErrSendLimit) && !errors.Is(err, ErrOutboxFull) {
				return err
			}
		}
		return nil
	})
}

func (a Alert) key() string {
	return storedKey(strings.ToLower(a.Message.Recipient) + "|" + a.Message.Kind)
}

// values returns the columns of an event, escaped and completed.
func (s Audit) values(e audit.Event) ([]any, error) {
	e = e.Escaped()
	if e.ID == "" {
		id, err := newID()
		if err != nil {
			return nil, err
		}
		e.ID = id
	}
	if e.Time.IsZero() {
		e.Time = s.db.now()
	}
	if len(e.Detail) == 0 {
		e.Detail = map[string]string{}
	}
	detail, err := toJSON(e.Detail)
	return []any{
		e.ID, ms(e.Time), e.Type, string(e.Result), e.Door, e.User, e.Actor, e.Source, e.Target, e.Account,
		e.Session, e.Rule, e.Reason, e.Node, detail,
	}, err
}

func appendEvent(ctx context.Context, q querier, values []any) error {
	_, err := insertEvent(ctx, q, values)
	return err
}

// appendEvents is appendEvent for several in one statement.
func appendEvents(ctx context.Context, q querier, events [][]any) error {
	if len(events) == 0 {
		return nil
	}
	const row = ", (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
	_, err := exec(ctx, q, "INSERT INTO audit_events ("+auditColumns+") VALUES "+strings.Repeat(row, len(events))[2:]+
		" ON CONFLICT (id) DO NOTHING", slices.Concat(events...)...)
	return err
}

func insertEvent(ctx context.Context, q querier, values []any) (isNew bool, err error) {
	n, err := exec(ctx, q, "INSERT INTO audit_events ("+auditColumns+`)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`, values...)
	return n == 1, err
}

// List returns the events that f chooses, newest first. With After and more events than Limit it
// returns those that follow After at once, so that whoever asks again misses none.
func (s Audit) List(ctx context.Context, f AuditFilter) ([]audit.Event, error) {
	var where conditions
	where.equal("type", f.Type)
	where.equal("result", f.Result)
	where.equalPrefixed("user_name", f.User)
	where.equalPrefixed("target", f.Target)
	where.equalPrefixed("session_id", f.Session)
	where.between("at", f.Since, f.Until)
	where.greater("id", f.After)
	where.less("id", f.Before)
	if f.Query != "" {
		columns := strings.Split("type door user_name actor source target account session_id rule reason node detail", " ")
		where.add("LOWER("+strings.Join(columns, " || ' ' || ")+`) LIKE ? ESCAPE '\'`, like(f.Query))
	}
	where.limit(f.Limit)
	order := "id DESC"
	if f.After != "" {
		order = "id"
	}
	var events []audit.Event
	err := s.db.reading(ctx, "listing audit events", func(ctx context.Context, q querier) (err error) {
		events, err = all(ctx, q, auditFields, "SELECT "+auditColumns+" FROM audit_events "+where.sql(order), where.args...)
		return err
	})
	if f.After != "" {
		slices.Reverse(events)
	}
	for i := range events {
		if len(events[i].Detail) == 0 {
			events[i].Detail = nil
		}
	}
	return events, err
}
