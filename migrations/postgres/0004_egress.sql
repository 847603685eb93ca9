-- Targets behind jump hosts, targets that ask the person themselves, and the keys of the user CA.

-- +goose Up
ALTER TABLE targets ADD COLUMN via TEXT NOT NULL DEFAULT '';         -- name of the target to go through; '': none
ALTER TABLE targets ADD COLUMN via_account TEXT NOT NULL DEFAULT ''; -- account there; '': its first
ALTER TABLE targets DROP CONSTRAINT targets_credential_check;
ALTER TABLE targets ADD CONSTRAINT targets_credential_check
	CHECK (credential IN ('key', 'own-key', 'certificate', 'password', 'relayed'));

CREATE TABLE ca_keys (
	id         TEXT   NOT NULL PRIMARY KEY,
	state      TEXT   NOT NULL UNIQUE CHECK (state IN ('next', 'active', 'old')), -- one of each at most
	public_key TEXT   NOT NULL,
	secret     TEXT   NOT NULL,                                                   -- sealed
	created    BIGINT NOT NULL
);
