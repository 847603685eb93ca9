package store_test

import (
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/store"
)

// Of a hundred browsers that open a link at once, one has it afterwards, for good.
func TestTicketIsBoundToOneBrowser(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		nodes, ctx := e.nodes(), t.Context()
		secret := must[string](t)(nodes[0].Tickets.Create(ctx, "enrol", "bob", []byte("data"), time.Hour))
		if must[store.Ticket](t)(nodes[0].Tickets.Peek(ctx, "enrol", secret)).Bound {
			t.Error("a ticket that nobody has opened is bound")
		}
		errs := make([]error, 100)
		parallel(len(errs), func(i int) {
			_, errs[i] = nodes[i%2].Tickets.Bind(ctx, "enrol", secret, fmt.Sprint("browser ", i))
		})
		winner := -1
		for i, err := range errs {
			switch {
			case err == nil && winner < 0:
				winner = i
			case err == nil:
				t.Errorf("browsers %d and %d both have the ticket", winner, i)
			case !errors.Is(err, store.ErrOtherBrowser):
				t.Errorf("browser %d: %v", i, err)
			}
		}
		if winner < 0 {
			t.Fatal("no browser has the ticket")
		}
		got := must[store.Ticket](t)(nodes[1].Tickets.PeekBound(ctx, "enrol", secret, fmt.Sprint("browser ", winner)))
		if got.Subject != "bob" || string(got.Data) != "data" || !got.Bound {
			t.Errorf("got %+v", got)
		}
		_, err := nodes[0].Tickets.PeekBound(ctx, "enrol", secret, "browser x")
		wantError(t, "another browser", err, store.ErrOtherBrowser)
		if _, err := nodes[0].Tickets.PeekBound(ctx, "enrol", secret, ""); err == nil {
			t.Error("no browser at all may look at a bound ticket")
		}
		_, err = nodes[0].Tickets.Bind(ctx, "enrol", secret+"x", "browser")
		wantError(t, "another ticket", err, store.ErrNotFound)
	})
}

// Two links that are made for one person at the same moment were both good once, until one of them was used: whoever
// had asked for a link that was lost, and for another one, had two of them about. Of a hundred one is good.
func TestTicketsReplaced(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		nodes, ctx := e.nodes(), t.Context()
		other := must[string](t)(nodes[0].Tickets.Replace(ctx, "enrol", "carol", nil, time.Hour))
		secrets := make([]string, 100)
		errs := make([]error, len(secrets))
		parallel(len(secrets), func(i int) {
			if secrets[i], errs[i] = nodes[i%2].Tickets.Replace(ctx, "enrol", "bob", fmt.Append(nil, i), time.Hour); errs[i] == nil && i == 50 {
				_, _ = nodes[0].Tickets.Bind(ctx, "enrol", secrets[i], "browser")
			}
		})
		good := 0
		for i, secret := range secrets {
			check(t, errs[i])
			switch got, err := nodes[0].Tickets.Take(ctx, "enrol", secret); {
			case err == nil && string(got.Data) == fmt.Sprint(i) && got.Subject == "bob":
				good++
			case !errors.Is(err, store.ErrNotFound):
				t.Errorf("ticket %d: %+v, %v", i, got, err)
			}
		}
		if good != 1 {
			t.Errorf("%d tickets are good", good)
		}
		must[store.Ticket](t)(nodes[0].Tickets.Take(ctx, "enrol", other))
	})
}

// A link makes one token however often its form is sent at once, and none for anybody else.
func TestTokenByTicketInParallel(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		nodes, ctx := e.nodes(), t.Context()
		u, other := addUser(t, nodes[0], "bob"), addUser(t, nodes[0], "carol")
		old := must[store.Token](t)(nodes[0].Tokens.Add(ctx, store.Token{UserID: u.ID, Name: "old", Enabled: true}, secret))
		link := must[string](t)(nodes[0].Tickets.Create(ctx, "enrol", u.ID, nil, time.Hour))
		must[store.Ticket](t)(nodes[0].Tickets.Bind(ctx, "enrol", link, "mine"))
		use := store.TicketUse{Purpose: "enrol", Secret: link, Browser: "mine"}
		_, err := nodes[0].Tokens.AddByTicket(ctx, store.Token{UserID: u.ID}, secret, 1, use)
		wantError(t, "with a token", err, store.ErrExists)
		check(t, nodes[0].Tokens.SetState(ctx, old.ID, store.TokenLost))
		_, err = nodes[0].Tokens.AddByTicket(ctx, store.Token{UserID: u.ID}, secret, 1, store.TicketUse{Purpose: "enrol", Secret: link, Browser: "other"})
		wantError(t, "other browser", err, store.ErrNotFound)
		_, err = nodes[0].Tokens.AddByTicket(ctx, store.Token{UserID: other.ID}, secret, 1, use)
		wantError(t, "other person", err, store.ErrNotFound)
		errs := make([]error, 100)
		parallel(len(errs), func(i int) {
			_, errs[i] = nodes[i%2].Tokens.AddByTicket(ctx, store.Token{UserID: u.ID, Name: "new"}, secret, int64(i), use)
		})
		added := 0
		for _, err := range errs {
			if err == nil {
				added++
			} else if !errors.Is(err, store.ErrExists) && !errors.Is(err, store.ErrNotFound) {
				t.Errorf("got error %v", err)
			}
		}
		tokens := must[[]store.Token](t)(nodes[1].Tokens.List(ctx, u.ID))
		if fresh := must[store.User](t)(nodes[1].Users.ByID(ctx, u.ID)); added != 1 || len(tokens) != 2 || fresh.Tokens != 2 || !fresh.FreeOver {
			t.Errorf("%d were added; tokens %d, counted %d, want one beside the lost one", added, len(tokens), fresh.Tokens)
		}
		if carol := must[store.User](t)(nodes[1].Users.ByID(ctx, other.ID)); carol.Tokens != 0 {
			t.Errorf("the other person has %d tokens", carol.Tokens)
		}
	})
}

