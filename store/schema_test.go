package store_test

import (
	"context"
	"database/sql"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sallyport/internal/testenv"
	"sallyport/migrations"
	"sallyport/store"
)

// raw opens the database of e below package store.
func raw(t *testing.T, dsn string) *sql.DB {
	t.Helper()
	driver := "postgres"
	if p, ok := strings.CutPrefix(dsn, "sqlite:"); ok {
		driver, dsn = "sqlite", "file:"+p+"?_pragma=busy_timeout(60000)" // the store writes too
	}
	db, err := sql.Open(driver, dsn)
	check(t, err)
	t.Cleanup(func() { db.Close() })
	return db
}

// count returns the number of rows of a table, 0 for a database in memory.
func count(t *testing.T, e *engine, table string) int {
	t.Helper()
	if e.name == "memory" {
		return 0
	}
	var n int
	check(t, raw(t, e.dsn).QueryRowContext(t.Context(), "SELECT COUNT(*) FROM "+table).Scan(&n))
	return n
}

// typeClass returns what a type means in Go.
func typeClass(name string) string {
	switch name := strings.ToLower(name); name {
	case "bigint", "integer":
		return "number"
	case "blob", "bytea":
		return "bytes"
	default:
		return name
	}
}

func schema(t *testing.T, dsn, query string) map[string]string {
	t.Helper()
	rows, err := raw(t, dsn).QueryContext(t.Context(), query)
	check(t, err)
	defer rows.Close()
	found := make(map[string]string)
	for rows.Next() {
		var name, kind string
		check(t, rows.Scan(&name, &kind))
		if !strings.HasPrefix(name, "goose_") && !strings.HasPrefix(name, "sqlite_") && !strings.HasPrefix(name, "search_words") { // the engines' own full-text index
			found[name] = typeClass(kind)
		}
	}
	check(t, rows.Err())
	return found
}

func TestEnginesHaveTheSameSchema(t *testing.T) {
	t.Parallel()
	lite, post := "sqlite:"+filepath.Join(t.TempDir(), "store.db"), testenv.Postgres(t)
	open(t, store.Config{DSN: lite, Ring: newRing(t)})
	open(t, store.Config{DSN: post, Ring: newRing(t)})
	for _, c := range []struct{ what, lite, post string }{
		{
			"columns",
			`SELECT m.name || '.' || c.name || CASE WHEN c."notnull" THEN ' not null' ELSE '' END, c.type
				FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table'`,
			`SELECT table_name || '.' || column_name || CASE WHEN is_nullable = 'NO' THEN ' not null' ELSE '' END, data_type
				FROM information_schema.columns WHERE table_schema = 'public'`,
		},
		{
			"indexes",
			`SELECT name, tbl_name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL`,
			`SELECT indexname, tablename FROM pg_indexes WHERE schemaname = 'public'
				AND indexname NOT LIKE '%\_pkey' AND indexname NOT LIKE '%\_key'`,
		},
		{
			"foreign keys",
			`SELECT m.name || '.' || f."from" || ' ' || f.on_delete, f."table"
				FROM sqlite_master m JOIN pragma_foreign_key_list(m.name) f WHERE m.type = 'table'`,
			`SELECT c.conrelid::regclass || '.' || a.attname || ' ' ||
					CASE c.confdeltype WHEN 'c' THEN 'CASCADE' ELSE c.confdeltype::text END, c.confrelid::regclass
				FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
				WHERE c.contype = 'f'`,
		},
	} {
		got, want := schema(t, lite, c.lite), schema(t, post, c.post)
		if len(got) == 0 || !maps.Equal(got, want) {
			t.Errorf("%s differ:\nSQLite     %v\nPostgreSQL %v", c.what, difference(got, want), difference(want, got))
		}
	}
}

func difference(a, b map[string]string) []string {
	var lines []string
	for k, v := range a {
		if b[k] != v {
			lines = append(lines, k+" "+v)
		}
	}
	slices.Sort(lines)
	return lines
}

func TestMigrationsHaveTheSameNumbers(t *testing.T) {
	t.Parallel()
	names := func(files fs.FS) []string {
		list, err := fs.Glob(files, "*.sql")
		check(t, err)
		for i, name := range list {
			list[i] = path.Base(name)
		}
		return list
	}
	lite, post := names(migrations.SQLite()), names(migrations.PostgreSQL())
	if len(lite) == 0 || !slices.Equal(lite, post) {
		t.Errorf("SQLite has %v, PostgreSQL %v", lite, post)
	}
}

