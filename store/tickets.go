package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Ticket is what a one-time link stands for.
type Ticket struct {
	Purpose string // what it may be used for
	Subject string // whom it is about, such as a user's id
	Data    []byte // sealed in the database
	Expires time.Time
	Bound   bool // to one browser, see [Tickets.Bind]
}

// Tickets is the table of tickets.
type Tickets struct{ db *db }

type ticketRow struct {
	Ticket
	hash, data, browser string
}

const ticketColumns = "secret_hash, purpose, subject, data, expires, browser"

func ticketFields(t *ticketRow) []any {
	return []any{&t.hash, &t.Purpose, &t.Subject, &t.data, timeColumn{&t.Expires}, &t.browser}
}

// Create makes a ticket and returns its secret, 128 random bits in URL-safe base64, of which only a
// hash is kept.
func (s Tickets) Create(ctx context.Context, purpose, subject string, data []byte, ttl time.Duration) (secret string, err error) {
	return s.create(ctx, purpose, subject, data, ttl, nil)
}

// Replace is [Tickets.Create] for a ticket of which a subject has one at most: the one that Replace made before
// is worthless with the same statement, so that of any number made at once one is good.
func (s Tickets) Replace(ctx context.Context, purpose, subject string, data []byte, ttl time.Duration) (secret string, err error) {
	return s.create(ctx, purpose, subject, data, ttl, purpose+" "+subject)
}

// create makes a ticket; single is NULL or what must be unique of it.
func (s Tickets) create(ctx context.Context, purpose, subject string, data []byte, ttl time.Duration, single any) (secret string, err error) {
	what := "making a ticket for " + purpose
	if purpose == "" || ttl <= 0 {
		return "", fmt.Errorf("%s: %w", what, errors.New("purpose or time to live is missing"))
	}
	secret = randomText(16)
	hash := hashSecret(secret)
	sealed, err := s.db.ring.Seal("tickets", "data", hash, data)
	if err != nil {
		return "", fmt.Errorf("%s: %w", what, err)
	}
	now := s.db.now()
	err = s.db.writing(ctx, what, func(ctx context.Context, q querier) error {
		_, err := exec(ctx, q, "INSERT INTO tickets ("+ticketColumns+", created, single) VALUES (?, ?, ?, ?, ?, '', ?, ?)"+
			" ON CONFLICT (single) DO UPDATE SET secret_hash = excluded.secret_hash, data = excluded.data,"+
			" expires = excluded.expires, browser = '', created = excluded.created",
			hash, purpose, subject, sealed, ms(now.Add(ttl)), ms(now), single)
		return err
	})
	if err != nil {
		return "", err
	}
	return secret, nil
}

// Peek returns a ticket and leaves it, for a page that shows what will happen. The error is
// [ErrNotFound] if there is none for this purpose or it has expired.
func (s Tickets) Peek(ctx context.Context, purpose, secret string) (Ticket, error) {
	return s.find(ctx, s.db.reading, "looking at a ticket for "+purpose,
		"SELECT "+ticketColumns+" FROM tickets WHERE secret_hash = ? AND purpose = ? AND expires > ?", purpose, secret)
}

// Take returns a ticket and makes its secret worthless: of any number of tries one gets it, the
// others get [ErrNotFound], as do those for another purpose and those that come too late.
func (s Tickets) Take(ctx context.Context, purpose, secret string) (Ticket, error) {
	return s.find(ctx, s.db.writing, "taking a ticket for "+purpose,
		"DELETE FROM tickets WHERE secret_hash = ? AND purpose = ? AND expires > ? RETURNING "+ticketColumns, purpose, secret)
}

func (s Tickets) find(ctx context.Context, run runner, what, statement, purpose, secret string) (Ticket, error) {
	var t ticketRow
	err := run(ctx, what, func(ctx context.Context, q querier) (err error) {
		t, err = one(ctx, q, ticketFields, statement, hashSecret(secret), purpose, ms(s.db.now()))
		return err
	})
	if err != nil {
		return Ticket{}, err
	}
	if t.Data, err = s.db.ring.Open("tickets", "data", t.hash, t.data); err != nil {
		return Ticket{}, fmt.Errorf("%s: %w", what, err)
	}
	t.Bound = t.browser != ""
	return t.Ticket, nil
}

// ErrOtherBrowser is why a ticket may not be used: another browser was the first.
var ErrOtherBrowser = errors.New("another browser was the first to open it")

// Bind gives a ticket to the first browser that asks for it, by a secret that this browser keeps: of any number
// that ask at once one gets it. For that one the ticket is returned again and again; the error is
// [ErrOtherBrowser] for all others, and [ErrNotFound] if there is no such ticket.
func (s Tickets) Bind(ctx context.Context, purpose, secret, browser string) (Ticket, error) {
	return s.bound(ctx, s.db.writing, "binding a ticket for "+purpose, purpose, secret, browser, func(ctx context.Context, q querier) error {
		_, err := exec(ctx, q, "UPDATE tickets SET browser = ? WHERE secret_hash = ? AND purpose = ? AND expires > ? AND browser = ''",
			hashSecret(browser), hashSecret(secret), purpose, ms(s.db.now()))
		return err
	})
}

// PeekBound is [Tickets.Peek] for the browser that the ticket was given to by [Tickets.Bind].
func (s Tickets) PeekBound(ctx context.Context, purpose, secret, browser string) (Ticket, error) {
	return s.bound(ctx, s.db.reading, "looking at a ticket for "+purpose, purpose, secret, browser, nil)
}

func (s Tickets) bound(ctx context.Context, run runner, what, purpose, secret, browser string, before func(context.Context, querier) error) (Ticket, error) {
	if browser == "" {
		return Ticket{}, fmt.Errorf("%s: %w", what, errors.New("the browser's secret is missing"))
	}
	var t ticketRow
	err := run(ctx, what, func(ctx context.Context, q querier) (err error) {
		if before != nil {
			if err := before(ctx, q); err != nil {
				return err
			}
		}
		t, err = one(ctx, q, ticketFields, "SELECT "+ticketColumns+" FROM tickets WHERE secret_hash = ? AND purpose = ? AND expires > ?",
			hashSecret(secret), purpose, ms(s.db.now()))
		return err
	})
	if err != nil {
		return Ticket{}, err
	}
	if t.browser != hashSecret(browser) {
		return Ticket{}, fmt.Errorf("%s: %w", what, ErrOtherBrowser)
	}
	if t.Data, err = s.db.ring.Open("tickets", "data", t.hash, t.data); err != nil {
		return Ticket{}, fmt.Errorf("%s: %w", what, err)
	}
	t.Bound = true
	return t.Ticket, nil
}

// runner is db.reading, db.writing or db.changing.
type runner func(ctx context.Context, what string, f func(context.Context, querier) error) error

// Drop makes all tickets for a purpose about a subject worthless.
func (s Tickets) Drop(ctx context.Context, purpose, subject string) error {
	return s.db.writing(ctx, "dropping tickets for "+purpose, func(ctx context.Context, q querier) error {
		_, err := exec(ctx, q, "DELETE FROM tickets WHERE purpose = ? AND subject = ?", purpose, subject)
		return err
	})
}
