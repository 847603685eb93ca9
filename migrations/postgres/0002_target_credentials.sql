-- How the bastion logs in to a target, host certificates, and host keys that wait for an operator.
-- The defaults are for a node of the version before, which may still add targets.

-- +goose Up
ALTER TABLE targets DROP CONSTRAINT targets_host_key_mode_check;
ALTER TABLE targets ADD CONSTRAINT targets_host_key_mode_check CHECK (host_key_mode IN ('pinned', 'tofu', 'ca'));
ALTER TABLE targets ADD COLUMN host_cas TEXT NOT NULL DEFAULT '[]';      -- JSON list
ALTER TABLE targets ADD COLUMN revoked_keys TEXT NOT NULL DEFAULT '[]';  -- JSON list
ALTER TABLE targets ADD COLUMN credential TEXT NOT NULL DEFAULT 'key'
	CHECK (credential IN ('key', 'own-key', 'certificate', 'password'));
ALTER TABLE targets ADD COLUMN secret TEXT NOT NULL DEFAULT '';          -- sealed; '' for key and certificate

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
