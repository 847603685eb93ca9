package store

import (
	"strings"
	"time"
)

// conditions collects what follows FROM in a query. The zero value chooses the first 100 rows.
type conditions struct {
	terms []string
	args  []any
	max   int
}

// Limits of a page. PostgreSQL takes no more than 65535 parameters in a statement, SQLite 32766.
const (
	defaultLimit = 100
	maxLimit     = 10_000
)

func (c *conditions) add(term string, args ...any) {
	c.terms = append(c.terms, term)
	c.args = append(c.args, args...)
}

// equal asks for a value unless it is empty.
func (c *conditions) equal(column, value string) {
	if value != "" {
		c.add(column+" = ?", value)
	}
}

// equalPrefixed is equal for a column whose index has the first 128 characters only.
func (c *conditions) equalPrefixed(column, value string) {
	if value == "" {
		return
	}
	value = plain(value)
	prefix := []rune(value)
	c.add("substr("+column+", 1, 128) = ? AND "+column+" = ?", string(prefix[:min(len(prefix), 128)]), value)
}

// less asks for what is before a value in the order of the column.
func (c *conditions) less(column, value string) {
	if value != "" {
		c.add(column+" < ?", value)
	}
}

// greater asks for what is after a value in the order of the column.
func (c *conditions) greater(column, value string) {
	if value != "" {
		c.add(column+" > ?", value)
	}
}

// between asks for since ≤ column < until, each one unless it is zero.
func (c *conditions) between(column string, since, until time.Time) {
	if !since.IsZero() {
		c.add(column+" >= ?", ms(since))
	}
	if !until.IsZero() {
		c.add(column+" < ?", ms(until))
	}
}

func (c *conditions) limit(n int) { c.max = n }

// sql returns the text for c.args, which it completes.
func (c *conditions) sql(order string) string {
	text := ""
	if len(c.terms) > 0 {
		text = "WHERE " + strings.Join(c.terms, " AND ") + " "
	}
	if c.max <= 0 {
		c.max = defaultLimit
	}
	c.args = append(c.args, min(c.max, maxLimit))
	return text + "ORDER BY " + order + " LIMIT ?"
}
