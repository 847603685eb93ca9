-- Targets behind jump hosts, targets that ask the person themselves, and the keys of the user CA.
-- The column credential is made anew because SQLite cannot change its CHECK; whatever other columns
-- there are stay.

-- +goose Up
ALTER TABLE targets ADD COLUMN via TEXT NOT NULL DEFAULT '';         -- name of the target to go through; '': none
ALTER TABLE targets ADD COLUMN via_account TEXT NOT NULL DEFAULT ''; -- account there; '': its first
ALTER TABLE targets ADD COLUMN login TEXT NOT NULL DEFAULT 'key'
	CHECK (login IN ('key', 'own-key', 'certificate', 'password', 'relayed'));
UPDATE targets SET login = credential;
ALTER TABLE targets DROP COLUMN credential;
ALTER TABLE targets RENAME COLUMN login TO credential;

CREATE TABLE ca_keys (
	id         TEXT   NOT NULL PRIMARY KEY,
	state      TEXT   NOT NULL UNIQUE CHECK (state IN ('next', 'active', 'old')), -- one of each at most
	public_key TEXT   NOT NULL,
	secret     TEXT   NOT NULL,                                                   -- sealed
	created    BIGINT NOT NULL
);
