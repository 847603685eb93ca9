package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	"modernc.org/sqlite"

	"sallyport/migrations"
)

// Names by which sqlx knows the placeholders of the engines.
const (
	questionMarks = "sqlite3"
	dollarSigns   = "postgres"
)

// maxConnections is how many a node has to PostgreSQL, beside one that listens. Reserving attempts
// may use maxReserving of them, so that in a flood of logins verdicts and all else get their turn.
const (
	maxConnections = 20
	maxReserving   = 8
)

func connect(ctx context.Context, c Config) (*db, error) {
	if path, ok := strings.CutPrefix(c.DSN, "sqlite:"); ok {
		return connectSQLite(ctx, c, path)
	}
	if strings.HasPrefix(c.DSN, "postgres://") || strings.HasPrefix(c.DSN, "postgresql://") {
		return connectPostgres(ctx, c)
	}
	return nil, errors.New(`the database must be "sqlite:/path/file.db", "sqlite::memory:" or "postgres://…"`)
}

const memory = ":memory:"

func connectSQLite(ctx context.Context, c Config, path string) (*db, error) {
	if path == "" {
		return nil, errors.New(`the database "sqlite:" lacks a path`)
	}
	if path != memory {
		if err := createFile(path); err != nil {
			return nil, err
		}
	}
	write, keepWrite, err := openSQLite(path, 1)
	if err != nil {
		return nil, err
	}
	keepRead := keepWrite
	d := &db{write: write, read: write, gate: make(chan struct{}, maxReserving), ring: c.Ring, clock: c.Now}
	if path != memory {
		if d.read, keepRead, err = openSQLite(path, 4); err != nil {
			write.Close()
			return nil, err
		}
	}
	if err := migrate(ctx, goose.DialectSQLite3, d.write.DB); err != nil {
		err = d.explain(ctx, "opening "+path, err)
		d.close()
		return nil, err
	}
	keepWrite.Store(true)
	keepRead.Store(true)
	d.gathering = newGathering(d)
	return d, nil
}

// createFile makes sure that nobody but the owner can read a new database: SQLite gives the files
// beside it the same mode.
func createFile(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return f.Close()
}

// openSQLite returns a pool of at most n connections, and the switch by which they begin to keep the
// statements they have compiled. What security rests on must survive a power
// cut, hence synchronous=FULL: with NORMAL a committed code could be forgotten and used again.
func openSQLite(path string, n int) (*sqlx.DB, *atomic.Bool, error) {
	settings := url.Values{
		"_pragma": {"busy_timeout(2500)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)"},
		"_txlock": {"immediate"}, // of migrations; all else begins in sqliteTx
		"_dqs":    {"0"},
	}
	name := memory
	if path != memory {
		absolute, err := filepath.Abs(path)
		if err != nil {
			return nil, nil, fmt.Errorf("finding %s: %w", path, err)
		}
		name = (&url.URL{Scheme: "file", Path: absolute}).String()
	}
	inner, err := sqlite.NewConnector(name + "?" + settings.Encode())
	if err != nil {
		return nil, nil, fmt.Errorf("opening %s: %w", path, err)
	}
	connector := &sqliteConnector{Connector: inner}
	pool := sqlx.NewDb(sql.OpenDB(connector), questionMarks)
	pool.SetMaxOpenConns(n)
	pool.SetMaxIdleConns(n) // with ":memory:" the connection is the database: it is never given up
	return pool, &connector.keep, nil
}

func connectPostgres(ctx context.Context, c Config) (*db, error) {
	u, err := url.Parse(c.DSN)
	if err != nil {
		return nil, errors.New("the URL of the database is malformed") // err would repeat the password
	}
	if !u.Query().Has("sslmode") {
		return nil, errors.New(`the URL of the database must say how the connection is protected: ` +
			`add "?sslmode=verify-full", or "?sslmode=disable" for a server on this machine`)
	}
	cfg, err := pq.NewConfig(c.DSN)
	if err != nil {
		return nil, fmt.Errorf("reading the URL of the database: %w", err)
	}
	if cfg.ConnectTimeout <= 0 || cfg.ConnectTimeout > patience {
		cfg.ConnectTimeout = patience
	}
	cfg.BinaryParameters = true // one round trip for each statement in the place of two
	if cfg.ApplicationName == "" {
		cfg.ApplicationName = "sallyport"
	}
	if err := migratePostgres(ctx, cfg); err != nil {
		return nil, err
	}
	d := &db{pg: newPGConnector(c.DSN, cfg), gate: make(chan struct{}, maxReserving), ring: c.Ring, clock: c.Now}
	pool := sql.OpenDB(d.pg)
	pool.SetMaxOpenConns(maxConnections)
	pool.SetMaxIdleConns(maxConnections)
	pool.SetConnMaxIdleTime(5 * time.Minute)
	d.write = sqlx.NewDb(pool, dollarSigns)
	d.read = d.write
	return d, nil
}

// migratePostgres uses connections of its own, on which statements may take their time.
func migratePostgres(ctx context.Context, cfg pq.Config) error {
	connector, err := pq.NewConnectorConfig(cfg)
	if err != nil {
		return fmt.Errorf("reading the URL of the database: %w", err)
	}
	connector.Dialer(pgDialer{})
	pool := sql.OpenDB(connector)
	defer pool.Close()
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 300), lock.WithUnlockTimeout(1, 60))
	if err != nil {
		return err
	}
	err = migrate(ctx, goose.DialectPostgres, pool, goose.WithSessionLocker(locker))
	if err != nil && unavailable(err) {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

func migrate(ctx context.Context, dialect goose.Dialect, pool *sql.DB, options ...goose.ProviderOption) error {
	steps := migrations.SQLite()
	if dialect == goose.DialectPostgres {
		steps = migrations.PostgreSQL()
	}
	options = append(options, goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	provider, err := goose.NewProvider(dialect, pool, steps, options...)
	if err != nil {
		return fmt.Errorf("reading the migrations: %w", err)
	}
	for {
		has, knows, err := provider.GetVersions(ctx)
		if err != nil {
			return fmt.Errorf("reading the version of the schema: %w", err)
		}
		if has > knows {
			return fmt.Errorf("the database has schema version %d and this program knows %d: it was used with a newer "+
				"program; install that one, or restore a backup from before", has, knows)
		}
		if has == knows {
			return nil
		}
		// SQLite has no lock for migrations; whoever is late fails and finds the step done.
		if _, err := provider.Up(ctx); err != nil {
			if now, _, err := provider.GetVersions(ctx); err == nil && now > has {
				continue
			}
			return fmt.Errorf("migrating the schema from version %d to %d: %w", has, knows, err)
		}
	}
}
