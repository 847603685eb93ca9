// Package migrations holds the schema of the database: numbered steps, forward only, one
// transaction each, once for SQLite and once for PostgreSQL with equal numbers.
//
// A step that was released never changes. Both engines end with the same tables, columns and
// indexes: ids are UUIDv7 text, times BIGINT milliseconds since 1970 UTC with 0 for none, lists and
// maps JSON in TEXT.
package migrations

import (
	"embed"
	"io/fs"
)

//go:embed sqlite/*.sql postgres/*.sql
var files embed.FS

// SQLite returns the steps for SQLite.
func SQLite() fs.FS { return folder("sqlite") }

// PostgreSQL returns the steps for PostgreSQL.
func PostgreSQL() fs.FS { return folder("postgres") }

func folder(name string) fs.FS {
	sub, err := fs.Sub(files, name)
	if err != nil {
		panic(err) // the names above are valid paths
	}
	return sub
}
