package store_test

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/internal/seal"
	"sallyport/internal/testenv"
	"sallyport/store"
	"sallyport/store/storetest"
)

// engine is one database that stores can be opened on.
type engine struct {
	t     *testing.T
	name  string
	dsn   string
	ring  *seal.Ring
	clock *testenv.Clock
	only  *store.Store // for ":memory:", which cannot be opened twice
}

// each runs test once on every engine, with an empty database.
func each(t *testing.T, test func(t *testing.T, e *engine)) {
	t.Helper()
	t.Parallel()
	for name, dsn := range map[string]func(*testing.T) string{
		"memory":   func(*testing.T) string { return "sqlite::memory:" },
		"sqlite":   func(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "store.db") },
		"postgres": func(t *testing.T) string { return storetest.Postgres(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, &engine{t: t, name: name, dsn: dsn(t), ring: newRing(t), clock: testenv.NewClock(start)})
		})
	}
}

// empty is for tests of what makes the schema, which is there otherwise.
func (e *engine) empty() {
	if e.name == "postgres" {
		e.dsn = testenv.Postgres(e.t)
	}
}

// open opens another store on the database, as another node would.
func (e *engine) open() *store.Store {
	e.t.Helper()
	if e.only != nil {
		return e.only
	}
	s := open(e.t, store.Config{DSN: e.dsn, Ring: e.ring, Now: e.clock.Now})
	if e.name == "memory" {
		e.only = s
	}
	return s
}

func open(t *testing.T, c store.Config) *store.Store {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := store.Open(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func newRing(t *testing.T) *seal.Ring {
	t.Helper()
	ring, err := seal.NewRing()
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

var start = time.Date(2026, time.November, 23, 10, 0, 0, 0, time.UTC)

// must returns v and ends the test on an error.
func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantError fails unless err is want.
func wantError(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got error %v, want %v", what, err, want)
	}
}

func addUser(t *testing.T, s *store.Store, login string) store.User {
	t.Helper()
	return must[store.User](t)(s.Users.Add(t.Context(), store.User{Login: login}, ""))
}

// parallel runs n times f at once and waits for all.
func parallel(n int, f func(i int)) {
	var running sync.WaitGroup
	begin := make(chan struct{})
	for i := range n {
		running.Go(func() {
			<-begin
			f(i)
		})
	}
	close(begin)
	running.Wait()
}

func TestOpen(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		e.empty()
		s := e.open()
		check(t, s.Ping(t.Context()))
		want := "sqlite"
		if e.name == "postgres" {
			want = "postgres"
		}
		if got := s.Engine(); got != want {
			t.Errorf("engine: got %q, want %q", got, want)
		}
		if got := must[int64](t)(s.SchemaVersion(t.Context())); got < 1 {
			t.Errorf("schema version: got %d, want at least 1", got)
		}
		addUser(t, s, "alice")
		must[store.User](t)(e.open().Users.ByLogin(t.Context(), "alice"))
	})
}

func TestOpenBySeveralNodesAtOnce(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		if e.name == "memory" {
			return // belongs to one process
		}
		e.empty()
		errs := make([]error, 5)
		parallel(len(errs), func(i int) {
			s, err := store.Open(t.Context(), store.Config{DSN: e.dsn, Ring: e.ring})
			if err == nil {
				err = errors.Join(s.Ping(t.Context()), s.Close())
			}
			errs[i] = err
		})
		check(t, errors.Join(errs...))
	})
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	ring := newRing(t)
	for _, c := range []struct {
		name, dsn, says string
		ring            *seal.Ring
	}{
		{"no ring", "sqlite::memory:", "Ring", nil},
		{"nothing", "", "sqlite:/path", ring},
		{"other engine", "mysql://localhost/x", "sqlite:/path", ring},
		{"no path", "sqlite:", "path", ring},
		{"no folder", "sqlite:" + filepath.Join(t.TempDir(), "no", "such.db"), "no such file", ring},
		{"no sslmode", "postgres://u:secret@localhost/x", "sslmode=verify-full", ring},
		{"bad sslmode", "postgres://u:secret@localhost/x?sslmode=maybe", "sslmode", ring},
		{"bad url", "postgres://u:secret@local host/x?sslmode=disable", "malformed", ring},
		{"nobody there", "postgres://u:secret@127.0.0.1:1/x?sslmode=disable", "refused", ring},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s, err := store.Open(t.Context(), store.Config{DSN: c.dsn, Ring: c.ring})
			if err == nil {
				s.Close()
				t.Fatal("it opened")
			}
			if got := err.Error(); !strings.Contains(got, c.says) || strings.Contains(got, "secret") {
				t.Errorf("got error %q, want one with %q and without the password", got, c.says)
			}
		})
	}
}

