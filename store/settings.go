package store

import (
	"context"
	"errors"
	"time"
)

// Settings is the table of what operators set, by key.
type Settings struct{ db *db }

// Get returns the value of a key and whether it was ever set.
func (s Settings) Get(ctx context.Context, key string) (value string, ok bool, err error) {
	err = s.db.briefly(ctx, "reading the setting "+key, func(ctx context.Context, q querier) (err error) {
		value, err = scalar[string](ctx, q, "SELECT value FROM settings WHERE name = ?", key)
		return err
	})
	if errors.Is(err, ErrNotFound) {
		return "", false, nil
	}
	return value, err == nil, err
}

// Set sets the value of a key.
func (s Settings) Set(ctx context.Context, key, value string) error {
	return s.db.writing(ctx, "writing the setting "+key, func(ctx context.Context, q querier) error {
		_, err := exec(ctx, q, `INSERT INTO settings (name, value, changed) VALUES (?, ?, ?)
			ON CONFLICT (name) DO UPDATE SET value = excluded.value, changed = excluded.changed`, key, value, ms(s.db.now()))
		return err
	})
}

// Claim sets the value of a key unless it was set less than age ago, and tells whether it did: of several
// nodes that want to do something once in a while, one gets true.
func (s Settings) Claim(ctx context.Context, key, value string, age time.Duration) (bool, error) {
	claimed := false
	err := s.db.writing(ctx, "claiming the setting "+key, func(ctx context.Context, q querier) error {
		now := s.db.now()
		n, err := exec(ctx, q, `INSERT INTO settings (name, value, changed) VALUES (?, ?, ?)
			ON CONFLICT (name) DO UPDATE SET value = excluded.value, changed = excluded.changed
			WHERE settings.changed <= ?`, key, value, ms(now), ms(now.Add(-age)))
		claimed = n == 1
		return err
	})
	return claimed && err == nil, err
}

// swap sets the value of a key if it is before, "" if it was never set, and tells whether it was.
func (s Settings) swap(ctx context.Context, key, before, value string) (bool, error) {
	swapped := false
	err := s.db.changing(ctx, "changing the setting "+key, func(ctx context.Context, tx querier) error {
		now := ms(s.db.now())
		if _, err := exec(ctx, tx, "INSERT INTO settings (name, value, changed) VALUES (?, '', ?) ON CONFLICT (name) DO NOTHING", key, now); err != nil {
			return err
		}
		n, err := exec(ctx, tx, "UPDATE settings SET value = ?, changed = ? WHERE name = ? AND value = ?", value, now, key, before)
		swapped = n == 1
		return err
	})
	return swapped && err == nil, err
}

// WithPrefix returns all settings whose key begins with prefix, by key.
func (s Settings) WithPrefix(ctx context.Context, prefix string) (map[string]string, error) {
	type row struct{ name, value string }
	found := map[string]string{}
	err := s.db.reading(ctx, "reading the settings "+prefix, func(ctx context.Context, q querier) error {
		rows, err := all(ctx, q, func(r *row) []any { return []any{&r.name, &r.value} },
			"SELECT name, value FROM settings WHERE substr(name, 1, ?) = ?", len(prefix), prefix)
		for _, r := range rows {
			found[r.name] = r.value
		}
		return err
	})
	return found, err
}
