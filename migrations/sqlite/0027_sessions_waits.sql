-- What a live session waits for before it goes on: 'moderator', or nothing.

-- +goose Up
ALTER TABLE sessions ADD COLUMN waits TEXT NOT NULL DEFAULT '';
