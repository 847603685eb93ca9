-- Mail and SMS: what is to be sent, codes that were sent, and how many messages of a kind there were lately.

-- +goose Up
ALTER TABLE users ADD COLUMN phone TEXT NOT NULL DEFAULT '';    -- E.164; of local users
ALTER TABLE users ADD COLUMN code_by TEXT NOT NULL DEFAULT '';  -- how codes are sent: '' as configured, else off, mail, sms

CREATE TABLE outbox (
	id           TEXT    NOT NULL PRIMARY KEY,
	same         TEXT    UNIQUE,                        -- of several messages with one key only the first is taken; null: no key
	channel      TEXT    NOT NULL CHECK (channel IN ('mail', 'sms')),
	kind         TEXT    NOT NULL,
	user_name    TEXT    NOT NULL,                      -- login of the person it is about
	recipient    TEXT    NOT NULL,
	content      TEXT    NOT NULL,                      -- sealed; '' once it is not needed any more
	urgent       BOOLEAN NOT NULL,
	state        TEXT    NOT NULL CHECK (state IN ('waiting', 'sent', 'failed')),
	tries        INTEGER NOT NULL,
	error        TEXT    NOT NULL,
	lease        TEXT    NOT NULL,                      -- of who delivers it now
	leased_until BIGINT  NOT NULL,
	due          BIGINT  NOT NULL,
	created      BIGINT  NOT NULL,
	expires      BIGINT  NOT NULL,                      -- from then on nobody tries any more
	done         BIGINT  NOT NULL                       -- 0 while it waits
);
CREATE INDEX outbox_due ON outbox (state, due);

-- One outstanding code for each person: a new one takes the place of the one before.
CREATE TABLE sent_codes (
	user_id TEXT    NOT NULL PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
	id      TEXT    NOT NULL,
	attempt TEXT    NOT NULL,
	source  TEXT    NOT NULL,
	hash    TEXT    NOT NULL,                           -- HMAC-SHA-256 with a key that is sealed in secrets
	tries   INTEGER NOT NULL,
	expires BIGINT  NOT NULL
);
CREATE INDEX sent_codes_expires ON sent_codes (expires);

CREATE TABLE send_counts (
	kind    TEXT    NOT NULL,
	key     TEXT    NOT NULL,
	times   TEXT    NOT NULL,                           -- JSON list: when messages were sent within the last hour
	expires BIGINT  NOT NULL,
	PRIMARY KEY (kind, key)
);
CREATE INDEX send_counts_expires ON send_counts (expires);
