-- The place of each audit event in a hash chain, the signed heads of the chain, and the public keys that sign.

-- +goose Up
ALTER TABLE audit_events ADD COLUMN position BIGINT NOT NULL DEFAULT 0; -- in the chain, from 1; 0: not chained yet
ALTER TABLE audit_events ADD COLUMN link TEXT NOT NULL DEFAULT '';      -- hexadecimal; the chain after this event
CREATE INDEX audit_events_unchained ON audit_events (id) WHERE position = 0;
CREATE UNIQUE INDEX audit_events_position ON audit_events (position) WHERE position > 0;
CREATE TABLE audit_checkpoints (
	position BIGINT NOT NULL PRIMARY KEY,
	after    BIGINT NOT NULL, -- position of the one before
	head     TEXT   NOT NULL,
	at       BIGINT NOT NULL,
	node     TEXT   NOT NULL,
	signer   TEXT   NOT NULL, -- id of the key
	sig      TEXT   NOT NULL  -- base64
);
CREATE TABLE signing_keys (
	public      TEXT   NOT NULL PRIMARY KEY, -- base64 of the Ed25519 key
	node        TEXT   NOT NULL,
	added       BIGINT NOT NULL,
	compromised BIGINT NOT NULL DEFAULT 0    -- what it signed from this time on proves nothing; 0: never
);
INSERT INTO signing_keys (public, node, added) SELECT substr(name, 13), value, changed FROM settings WHERE substr(name, 1, 12) = 'signing-key/';
DELETE FROM settings WHERE substr(name, 1, 12) = 'signing-key/';
