package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Imports is the table of imports. Their rows are put aside in small steps, so that nobody who signs in
// meanwhile waits for long. [Imports.Commit] is one transaction that decides on all of them: of an import that
// was not committed, for whatever reason, nothing is ever seen. After it tokens go to their places, in small
// steps again; their serials are taken from the commit on, so that nothing can come in between, and if the node
// dies any other finishes it ([Store.Purge]).
type Imports struct{ db *db }

// Kinds of imports.
const (
	ImportTokens = "tokens"
	ImportUsers  = "users"
)

const (
	// importLife is how long an import may take, and wait to be committed.
	importLife = time.Hour
	// importCommit is how long a commit may last.
	importCommit = 30 * time.Second
	// MaxImportBatch bounds the rows of one call, and of one step.
	MaxImportBatch = 500
	// MaxImportedUsers bounds the users of one import, who are all written by its commit.
	MaxImportedUsers = 20_000
)

// Import is an import under way.
type Import struct {
	ID     string
	Kind   string
	Author string
	Counts map[string]string // what the audit log will say of it, see [Imports.Count]
}

// ImportedToken is a token with what it is computed from. Of Token these count: UserID ("": into the stock;
// otherwise of a user who is there or whom the import brings), Name, Kind, Algorithm, Digits, Period,
// LastStep, Serial, Drift.
type ImportedToken struct {
	Token
	Secret []byte
}

// ImportedUser is a user that an import brings, or changes if Known. Of User these count: ID, Login, Name,
// Email, Phone, Groups.
type ImportedUser struct {
	User
	Known bool
}

// NewID returns an id for a user that an import brings.
func (s Imports) NewID() (string, error) { return newID() }

// Begin starts an import.
func (s Imports) Begin(ctx context.Context, kind, author string) (Import, error) {
	id, err := newID()
	if err != nil {
		return Import{}, err
	}
	err = s.db.writing(ctx, "beginning an import", func(ctx context.Context, q querier) error {
		_, err := exec(ctx, q, "INSERT INTO imports (id, kind, author, created) VALUES (?, ?, ?, ?)", id, kind, author, ms(s.db.now()))
		return err
	})
	return Import{ID: id, Kind: kind, Author: author}, err
}

// Get returns an import that can be committed, or [ErrNotFound].
func (s Imports) Get(ctx context.Context, id string) (Import, error) {
	var i Import
	err := s.db.reading(ctx, "reading import "+id, func(ctx context.Context, q querier) (err error) {
		i, err = one(ctx, q, func(i *Import) []any { return []any{&i.ID, &i.Kind, &i.Author, jsonColumn{&i.Counts}} },
			"SELECT id, kind, author, counts FROM imports WHERE id = ? AND NOT committed AND created > ?", id, ms(s.db.now().Add(-importLife)))
		return err
	})
	return i, err
}

// Count keeps what the audit log will say of an import.
func (s Imports) Count(ctx context.Context, id string, counts map[string]string) error {
	text, err := toJSON(counts)
	if err != nil {
		return err
	}
	return s.db.writing(ctx, "counting import "+id, func(ctx context.Context, q querier) error {
		return execOne(ctx, q, "UPDATE imports SET counts = ? WHERE id = ?", text, id)
	})
}

// AddTokens puts at most [MaxImportBatch] tokens aside.
func (s Imports) AddTokens(ctx context.Context, importID string, tokens []ImportedToken) error {
	what := "putting tokens of import " + importID + " aside"
	var args []any
	for _, t := range tokens {
		if len(t.Secret) < minSecret {
			return fmt.Errorf("%s: %w", what, errors.New("a secret is too short"))
		}
		id, err := newID()
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		sealed, err := s.db.ring.Seal("tokens", "secret", id, t.Secret)
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		t.Token = withDefaults(t.Token)
		args = append(args, id, importID, t.UserID, t.Name, t.Kind, t.Algorithm, t.Digits, t.Period, t.LastStep, t.Serial, t.Drift, sealed, ms(s.db.now()))
	}
	return s.insert(ctx, what, `INSERT INTO stock_tokens
		(id, import_id, user_id, name, kind, algorithm, digits, period, last_step, serial, drift, secret, created) VALUES `,
		"(?, ?, NULLIF(?, ''), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", len(tokens), args)
}

// AddUsers puts at most [MaxImportBatch] users aside. The error is [ErrExists] if one of them is there already.
func (s Imports) AddUsers(ctx context.Context, importID string, users []ImportedUser) error {
	what := "putting users of import " + importID + " aside"
	var args []any
	for _, u := range users {
		u.Login = FoldLogin(u.Login)
		if err := checkLogin(u.Login); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		groups, err := toJSON(groupSet(u.Groups))
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		args = append(args, importID, u.Login, u.ID, u.Known, u.Name, u.Email, u.Phone, groups, searchText(u.Login, u.Name, u.Email))
	}
	return s.insert(ctx, what, "INSERT INTO import_users (import_id, login, user_id, known, name, email, phone, group_names, search) VALUES ",
		"(?, ?, ?, ?, ?, ?, ?, ?, ?)", len(users), args)
}

