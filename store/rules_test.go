package store_test

import (
	"errors"
	"sync/atomic"
	"testing"

	"sallyport/store"
)

func TestRules(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		if got := must[store.RuleSet](t)(s.Rules.Current(ctx)); got != (store.RuleSet{}) {
			t.Errorf("at first: got %+v", got)
		}
		_, err := s.Rules.Put(ctx, "early", "alice", 1)
		wantError(t, "made from a version that is not there", err, store.ErrConflict)
		want := store.RuleSet{Version: 1, Text: "first", By: "alice", At: start}
		if got := must[store.RuleSet](t)(s.Rules.Put(ctx, "first", "alice", 0)); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		_, err = s.Rules.Put(ctx, "late", "bob", 0)
		wantError(t, "made from an old version", err, store.ErrConflict)
		must[store.RuleSet](t)(s.Rules.Put(ctx, "second", "bob", 1))
		if got := must[store.RuleSet](t)(s.Rules.Current(ctx)); got.Version != 2 || got.Text != "second" {
			t.Errorf("got %+v", got)
		}
		if got := must[int64](t)(s.Rules.Version(ctx)); got != 2 {
			t.Errorf("version: got %d, want 2", got)
		}
		if got := must[[]store.RuleSet](t)(s.Rules.History(ctx)); len(got) != 2 || got[1] != want {
			t.Errorf("history: got %+v", got)
		}
	})
}

func TestPutRulesInParallel(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		nodes := e.nodes()
		var put atomic.Int32
		parallel(50, func(i int) {
			_, err := nodes[i%2].Rules.Put(t.Context(), "text", "alice", 0)
			if err == nil {
				put.Add(1)
			} else if !errors.Is(err, store.ErrConflict) {
				t.Error(err)
			}
		})
		if put.Load() != 1 {
			t.Errorf("%d were put, want 1", put.Load())
		}
	})
}
