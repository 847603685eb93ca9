package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"

	"github.com/lib/pq"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// violation is a constraint that a statement was refused for.
type violation struct {
	postgres string // SQLSTATE
	sqlite   []int  // extended result codes
}

var (
	uniqueViolation     = violation{"23505", []int{sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY}}
	foreignKeyViolation = violation{"23503", []int{sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY}}
)

func violates(err error, v violation) bool {
	if e, ok := errors.AsType[*pq.Error](err); ok {
		return string(e.Code) == v.postgres
	}
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		for _, code := range v.sqlite {
			if e.Code() == code {
				return true
			}
		}
	}
	return false
}

// unavailable tells whether err says something of the database's health and nothing of the
// statement: asked again later it may well be answered.
func unavailable(err error) bool {
	if e, ok := errors.AsType[*pq.Error](err); ok {
		return postgresUnavailable(string(e.Code))
	}
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return sqliteUnavailable(e.Code())
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	for _, known := range []error{
		context.DeadlineExceeded, driver.ErrBadConn, sql.ErrConnDone, net.ErrClosed, io.EOF, io.ErrUnexpectedEOF,
	} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

// postgresUnavailable goes by the error classes of PostgreSQL, Appendix A.
func postgresUnavailable(code string) bool {
	switch code {
	case
		"25006", // read_only_sql_transaction: a standby
		"28000", // invalid_authorization_specification
		"28P01", // invalid_password
		"3D000", // invalid_catalog_name: the database is gone
		"40001", // serialization_failure
		"40P01", // deadlock_detected
		"55P03", // lock_not_available: lock_timeout
		"57014": // query_canceled: statement_timeout
		return true
	}
	if len(code) < 2 {
		return false
	}
	switch code[:2] {
	case
		"08", // connection exception
		"53", // insufficient resources: disk full, too many connections
		"57", // operator intervention: shutdown, starting up
		"58", // system error
		"XX": // internal error, data corrupted
		return true
	}
	return false
}

func sqliteUnavailable(code int) bool {
	switch code & 0xff { // the primary result code
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY,
		sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_FULL,
		sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_PERM,
		sqlite3.SQLITE_AUTH, sqlite3.SQLITE_NOLFS:
		return true
	}
	return false
}
