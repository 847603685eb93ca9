-- Codes that are remembered: who proved one, by which door, from where, with which first factor and which
-- client. What a grant is worth is decided by the rules of the moment it is used.

-- +goose Up
CREATE TABLE grants (
	id          TEXT    NOT NULL PRIMARY KEY,
	user_id     TEXT    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
	door        TEXT    NOT NULL,
	network     TEXT    NOT NULL,                        -- the address itself, or the prefix of an IPv6 address
	source      TEXT    NOT NULL,                        -- the address it was last used from
	evidence    TEXT    NOT NULL,                        -- the first factor: a key's fingerprint, or what the password was
	client      TEXT    NOT NULL,                        -- version string (SSH) or cookie series (web)
	assurance   TEXT    NOT NULL CHECK (assurance IN ('token', 'sent')),
	rule        TEXT    NOT NULL,                        -- that let it be written
	rule_hash   TEXT    NOT NULL,                        -- of that rule as it was
	code_at     BIGINT  NOT NULL,                        -- when the code was accepted
	last_used   BIGINT  NOT NULL,
	uses        INTEGER NOT NULL CHECK (uses >= 0),      -- rises with every use, so that no two count as one
	targets     TEXT    NOT NULL,                        -- JSON list
	expires     BIGINT  NOT NULL,                        -- whatever the rules say
	UNIQUE (user_id, door, network, evidence, client)
);
CREATE INDEX grants_expires ON grants (expires);
