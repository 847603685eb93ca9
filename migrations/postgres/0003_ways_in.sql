-- Certificate authorities of users, and robots. A node of the version before knows neither.

-- +goose Up
CREATE TABLE user_cas (
	id          TEXT    NOT NULL PRIMARY KEY,
	name        TEXT    NOT NULL UNIQUE,
	public_key  TEXT    NOT NULL,
	fingerprint TEXT    NOT NULL UNIQUE,
	enabled     BOOLEAN NOT NULL,
	created     BIGINT  NOT NULL,
	last_used   BIGINT  NOT NULL DEFAULT 0
);

CREATE TABLE revoked_certificates (
	ca_id   TEXT   NOT NULL REFERENCES user_cas (id) ON DELETE CASCADE,
	kind    TEXT   NOT NULL CHECK (kind IN ('serial', 'key-id')),
	value   TEXT   NOT NULL,
	created BIGINT NOT NULL,
	PRIMARY KEY (ca_id, kind, value)
);

CREATE TABLE robots (
	id          TEXT    NOT NULL PRIMARY KEY,
	name        TEXT    NOT NULL UNIQUE,
	public_key  TEXT    NOT NULL,
	fingerprint TEXT    NOT NULL UNIQUE,
	sources     TEXT    NOT NULL,                      -- JSON lists, as are the next three
	targets     TEXT    NOT NULL,
	accounts    TEXT    NOT NULL,
	commands    TEXT    NOT NULL,
	note        TEXT    NOT NULL,
	enabled     BOOLEAN NOT NULL,
	expires     BIGINT  NOT NULL,                      -- 0: never
	created     BIGINT  NOT NULL,
	last_used   BIGINT  NOT NULL DEFAULT 0,
	last_source TEXT    NOT NULL DEFAULT ''
);
