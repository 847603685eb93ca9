package store

import (
	"context"
	"errors"
	"fmt"
)

// Secrets is the table of secrets that all nodes share, such as host keys, sealed and by name.
type Secrets struct{ db *db }

// GetOrCreate returns the secret of a name. If there is none, create makes it; of several nodes
// that do so at once one is the first, and all get its secret.
func (s Secrets) GetOrCreate(ctx context.Context, name string, create func() ([]byte, error)) ([]byte, error) {
	value, err := s.Get(ctx, name)
	if !errors.Is(err, ErrNotFound) {
		return value, err
	}
	what := "creating the secret " + name
	if value, err = create(); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if err := s.put(ctx, what, name, value, "DO NOTHING"); err != nil {
		return nil, err
	}
	return s.Get(ctx, name)
}

// Get returns the secret of a name, or [ErrNotFound].
func (s Secrets) Get(ctx context.Context, name string) ([]byte, error) {
	what := "reading the secret " + name
	var sealed string
	err := s.db.briefly(ctx, what, func(ctx context.Context, q querier) (err error) {
		sealed, err = scalar[string](ctx, q, "SELECT value FROM secrets WHERE name = ?", name)
		return err
	})
	if err != nil {
		return nil, err
	}
	value, err := s.db.ring.Open("secrets", "value", name, sealed)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return value, nil
}

// Put makes value the secret of a name, in the place of any before.
func (s Secrets) Put(ctx context.Context, name string, value []byte) error {
	return s.put(ctx, "writing the secret "+name, name, value, replaceSecret)
}

func (s Secrets) put(ctx context.Context, what, name string, value []byte, onConflict string) error {
	sealed, err := s.db.ring.Seal("secrets", "value", name, value)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return s.db.writing(ctx, what, func(ctx context.Context, q querier) error {
		_, err := exec(ctx, q, "INSERT INTO secrets (name, value, created) VALUES (?, ?, ?) ON CONFLICT (name) "+onConflict,
			name, sealed, ms(s.db.now()))
		return err
	})
}
