-- Tokens with a counter, hardware, drift and what they were last used for; codes on paper.
-- The defaults are for a node of the version before, which may still add tokens.

-- +goose Up
ALTER TABLE tokens DROP CONSTRAINT tokens_kind_check;
ALTER TABLE tokens ADD CONSTRAINT tokens_kind_check CHECK (kind IN ('totp', 'hotp'));
ALTER TABLE tokens ADD COLUMN lost      BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE tokens ADD CONSTRAINT tokens_lost_check CHECK (NOT (lost AND enabled));
ALTER TABLE tokens ADD COLUMN hardware  BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE tokens ADD COLUMN serial    TEXT    NOT NULL DEFAULT '';
ALTER TABLE tokens ADD COLUMN expires   BIGINT  NOT NULL DEFAULT 0;  -- 0: never
ALTER TABLE tokens ADD COLUMN drift     INTEGER NOT NULL DEFAULT 0;  -- steps that the token's clock is ahead
ALTER TABLE tokens ADD COLUMN lean      INTEGER NOT NULL DEFAULT 0;  -- which way from drift the last code was: -1, 0, 1
ALTER TABLE tokens ADD COLUMN moved     BIGINT  NOT NULL DEFAULT 0;  -- when drift was last changed
ALTER TABLE tokens ADD COLUMN moved_way INTEGER NOT NULL DEFAULT 0;  -- … and which way; 0: by a resynchronisation
ALTER TABLE tokens ADD COLUMN uses      TEXT    NOT NULL DEFAULT ''; -- lines "STEP MILLISECONDS DOOR SOURCE", newest first, cut off at the end
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
