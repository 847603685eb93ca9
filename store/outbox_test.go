package store_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/store"
)

func mail(e *engine, to string) store.OutMessage {
	return store.OutMessage{Channel: store.ByMail, Kind: "test", User: "alice", Recipient: to, Subject: "About " + to, Text: "Hello", Expires: e.clock.Now().Add(24 * time.Hour)}
}

func TestOutbox(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		claim := func() (store.OutMessage, error) { return s.Outbox.Claim(ctx, time.Minute, store.ByMail, store.BySMS) }
		_, err := claim()
		wantError(t, "an empty outbox", err, store.ErrNotFound)
		first := mail(e, "a@example.org")
		first.Same = "one"
		check(t, s.Outbox.Add(ctx, first))
		check(t, s.Outbox.Add(ctx, first)) // the same again
		urgent := mail(e, "+4915112345678")
		urgent.Channel, urgent.Urgent = store.BySMS, true
		e.clock.Move(time.Second)
		check(t, s.Outbox.Add(ctx, urgent))
		if _, err := s.Outbox.Claim(ctx, time.Minute, "pigeon"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("a channel without sender: %v", err)
		}
		m := must[store.OutMessage](t)(claim())
		if m.Channel != store.BySMS || m.Text != "Hello" || m.Tries != 1 {
			t.Errorf("the urgent one should come first: %+v", m)
		}
		check(t, s.Outbox.Sent(ctx, m))
		wantError(t, "sent twice", s.Outbox.Sent(ctx, m), store.ErrNotFound)
		m = must[store.OutMessage](t)(claim())
		if m.Subject != "About a@example.org" {
			t.Errorf("%+v", m)
		}
		_, err = claim()
		wantError(t, "a message that is being delivered", err, store.ErrNotFound)
		check(t, s.Outbox.Later(ctx, m, e.clock.Now().Add(time.Minute), "away"))
		_, err = claim()
		wantError(t, "before it is due", err, store.ErrNotFound)
		check(t, s.Outbox.Retry(ctx, m.ID))
		m = must[store.OutMessage](t)(claim())
		check(t, s.Outbox.Fail(ctx, m, "no such mailbox"))
		if c := must[store.OutboxCounts](t)(s.Outbox.Counts(ctx)); c != (store.OutboxCounts{Failed: 1}) {
			t.Errorf("counts %+v", c)
		}
		list := must[[]store.OutMessage](t)(s.Outbox.List(ctx, "", 0))
		if len(list) != 2 || list[0].State != store.MessageSent || list[1].Error != "no such mailbox" || list[1].Tries != 2 {
			t.Errorf("list %+v", list)
		}
		wantError(t, "retry of a sent one", s.Outbox.Retry(ctx, list[0].ID), store.ErrNotFound)
		check(t, s.Outbox.Drop(ctx, m.ID))
		wantError(t, "drop twice", s.Outbox.Drop(ctx, m.ID), store.ErrNotFound)
		e.clock.Move(8 * 24 * time.Hour)
		check(t, s.Purge(ctx))
		if list := must[[]store.OutMessage](t)(s.Outbox.List(ctx, "", 0)); len(list) != 0 {
			t.Errorf("after a week: %+v", list)
		}
	})
}

// A node that dies with a message in hand loses none: another gets it when the lease has run out, and the
// dead one's word does not count any more.
func TestOutboxLease(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		dead, alive, ctx := e.open(), e.open(), t.Context()
		check(t, dead.Outbox.Add(ctx, mail(e, "a@example.org")))
		lost := must[store.OutMessage](t)(dead.Outbox.Claim(ctx, time.Minute, store.ByMail))
		e.clock.Move(time.Minute - time.Millisecond)
		_, err := alive.Outbox.Claim(ctx, time.Minute, store.ByMail)
		wantError(t, "within the lease", err, store.ErrNotFound)
		e.clock.Move(time.Millisecond)
		m := must[store.OutMessage](t)(alive.Outbox.Claim(ctx, time.Minute, store.ByMail))
		if m.ID != lost.ID || m.Tries != 2 || m.Text != "Hello" {
			t.Errorf("%+v", m)
		}
		wantError(t, "the dead node's word", dead.Outbox.Sent(ctx, lost), store.ErrNotFound)
		check(t, alive.Outbox.Sent(ctx, m))
	})
}

// Of many messages and many who deliver at once, on two nodes, each message goes to one of them.
func TestOutboxInParallel(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		nodes, ctx := []*store.Store{e.open(), e.open()}, t.Context()
		for i := range 40 {
			check(t, nodes[0].Outbox.Add(ctx, mail(e, fmt.Sprintf("u%d@example.org", i))))
		}
		var mu sync.Mutex
		got := map[string]int{}
		parallel(8, func(i int) {
			for {
				m, err := nodes[i%2].Outbox.Claim(ctx, time.Minute, store.ByMail)
				if errors.Is(err, store.ErrNotFound) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				got[m.Recipient]++
				mu.Unlock()
				if err := nodes[i%2].Outbox.Sent(ctx, m); err != nil {
					t.Error(err)
				}
			}
		})
		if len(got) != 40 {
			t.Errorf("%d of 40 were delivered", len(got))
		}
		for to, n := range got {
			if n != 1 {
				t.Errorf("%s was delivered %d times", to, n)
			}
		}
	})
}

// What nobody could send in time is given up, and a code forgotten.
func TestOutboxExpires(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		check(t, s.SentCodes.Issue(ctx, sent(addUser(t, s, "alice"), "a", "123456", wide)))
		e.clock.Move(store.SentCodeLife)
		_, err := s.Outbox.Claim(ctx, time.Minute, store.ByMail)
		wantError(t, "an old code", err, store.ErrNotFound)
		check(t, s.Purge(ctx))
		list := must[[]store.OutMessage](t)(s.Outbox.List(ctx, store.MessageFailed, 0))
		if len(list) != 1 || list[0].Error == "" {
			t.Fatalf("%+v", list)
		}
		wantError(t, "a code again", s.Outbox.Retry(ctx, list[0].ID), store.ErrNotFound)
	})
}

// Event and messages are written together; an event is told once, and one mailbox gets only so many of a
// kind in an hour.
func TestAlerts(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		alert := func(to string) store.Alert { return store.Alert{Message: mail(e, to), PerHour: 3} }
		one := audit.Event{ID: "019aaaaa-0000-7000-8000-000000000001", Type: audit.LockoutSet}
		check(t, s.Audit.AppendWith(ctx, one, alert("a@example.org"), alert("b@example.org")))
		check(t, s.Audit.AppendWith(ctx, one, alert("a@example.org"), alert("b@example.org")))
		if list := must[[]store.OutMessage](t)(s.Outbox.List(ctx, "", 0)); len(list) != 2 {
			t.Fatalf("%d messages, want 2", len(list))
		}
		parallel(20, func(int) {
			if err := s.Audit.AppendWith(ctx, audit.Event{Type: audit.LockoutSet}, alert("A@example.org"), alert("b@example.org")); err != nil {
				t.Error(err)
			}
		})
		if list := must[[]store.OutMessage](t)(s.Outbox.List(ctx, "", 0)); len(list) != 6 {
			t.Errorf("%d messages, want 3 for each mailbox", len(list))
		}
		if events := must[[]audit.Event](t)(s.Audit.List(ctx, store.AuditFilter{})); len(events) != 21 {
			t.Errorf("%d events, want 21", len(events))
		}
	})
}
