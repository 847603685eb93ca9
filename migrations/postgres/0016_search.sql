-- What stood on the screens of recordings, so that it can be searched, and the commands found there.

-- +goose Up
CREATE INDEX session_channels_ended ON session_channels (ended);

CREATE TABLE search_recordings (
	session_id TEXT    NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
	channel    INTEGER NOT NULL,
	state      TEXT    NOT NULL CHECK (state IN ('pending', 'done', 'failed', 'off')),
	note       TEXT    NOT NULL,                         -- why it failed, is off, or is not whole
	node       TEXT    NOT NULL,                         -- that recorded it
	found      BIGINT  NOT NULL,                         -- when it was seen first
	worker     TEXT    NOT NULL,                         -- who claimed it last
	due        BIGINT  NOT NULL,                         -- nobody claims it before
	tries      INTEGER NOT NULL,
	line_count BIGINT  NOT NULL,
	PRIMARY KEY (session_id, channel)
);
CREATE INDEX search_recordings_due ON search_recordings (state, due);

-- Some lines that follow each other. The id begins with the second in which the first was seen.
CREATE TABLE search_blocks (
	id         BIGINT  NOT NULL PRIMARY KEY,
	session_id TEXT    NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
	channel    INTEGER NOT NULL,
	begun      BIGINT  NOT NULL,                         -- when the recording began
	body       BYTEA   NOT NULL                          -- times and lines, zstd
);
CREATE INDEX search_blocks_session ON search_blocks (session_id, channel);
ALTER TABLE search_blocks ALTER COLUMN body SET STORAGE EXTERNAL;

-- The words of each block, made by the store: no dictionary has a say. Scans that go by the id read these rows
-- and not the bodies.
CREATE TABLE search_words (
	id    BIGINT   NOT NULL PRIMARY KEY REFERENCES search_blocks (id) ON DELETE CASCADE,
	words TSVECTOR NOT NULL
);
CREATE INDEX search_words_words ON search_words USING gin (words) WITH (gin_pending_list_limit = 1024);

CREATE TABLE session_commands (
	session_id TEXT    NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
	channel    INTEGER NOT NULL,
	number     INTEGER NOT NULL,
	at         BIGINT  NOT NULL,                         -- microseconds since the recording began
	command    TEXT    NOT NULL,
	found_by   TEXT    NOT NULL,
	PRIMARY KEY (session_id, channel, number)
);
