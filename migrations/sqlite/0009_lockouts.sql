-- Locks grow with each that follows soon after another; operators set some; one wrong code sent again and again
-- is one failure.

-- +goose Up
ALTER TABLE counters ADD COLUMN level       INTEGER NOT NULL DEFAULT 0;  -- locks set one after the other so far
ALTER TABLE counters ADD COLUMN level_until BIGINT  NOT NULL DEFAULT 0;  -- from then on level is as if it were 0
ALTER TABLE counters ADD COLUMN guess       TEXT    NOT NULL DEFAULT ''; -- hash of the last wrong code
ALTER TABLE counters ADD COLUMN guess_at    BIGINT  NOT NULL DEFAULT 0;
ALTER TABLE counters ADD COLUMN author      TEXT    NOT NULL DEFAULT ''; -- who set the lock; '': it followed failures
ALTER TABLE counters ADD COLUMN reason      TEXT    NOT NULL DEFAULT '';
ALTER TABLE users    ADD COLUMN lockout     TEXT    NOT NULL DEFAULT '{}'; -- JSON: limits stricter than the general ones