func (s Imports) insert(ctx context.Context, what, head, row string, n int, args []any) error {
	if n == 0 {
		return nil
	}
	return s.db.writing(ctx, what, func(ctx context.Context, q querier) error {
		_, err := exec(ctx, q, head+row+strings.Repeat(", "+row, n-1), args...)
		return err
	})
}

// Commit makes all rows of an import count, or none, and then brings the tokens to their places. The error is
// [ErrNotFound] if the import is gone or was committed, or a user whom it changes was deleted meanwhile;
// [ErrExists] if a serial or login was taken meanwhile, or is there twice; [ErrNameTaken] if a robot has the
// login. Of a user who was deleted meanwhile the tokens are gone, too.
func (s Imports) Commit(ctx context.Context, id string) error {
	err := s.db.changingWithin(ctx, importCommit, "committing import "+id, func(ctx context.Context, tx querier) error {
		for _, subject := range []int64{lockLogins, lockSerials} {
			if err := s.db.lock(ctx, tx, subject); err != nil {
				return err
			}
		}
		err := execOne(ctx, tx, "UPDATE imports SET committed = TRUE WHERE id = ? AND NOT committed AND created > ?", id, ms(s.db.now().Add(-importLife)))
		if err != nil {
			return err
		}
		if err := s.commitUsers(ctx, tx, id); err != nil {
			return err
		}
		if err := s.serialsFree(ctx, tx, id); err != nil {
			return err
		}
		return s.db.bus.publishWith(ctx, tx, TopicRights, "")
	})
	if err != nil {
		return err
	}
	s.db.bus.deliver(Message{Topic: TopicRights})
	return s.settle(ctx, id)
}

func (s Imports) commitUsers(ctx context.Context, tx querier, id string) error {
	n, err := scalar[int64](ctx, tx, "SELECT COUNT(*) FROM import_users i JOIN robots r ON r.name = i.login WHERE i.import_id = ?", id)
	if err != nil {
		return err
	}
	if n > 0 {
		return ErrNameTaken
	}
	_, err = exec(ctx, tx, `INSERT INTO users (id, login, name, email, source, external_id, group_names, search, password_hash, created, phone)
		SELECT user_id, login, name, email, ?, NULL, group_names, search, '', ?, phone FROM import_users WHERE import_id = ? AND NOT known`,
		Local, ms(s.db.now()), id)
	if err != nil {
		return err
	}
	known, err := scalar[int64](ctx, tx, "SELECT COUNT(*) FROM import_users WHERE import_id = ? AND known", id)
	if err != nil {
		return err
	}
	changed, err := exec(ctx, tx, `UPDATE users SET name = i.name, email = i.email, phone = i.phone, group_names = i.group_names, search = i.search
		FROM import_users i WHERE i.import_id = ? AND i.known AND i.user_id = users.id AND users.source = ?`, id, Local)
	if err == nil && changed != known {
		err = ErrNotFound
	}
	return err
}

// serialsFree fails with ErrExists if a serial of the import, which is committed in tx, is there twice.
func (s Imports) serialsFree(ctx context.Context, tx querier, id string) error {
	for _, other := range []string{
		"stock_tokens o WHERE o.serial = i.serial AND o.id <> i.id AND " + strings.ReplaceAll(standing, "import_id", "o.import_id"),
		"tokens o WHERE o.serial = i.serial AND o.serial <> ''",
	} {
		n, err := scalar[int64](ctx, tx, "SELECT COUNT(*) FROM stock_tokens i WHERE i.import_id = ? AND i.serial <> '' AND EXISTS (SELECT 1 FROM "+other+")", id)
		if err != nil {
			return err
		}
		if n > 0 {
			return ErrExists
		}
	}
	return nil
}

// settle brings the tokens of a committed import to their places and drops the rest of it. Several nodes may do
// so at once.
func (s Imports) settle(ctx context.Context, id string) error {
	for {
		var last string
		err := s.db.changing(ctx, "settling import "+id, func(ctx context.Context, tx querier) error {
			if err := s.db.lock(ctx, tx, lockSerials); err != nil {
				return err
			}
			ids, err := all(ctx, tx, func(id *string) []any { return []any{id} },
				"SELECT id FROM stock_tokens WHERE import_id = ? ORDER BY id LIMIT ?", id, MaxImportBatch)
			if err != nil || len(ids) == 0 {
				return err
			}
			last = ids[len(ids)-1]
			return s.settleUpTo(ctx, tx, id, last)
		})
		if err != nil {
			return err
		}
		if last == "" {
			return s.Drop(ctx, id)
		}
	}
}