func TestSQLiteFileIsPrivate(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a folder with ? and % in its name.db")
	s := open(t, store.Config{DSN: "sqlite:" + path, Ring: newRing(t)})
	addUser(t, s, "alice")
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		info, err := os.Stat(name)
		if err != nil {
			t.Error(err)
			continue
		}
		if got := info.Mode().Perm(); got != 0o600 {
			t.Errorf("%s has mode %o, want 600", name, got)
		}
	}
}

// A call whose context ends must not take the database in memory with it.
func TestMemorySurvivesCancelledCalls(t *testing.T) {
	t.Parallel()
	s := open(t, store.Config{DSN: "sqlite::memory:", Ring: newRing(t)})
	user := addUser(t, s, "alice")
	for i := range 200 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*5*time.Microsecond)
		s.Tokens.Add(ctx, store.Token{UserID: user.ID}, make([]byte, 20))
		s.Users.List(ctx, store.UserFilter{})
		cancel()
	}
	must[store.User](t)(s.Users.ByID(t.Context(), user.ID))
}

func TestCancelledIsNotUnavailable(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s := e.open()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := s.Users.ByLogin(ctx, "alice")
		wantError(t, "cancelled call", err, context.Canceled)
		if errors.Is(err, store.ErrUnavailable) {
			t.Errorf("a call that its caller cancelled says that the database is unavailable: %v", err)
		}
		ctx, cancel = context.WithDeadline(t.Context(), time.Now())
		defer cancel()
		_, err = s.Users.ByLogin(ctx, "alice")
		wantError(t, "late call", err, store.ErrUnavailable)
	})
}

// What strangers type must not cause an error in one engine that it does not cause in the other.
func TestHostileText(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s := e.open()
		for _, text := range []string{"\x00", "a\x00b", "\xff\xfe", "'; DROP TABLE users; --", strings.Repeat("x", 250_000), "$1", "?", "%"} {
			_, err := s.Users.ByLogin(t.Context(), text)
			wantError(t, "user", err, store.ErrNotFound)
			_, err = s.Targets.ByName(t.Context(), text)
			wantError(t, "target", err, store.ErrNotFound)
			_, err = s.APITokens.Check(t.Context(), text)
			wantError(t, "API token", err, store.ErrNotFound)
			_, err = s.Tickets.Take(t.Context(), "link", text)
			wantError(t, "ticket", err, store.ErrNotFound)
			must[[]store.User](t)(s.Users.List(t.Context(), store.UserFilter{Query: text}))
			x := must[store.Session](t)(s.Sessions.Open(t.Context(), store.Session{User: "alice", Client: text, Target: text}))
			check(t, s.Sessions.OpenChannel(t.Context(), x.ID, store.Channel{ID: 1, Command: text}))
			if got := must[[]store.Session](t)(s.Sessions.List(t.Context(), store.SessionFilter{Target: text})); len(got) == 0 {
				t.Errorf("no session to target %.20q is found", text)
			}
		}
	})
}

func TestPurge(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s := e.open()
		lasting := must[string](t)(s.Tickets.Create(t.Context(), "link", "x", nil, 2*time.Hour))
		must[string](t)(s.Tickets.Create(t.Context(), "link", "x", nil, time.Minute))
		e.clock.Move(time.Hour)
		check(t, s.Purge(t.Context()))
		must[store.Ticket](t)(s.Tickets.Take(t.Context(), "link", lasting))
		if got := count(t, e, "tickets"); e.name != "memory" && got != 0 {
			t.Errorf("tickets left: %d, want 0", got)
		}
	})
}

// withParameter returns a PostgreSQL DSN with one more parameter.
func withParameter(t *testing.T, dsn, name, value string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	check(t, err)
	q := u.Query()
	q.Set(name, value)
	u.RawQuery = q.Encode()
	return u.String()
}
