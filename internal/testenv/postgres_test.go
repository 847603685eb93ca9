package testenv_test

import (
	"database/sql"
	"testing"

	"sallyport/internal/testenv"
)

func TestPostgresGivesFreshDatabases(t *testing.T) {
	t.Parallel()
	first, second := testenv.Postgres(t), testenv.Postgres(t)
	if first == second {
		t.Fatalf("two calls gave the same database: %s", first)
	}
	for _, dsn := range []string{first, second} {
		db, err := sql.Open("postgres", dsn)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if _, err := db.Exec("CREATE TABLE mine (n BIGINT)"); err != nil {
			t.Errorf("the database is not fresh: %v", err)
		}
	}
}

func TestPostgresServerStopsAndStarts(t *testing.T) {
	t.Parallel()
	server := testenv.PostgresServer(t)
	db, err := sql.Open("postgres", server.DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("CREATE TABLE mine (n BIGINT)"); err != nil {
		t.Fatal(err)
	}
	server.Stop()
	if _, err := db.Exec("SELECT n FROM mine"); err == nil {
		t.Error("a stopped server answers")
	}
	server.Start()
	if _, err := db.Exec("SELECT n FROM mine"); err != nil {
		t.Errorf("after another start: %v", err)
	}
}
