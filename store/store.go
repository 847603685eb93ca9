// Package store keeps everything durable, in SQLite or PostgreSQL.
//
// Each entity has one file and one type; its methods are reached through the fields of [Store]. The
// statements that security rests on live here and nowhere else, each one atomic on both engines:
// [Attempts] (reserve before a guess is evaluated), [Tokens.ConsumeStep] (a time step is accepted
// once), [Tokens.AddFirst] and [Tokens.AddForProgram] (one first token), [APIKeys.Use] (so many calls a minute), [Tickets.Take], [SpareCodes.Take] and [SentCodes.Take] (take once),
// [SentCodes.Issue] (so many messages an hour) and [Admins.Remove] (never the last one).
//
// Every method gives up after three seconds, or earlier if its context says so. Errors can be told
// apart with errors.Is: [ErrUnavailable] if the database did not answer, [ErrNotFound],
// [ErrExists], [ErrNameTaken], [ErrConflict] and [ErrLastAdmin] if it answered no. After any other
// error, too, a caller must not let anybody in. Times are kept in milliseconds; the zero time means
// none.
package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"sallyport/internal/seal"
)

// Errors that callers branch on.
var (
	ErrNotFound    = errors.New("not found")
	ErrExists      = errors.New("already exists")
	ErrNameTaken   = errors.New("the login belongs to another user")
	ErrConflict    = errors.New("somebody else changed it meanwhile")
	ErrLastAdmin   = errors.New("the last administrator cannot be removed")
	ErrUnavailable = errors.New("database unavailable")
)

// Config says where the database is and how its secrets are sealed.
type Config struct {
	// DSN is "sqlite:/path/file.db", "sqlite::memory:" or "postgres://…?sslmode=…". A PostgreSQL
	// DSN must name its sslmode, verify-full for anything but loopback and unix sockets: whoever
	// can answer in the place of the database can let everybody in.
	DSN string

	// Ring seals and opens secrets; required.
	Ring *seal.Ring

	// Now is the clock that locks and expiry follow; nil means time.Now.
	Now func() time.Time
}

// Store is an open database. It is safe for concurrent use.
type Store struct {
	Users       Users
	UserKeys    UserKeys
	UserCAs     UserCAs
	Robots      Robots
	Tokens      Tokens
	Stock       Stock
	Imports     Imports
	SpareCodes  SpareCodes
	Targets     Targets
	HostKeys    HostKeys
	Watching    Watching
	Rules       Rules
	Attempts    Attempts
	Places      Places
	Grants      Grants
	Sessions    Sessions
	Recordings  Recordings
	Approvals   Approvals
	Transfers   Transfers
	Audit       Audit
	Admins      Admins
	APITokens   APITokens
	Tickets     Tickets
	WebSessions WebSessions
	Secrets     Secrets
	CAKeys      CAKeys
	Settings    Settings
	Keys        Keys
	SigningKeys SigningKeys
	Outbox      Outbox
	SentCodes   SentCodes
	Search      Search
	Bus         *Bus

	APIKeys        APIKeys
	HostAuthority  HostAuthority
	RadiusClients  RadiusClients
	RadiusStates   RadiusStates
	RadiusGrants   RadiusGrants
	RadiusVerdicts RadiusVerdicts

	db *db
}

