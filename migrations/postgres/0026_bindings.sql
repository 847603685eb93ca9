-- All names under which a node has signed with a key: a signature proves nothing for a node of another name. And
-- which person watches a session, by what does not change with their login; one without may not moderate. How
-- long the ledger of a channel is kept that has no recording, and when the tail of a lost recording was given up.

-- +goose Up
CREATE TABLE signing_key_nodes (
	signer TEXT   NOT NULL, -- id of the key
	node   TEXT   NOT NULL,
	added  BIGINT NOT NULL,
	PRIMARY KEY (signer, node)
);
INSERT INTO signing_key_nodes (signer, node, added) SELECT signer, node, MIN(at) FROM audit_checkpoints GROUP BY signer, node;
ALTER TABLE live_watches ADD COLUMN user_id TEXT NOT NULL DEFAULT '';
ALTER TABLE session_channels ADD COLUMN retention BIGINT NOT NULL DEFAULT 0; -- ms, of its ledger; 0: as the recordings of its session
CREATE INDEX session_channels_retention ON session_channels (session_id) WHERE retention > 0;
ALTER TABLE recordings ADD COLUMN given_up BIGINT NOT NULL DEFAULT 0; -- 0: it was not
