-- When each node last said that it lives: the sessions of one that does not take no places under limits.

-- +goose Up
CREATE TABLE nodes (
	name TEXT   NOT NULL PRIMARY KEY,
	seen BIGINT NOT NULL                                 -- by the database's clock
);