// Open connects to the database, creates the file if it is SQLite and there is none, and migrates
// the schema. Several nodes may do so at once. A database that was migrated by a newer program is
// refused. ctx bounds opening only.
func Open(ctx context.Context, c Config) (*Store, error) {
	if c.Ring == nil {
		return nil, errors.New("opening the database: Config.Ring is missing")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	d, err := connect(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("opening the database: %w", err)
	}
	bus, err := newBus(ctx, d)
	if err != nil {
		d.close()
		return nil, fmt.Errorf("opening the database: %w", err)
	}
	d.bus = bus
	return &Store{
		Watching: Watching{d},
		Users:    Users{d}, UserKeys: UserKeys{d}, UserCAs: UserCAs{d}, Robots: Robots{d}, Tokens: Tokens{d}, Stock: Stock{d}, Imports: Imports{d}, SpareCodes: SpareCodes{d}, Targets: Targets{d},
		HostKeys: HostKeys{d}, Rules: Rules{d}, Attempts: Attempts{d}, Places: Places{d}, Grants: Grants{d}, Sessions: Sessions{d}, Recordings: Recordings{d}, Approvals: Approvals{d}, Transfers: Transfers{d},
		Audit: Audit{d}, Admins: Admins{d},
		APITokens: APITokens{d}, Tickets: Tickets{d}, WebSessions: WebSessions{d}, Secrets: Secrets{d}, CAKeys: CAKeys{d},
		Settings: Settings{d}, Outbox: Outbox{d}, SentCodes: SentCodes{d}, Keys: Keys{d}, SigningKeys: SigningKeys{d}, Search: Search{d}, Bus: bus, db: d,
		APIKeys:       APIKeys{d},
		HostAuthority: HostAuthority{d},
		RadiusClients: RadiusClients{d}, RadiusStates: RadiusStates{d}, RadiusGrants: RadiusGrants{d}, RadiusVerdicts: RadiusVerdicts{d},
	}, nil
}

// Close ends all subscriptions and closes the database. Later calls fail with [ErrUnavailable].
func (s *Store) Close() error {
	s.Bus.close()
	if err := s.db.close(); err != nil {
		return fmt.Errorf("closing the database: %w", err)
	}
	return nil
}

// Ping asks the database for an answer.
func (s *Store) Ping(ctx context.Context) error {
	return s.db.reading(ctx, "asking the database for an answer", func(ctx context.Context, q querier) error {
		_, err := scalar[int64](ctx, q, "SELECT 1")
		return err
	})
}

// Engine names the database engine: "sqlite" or "postgres".
func (s *Store) Engine() string {
	if s.db.postgres() {
		return "postgres"
	}
	return "sqlite"
}

// SchemaVersion returns the number of the last migration.
func (s *Store) SchemaVersion(ctx context.Context) (int64, error) {
	var version int64
	err := s.db.reading(ctx, "reading the version of the schema", func(ctx context.Context, q querier) (err error) {
		version, err = scalar[int64](ctx, q, "SELECT MAX(version_id) FROM goose_db_version")
		return err
	})
	return version, err
}

// Purge deletes what has expired: tickets, web sessions, grants, what is left of imports, bypass and sent codes, messages that were settled a
// week ago and counters that no longer count. Any node
// may call it at any time; once a minute is enough.
func (s *Store) Purge(ctx context.Context) error {
	if err := s.Imports.sweep(ctx); err != nil {
		return err
	}
	if err := s.Watching.purge(ctx); err != nil {
		return err
	}
	return s.db.writing(ctx, "deleting what has expired", func(ctx context.Context, q querier) error {
		now := ms(s.db.now())
		for _, table := range []string{"tickets", "web_sessions", "grants", "sent_codes", "send_counts", "radius_states", "radius_grants", "radius_verdicts", "api_enrolments"} {
			if _, err := exec(ctx, q, "DELETE FROM "+table+" WHERE expires <= ?", now); err != nil {
				return err
			}
		}
		if _, err := exec(ctx, q, "DELETE FROM spare_codes WHERE expires > 0 AND expires <= ?", now); err != nil {
			return err
		}
		if err := purgeApprovals(ctx, q, s.db.now()); err != nil {
			return err
		}
		if err := purgeOutbox(ctx, q, s.db.now()); err != nil {
			return err
		}
		// A login locks several counters in an order of its own; this statement waits for none.
		skip := ""
		if s.db.postgres() {
			skip = " FOR UPDATE SKIP LOCKED"
		}
		_, err := exec(ctx, q, `DELETE FROM counters WHERE (kind, key) IN (SELECT kind, key FROM counters
			WHERE in_flight = 0 AND level_until <= ? AND (failures = 0 AND locked_until = 0 OR (expires > 0 AND expires <= ?))`+skip+")", now, now)
		return err
	})
}

// newID returns a UUIDv7: later ids sort after earlier ones.
func newID() (string, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("making an id: %w", err)
	}
	return id.String(), nil
}
