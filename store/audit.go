package store

import (
	"context"
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
	return s.db.writing(ctx, what, func(ctx context.Context, q querier) error {
		return appendEvent(ctx, q, values)
	})
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
	_, err := exec(ctx, q, "INSERT INTO audit_events ("+auditColumns+`)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`, values...)
	return err
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
