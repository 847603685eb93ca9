package auth_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sallyport/auth"
	"sallyport/internal/testenv"
	"sallyport/store"
)

// Who is gone when others have decided about their session gets one mail; who is there reads it where they wait.
func TestDecisionIsMailedToAbsent(t *testing.T) {
	t.Parallel()
	for name, dsn := range map[string]func(*testing.T) string{"sqlite": func(*testing.T) string { return "" }, "postgres": func(t *testing.T) string { return testenv.Postgres(t) }} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, dsn(t), func(c *auth.Config) { c.TellAbsent = true })
			ctx := context.Background()
			alice, carol := w.local("alice", "x"), w.local("carol", "x")
			check(t, w.Store.Users.SetContact(ctx, alice, "alice@example.org", ""))
			decide := func(code string, approve bool) {
				t.Helper()
				id := auth.Returning(carol, "ssh", netip.MustParseAddr("192.0.2.8"))
				id.CodeAt, id.Factors = w.now, []string{"password", "code"}
				_, err := w.Engine.DecideApproval(ctx, id, code, auth.Verdict{Approve: approve, Reason: "known \x1b[2J"})
				check(t, err)
			}
			ask := func(node string) store.Approval {
				t.Helper()
				a, err := w.Store.Approvals.Request(ctx, store.Approval{Session: "s-" + node + w.now.String(), UserID: alice.ID, Person: "user:" + alice.ID, User: "alice",
					Target: "web1", Account: "root", Source: "192.0.2.7", Asked: "exec: uptime", Approvers: [][]string{{"carol"}}, Needed: 1, Node: node}, time.Minute)
				check(t, err)
				return a
			}
			// mails takes all that wait.
			mails := func() (list []store.OutMessage) {
				t.Helper()
				for {
					m, err := w.Store.Outbox.Claim(ctx, time.Minute, store.ByMail)
					if errors.Is(err, store.ErrNotFound) {
						return list
					}
					check(t, err)
					check(t, w.Store.Outbox.Sent(ctx, m))
					list = append(list, m)
				}
			}
			check(t, w.Store.Sessions.Alive(ctx, "alive"))

			decide(ask("alive").Code, false)
			if got := mails(); len(got) != 0 {
				t.Errorf("at a node that lives the person reads it there: %+v", got)
			}
			a := ask("dead")
			decide(a.Code, false)
			got := mails()
			if len(got) != 1 || got[0].Recipient != "alice@example.org" || !strings.Contains(got[0].Subject, "root@web1: refused") ||
				!strings.Contains(got[0].Text, "your request "+a.Code) || !strings.Contains(got[0].Text, `carol refused: known \x{1b}[2J`) && !strings.Contains(got[0].Text, `carol refused: known \u{1b}[2J`) {
				t.Errorf("refused while they were gone: %+v", got)
			}
			a = ask("dead")
			decide(a.Code, true)
			if got = mails(); len(got) != 1 || !strings.Contains(got[0].Text, "approved by carol. But you were not connected any more") {
				t.Errorf("approved while they were gone: %+v", got)
			}
			w.now = w.now.Add(10 * time.Minute)
			check(t, w.Engine.Housekeeping(ctx))
			if got = mails(); len(got) != 0 {
				t.Errorf("told twice: %+v", got)
			}

			// The node lived when they agreed, and nobody was there to begin.
			a = ask("alive")
			decide(a.Code, true)
			ask("alive") // and one that nobody has decided
			w.now = w.now.Add(10 * time.Minute)
			check(t, w.Engine.Housekeeping(ctx))
			if got = mails(); len(got) != 1 || !strings.Contains(got[0].Text, a.Code) || !strings.Contains(got[0].Text, "approved by carol") {
				t.Errorf("approved, and not begun: %+v", got)
			}
		})
	}
}
