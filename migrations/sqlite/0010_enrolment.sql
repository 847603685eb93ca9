-- Enrolment by link, approval of what people enrol, and logins before there is a token.
-- The defaults are for a node of the version before, which may still add rows.

-- +goose Up
ALTER TABLE tickets ADD COLUMN browser     TEXT    NOT NULL DEFAULT '';    -- hash of the secret of the one browser that may use it; '': any
ALTER TABLE tokens  ADD COLUMN waiting     BOOLEAN NOT NULL DEFAULT FALSE; -- for an operator's approval; never together with enabled
ALTER TABLE users   ADD COLUMN free_logins INTEGER NOT NULL DEFAULT 0;     -- made without a code for want of a token
ALTER TABLE users   ADD COLUMN free_since  BIGINT  NOT NULL DEFAULT 0;     -- when an operator last granted them; 0: never
ALTER TABLE users   ADD COLUMN free_over   BOOLEAN NOT NULL DEFAULT FALSE; -- there was a token: no more of them
UPDATE users SET free_over = TRUE WHERE token_count > 0;