// A person who removes all tokens at once keeps one.
func TestLastTokenStays(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		nodes, ctx := e.nodes(), t.Context()
		u, other := addUser(t, nodes[0], "bob"), addUser(t, nodes[0], "carol")
		var ids []string
		for range 8 {
			ids = append(ids, must[store.Token](t)(nodes[0].Tokens.Add(ctx, store.Token{UserID: u.ID, Enabled: true}, secret)).ID)
		}
		wantError(t, "another person's", nodes[0].Tokens.DeleteOwn(ctx, other.ID, ids[0]), store.ErrNotFound)
		errs := make([]error, len(ids))
		parallel(len(ids), func(i int) { errs[i] = nodes[i%2].Tokens.DeleteOwn(ctx, u.ID, ids[i]) })
		refused := 0
		for _, err := range errs {
			if errors.Is(err, store.ErrLastToken) {
				refused++
			} else if err != nil {
				t.Errorf("got error %v", err)
			}
		}
		fresh := must[store.User](t)(nodes[0].Users.ByID(ctx, u.ID))
		if refused != 1 || fresh.Tokens != 1 || len(must[[]store.Token](t)(nodes[1].Tokens.List(ctx, u.ID))) != 1 {
			t.Errorf("%d were refused, %d are left, want 1 and 1", refused, fresh.Tokens)
		}
	})
}

// Somebody without a token comes in exactly as often as is allowed, whoever counts.
func TestFreeLoginsAreExact(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		nodes, ctx := e.nodes(), t.Context()
		u := addUser(t, nodes[0], "bob")
		since := e.clock.Now().Add(-time.Hour)
		try := func(node *store.Store, f *store.FreeLogins) error {
			r, _, _, err := node.Attempts.Reserve(ctx, []store.Counter{{Kind: "user", Key: "user:" + u.ID, Limit: 1000, Window: time.Minute, Lock: time.Minute}})
			if err != nil {
				return err
			}
			err = node.Attempts.Accept(ctx, &store.Acceptance{Reservation: r, UserID: u.ID, Source: netip.MustParseAddr("192.0.2.1"), Free: f})
			if err != nil {
				return errors.Join(err, node.Attempts.Cancel(ctx, r))
			}
			return nil
		}
		var in, out atomic.Int64
		parallel(100, func(i int) {
			switch err := try(nodes[i%2], &store.FreeLogins{Most: 7, Since: since}); {
			case err == nil:
				in.Add(1)
			case errors.Is(err, store.ErrNoFreeLogin):
				out.Add(1)
			default:
				t.Errorf("got error %v", err)
			}
		})
		if in.Load() != 7 || out.Load() != 93 {
			t.Errorf("%d came in and %d did not, want 7 and 93", in.Load(), out.Load())
		}
		check(t, nodes[0].Users.GrantFree(ctx, u.ID))
		f := &store.FreeLogins{Most: 7, Since: since}
		check(t, try(nodes[1], f))
		if f.Made != 1 {
			t.Errorf("after an operator has granted them anew it is number %d", f.Made)
		}
		wantError(t, "after the time", try(nodes[0], &store.FreeLogins{Most: 7, Since: e.clock.Now().Add(time.Hour)}), store.ErrNoFreeLogin)
		token := must[store.Token](t)(nodes[0].Tokens.Add(ctx, store.Token{UserID: u.ID, Enabled: true}, secret))
		wantError(t, "with a token", try(nodes[0], &store.FreeLogins{Most: 7, Since: since}), store.ErrNoFreeLogin)
		check(t, nodes[0].Tokens.Delete(ctx, token.ID))
		wantError(t, "once there was a token", try(nodes[0], &store.FreeLogins{Most: 7, Since: since}), store.ErrNoFreeLogin)
	})
}

// A token that waits gives no codes until it is approved, once.
func TestTokenWaits(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		u := addUser(t, s, "bob")
		token := must[store.Token](t)(s.Tokens.AddFirst(ctx, store.Token{UserID: u.ID, Waiting: true}, secret, 5))
		if token.Enabled || token.State(e.clock.Now()) != store.TokenWaiting {
			t.Errorf("got %+v", token)
		}
		if list := must[[]store.TokenSecret](t)(s.Tokens.Usable(ctx, u.ID)); len(list) != 0 {
			t.Error("its codes are accepted")
		}
		if list := must[[]store.Token](t)(s.Tokens.Waiting(ctx)); len(list) != 1 || list[0].ID != token.ID {
			t.Errorf("waiting are %v", list)
		}
		check(t, s.Tokens.Approve(ctx, token.ID))
		wantError(t, "a second time", s.Tokens.Approve(ctx, token.ID), store.ErrNotFound)
		if list := must[[]store.TokenSecret](t)(s.Tokens.Usable(ctx, u.ID)); len(list) != 1 {
			t.Error("its codes are refused after the approval")
		}
	})
}
