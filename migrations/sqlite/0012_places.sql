-- The addresses from which people only asked to be let in, and when the alarm of many new addresses was raised.

-- +goose Up
CREATE TABLE refused_places (
	user_id    TEXT    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
	source     TEXT    NOT NULL,
	first_seen BIGINT  NOT NULL,
	last_seen  BIGINT  NOT NULL,
	times      INTEGER NOT NULL,
	PRIMARY KEY (user_id, source)
);
CREATE INDEX refused_places_last ON refused_places (user_id, last_seen);
ALTER TABLE users ADD COLUMN places_alarm BIGINT NOT NULL DEFAULT 0;
