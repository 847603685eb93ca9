-- Tokens with a counter, hardware, drift and what they were last used for; codes on paper.
-- The defaults are for a node of the version before, which may still add tokens.

-- +goose Up
CREATE TABLE tokens_new (
	id           TEXT    NOT NULL PRIMARY KEY,
	user_id      TEXT    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
	name         TEXT    NOT NULL,
	kind         TEXT    NOT NULL CHECK (kind IN ('totp', 'hotp')),
	algorithm    TEXT    NOT NULL,
	digits       INTEGER NOT NULL,
	period       INTEGER NOT NULL,                       -- 0 for hotp
	window_steps INTEGER NOT NULL,
	last_step    BIGINT  NOT NULL,                       -- no step up to this one is accepted again; hotp: the last counter used, or -1
	enabled      BOOLEAN NOT NULL,
	secret       TEXT    NOT NULL,                       -- sealed
	created      BIGINT  NOT NULL,
	last_used    BIGINT  NOT NULL DEFAULT 0,
	lost         BOOLEAN NOT NULL DEFAULT FALSE CHECK (NOT (lost AND enabled)),
	hardware     BOOLEAN NOT NULL DEFAULT FALSE,
	serial       TEXT    NOT NULL DEFAULT '',
	expires      BIGINT  NOT NULL DEFAULT 0,             -- 0: never
	drift        INTEGER NOT NULL DEFAULT 0,             -- steps that the token's clock is ahead
	lean         INTEGER NOT NULL DEFAULT 0,             -- which way from drift the last code was: -1, 0, 1
	moved        BIGINT  NOT NULL DEFAULT 0,             -- when drift was last changed
	moved_way    INTEGER NOT NULL DEFAULT 0,             -- … and which way; 0: by a resynchronisation
	uses         TEXT    NOT NULL DEFAULT ''             -- lines "STEP MILLISECONDS DOOR SOURCE", newest first, cut off at the end
);
INSERT INTO tokens_new (id, user_id, name, kind, algorithm, digits, period, window_steps, last_step, enabled, secret, created, last_used)
	SELECT id, user_id, name, kind, algorithm, digits, period, window_steps, last_step, enabled, secret, created, last_used
	FROM tokens;
DROP TABLE tokens;
ALTER TABLE tokens_new RENAME TO tokens;
CREATE INDEX tokens_user ON tokens (user_id);
CREATE UNIQUE INDEX tokens_serial ON tokens (serial) WHERE serial <> '';

CREATE TABLE spare_codes (
	code_hash TEXT   NOT NULL PRIMARY KEY,
	user_id   TEXT   NOT NULL REFERENCES users (id) ON DELETE CASCADE,
	kind      TEXT   NOT NULL CHECK (kind IN ('recovery', 'bypass')),
	reason    TEXT   NOT NULL,
	issuer    TEXT   NOT NULL,
	created   BIGINT NOT NULL,
	expires   BIGINT NOT NULL                            -- 0: never
);
CREATE INDEX spare_codes_user ON spare_codes (user_id, kind);
