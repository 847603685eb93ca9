// Package storetest gives tests a PostgreSQL database that has the schema already.
package storetest

import (
	"context"
	"testing"

	"sallyport/internal/seal"
	"sallyport/internal/testenv"
	"sallyport/store"
)

// Postgres returns the DSN of a fresh database with the schema of [store.Open] and nothing in it, which
// is dropped when the test ends. It is a copy of one that was migrated once for all tests of the process:
// migrating is what takes the time.
func Postgres(t testing.TB) string {
	t.Helper()
	return testenv.PostgresFrom(t, migrate)
}

func migrate(dsn string) error {
	ring, err := seal.NewRing()
	if err != nil {
		return err
	}
	s, err := store.Open(context.Background(), store.Config{DSN: dsn, Ring: ring})
	if err != nil {
		return err
	}
	return s.Close()
}
