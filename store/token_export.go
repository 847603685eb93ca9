package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// OwnedToken is a token and whose it is.
type OwnedToken struct {
	TokenSecret        // without its secret, if none was asked for
	Login       string // "": in stock
}

// ExportBatch is how many tokens one call of [Tokens.Export] returns.
const ExportBatch = 500

// Export returns the next [ExportBatch] tokens after the one of the id after, oldest first; those of the user
// whose id is given, or of everybody. Fewer are the last ones. Secrets only if they are asked for.
func (s Tokens) Export(ctx context.Context, after, userID string, secrets bool) ([]OwnedToken, error) {
	owner := ""
	args := []any{after}
	if userID != "" {
		owner, args = " AND t.user_id = ?", append(args, userID)
	}
	return s.export(ctx, tokenFields, "SELECT "+ofTable("t", tokenColumns)+", t.secret, u.login FROM tokens t JOIN users u ON u.id = t.user_id WHERE t.id > ?"+
		owner+" ORDER BY t.id LIMIT ?", append(args, ExportBatch), secrets)
}

// Export is [Tokens.Export] of the stock.
func (s Stock) Export(ctx context.Context, after string, secrets bool) ([]OwnedToken, error) {
	list, err := Tokens(s).export(ctx, stockFields, "SELECT "+stockColumns+", secret, '' FROM stock_tokens WHERE import_id IS NULL AND id > ? ORDER BY id LIMIT ?",
		[]any{after, ExportBatch}, secrets)
	for i := range list {
		list[i].Hardware = true
	}
	return list, err
}

// ofTable names the table of each of several columns.
func ofTable(table, columns string) string {
	names := strings.Split(columns, ",")
	for i, n := range names {
		names[i] = table + "." + strings.TrimSpace(n)
	}
	return strings.Join(names, ", ")
}

func (s Tokens) export(ctx context.Context, fields func(*Token) []any, query string, args []any, secrets bool) ([]OwnedToken, error) {
	const what = "reading tokens for an export"
	type row struct {
		OwnedToken
		sealed string
	}
	var rows []row
	err := s.db.reading(ctx, what, func(ctx context.Context, q querier) (err error) {
		rows, err = all(ctx, q, func(r *row) []any { return append(fields(&r.Token), &r.sealed, &r.Login) }, query, args...)
		return err
	})
	if err != nil {
		return nil, err
	}
	list := make([]OwnedToken, 0, len(rows))
	for _, r := range rows {
		if secrets {
			if r.Secret, err = s.db.ring.Open("tokens", "secret", r.ID, r.sealed); err != nil {
				return nil, fmt.Errorf("%s: %w", what, err)
			}
			if len(r.Secret) < minSecret {
				return nil, fmt.Errorf("%s: %w", what, errors.New("a secret is too short"))
			}
		}
		list = append(list, r.OwnedToken)
	}
	return list, nil
}
