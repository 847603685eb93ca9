-- Where each recording is, how long it is kept, and what has become of it; and sessions that are held.

-- +goose Up
CREATE TABLE recordings (
	session_id   TEXT    NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
	channel      INTEGER NOT NULL,
	node         TEXT    NOT NULL,
	path         TEXT    NOT NULL,
	state        TEXT    NOT NULL CHECK (state IN ('open', 'tail-pending', 'sealed', 'removing', 'removed')),
	at_node      BOOLEAN NOT NULL,                       -- on the node's disk; else it is in the store alone
	bytes        BIGINT NOT NULL,                       -- of asciicast, sealed
	packed       BIGINT NOT NULL,
	parts        INTEGER NOT NULL,
	root         TEXT    NOT NULL,                       -- signed head of the chain; outlives the recording
	pending      TEXT    NOT NULL,                       -- end that another node has signed, as it stands in the index; '-': nothing was there to seal
	retention    BIGINT NOT NULL,                       -- ms; 0: for ever
	delete_after BIGINT NOT NULL,                       -- 0: never
	held         BOOLEAN NOT NULL,
	claimed      BIGINT NOT NULL,                       -- when a node began to seal or to remove it
	removed      BIGINT NOT NULL,
	PRIMARY KEY (session_id, channel)
);
CREATE INDEX recordings_state ON recordings (state, delete_after);

CREATE TABLE session_holds (
	session_id TEXT   NOT NULL PRIMARY KEY REFERENCES sessions (id) ON DELETE CASCADE,
	reason     TEXT   NOT NULL,
	actor      TEXT   NOT NULL,
	created    BIGINT NOT NULL
);

INSERT INTO recordings (session_id, channel, node, path, state, at_node, bytes, packed, parts, root, pending, retention, delete_after, held, claimed, removed)
SELECT c.session_id, c.id, s.node, c.recording, CASE WHEN c.ended > 0 THEN 'sealed' WHEN s.state = 'live' THEN 'open' ELSE 'tail-pending' END,
	TRUE, 0, 0, 0, '', '', 0, 0, FALSE, 0, 0
FROM session_channels c JOIN sessions s ON s.id = c.session_id WHERE c.recording <> '';
