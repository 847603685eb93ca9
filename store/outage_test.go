package store_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/internal/testenv"
	"sallyport/store"
)

// wantUnavailable fails unless every kind of call says soon that the database is
// unavailable, and none lets anybody in.
func wantUnavailable(t *testing.T, calls map[string]func(context.Context) error) {
	t.Helper()
	var running sync.WaitGroup
	defer running.Wait()
	for name, call := range calls {
		running.Go(func() {
			began := time.Now()
			err := call(context.Background())
			if took := time.Since(began); took > 15*time.Second {
				t.Errorf("%s took %v", name, took)
			}
			wantError(t, name, err, store.ErrUnavailable)
		})
	}
}

func reads(s *store.Store) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"Ping":          s.Ping,
		"SchemaVersion": func(ctx context.Context) error { _, err := s.SchemaVersion(ctx); return err },
		"ByLogin":       func(ctx context.Context) error { _, err := s.Users.ByLogin(ctx, "alice"); return err },
		"Usable":        func(ctx context.Context) error { _, err := s.Tokens.Usable(ctx, "x"); return err },
		"Rules":         func(ctx context.Context) error { _, err := s.Rules.Current(ctx); return err },
		"Setting":       func(ctx context.Context) error { _, _, err := s.Settings.Get(ctx, "x"); return err },
	}
}

func writes(s *store.Store, tokenID string) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"Append": func(ctx context.Context) error { return s.Audit.Append(ctx, audit.Event{Type: "x"}) },
		"ConsumeStep": func(ctx context.Context) error {
			ok, err := s.Tokens.ConsumeStep(ctx, store.TokenUse{TokenID: tokenID, Step: 1})
			if ok {
				return errors.New("a step was consumed")
			}
			return err
		},
		"Reserve": func(ctx context.Context) error {
			_, outcome, _, err := s.Attempts.Reserve(ctx, five("192.0.2.7"))
			if outcome != store.Locked {
				return errors.New("an attempt was reserved")
			}
			return err
		},
		"Take": func(ctx context.Context) error { _, err := s.Tickets.Take(ctx, "x", "y"); return err },
		"Open": func(ctx context.Context) error { _, err := s.Sessions.Open(ctx, store.Session{}); return err },
	}
}

// usedStore returns a store with a token, and the token's id.
func usedStore(t *testing.T, dsn string) (*store.Store, string) {
	t.Helper()
	s := open(t, store.Config{DSN: dsn, Ring: newRing(t)})
	u := addUser(t, s, "alice")
	token := must[store.Token](t)(s.Tokens.Add(t.Context(), store.Token{UserID: u.ID, Enabled: true}, secret))
	// Fill the pool, so that there are connections that can die.
	parallel(50, func(int) { s.Ping(t.Context()) })
	return s, token.ID
}

func TestPostgresStops(t *testing.T) {
	t.Parallel()
	server := testenv.PostgresServer(t)
	s, token := usedStore(t, server.DSN())
	server.Stop()
	wantUnavailable(t, reads(s))
	wantUnavailable(t, writes(s, token))
	_, err := store.Open(t.Context(), store.Config{DSN: server.DSN(), Ring: newRing(t)})
	wantError(t, "opening", err, store.ErrUnavailable)
	server.Start()
	// At once and without a single failure, whatever connections died.
	for range 50 {
		check(t, s.Ping(t.Context()))
	}
	if !must[bool](t)(s.Tokens.ConsumeStep(t.Context(), store.TokenUse{TokenID: token, Step: 1})) {
		t.Error("a step that was refused during the outage is used up")
	}
	server.Stop()
	server.Start()
	for _, call := range writes(s, token) {
		if err := call(t.Context()); errors.Is(err, store.ErrUnavailable) {
			t.Errorf("after a restart that nobody noticed: %v", err)
		}
	}
	if must[bool](t)(s.Tokens.ConsumeStep(t.Context(), store.TokenUse{TokenID: token, Step: 1})) {
		t.Error("the step was forgotten")
	}
}

// A server that takes connections and answers nothing is the worst: the driver alone would wait for
// ever.
func TestPostgresFreezes(t *testing.T) {
	t.Parallel()
	server := testenv.PostgresServer(t)
	s, token := usedStore(t, server.DSN())
	server.Freeze()
	wantUnavailable(t, reads(s))
	wantUnavailable(t, writes(s, token))
	began := time.Now()
	errs := make([]error, 100)
	parallel(len(errs), func(i int) { errs[i] = s.Ping(t.Context()) })
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("100 calls at once took %v", took)
	}
	for _, err := range errs {
		wantError(t, "one of many", err, store.ErrUnavailable)
	}
	server.Thaw()
	poll(t, "the database is back", func() bool { return s.Ping(t.Context()) == nil })
}

// A store ends in good order, too, whose connections had nothing to do for a while, or have lost their server: an
// error made the whole program end as if it had failed.
func TestPostgresCloses(t *testing.T) {
	t.Parallel()
	s, _ := usedStore(t, testenv.Postgres(t))
	if n := store.ExpireSockets(s); n == 0 {
		t.Error("there are no connections, so that this proves nothing")
	}
	check(t, s.Close())
}

func TestSQLiteClosed(t *testing.T) {
	t.Parallel()
	s, token := usedStore(t, "sqlite:"+filepath.Join(t.TempDir(), "store.db"))
	check(t, s.Close())
	wantUnavailable(t, reads(s))
	wantUnavailable(t, writes(s, token))
	check(t, s.Close())
}

func TestSQLiteLockedByAnother(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "store.db")
	s, token := usedStore(t, "sqlite:"+path)
	other := must[*store.Store](t)(store.Open(t.Context(), store.Config{DSN: "sqlite:" + path, Ring: newRing(t)}))
	defer other.Close()
	conn, err := raw(t, "sqlite:"+path).Conn(t.Context())
	check(t, err)
	defer conn.Close()
	_, err = conn.ExecContext(t.Context(), "BEGIN IMMEDIATE")
	check(t, err)
	wantUnavailable(t, writes(s, token))
	check(t, s.Ping(t.Context())) // who only reads does not wait
	_, err = conn.ExecContext(t.Context(), "ROLLBACK")
	check(t, err)
	if !must[bool](t)(s.Tokens.ConsumeStep(t.Context(), store.TokenUse{TokenID: token, Step: 1})) {
		t.Error("a step that was refused is used up")
	}
}

func TestSQLiteFull(t *testing.T) {
	t.Parallel()
	s, _ := usedStore(t, "sqlite::memory:")
	check(t, store.LimitSize(t.Context(), s))
	var err error
	for i := 0; err == nil && i < 10_000; i++ {
		err = s.Settings.Set(t.Context(), time.Duration(i).String(), string(make([]byte, 1000)))
	}
	wantError(t, "writing into a full database", err, store.ErrUnavailable)
	check(t, s.Ping(t.Context()))
}

func TestSQLiteUnreadable(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(path string) error{
		"not a database": func(path string) error { return os.WriteFile(path, make([]byte, 10_000), 0o600) },
		"a folder":       func(path string) error { return os.Mkdir(path, 0o700) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "store.db")
			check(t, spoil(path))
			_, err := store.Open(t.Context(), store.Config{DSN: "sqlite:" + path, Ring: newRing(t)})
			wantError(t, "opening", err, store.ErrUnavailable)
		})
	}
}

// poll waits until condition holds.
func poll(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !condition(); {
		if time.Now().After(end) {
			t.Fatalf("not within 20 s: %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
