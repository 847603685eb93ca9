-- All names under which a node has signed with a key: a signature proves nothing for a node of another name. And
-- which person watches a session, by what does not change with their login; one without may not moderate.

-- +goose Up
CREATE TABLE signing_key_nodes (
	signer TEXT   NOT NULL, -- id of the key
	node   TEXT   NOT NULL,
	added  BIGINT NOT NULL,
	PRIMARY KEY (signer, node)
);
INSERT INTO signing_key_nodes (signer, node, added) SELECT signer, node, MIN(at) FROM audit_checkpoints GROUP BY signer, node;
ALTER TABLE live_watches ADD COLUMN user_id TEXT NOT NULL DEFAULT '';