func TestNewerDatabaseIsRefused(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		if e.name == "memory" {
			return // is never older than the program
		}
		s := e.open()
		check(t, s.Close())
		_, err := raw(t, e.dsn).ExecContext(t.Context(),
			"INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, TRUE)")
		check(t, err)
		_, err = store.Open(context.Background(), store.Config{DSN: e.dsn, Ring: e.ring})
		if err == nil || !strings.Contains(err.Error(), "newer program") {
			t.Errorf("got error %v, want one that tells of a newer program", err)
		}
	})
}

// A token of the first schema is still there, with its secret and its memory, after the sixth.
func TestTokensSurviveMigration(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		dsn   string
		files fs.FS
	}{
		"sqlite":   {"sqlite:" + filepath.Join(t.TempDir(), "store.db"), migrations.SQLite()},
		"postgres": {testenv.Postgres(t), migrations.PostgreSQL()},
	} {
		db := raw(t, c.dsn)
		for _, step := range []string{
			"0001_start.sql",
			`INSERT INTO users (id, login, name, email, source, group_names, search, token_count, created) VALUES ('u', 'alice', '', '', 'local', '[]', '', 1, 5)`,
			`INSERT INTO tokens (id, user_id, name, kind, algorithm, digits, period, window_steps, last_step, enabled, secret, created, last_used)
				VALUES ('t', 'u', 'phone', 'totp', 'SHA256', 8, 60, 2, 4711, TRUE, 'v1.x.y', 6, 7)`,
			"0002_target_credentials.sql",
			"0006_token_kinds.sql",
		} {
			if strings.HasSuffix(step, ".sql") {
				text, err := fs.ReadFile(c.files, step)
				check(t, err)
				step = string(text)
			}
			if _, err := db.ExecContext(t.Context(), step); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		var n int
		check(t, db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM tokens WHERE id = 't' AND user_id = 'u' AND name = 'phone' AND kind = 'totp'
			AND algorithm = 'SHA256' AND digits = 8 AND period = 60 AND window_steps = 2 AND last_step = 4711 AND enabled AND secret = 'v1.x.y'
			AND created = 6 AND last_used = 7 AND NOT lost AND NOT hardware AND serial = '' AND expires = 0 AND drift = 0 AND lean = 0 AND uses = ''`).Scan(&n))
		if n != 1 {
			t.Errorf("%s: the token is not what it was", name)
		}
		// A node of the version before adds a token, and an HOTP token has a place.
		_, err := db.ExecContext(t.Context(), `INSERT INTO tokens (id, user_id, name, kind, algorithm, digits, period, window_steps, last_step, enabled, secret, created)
			VALUES ('t2', 'u', 'x', 'hotp', 'SHA1', 6, 0, 0, -1, TRUE, 'v1.x.z', 6)`)
		check(t, err)
	}
}

// A target of the first schema is still there, with the bastion's key, after those that followed.
func TestTargetsSurviveMigration(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		dsn   string
		files fs.FS
	}{
		"sqlite":   {"sqlite:" + filepath.Join(t.TempDir(), "store.db"), migrations.SQLite()},
		"postgres": {testenv.Postgres(t), migrations.PostgreSQL()},
	} {
		db := raw(t, c.dsn)
		for _, step := range []string{
			"0001_start.sql",
			`INSERT INTO targets (id, name, address, accounts, labels, host_key_mode, host_keys, lockout, note, created)
				VALUES ('1', 'web1', '10.0.0.5:22', '["root"]', '{"env":"prod"}', 'tofu', '["ssh-ed25519 AAAA"]', 3, 'x', 5)`,
			"0002_target_credentials.sql",
			"0004_egress.sql",
		} {
			if strings.HasSuffix(step, ".sql") {
				text, err := fs.ReadFile(c.files, step)
				check(t, err)
				step = string(text)
			}
			if _, err := db.ExecContext(t.Context(), step); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		if _, err := db.ExecContext(t.Context(), "UPDATE targets SET credential = 'telepathy'"); err == nil {
			t.Errorf("%s: a credential nobody knows was taken", name)
		}
		var mode, keys, credential, cas string
		check(t, db.QueryRowContext(t.Context(), "SELECT host_key_mode, host_keys, credential, host_cas FROM targets WHERE id = '1' AND lockout = 3 AND created = 5").
			Scan(&mode, &keys, &credential, &cas))
		if mode != "tofu" || keys != `["ssh-ed25519 AAAA"]` || credential != "key" || cas != "[]" {
			t.Errorf("%s: mode %s, keys %s, credential %s, CAs %s", name, mode, keys, credential, cas)
		}
	}
}
