-- The ledger of file transfers: one row for each file from open to close, and for what else was done to files.

-- +goose Up
CREATE TABLE transfers (
	session_id TEXT    NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
	channel    INTEGER NOT NULL,
	seq        INTEGER NOT NULL,
	op         TEXT    NOT NULL,
	path       BYTEA   NOT NULL,                           -- any bytes
	new_path   BYTEA   NOT NULL,
	bytes      BIGINT  NOT NULL,
	first      BIGINT  NOT NULL,                         -- offset of the first of them
	sha256     TEXT    NOT NULL,
	in_order   BOOLEAN NOT NULL,
	result     TEXT    NOT NULL,
	detail     TEXT    NOT NULL,
	started    BIGINT  NOT NULL,
	ended      BIGINT  NOT NULL,
	PRIMARY KEY (session_id, channel, seq)
);
ALTER TABLE session_channels ADD COLUMN files_read BIGINT NOT NULL DEFAULT 0;
ALTER TABLE session_channels ADD COLUMN files_written BIGINT NOT NULL DEFAULT 0;
