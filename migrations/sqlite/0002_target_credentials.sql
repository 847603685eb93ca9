-- How the bastion logs in to a target, host certificates, and host keys that wait for an operator.
-- The defaults are for a node of the version before, which may still add targets.

-- +goose Up
CREATE TABLE targets_new (
	id            TEXT    NOT NULL PRIMARY KEY,
	name          TEXT    NOT NULL UNIQUE,
	address       TEXT    NOT NULL,
	accounts      TEXT    NOT NULL,                      -- JSON list
	labels        TEXT    NOT NULL,                      -- JSON map
	host_key_mode TEXT    NOT NULL CHECK (host_key_mode IN ('pinned', 'tofu', 'ca')),
	host_keys     TEXT    NOT NULL,                      -- JSON list
	lockout       INTEGER NOT NULL,
	note          TEXT    NOT NULL,
	created       BIGINT  NOT NULL,
	host_cas      TEXT    NOT NULL DEFAULT '[]',         -- JSON list
	revoked_keys  TEXT    NOT NULL DEFAULT '[]',         -- JSON list
	credential    TEXT    NOT NULL DEFAULT 'key' CHECK (credential IN ('key', 'own-key', 'certificate', 'password')),
	secret        TEXT    NOT NULL DEFAULT ''            -- sealed; '' for key and certificate
);
INSERT INTO targets_new (id, name, address, accounts, labels, host_key_mode, host_keys, lockout, note, created,
	host_cas, revoked_keys, credential, secret)
	SELECT id, name, address, accounts, labels, host_key_mode, host_keys, lockout, note, created, '[]', '[]', 'key', ''
	FROM targets;
DROP TABLE targets;
ALTER TABLE targets_new RENAME TO targets;

CREATE TABLE waiting_host_keys (
	id        TEXT    NOT NULL PRIMARY KEY,
	target_id TEXT    NOT NULL REFERENCES targets (id) ON DELETE CASCADE,
	host_key  TEXT    NOT NULL,
	address   TEXT    NOT NULL,
	seen      INTEGER NOT NULL,
	first     BIGINT  NOT NULL,
	last      BIGINT  NOT NULL,
	UNIQUE (target_id, host_key)
);
