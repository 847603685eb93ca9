-- Who watches which session now, and what of it is on its way to the node at which they watch. Everything here
-- is worth nothing after a few seconds, and goes.

-- +goose Up
CREATE TABLE live_watches (
	id         TEXT    NOT NULL PRIMARY KEY,
	session_id TEXT    NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
	channel    INTEGER NOT NULL,
	node       TEXT    NOT NULL,
	watcher    TEXT    NOT NULL,
	login      TEXT    NOT NULL,
	groups     TEXT    NOT NULL,
	started    BIGINT  NOT NULL,
	expires    BIGINT  NOT NULL
);
CREATE INDEX live_watches_session ON live_watches (session_id);

CREATE TABLE live_streams (
	id         TEXT    NOT NULL PRIMARY KEY,
	session_id TEXT    NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
	channel    INTEGER NOT NULL,
	node       TEXT    NOT NULL,
	got        BIGINT  NOT NULL,
	alive      BIGINT  NOT NULL,
	expires    BIGINT  NOT NULL
);
CREATE INDEX live_streams_session ON live_streams (session_id);

CREATE TABLE live_chunks (
	id        TEXT    NOT NULL PRIMARY KEY,
	stream_id TEXT    NOT NULL REFERENCES live_streams (id) ON DELETE CASCADE,
	seq       BIGINT  NOT NULL,
	last      BOOLEAN NOT NULL,
	data      TEXT    NOT NULL
);
CREATE INDEX live_chunks_stream ON live_chunks (stream_id, seq);
