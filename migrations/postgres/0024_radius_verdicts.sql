-- RADIUS: what was answered to a request, for a moment, so that another node that is asked the same answers the same; and of
-- which kind the code was that a client need not bring again.

-- +goose Up
-- Unlogged: a crash may lose it all, and then a request that is repeated is judged anew. In return it costs nobody a write to the disk.
CREATE UNLOGGED TABLE radius_verdicts (
	digest  TEXT   NOT NULL PRIMARY KEY,                 -- of the request; it leads back to nothing that is in it
	owner   TEXT   NOT NULL,                             -- who works on it
	verdict TEXT   NOT NULL,                             -- sealed; '': none yet
	expires BIGINT NOT NULL
);
CREATE INDEX radius_verdicts_expires ON radius_verdicts (expires);
ALTER TABLE radius_grants ADD COLUMN assurance TEXT NOT NULL DEFAULT 'token';
