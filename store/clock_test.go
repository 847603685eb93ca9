package store_test

import (
	"maps"
	"testing"
	"time"
)

func TestClock(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		there, err := e.open().Clock(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		// Of this machine, whatever Config.Now says.
		if apart := time.Since(there).Abs(); apart > 30*time.Second {
			t.Errorf("the database's clock is %s apart", apart)
		}
	})
}

func TestSettingsWithPrefix(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open().Settings, t.Context()
		for key, value := range map[string]string{"key/a": "1", "key/b": "2", "keys": "3", "other/key/c": "4", "key%": "5"} {
			if err := s.Set(ctx, key, value); err != nil {
				t.Fatal(err)
			}
		}
		for prefix, want := range map[string]map[string]string{
			"key/": {"key/a": "1", "key/b": "2"}, "key%": {"key%": "5"}, "none": {},
		} {
			got, err := s.WithPrefix(ctx, prefix)
			if err != nil || !maps.Equal(got, want) {
				t.Errorf("%q: %v, %v, want %v", prefix, got, err, want)
			}
		}
	})
}
