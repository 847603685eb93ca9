-- +goose Up

CREATE TABLE users (
	id            TEXT    COLLATE "C" NOT NULL PRIMARY KEY,
	login         TEXT    NOT NULL UNIQUE,
	name          TEXT    NOT NULL,
	email         TEXT    NOT NULL,
	source        TEXT    NOT NULL CHECK (source IN ('local', 'directory')),
	external_id   TEXT    UNIQUE,                        -- null for local users
	group_names   TEXT    NOT NULL,                      -- JSON list
	search        TEXT    NOT NULL,                      -- login, name and e-mail address in lower case
	locked        BOOLEAN NOT NULL DEFAULT FALSE,
	lock_reason   TEXT    NOT NULL DEFAULT '',
	locked_until  BIGINT  NOT NULL DEFAULT 0,
	password_hash TEXT    NOT NULL DEFAULT '',
	token_count   INTEGER NOT NULL DEFAULT 0 CHECK (token_count >= 0), -- every change of tokens locks this row
	created       BIGINT  NOT NULL,
	last_login    BIGINT  NOT NULL DEFAULT 0
);

CREATE TABLE user_keys (
	id          TEXT   COLLATE "C" NOT NULL PRIMARY KEY,
	user_id     TEXT   NOT NULL REFERENCES users (id) ON DELETE CASCADE,
	name        TEXT   NOT NULL,
	public_key  TEXT   NOT NULL,
	fingerprint TEXT   NOT NULL UNIQUE,
	created     BIGINT NOT NULL,
	last_used   BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX user_keys_user ON user_keys (user_id);

CREATE TABLE tokens (
	id           TEXT    NOT NULL PRIMARY KEY,
	user_id      TEXT    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
	name         TEXT    NOT NULL,
	kind         TEXT    NOT NULL CHECK (kind IN ('totp')),
	algorithm    TEXT    NOT NULL,
	digits       INTEGER NOT NULL,
	period       INTEGER NOT NULL,
	window_steps INTEGER NOT NULL,
	last_step    BIGINT  NOT NULL,                       -- no step up to this one is accepted again
	enabled      BOOLEAN NOT NULL,
	secret       TEXT    NOT NULL,                       -- sealed
	created      BIGINT  NOT NULL,
	last_used    BIGINT  NOT NULL DEFAULT 0
);
CREATE INDEX tokens_user ON tokens (user_id);

CREATE TABLE targets (
	id            TEXT    NOT NULL PRIMARY KEY,
	name          TEXT    NOT NULL UNIQUE,
	address       TEXT    NOT NULL,
	accounts      TEXT    NOT NULL,                      -- JSON list
	labels        TEXT    NOT NULL,                      -- JSON map
	host_key_mode TEXT    NOT NULL CHECK (host_key_mode IN ('pinned', 'tofu')),
	host_keys     TEXT    NOT NULL,                      -- JSON list
	lockout       INTEGER NOT NULL,
	note          TEXT    NOT NULL,
	created       BIGINT  NOT NULL
);

CREATE TABLE rule_sets (
	version  BIGINT NOT NULL PRIMARY KEY,
	document TEXT   NOT NULL,
	author   TEXT   NOT NULL,
	created  BIGINT NOT NULL
);

-- failures counts evaluated guesses, in_flight those that are being evaluated. From expires on the
-- failures (and the lock) are as if they had never been.
CREATE TABLE counters (
	kind         TEXT    NOT NULL,
	key          TEXT    NOT NULL,
	failures     INTEGER NOT NULL,
	in_flight    INTEGER NOT NULL CHECK (in_flight >= 0),
	since        BIGINT  NOT NULL,                       -- first failure; while locked: when the lock was set
	locked_until BIGINT  NOT NULL,
	expires      BIGINT  NOT NULL,                       -- 0: never
	PRIMARY KEY (kind, key)
);
CREATE INDEX counters_expires ON counters (expires);
CREATE INDEX counters_locked_until ON counters (locked_until);

CREATE TABLE attempts (
	id       TEXT   NOT NULL PRIMARY KEY,
	counters TEXT   NOT NULL,                            -- JSON list
	started  BIGINT NOT NULL
);
CREATE INDEX attempts_started ON attempts (started);

CREATE TABLE places (
	user_id    TEXT    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
	source     TEXT    NOT NULL,
	network    TEXT    NOT NULL,                         -- the address itself, or the /64 of an IPv6 address
	first_seen BIGINT  NOT NULL,
	last_seen  BIGINT  NOT NULL,
	times      INTEGER NOT NULL,
	PRIMARY KEY (user_id, source)
);
CREATE INDEX places_network ON places (user_id, network);

-- Sessions outlive the users and targets they tell of.
CREATE TABLE sessions (
	id              TEXT   COLLATE "C" NOT NULL PRIMARY KEY,
	user_id         TEXT   NOT NULL,
	user_name       TEXT   NOT NULL,
	target          TEXT   NOT NULL,
	address         TEXT   NOT NULL,
	account         TEXT   NOT NULL,
	source          TEXT   NOT NULL,
	client          TEXT   NOT NULL,
	node            TEXT   NOT NULL,
	rule            TEXT   NOT NULL,
	recording       TEXT   NOT NULL,
	state           TEXT   NOT NULL CHECK (state IN ('live', 'ended', 'lost')),
	reason          TEXT   NOT NULL,
	started         BIGINT NOT NULL,
	ended           BIGINT NOT NULL,
	key_fingerprint TEXT   NOT NULL
);
CREATE INDEX sessions_state ON sessions (state, id);
CREATE INDEX sessions_user ON sessions (substr(user_name, 1, 128), id);
CREATE INDEX sessions_target ON sessions (substr(target, 1, 128), id);

CREATE TABLE session_channels (
	session_id  TEXT    NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
	id          INTEGER NOT NULL,
	kind        TEXT    NOT NULL,
	command     TEXT    NOT NULL,
	term        BOOLEAN NOT NULL,
	exit_status BIGINT,                                  -- null until known
	exit_signal TEXT    NOT NULL,
	bytes_in    BIGINT  NOT NULL,
	bytes_out   BIGINT  NOT NULL,
	recording   TEXT    NOT NULL,
	sha256      TEXT    NOT NULL,
	truncated   BOOLEAN NOT NULL,
	started     BIGINT  NOT NULL,
	ended       BIGINT  NOT NULL,
	PRIMARY KEY (session_id, id)
);

CREATE TABLE audit_events (
	id         TEXT   COLLATE "C" NOT NULL PRIMARY KEY,
	at         BIGINT NOT NULL,
	type       TEXT   NOT NULL,
	result     TEXT   NOT NULL,
	door       TEXT   NOT NULL,
	user_name  TEXT   NOT NULL,
	actor      TEXT   NOT NULL,
	source     TEXT   NOT NULL,
	target     TEXT   NOT NULL,
	account    TEXT   NOT NULL,
	session_id TEXT   NOT NULL,
	rule       TEXT   NOT NULL,
	reason     TEXT   NOT NULL,
	node       TEXT   NOT NULL,
	detail     TEXT   NOT NULL                           -- JSON map
);
-- A stranger chooses how long a name is, and PostgreSQL refuses long index entries.
CREATE INDEX audit_events_user ON audit_events (substr(user_name, 1, 128), id);
CREATE INDEX audit_events_target ON audit_events (substr(target, 1, 128), id);
CREATE INDEX audit_events_session ON audit_events (substr(session_id, 1, 128), id);

CREATE TABLE admins (
	user_id TEXT   NOT NULL PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
	role    TEXT   NOT NULL CHECK (role IN ('admin', 'auditor')),
	created BIGINT NOT NULL
);

CREATE TABLE api_tokens (
	id          TEXT   NOT NULL PRIMARY KEY,
	name        TEXT   NOT NULL UNIQUE,
	role        TEXT   NOT NULL CHECK (role IN ('admin', 'auditor')),
	secret_hash TEXT   NOT NULL UNIQUE,
	created     BIGINT NOT NULL,
	last_used   BIGINT NOT NULL DEFAULT 0,
	expires     BIGINT NOT NULL
);

CREATE TABLE tickets (
	secret_hash TEXT   NOT NULL PRIMARY KEY,
	purpose     TEXT   NOT NULL,
	subject     TEXT   NOT NULL,
	data        TEXT   NOT NULL,                         -- sealed
	created     BIGINT NOT NULL,
	expires     BIGINT NOT NULL
);
CREATE INDEX tickets_subject ON tickets (subject, purpose);
CREATE INDEX tickets_expires ON tickets (expires);

CREATE TABLE web_sessions (
	token_hash TEXT    NOT NULL PRIMARY KEY,
	user_id    TEXT    NOT NULL,                        -- empty until signed in
	source     TEXT    NOT NULL,
	client     TEXT    NOT NULL,
	data       TEXT    NOT NULL,                        -- sealed
	ended      BOOLEAN NOT NULL,                        -- for good
	created    BIGINT  NOT NULL,
	expires    BIGINT  NOT NULL
);
CREATE INDEX web_sessions_user ON web_sessions (user_id);
CREATE INDEX web_sessions_expires ON web_sessions (expires);

CREATE TABLE secrets (
	name    TEXT   NOT NULL PRIMARY KEY,
	value   TEXT   NOT NULL,                             -- sealed
	created BIGINT NOT NULL
);

CREATE TABLE settings (
	name    TEXT   NOT NULL PRIMARY KEY,
	value   TEXT   NOT NULL,
	changed BIGINT NOT NULL
);
