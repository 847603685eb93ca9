package store_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/pressly/goose/v3"

	"sallyport/audit"
	"sallyport/migrations"
	"sallyport/store"
)

// A database of before there was a chain: its public keys are taken over from the settings, and its events are
// chained in their order.
func TestChainOfAnOlderDatabase(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		if e.name == "memory" {
			return // cannot be older
		}
		ctx := t.Context()
		e.empty()
		db := raw(t, e.dsn)
		dialect, steps := goose.DialectSQLite3, migrations.SQLite()
		if e.name == "postgres" {
			dialect, steps = goose.DialectPostgres, migrations.PostgreSQL()
		}
		p, err := goose.NewProvider(dialect, db, steps, goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
		check(t, err)
		if _, err := p.UpTo(ctx, 12); err != nil {
			t.Fatal(err)
		}
		for _, q := range []string{
			"INSERT INTO settings (name, value, changed) VALUES ('signing-key/b2xk', 'n0', 1795424400000), ('signing', 'x', 1)",
			`INSERT INTO audit_events (id, at, type, result, door, user_name, actor, source, target, account, session_id, rule, reason, node, detail)
				VALUES ('01', 1795424400000, 'login.accepted', 'ok', 'ssh', 'alice', '', '', '', '', '', '', '', 'n0', '{}'),
				('02', 1795424400001, 'login.refused', 'refused', 'ssh', 'bob', '', '', '', '', '', '', '', 'n0', '{"a":"b"}')`,
		} {
			if _, err := db.ExecContext(ctx, q); err != nil {
				t.Fatal(err)
			}
		}
		s := e.open()
		keys := must[[]store.SigningKey](t)(s.SigningKeys.List(ctx))
		if len(keys) != 1 || keys[0].Public != "b2xk" || !slices.Equal(keys[0].Nodes, []string{"n0"}) || !keys[0].Added.Equal(time.UnixMilli(1795424400000)) || !keys[0].CompromisedFrom.IsZero() {
			t.Errorf("keys %+v", keys)
		}
		if left := must[map[string]string](t)(s.Settings.WithPrefix(ctx, "signing")); len(left) != 1 {
			t.Errorf("settings %v", left)
		}
		check(t, s.Audit.Append(ctx, audit.Event{Type: audit.NodeStarted}))
		if n := chainAll(t, s); n != 3 {
			t.Errorf("%d events were chained", n)
		}
		if proof, err := proveLog(t, s, time.Time{}); err != nil || proof.Last != 3 {
			t.Errorf("%+v, %v", proof, err)
		}
	})
}

func TestSigningKeys(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		check(t, s.SigningKeys.Publish(ctx, "old", "n1"))
		e.clock.Move(time.Minute)
		check(t, s.SigningKeys.Publish(ctx, "new", "n1"))
		check(t, s.SigningKeys.Publish(ctx, "old", "n2")) // the node was given another name
		check(t, s.SigningKeys.Compromise(ctx, "old", start.Add(time.Hour)))
		check(t, s.SigningKeys.Compromise(ctx, "old", start.Add(2*time.Hour))) // never forwards
		keys := must[[]store.SigningKey](t)(s.SigningKeys.List(ctx))
		if len(keys) != 2 || keys[0].Public != "new" || !slices.Equal(keys[1].Nodes, []string{"n1", "n2"}) || !slices.Equal(keys[0].Nodes, []string{"n1"}) || !keys[1].CompromisedFrom.Equal(start.Add(time.Hour)) || !keys[1].Added.Equal(start) {
			t.Errorf("keys %+v", keys)
		}
		check(t, s.SigningKeys.Compromise(ctx, "old", start))
		if keys = must[[]store.SigningKey](t)(s.SigningKeys.List(ctx)); !keys[1].CompromisedFrom.Equal(start) {
			t.Errorf("keys %+v", keys)
		}
		// The key that takes another's place is good for all names of the node.
		e.clock.Move(time.Minute)
		check(t, s.SigningKeys.Succeed(ctx, "newest", "old"))
		if keys = must[[]store.SigningKey](t)(s.SigningKeys.List(ctx)); len(keys) != 3 || keys[0].Public != "newest" || !slices.Equal(keys[0].Nodes, []string{"n1", "n2"}) || !keys[0].CompromisedFrom.IsZero() {
			t.Errorf("keys %+v", keys)
		}
		if err := s.SigningKeys.Succeed(ctx, "x", "nobody's"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("got %v", err)
		}
		if err := s.SigningKeys.Compromise(ctx, "nobody's", start); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("got %v", err)
		}
	})
}
