package store_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/store"
)

var wide = store.SendLimits{Person: 100, Recipient: 100, Source: 100, All: 100}

func sent(u store.User, attempt, code string, limits store.SendLimits) store.NewSentCode {
	return store.NewSentCode{
		UserID: u.ID, Attempt: attempt, Source: addr("192.0.2.7"), Network: "192.0.2.7", Code: code, Limits: limits,
		Message: store.OutMessage{Channel: store.ByMail, User: u.Login, Recipient: u.Login + "@example.org", Subject: "Code", Text: code},
	}
}

// A code is good once, for its person, attempt and source, three tries and five minutes; a new one makes
// the one before void.
func TestSentCode(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		alice, bob := addUser(t, s, "alice"), addUser(t, s, "bob")
		take := func(u store.User, attempt, source, code string) bool {
			return must[bool](t)(s.SentCodes.Take(ctx, u.ID, attempt, addr(source), code))
		}
		issue := func(u store.User, attempt, code string) {
			t.Helper()
			e.clock.Move(5 * time.Minute)
			check(t, s.SentCodes.Issue(ctx, sent(u, attempt, code, wide)))
		}
		issue(alice, "a1", "111111")
		for _, wrong := range []struct {
			user            store.User
			attempt, source string
		}{{bob, "a1", "192.0.2.7"}, {alice, "a2", "192.0.2.7"}, {alice, "a1", "192.0.2.8"}} {
			if take(wrong.user, wrong.attempt, wrong.source, "111111") {
				t.Errorf("%s %s %s: the code of another was accepted", wrong.user.Login, wrong.attempt, wrong.source)
			}
		}
		if take(alice, "a1", "192.0.2.7", "111112") || !take(alice, "a1", "::ffff:192.0.2.7", "111111") {
			t.Error("wrong code accepted, or right one refused")
		}
		if take(alice, "a1", "192.0.2.7", "111111") {
			t.Error("the code was accepted twice")
		}
		issue(alice, "a1", "222222")
		issue(alice, "a1", "333333")
		if take(alice, "a1", "192.0.2.7", "222222") || !take(alice, "a1", "192.0.2.7", "333333") {
			t.Error("a resend does not make the code before void")
		}
		issue(alice, "a1", "444444")
		for range 3 {
			take(alice, "a1", "192.0.2.7", "000000")
		}
		if take(alice, "a1", "192.0.2.7", "444444") {
			t.Error("accepted at the fourth try")
		}
		issue(alice, "a1", "555555")
		e.clock.Move(store.SentCodeLife)
		if take(alice, "a1", "192.0.2.7", "555555") {
			t.Error("accepted after its time")
		}
	})
}

// However many guess at once, on two nodes: three tries, and one success with the right code.
func TestSentCodeInParallel(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		nodes, ctx := []*store.Store{e.open(), e.open()}, t.Context()
		u := addUser(t, nodes[0], "alice")
		for range 3 {
			e.clock.Move(5 * time.Minute)
			check(t, nodes[0].SentCodes.Issue(ctx, sent(u, "a", "123456", wide)))
			var won atomic.Int64
			parallel(40, func(i int) {
				ok, err := nodes[i%2].SentCodes.Take(ctx, u.ID, "a", addr("192.0.2.7"), "123456")
				if err != nil {
					t.Error(err)
				}
				if ok {
					won.Add(1)
				}
			})
			if won.Load() != 1 {
				t.Fatalf("%d of 40 were accepted with one code", won.Load())
			}
		}
		e.clock.Move(5 * time.Minute)
		check(t, nodes[0].SentCodes.Issue(ctx, sent(u, "a", "123456", wide)))
		parallel(40, func(i int) { nodes[i%2].SentCodes.Take(ctx, u.ID, "a", addr("192.0.2.7"), fmt.Sprintf("%06d", i)) })
		if must[bool](t)(nodes[1].SentCodes.Take(ctx, u.ID, "a", addr("192.0.2.7"), "123456")) {
			t.Error("accepted after 40 wrong tries")
		}
	})
}

