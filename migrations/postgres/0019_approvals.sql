-- Sessions that others have to agree to before they start.

-- +goose Up
CREATE TABLE approvals (
	id            TEXT    NOT NULL PRIMARY KEY,
	code          TEXT    NOT NULL,          -- short, what approvers type; unique among those that are pending
	session_id    TEXT    NOT NULL,          -- that the session will have, and no other
	user_id       TEXT    NOT NULL,
	person        TEXT    NOT NULL,          -- the directory's id, else the row's: who may not decide
	user_name     TEXT    NOT NULL,
	target        TEXT    NOT NULL,
	account       TEXT    NOT NULL,
	source        TEXT    NOT NULL,
	asked         TEXT    NOT NULL,          -- what the person came with, such as "exec: uptime"
	reason        TEXT    NOT NULL,          -- of the person
	rule          TEXT    NOT NULL,
	rules_version BIGINT  NOT NULL,
	approvers     TEXT    NOT NULL,          -- JSON list of lists of words: who may decide
	needed        INTEGER NOT NULL,
	given         INTEGER NOT NULL,          -- approvals so far
	node          TEXT    NOT NULL,          -- where the person waits
	state         TEXT    NOT NULL CHECK (state IN ('pending', 'approved', 'refused', 'withdrawn', 'expired', 'used')),
	why           TEXT    NOT NULL,          -- it was withdrawn
	requested     BIGINT  NOT NULL,
	expires       BIGINT  NOT NULL,
	settled       BIGINT  NOT NULL           -- when it left pending; 0: it did not
);
CREATE UNIQUE INDEX approvals_pending_code ON approvals (code) WHERE state = 'pending';
CREATE INDEX approvals_state ON approvals (state, expires);
CREATE INDEX approvals_session ON approvals (session_id);

CREATE TABLE approval_decisions (
	approval_id TEXT    NOT NULL REFERENCES approvals (id) ON DELETE CASCADE,
	person      TEXT    NOT NULL,            -- as in approvals: each decides once
	user_name   TEXT    NOT NULL,
	approve     BOOLEAN NOT NULL,
	reason      TEXT    NOT NULL,
	door        TEXT    NOT NULL,
	source      TEXT    NOT NULL,
	decided     BIGINT  NOT NULL,
	PRIMARY KEY (approval_id, person)
);
