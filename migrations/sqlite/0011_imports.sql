-- Tokens that belong to nobody yet, and imports, whose rows are put aside in small steps. Nothing of an import is
-- seen anywhere until it is committed; from then on all of it goes to its place, in small steps again, whatever dies.

-- +goose Up
CREATE TABLE imports (
	id        TEXT    NOT NULL PRIMARY KEY,
	kind      TEXT    NOT NULL CHECK (kind IN ('tokens', 'users')),
	author    TEXT    NOT NULL,                          -- who may commit it
	created   BIGINT  NOT NULL,
	counts    TEXT    NOT NULL DEFAULT '{}',             -- JSON: what the audit log will say of it
	committed BOOLEAN NOT NULL DEFAULT FALSE
);

CREATE TABLE import_users (
	import_id   TEXT    NOT NULL REFERENCES imports (id) ON DELETE CASCADE,
	login       TEXT    NOT NULL,
	user_id     TEXT    NOT NULL,                        -- of a row that is there, or that will be
	known       BOOLEAN NOT NULL,                        -- the row is there and will be changed
	name        TEXT    NOT NULL,
	email       TEXT    NOT NULL,
	phone       TEXT    NOT NULL,
	group_names TEXT    NOT NULL,                        -- JSON list
	search      TEXT    NOT NULL,
	PRIMARY KEY (import_id, login)
);

-- The secret is sealed to the row that it will be in table tokens, under the same id.
CREATE TABLE stock_tokens (
	id        TEXT    NOT NULL PRIMARY KEY,
	import_id TEXT    REFERENCES imports (id) ON DELETE CASCADE, -- null: in stock, for whoever proves to have it
	user_id   TEXT,                                      -- of whom the import gives it to; null: nobody
	name      TEXT    NOT NULL,
	kind      TEXT    NOT NULL CHECK (kind IN ('totp', 'hotp')),
	algorithm TEXT    NOT NULL,
	digits    INTEGER NOT NULL,
	period    INTEGER NOT NULL,                          -- 0 for hotp
	last_step BIGINT  NOT NULL,
	serial    TEXT    NOT NULL,
	drift     INTEGER NOT NULL,
	secret    TEXT    NOT NULL,                          -- sealed
	created   BIGINT  NOT NULL,
	CHECK (import_id IS NOT NULL OR user_id IS NULL)
);
CREATE INDEX stock_tokens_import ON stock_tokens (import_id, id);
CREATE INDEX stock_tokens_any_serial ON stock_tokens (serial);
CREATE UNIQUE INDEX stock_tokens_serial ON stock_tokens (serial) WHERE import_id IS NULL AND serial <> '';