// The next code may follow after 30, 60 and 300 s; at a limit nothing is sent, and the code before stays
// good. The hour slides.
func TestSendLimits(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		u := addUser(t, s, "alice")
		limits := wide
		limits.Person = 5
		try := func(code string) error { return s.SentCodes.Issue(ctx, sent(u, "a", code, limits)) }
		for i, wait := range []time.Duration{0, 30 * time.Second, time.Minute, 5 * time.Minute, 5 * time.Minute} {
			if wait > 0 {
				e.clock.Move(wait - time.Millisecond)
				wantError(t, fmt.Sprintf("code %d too early", i+1), try("000000"), store.ErrSendLimit)
				e.clock.Move(time.Millisecond)
			}
			if err := try(fmt.Sprintf("%06d", i+1)); err != nil {
				t.Fatalf("code %d: %v", i+1, err)
			}
		}
		for range 7 { // twelve in a row
			e.clock.Move(time.Minute)
			wantError(t, "beyond the limit", try("000000"), store.ErrSendLimit)
		}
		e.clock.Move(40 * time.Minute)
		wantError(t, "within the hour", try("000000"), store.ErrSendLimit)
		check(t, s.SentCodes.Issue(ctx, sent(addUser(t, s, "bob"), "a", "1", limits)))
		e.clock.Move(2 * time.Minute) // the first one is an hour old
		check(t, try("777777"))
		wantError(t, "right after", try("888888"), store.ErrSendLimit)
		if !must[bool](t)(s.SentCodes.Take(ctx, u.ID, "a", addr("192.0.2.7"), "777777")) {
			t.Error("a refused resend made the code before void")
		}
	})
}

// Of any number of sends at once, on two nodes, exactly as many pass as each limit allows.
func TestSendLimitsInParallel(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		nodes, ctx := []*store.Store{e.open(), e.open()}, t.Context()
		users := make([]store.User, 30)
		for i := range users {
			users[i] = addUser(t, nodes[0], fmt.Sprintf("u%d", i))
		}
		for name, c := range map[string]struct {
			limits store.SendLimits
			same   func(*store.NewSentCode)
			want   int64
		}{
			"installation": {store.SendLimits{Person: 5, Recipient: 5, Source: 100, All: 7}, func(*store.NewSentCode) {}, 7},
			"recipient": {store.SendLimits{Person: 5, Recipient: 3, Source: 100, All: 100},
				func(c *store.NewSentCode) { c.Message.Recipient = "All@example.org" }, 3},
			"source": {store.SendLimits{Person: 5, Recipient: 5, Source: 4, All: 100}, func(*store.NewSentCode) {}, 4},
			"person": {store.SendLimits{Person: 5, Recipient: 100, Source: 100, All: 100},
				func(c *store.NewSentCode) { c.UserID = users[0].ID }, 1},
		} {
			e.clock.Move(2 * time.Hour)
			var passed atomic.Int64
			parallel(len(users), func(i int) {
				in := sent(users[i], "a", "123456", c.limits)
				c.same(&in)
				err := nodes[i%2].SentCodes.Issue(ctx, in)
				switch {
				case err == nil:
					passed.Add(1)
				case !errors.Is(err, store.ErrSendLimit):
					t.Errorf("%s: %v", name, err)
				}
			})
			if passed.Load() != c.want {
				t.Errorf("%s: %d of %d were sent, want %d", name, passed.Load(), len(users), c.want)
			}
		}
	})
}

// Neither code nor message can be read out of a copy of the database.
func TestSentCodeIsNotInTheDatabase(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		if e.name == "memory" {
			return // cannot be opened beside the store
		}
		s := e.open()
		u := addUser(t, s, "alice")
		check(t, s.SentCodes.Issue(t.Context(), sent(u, "a", "918273", wide)))
		db := raw(t, e.dsn)
		var hash, content string
		check(t, db.QueryRow("SELECT hash FROM sent_codes").Scan(&hash))
		check(t, db.QueryRow("SELECT content FROM outbox").Scan(&content))
		if len(hash) != 64 || strings.Contains(hash+content, "918273") || !strings.HasPrefix(content, "v1.") {
			t.Errorf("hash %q, content %q", hash, content)
		}
	})
}
