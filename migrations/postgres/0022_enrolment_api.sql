-- Keys by which programs give people tokens and have codes validated, and what such a program may ask again.

-- +goose Up
CREATE TABLE api_keys (
	id             TEXT    NOT NULL PRIMARY KEY,
	name           TEXT    NOT NULL UNIQUE,
	secret_hash    TEXT    NOT NULL UNIQUE,
	scopes         TEXT    NOT NULL,                -- JSON list
	sources        TEXT    NOT NULL,                -- JSON list of prefixes
	asserts_source BOOLEAN NOT NULL,
	per_minute     INTEGER NOT NULL CHECK (per_minute > 0),
	full_at        BIGINT  NOT NULL DEFAULT 0,      -- when all calls that were made will have been paid for, in microseconds
	created        BIGINT  NOT NULL,
	last_used      BIGINT  NOT NULL DEFAULT 0,
	last_source    TEXT    NOT NULL DEFAULT '',
	expires        BIGINT  NOT NULL                 -- 0: never
);
CREATE TABLE api_enrolments (
	key_id   TEXT   NOT NULL REFERENCES api_keys (id) ON DELETE CASCADE,
	ask      TEXT   NOT NULL,                       -- hash of Idempotency-Key
	request  TEXT   NOT NULL,                       -- hash of what was asked
	token_id TEXT   NOT NULL REFERENCES tokens (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
	expires  BIGINT NOT NULL,
	PRIMARY KEY (key_id, ask)
);
CREATE INDEX api_enrolments_expires ON api_enrolments (expires);
