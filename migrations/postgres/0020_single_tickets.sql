-- Tickets of which a subject has one at most, such as the link by which a person enrols a token.

-- +goose Up
DELETE FROM tickets WHERE purpose = 'enrol'; -- there may be two for one person
ALTER TABLE tickets ADD COLUMN single TEXT; -- purpose and subject of such a ticket
CREATE UNIQUE INDEX tickets_single ON tickets (single);
