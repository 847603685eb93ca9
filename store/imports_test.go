package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/store"
)

// putAside begins an import of tokens and puts n of them aside, each second one for u.
func putAside(t *testing.T, s *store.Store, u store.User, n int, serial func(int) string) store.Import {
	t.Helper()
	ctx := t.Context()
	i := must[store.Import](t)(s.Imports.Begin(ctx, store.ImportTokens, "console"))
	var batch []store.ImportedToken
	for k := range n {
		it := store.ImportedToken{Token: store.Token{Name: "box", Serial: serial(k), LastStep: 5, Drift: 1}, Secret: secret}
		if k%2 == 0 {
			it.UserID = u.ID
		}
		if batch = append(batch, it); len(batch) == store.MaxImportBatch || k == n-1 {
			check(t, s.Imports.AddTokens(ctx, i.ID, batch))
			batch = nil
		}
	}
	return i
}

func serialOf(k int) string { return fmt.Sprintf("SN%06d", k) }

// A node that dies between the commit and the last step leaves the rest to the next that looks.
func TestImportSettledByAnother(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		if e.name == "memory" {
			return // is gone with its process
		}
		s, ctx := e.open(), t.Context()
		u := addUser(t, s, "alice")
		i := putAside(t, s, u, 1200, serialOf)
		_, err := raw(t, e.dsn).ExecContext(ctx, "UPDATE imports SET committed = TRUE") // and dead
		check(t, err)
		_, err = s.Tokens.Add(ctx, store.Token{UserID: u.ID, Serial: serialOf(1100), Enabled: true}, secret)
		wantError(t, "a serial on its way", err, store.ErrExists)
		wantError(t, "another import of it", s.Imports.Commit(ctx, putAside(t, s, u, 4, serialOf).ID), store.ErrExists)
		parallel(3, func(int) { check(t, s.Purge(ctx)) })
		if got := must[store.User](t)(s.Users.ByID(ctx, u.ID)); got.Tokens != 600 || len(must[[]store.Token](t)(s.Stock.List(ctx, 0))) != 600 {
			t.Errorf("token_count %d", got.Tokens)
		}
		_, err = s.Imports.Get(ctx, i.ID)
		wantError(t, "the import afterwards", err, store.ErrNotFound)
	})
}

func TestImportCountsAllAtOnce(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		u := addUser(t, s, "alice")
		i := putAside(t, s, u, 1200, serialOf)
		if list := must[[]store.Token](t)(s.Tokens.List(ctx, u.ID)); len(list) != 0 {
			t.Fatalf("%d tokens before the commit", len(list))
		}
		if list := must[[]store.Token](t)(s.Stock.List(ctx, 0)); len(list) != 0 {
			t.Fatalf("%d in stock before the commit", len(list))
		}
		_, err := s.Stock.BySerial(ctx, serialOf(1))
		wantError(t, "a token that is not committed", err, store.ErrNotFound)
		check(t, s.Imports.Commit(ctx, i.ID))
		wantError(t, "committing twice", s.Imports.Commit(ctx, i.ID), store.ErrNotFound)
		list := must[[]store.TokenSecret](t)(s.Tokens.Usable(ctx, u.ID))
		if len(list) != 600 || !bytes.Equal(list[0].Secret, secret) || list[0].LastStep != 5 || !list[0].Hardware || list[0].Drift != 1 {
			t.Fatalf("%d tokens, first %+v", len(list), list[0].Token)
		}
		if got := must[store.User](t)(s.Users.ByID(ctx, u.ID)); got.Tokens != 600 {
			t.Errorf("token_count %d", got.Tokens)
		}
		if list := must[[]store.Token](t)(s.Stock.List(ctx, 0)); len(list) != 600 {
			t.Errorf("%d in stock", len(list))
		}
		if count(t, e, "imports")+count(t, e, "import_users") != 0 {
			t.Error("something is left of the import")
		}
	})
}

// A serial that was taken between the check and the commit refuses the whole import, whoever has it.
func TestImportSerialTakenMeanwhile(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		u := addUser(t, s, "alice")
		for n, k := range []int{2, 3} { // one for alice, one for the stock
			i := putAside(t, s, u, 6, func(k int) string { return fmt.Sprint(n, serialOf(k)) })
			must[store.Token](t)(s.Tokens.Add(ctx, store.Token{UserID: u.ID, Serial: fmt.Sprint(n, serialOf(k)), Enabled: true}, secret))
			wantError(t, "commit", s.Imports.Commit(ctx, i.ID), store.ErrExists)
		}
		if list := must[[]store.Token](t)(s.Tokens.List(ctx, u.ID)); len(list) != 2 {
			t.Errorf("%d tokens, want the two that were added by hand", len(list))
		}
		i := putAside(t, s, u, 2, serialOf)
		check(t, s.Imports.Commit(ctx, i.ID))
		_, err := s.Tokens.Add(ctx, store.Token{UserID: u.ID, Serial: serialOf(1), Enabled: true}, secret)
		wantError(t, "a serial that is in stock", err, store.ErrExists)
	})
}

