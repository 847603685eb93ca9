-- RADIUS clients that speak MS-CHAPv2.

-- +goose Up
ALTER TABLE radius_clients ADD COLUMN legacy_mschapv2 BOOLEAN NOT NULL DEFAULT FALSE;
