-- RADIUS clients that are known by a name in a certificate of an authority.

-- +goose Up
ALTER TABLE radius_clients ADD COLUMN certificate_name TEXT NOT NULL DEFAULT '';