// Of parallel imports of the same serials one wins.
func TestImportsInParallel(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		u := addUser(t, s, "alice")
		var imports []store.Import
		for range 8 {
			imports = append(imports, putAside(t, s, u, 20, serialOf))
		}
		var won atomic.Int32
		parallel(8, func(n int) {
			switch err := s.Imports.Commit(ctx, imports[n].ID); {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, store.ErrExists):
				t.Error(err)
			}
		})
		if won.Load() != 1 || len(must[[]store.Token](t)(s.Tokens.List(ctx, u.ID))) != 10 || len(must[[]store.Token](t)(s.Stock.List(ctx, 0))) != 10 {
			t.Errorf("%d imports won", won.Load())
		}
	})
}

// What was put aside and not committed goes away by itself.
func TestImportForgotten(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		u := addUser(t, s, "alice")
		i := putAside(t, s, u, 1500, serialOf)
		check(t, s.Imports.AddUsers(ctx, i.ID, []store.ImportedUser{{User: store.User{ID: "new", Login: "bob"}}}))
		check(t, s.Purge(ctx))
		must[store.Import](t)(s.Imports.Get(ctx, i.ID))
		e.clock.Move(2 * time.Hour)
		_, err := s.Imports.Get(ctx, i.ID)
		wantError(t, "an old import", err, store.ErrNotFound)
		wantError(t, "committing an old import", s.Imports.Commit(ctx, i.ID), store.ErrNotFound)
		check(t, s.Purge(ctx))
		if n := count(t, e, "stock_tokens") + count(t, e, "imports") + count(t, e, "import_users"); n != 0 {
			t.Errorf("%d rows are left", n)
		}
	})
}

// Of many who were given the same token one has it.
func TestStockAssignInParallel(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		u, other := addUser(t, s, "alice"), addUser(t, s, "bob")
		i := putAside(t, s, u, 2, serialOf)
		check(t, s.Imports.Commit(ctx, i.ID))
		stocked := must[store.TokenSecret](t)(s.Stock.BySerial(ctx, serialOf(1)))
		var won atomic.Int32
		parallel(20, func(n int) {
			id := []string{u.ID, other.ID}[n%2]
			switch _, err := s.Stock.Assign(ctx, stocked.ID, id, 9, 2); {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, store.ErrNotFound):
				t.Error(err)
			}
		})
		a, b := must[store.User](t)(s.Users.ByID(ctx, u.ID)), must[store.User](t)(s.Users.ByID(ctx, other.ID))
		if won.Load() != 1 || a.Tokens+b.Tokens != 2 {
			t.Errorf("%d won; %d and %d tokens", won.Load(), a.Tokens, b.Tokens)
		}
		got := must[store.TokenSecret](t)(s.Tokens.WithSecret(ctx, stocked.ID))
		if got.LastStep != 9 || got.Drift != 2 || !got.Enabled || !bytes.Equal(got.Secret, secret) {
			t.Errorf("%+v", got.Token)
		}
	})
}

// While a large import is committed, somebody who signs in waits for it at most as long as a login waits for
// its turn. IMPORT_ROWS=100000 is what the documentation speaks of.
func TestImportLetsLoginsIn(t *testing.T) {
	rows := 20_000
	if n, err := strconv.Atoi(os.Getenv("IMPORT_ROWS")); err == nil {
		rows = n
	}
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		u, busy := addUser(t, s, "alice"), addUser(t, s, "bob")
		phone := must[store.Token](t)(s.Tokens.Add(ctx, store.Token{UserID: busy.ID, Enabled: true}, secret))
		stop, ended := make(chan struct{}), make(chan time.Duration)
		go func() {
			var worst time.Duration
			for step := int64(1); ; step++ {
				select {
				case <-stop:
					ended <- worst
					return
				default:
				}
				began := time.Now()
				if ok, err := s.Tokens.ConsumeStep(ctx, store.TokenUse{TokenID: phone.ID, Step: step}); !ok || err != nil {
					t.Errorf("a code was refused during the import: %v, %v", ok, err)
				}
				worst = max(worst, time.Since(began))
			}
		}()
		began := time.Now()
		i := putAside(t, s, u, rows, serialOf)
		aside := time.Since(began)
		began = time.Now()
		check(t, s.Imports.Commit(ctx, i.ID))
		committed := time.Since(began)
		t.Logf("%d rows: put aside in %v, committed and settled in %v", rows, aside, committed)
		close(stop)
		t.Logf("the longest that a code waited: %v", <-ended)
	})
}
