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
	id         INTEGER NOT NULL PRIMARY KEY,
	session_id TEXT    NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
	channel    INTEGER NOT NULL,
	begun      BIGINT  NOT NULL,                         -- when the recording began
	body       BLOB    NOT NULL                          -- times and lines, zstd
);
CREATE INDEX search_blocks_session ON search_blocks (session_id, channel);

-- The words of each block, by its id; made by the store, hence the plain tokenizer.
CREATE VIRTUAL TABLE search_words USING fts5 (words, content = '', contentless_delete = 1, detail = none, tokenize = "ascii tokenchars ':'");

-- +goose StatementBegin
CREATE TRIGGER search_blocks_gone AFTER DELETE ON search_blocks BEGIN
	DELETE FROM search_words WHERE rowid = old.id;
END;
-- +goose StatementEnd

CREATE TABLE session_commands (
	session_id TEXT    NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
	channel    INTEGER NOT NULL,
	number     INTEGER NOT NULL,
	at         BIGINT  NOT NULL,                         -- microseconds since the recording began
	command    TEXT    NOT NULL,
	found_by   TEXT    NOT NULL,
	PRIMARY KEY (session_id, channel, number)
);
