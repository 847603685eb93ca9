package store_test

import (
	"encoding/base64"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/store"
)

func TestTickets(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		ticket := must[string](t)(s.Tickets.Create(ctx, "first-admin", "alice", []byte("data"), 15*time.Minute))
		if b, err := base64.RawURLEncoding.DecodeString(ticket); err != nil || len(b) != 16 {
			t.Errorf("the secret %q is not 128 bits", ticket)
		}
		_, err := s.Tickets.Take(ctx, "enrol", ticket)
		wantError(t, "other purpose", err, store.ErrNotFound)
		_, err = s.Tickets.Take(ctx, "first-admin", ticket+"A")
		wantError(t, "other secret", err, store.ErrNotFound)
		_, err = s.Tickets.Take(ctx, "first-admin", "")
		wantError(t, "no secret", err, store.ErrNotFound)
		for range 2 {
			got := must[store.Ticket](t)(s.Tickets.Peek(ctx, "first-admin", ticket))
			if got.Subject != "alice" || string(got.Data) != "data" || !got.Expires.Equal(start.Add(15*time.Minute)) {
				t.Errorf("got %+v", got)
			}
		}
		got := must[store.Ticket](t)(s.Tickets.Take(ctx, "first-admin", ticket))
		if got.Purpose != "first-admin" || got.Subject != "alice" || string(got.Data) != "data" {
			t.Errorf("got %+v", got)
		}
		_, err = s.Tickets.Take(ctx, "first-admin", ticket)
		wantError(t, "second time", err, store.ErrNotFound)

		old := must[string](t)(s.Tickets.Create(ctx, "enrol", "bob", nil, 15*time.Minute))
		e.clock.Move(15 * time.Minute)
		_, err = s.Tickets.Peek(ctx, "enrol", old)
		wantError(t, "looking at an expired one", err, store.ErrNotFound)
		_, err = s.Tickets.Take(ctx, "enrol", old)
		wantError(t, "expired", err, store.ErrNotFound)

		dropped := must[string](t)(s.Tickets.Create(ctx, "enrol", "bob", nil, time.Minute))
		kept := must[string](t)(s.Tickets.Create(ctx, "enrol", "carol", nil, time.Minute))
		check(t, s.Tickets.Drop(ctx, "enrol", "bob"))
		_, err = s.Tickets.Take(ctx, "enrol", dropped)
		wantError(t, "dropped", err, store.ErrNotFound)
		must[store.Ticket](t)(s.Tickets.Take(ctx, "enrol", kept))
		if _, err := s.Tickets.Create(ctx, "enrol", "bob", nil, 0); err == nil {
			t.Error("a ticket without time to live was made")
		}
	})
}

func TestTicketIsNotStoredInTheClear(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		if e.name == "memory" {
			return // leaves nothing
		}
		ticket := must[string](t)(e.open().Tickets.Create(t.Context(), "enrol", "bob", []byte("the data"), time.Minute))
		var row string
		check(t, raw(t, e.dsn).QueryRowContext(t.Context(), "SELECT secret_hash || data FROM tickets").Scan(&row))
		if strings.Contains(row, ticket) || strings.Contains(row, "the data") {
			t.Errorf("the row holds the secret or the data: %s", row)
		}
	})
}

func TestTakeInParallel(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		nodes := e.nodes()
		ticket := must[string](t)(nodes[0].Tickets.Create(t.Context(), "enrol", "bob", nil, time.Minute))
		var taken, failed atomic.Int32
		parallel(1000, func(i int) {
			switch _, err := nodes[i%2].Tickets.Take(t.Context(), "enrol", ticket); {
			case err == nil:
				taken.Add(1)
			default:
				failed.Add(1)
			}
		})
		if taken.Load() != 1 || failed.Load() != 999 {
			t.Errorf("taken %d times and refused %d times, want 1 and 999", taken.Load(), failed.Load())
		}
	})
}
