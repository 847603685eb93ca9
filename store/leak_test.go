package store_test

import (
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"sallyport/store"
	"sallyport/store/storetest"
)

// Not parallel: only then are all goroutines its own.
func TestCloseLeavesNoGoroutine(t *testing.T) {
	for name, dsn := range map[string]string{
		"sqlite": "sqlite:" + filepath.Join(t.TempDir(), "store.db"), "postgres": storetest.Postgres(t),
	} {
		before := goleak.IgnoreCurrent()
		s, err := store.Open(t.Context(), store.Config{DSN: dsn, Ring: newRing(t)})
		check(t, err)
		_, cancel := s.Bus.Subscribe("t")
		parallel(50, func(int) { s.Ping(t.Context()) })
		check(t, s.Close())
		cancel()
		if err := goleak.Find(before); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