func (s Imports) settleUpTo(ctx context.Context, tx querier, id, last string) error {
	const mine = " import_id = ? AND id <= ? AND user_id IS NOT NULL"
	for _, statement := range []string{
		// The users first, as wherever tokens come and go: two transactions never wait for each other crosswise.
		"UPDATE users SET token_count = token_count + i.n, free_over = TRUE FROM (SELECT user_id, COUNT(*) AS n FROM stock_tokens WHERE" + mine +
			" GROUP BY user_id) i WHERE i.user_id = users.id",
		intoTokens("user_id", "last_step", "drift") + " WHERE" + mine + " AND user_id IN (SELECT id FROM users)",
		"DELETE FROM stock_tokens WHERE" + mine,
		"UPDATE stock_tokens SET import_id = NULL WHERE import_id = ? AND id <= ? AND user_id IS NULL",
	} {
		if _, err := exec(ctx, tx, statement, id, last); err != nil {
			return err
		}
	}
	return nil
}

// Drop deletes an import that was not committed, in small steps. If it is cut short, [Store.Purge] does the rest.
func (s Imports) Drop(ctx context.Context, id string) error {
	what := "clearing away import " + id
	for _, statement := range []string{
		"DELETE FROM stock_tokens WHERE id IN (SELECT id FROM stock_tokens WHERE import_id = ? LIMIT 1000)",
		"DELETE FROM import_users WHERE import_id = ? AND login IN (SELECT login FROM import_users WHERE import_id = ? LIMIT 1000)",
		"DELETE FROM imports WHERE id = ?",
	} {
		for {
			var n int64
			err := s.db.writing(ctx, what, func(ctx context.Context, q querier) (err error) {
				args := []any{id, id}
				n, err = exec(ctx, q, statement, args[:strings.Count(statement, "?")]...)
				return err
			})
			if err != nil {
				return err
			}
			if n == 0 {
				break
			}
		}
	}
	return nil
}

// sweep finishes what was committed on a node that died, and drops what nobody will commit any more.
func (s Imports) sweep(ctx context.Context) error {
	type row struct {
		id        string
		committed bool
	}
	var rows []row
	err := s.db.reading(ctx, "looking for old imports", func(ctx context.Context, q querier) (err error) {
		rows, err = all(ctx, q, func(r *row) []any { return []any{&r.id, &r.committed} },
			"SELECT id, committed FROM imports WHERE committed OR created <= ?", ms(s.db.now().Add(-importLife)))
		return err
	})
	for _, r := range rows {
		if r.committed {
			err = errors.Join(err, s.settle(ctx, r.id))
		} else {
			err = errors.Join(err, s.Drop(ctx, r.id))
		}
	}
	return err
}

// SerialsTaken returns those of at most [MaxImportBatch] serials that a token has, in stock or not.
func (s Imports) SerialsTaken(ctx context.Context, serials []string) (map[string]bool, error) {
	taken := map[string]bool{}
	if len(serials) == 0 {
		return taken, nil
	}
	args := make([]any, 0, 2*len(serials))
	for range 2 {
		for _, serial := range serials {
			args = append(args, serial)
		}
	}
	in := marks(len(serials))
	err := s.db.reading(ctx, "looking for serials", func(ctx context.Context, q querier) error {
		found, err := all(ctx, q, func(v *string) []any { return []any{v} }, "SELECT serial FROM tokens WHERE serial <> '' AND serial IN ("+in+
			") UNION SELECT serial FROM stock_tokens WHERE serial <> '' AND "+standing+" AND serial IN ("+in+")", args...)
		for _, serial := range found {
			taken[serial] = true
		}
		return err
	})
	return taken, err
}

// Users returns the users who have one of at most [MaxImportBatch] logins, or e-mail addresses in lower case.
func (s Imports) Users(ctx context.Context, logins, emails []string) ([]User, error) {
	var where []string
	var args []any
	for _, c := range []struct {
		column string
		values []string
	}{{"login", logins}, {"LOWER(email)", emails}} {
		if len(c.values) > 0 {
			where = append(where, c.column+" IN ("+marks(len(c.values))+")")
		}
		for _, v := range c.values {
			args = append(args, v)
		}
	}
	if len(where) == 0 {
		return nil, nil
	}
	var users []User
	err := s.db.reading(ctx, "looking for users", func(ctx context.Context, q querier) (err error) {
		users, err = all(ctx, q, userFields, "SELECT "+userColumns+" FROM users WHERE "+strings.Join(where, " OR "), args...)
		return err
	})
	return users, err
}

// Robots returns those of at most [MaxImportBatch] names that a robot has.
func (s Imports) Robots(ctx context.Context, names []string) (map[string]bool, error) {
	taken := map[string]bool{}
	if len(names) == 0 {
		return taken, nil
	}
	var args []any
	for _, n := range names {
		args = append(args, n)
	}
	err := s.db.reading(ctx, "looking for robots", func(ctx context.Context, q querier) error {
		found, err := all(ctx, q, func(v *string) []any { return []any{v} }, "SELECT name FROM robots WHERE name IN ("+marks(len(names))+")", args...)
		for _, n := range found {
			taken[n] = true
		}
		return err
	})
	return taken, err
}

// marks returns n question marks for a list in SQL.
func marks(n int) string { return strings.TrimSuffix(strings.Repeat("?, ", n), ", ") }
