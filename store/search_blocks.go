package store

import (
	"context"
	"errors"
	"strings"
)

// candidates returns the newest blocks from an id on downwards that have all words, and the id down to which there are
// no others.
//
// The index on words is not always fast. PostgreSQL's gives all blocks with a word before the first can be taken,
// hundreds of milliseconds for a word that nearly all have. SQLite's gives them one by one, the newest first, but puts
// together all blocks with words of one beginning before it gives the first of those. So it is asked only for words
// that turn out not to be frequent: those that few of the blocks just above have. Before, a window of so many blocks is
// looked at one by one; 0: the index is asked.
func (s Search) candidates(ctx context.Context, q querier, look searched, subjects []string, lowest, from int64, window int) ([]searchRow, int64, error) {
	switch {
	case window > 0 && s.db.postgres():
		return nearPostgres(ctx, q, look.match(true, subjects), lowest, from, window)
	case window > 0:
		return nearSQLite(ctx, q, look, subjects, lowest, from, window)
	}
	inner := fromSQLite
	if s.db.postgres() {
		inner = "SELECT id FROM search_words WHERE words @@ ?::tsquery AND id >= ? AND id <= ? ORDER BY id DESC LIMIT ?"
	}
	rows, err := searchRows(ctx, q, "", inner, look.match(s.db.postgres(), subjects), lowest, from, searchBatch)
	return rows, downTo(rows, searchBatch, lowest), err
}

// firstWindow is how many blocks are looked at one by one, first; 0: none.
func (s Search) firstWindow(look searched) int {
	switch {
	case s.db.postgres():
		return pgWindow
	case look.prefix:
		return lastWindow // each costs 40 µs, the index up to 200 ms
	}
	return 0
}

const fromSQLite = "SELECT rowid AS id FROM search_words WHERE search_words MATCH ? AND rowid >= ? AND rowid <= ? ORDER BY rowid DESC LIMIT ?"

// searchRows returns the blocks whose ids inner selects, the newest first. with stands before the whole.
func searchRows(ctx context.Context, q querier, with, inner string, args ...any) ([]searchRow, error) {
	return all(ctx, q, searchFields, with+"SELECT b.id, b.session_id, b.channel, b.begun, b.body, s.user_name, s.target, s.account FROM ("+inner+
		") w JOIN search_blocks b ON b.id = w.id JOIN sessions s ON s.id = b.session_id ORDER BY b.id DESC", args...)
}

// downTo is how far rows of a query with that limit go.
func downTo(rows []searchRow, limit int, lowest int64) int64 {
	if len(rows) < limit {
		return lowest
	}
	return rows[len(rows)-1].id
}

// nearPostgres compares the words of each block of a window.
func nearPostgres(ctx context.Context, q querier, match string, lowest, from int64, window int) ([]searchRow, int64, error) {
	bottom, err := scalar[int64](ctx, q, "SELECT id FROM search_words WHERE id >= ? AND id <= ? ORDER BY id DESC LIMIT 1 OFFSET ?", lowest, from, window-1)
	if errors.Is(err, ErrNotFound) {
		bottom, err = lowest, nil
	}
	if err != nil {
		return nil, 0, err
	}
	rows, err := searchRows(ctx, q, "WITH near AS MATERIALIZED (SELECT id, words FROM search_words WHERE id >= ? AND id <= ?) ",
		"SELECT id FROM near WHERE words @@ ?::tsquery", bottom, from, match)
	return rows, bottom, err
}

// nearSQLite looks for the beginning of a word in the lines of a window of the blocks that have all else. The words of
// a block are not to be had from the index.
func nearSQLite(ctx context.Context, q querier, look searched, subjects []string, lowest, from int64, window int) ([]searchRow, int64, error) {
	inner, args := "SELECT id FROM search_blocks WHERE id >= ? AND id <= ? ORDER BY id DESC LIMIT ?", []any{lowest, from, window}
	if others := look.others().match(false, subjects); others != "" {
		inner, args = fromSQLite, append([]any{others}, args...)
	}
	rows, err := searchRows(ctx, q, "", inner, args...)
	if err != nil {
		return nil, 0, err
	}
	bottom := downTo(rows, window, lowest)
	having := rows[:0]
	for i := range rows {
		if strings.Contains(strings.ToLower(rows[i].text()), look.beginning()) {
			having = append(having, rows[i])
		}
	}
	return having, bottom, nil
}
