-- RADIUS: the clients that may ask, the challenges that wait for an answer, what was heard of each client, and who
-- need not type a code again for a while.

-- +goose Up
CREATE TABLE radius_clients (
	id                    TEXT    NOT NULL PRIMARY KEY,
	name                  TEXT    NOT NULL UNIQUE,
	networks              TEXT    NOT NULL,              -- JSON list
	nas_identifier        TEXT    NOT NULL,              -- '': any
	certificate           TEXT    NOT NULL,              -- SHA-256 in hexadecimal digits; '': comes by UDP
	secret                TEXT    NOT NULL,              -- sealed
	mode                  TEXT    NOT NULL,
	separator             TEXT    NOT NULL,
	message_authenticator TEXT    NOT NULL,
	authenticated         BIGINT  NOT NULL DEFAULT 0,    -- first valid Message-Authenticator, 0: none yet
	sends_authenticator   BOOLEAN NOT NULL,
	asserts_source        BOOLEAN NOT NULL,
	source_attribute      INTEGER NOT NULL,
	remember              BIGINT  NOT NULL,              -- milliseconds
	chap                  BOOLEAN NOT NULL,
	note                  TEXT    NOT NULL,
	enabled               BOOLEAN NOT NULL,
	created               BIGINT  NOT NULL
);
CREATE TABLE radius_states (
	id        TEXT   NOT NULL PRIMARY KEY,               -- hash of State
	client_id TEXT   NOT NULL REFERENCES radius_clients (id) ON DELETE CASCADE,
	login     TEXT   NOT NULL,
	station   TEXT   NOT NULL,
	password  TEXT   NOT NULL,                           -- sealed
	expires   BIGINT NOT NULL
);
CREATE INDEX radius_states_expires ON radius_states (expires);
CREATE TABLE radius_counts (
	client_id TEXT   NOT NULL,                           -- '': addresses that are no client's
	kind      TEXT   NOT NULL,
	times     BIGINT NOT NULL,
	last_seen BIGINT NOT NULL,
	detail    TEXT   NOT NULL,                           -- of the last one
	PRIMARY KEY (client_id, kind)
);
CREATE TABLE radius_grants (
	user_id   TEXT   NOT NULL REFERENCES users (id) ON DELETE CASCADE,
	client_id TEXT   NOT NULL REFERENCES radius_clients (id) ON DELETE CASCADE,
	station   TEXT   NOT NULL,
	code_at   BIGINT NOT NULL,
	expires   BIGINT NOT NULL,
	PRIMARY KEY (user_id, client_id, station)
);
CREATE INDEX radius_grants_expires ON radius_grants (expires);
