package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// Where a user comes from.
const (
	Local     = "local"     // made by an operator, password hash in the database
	Directory = "directory" // appeared on the first login, password checked by the directory
)

// User is a person who may log in.
type User struct {
	ID          string
	Login       string // unique, in the form of [FoldLogin]
	Name        string
	Email       string
	Phone       string // E.164, of a local user; "": none
	CodeBy      string // how codes are sent: ByMail, BySMS, "off", or "" as the configuration says
	Source      string // Local or Directory
	ExternalID  string // entryUUID or objectGUID of a directory user, unique
	Groups      []string
	Locked      bool // by an operator; see LockedNow
	LockReason  string
	LockedUntil time.Time // zero: until unlocked
	Lockout     UserLockout
	Created     time.Time
	LastLogin   time.Time
	HasPassword bool
	Tokens      int // how many the user has; Add ignores it
	FreeLogins  int // made without a code for want of a token; Add ignores it, as it does what follows
	FreeSince   time.Time
	FreeOver    bool // there was a token: no more of them
}

// Free tells how many logins without a code a user has left at now, of those that f allows.
func (u User) Free(f FreeLogins) int {
	if u.Tokens > 0 || u.FreeOver || !u.Created.After(f.Since) && !u.FreeSince.After(f.Since) {
		return 0
	}
	return max(f.Most-u.FreeLogins, 0)
}

// UserLockout is when failures lock this person, where that is stricter than for everybody. Zero fields say
// nothing.
type UserLockout struct {
	Failures     int           `json:"failures,omitempty"`
	Window, Lock time.Duration `json:",omitempty"`
}

// LockedNow tells whether the user is locked at now.
func (u User) LockedNow(now time.Time) bool {
	return u.Locked && (u.LockedUntil.IsZero() || now.Before(u.LockedUntil))
}

// UserFilter chooses users. The zero value chooses all.
type UserFilter struct {
	Query string // part of login, name or e-mail address, in any case
	Limit int    // 0: no limit
}

// FoldLogin returns the one form of a login name under which users are kept and looked up, so that
// no other spelling has a counter, lock or token of its own: without space around it, in Unicode
// form NFKC and in lower case. Directories compare names in about this way (RFC 4518).
func FoldLogin(login string) string {
	return strings.TrimSpace(norm.NFKC.String(strings.ToLower(norm.NFKC.String(plain(login)))))
}

// maxLogin is in bytes.
const maxLogin = 256

func checkLogin(login string) error {
	switch {
	case login == "":
		return errors.New("the login is empty")
	case len(login) > maxLogin:
		return fmt.Errorf("the login is longer than %d bytes", maxLogin)
	case strings.ContainsFunc(login, func(r rune) bool {
		return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == unicode.ReplacementChar
	}):
		return fmt.Errorf("the login %q has characters that cannot be seen", login)
	}
	return nil
}

// groupSet returns the form in which groups are kept: sorted, each one once.
func groupSet(groups []string) []string {
	set := make([]string, len(groups))
	for i, g := range groups {
		set[i] = plain(g)
	}
	slices.Sort(set)
	return slices.Compact(set)
}

// Users is the table of users.
type Users struct{ db *db }

const userColumns = `id, login, name, email, source, COALESCE(external_id, ''), group_names, locked, lock_reason,
	locked_until, lockout, password_hash <> '', token_count, created, last_login, phone, code_by,
	free_logins, free_since, free_over`

func userFields(u *User) []any {
	return []any{
		&u.ID, &u.Login, &u.Name, &u.Email, &u.Source, &u.ExternalID, jsonColumn{&u.Groups}, &u.Locked, &u.LockReason,
		timeColumn{&u.LockedUntil}, jsonColumn{&u.Lockout}, &u.HasPassword, &u.Tokens, timeColumn{&u.Created}, timeColumn{&u.LastLogin},
		&u.Phone, &u.CodeBy, &u.FreeLogins, timeColumn{&u.FreeSince}, &u.FreeOver,
	}
}

const insertUser = `INSERT INTO users
	(id, login, name, email, source, external_id, group_names, search, locked, lock_reason, locked_until, password_hash, created, phone)
	VALUES (?, ?, ?, ?, ?, NULLIF(?, ''), ?, ?, ?, ?, ?, ?, ?, ?)`

// Add makes a user of login, name, e-mail address, telephone number, source (empty: Local), external id, groups and
// lock. passwordHash may be empty: such a user has no password. The error is [ErrExists] if
// somebody has the login or external id, and [ErrNameTaken] if a robot has the login as its name.
func (s Users) Add(ctx context.Context, u User, passwordHash string) (User, error) {
	u.Login = FoldLogin(u.Login)
	what := "adding user " + u.Login
	if err := checkLogin(u.Login); err != nil {
		return User{}, fmt.Errorf("adding a user: %w", err)
	}
	if u.Source == "" {
		u.Source = Local
	}
	if (u.Source == Directory) != (u.ExternalID != "") {
		return User{}, fmt.Errorf("%s: directory users, and no others, have an external id", what)
	}
	id, err := newID()
	if err != nil {
		return User{}, fmt.Errorf("%s: %w", what, err)
	}
	groups, err := toJSON(groupSet(u.Groups))
	if err != nil {
		return User{}, fmt.Errorf("%s: %w", what, err)
	}
	err = s.db.changing(ctx, what, func(ctx context.Context, q querier) (err error) {
		if err := s.db.lock(ctx, q, lockLogins); err != nil {
			return err
		}
		if n, err := scalar[int64](ctx, q, "SELECT COUNT(*) FROM robots WHERE name = ?", u.Login); err != nil || n > 0 {
			return cmp.Or(err, ErrNameTaken)
		}
		u, err = one(ctx, q, userFields, insertUser+" RETURNING "+userColumns,
			id, u.Login, u.Name, u.Email, u.Source, u.ExternalID, groups, searchText(u.Login, u.Name, u.Email),
			u.Locked, u.LockReason, ms(u.LockedUntil), passwordHash, ms(s.db.now()), u.Phone)
		return err
	})
	if err != nil {
		return User{}, err
	}
	return u, nil
}

func searchText(parts ...string) string { return strings.ToLower(strings.Join(parts, "\n")) }

// SeenInDirectory returns the directory user with an external id, after making it or updating it to
// what the directory says. The error is [ErrNameTaken] if a local user, or another entry of the
// directory, has the login here: two persons must never share a name, so an operator has to decide.
func (s Users) SeenInDirectory(ctx context.Context, externalID, login, name, email string, groups []string) (User, error) {
	login, groups = FoldLogin(login), groupSet(groups)
	what := "recording directory user " + login
	if err := checkLogin(login); err != nil {
		return User{}, fmt.Errorf("recording a directory user: %w", err)
	}
	if externalID == "" {
		return User{}, fmt.Errorf("%s: the external id is empty", what)
	}
	known, err := s.ByExternalID(ctx, externalID)
	switch u := known; {
	case errors.Is(err, ErrNotFound):
	case err != nil:
		return User{}, err
	case u.Login == login && u.Name == plain(name) && u.Email == plain(email) && slices.Equal(u.Groups, groups):
		return u, nil // the common case writes nothing
	}
	u, err := s.putDirectoryUser(ctx, what, known.ID, externalID, login, name, email, groups)
	if errors.Is(err, ErrNameTaken) {
		// Perhaps by the same entry: with PostgreSQL a parallel insert of the same row may be
		// noticed by its login first.
		if other, err := s.ByExternalID(ctx, externalID); err == nil && other.Login == login {
			return other, nil
		}
	}
	return u, err
}

// putDirectoryUser makes the row, or changes the one of the id known.
func (s Users) putDirectoryUser(ctx context.Context, what, known, externalID, login, name, email string, groups []string) (User, error) {
	id, err := newID()
	if err != nil {
		return User{}, fmt.Errorf("%s: %w", what, err)
	}
	groupNames, err := toJSON(groups)
	if err != nil {
		return User{}, fmt.Errorf("%s: %w", what, err)
	}
	do := s.db.writing
	if known != "" { // groups may have gone
		do = func(ctx context.Context, what string, f func(context.Context, querier) error) error {
			return s.db.withdrawing(ctx, what, known, f)
		}
	}
	var u User
	err = do(ctx, what, func(ctx context.Context, q querier) (err error) {
		u, err = one(ctx, q, userFields, insertUser+` ON CONFLICT (external_id) DO UPDATE SET login = excluded.login,
				name = excluded.name, email = excluded.email, group_names = excluded.group_names, search = excluded.search
			RETURNING `+userColumns,
			id, login, name, email, Directory, externalID, groupNames, searchText(login, name, email),
			false, "", 0, "", ms(s.db.now()), "")
		if violates(err, uniqueViolation) {
			err = ErrNameTaken
		}
		return err
	})
	return u, err
}

// ByID returns a user, or [ErrNotFound].
func (s Users) ByID(ctx context.Context, id string) (User, error) {
	return s.find(ctx, "reading user "+id, "id = ?", id)
}

// ByLogin returns the user with a login in any spelling, or [ErrNotFound].
func (s Users) ByLogin(ctx context.Context, login string) (User, error) {
	return s.find(ctx, "reading a user by login", "login = ?", FoldLogin(login))
}

// ByExternalID returns a directory user, or [ErrNotFound].
func (s Users) ByExternalID(ctx context.Context, id string) (User, error) {
	return s.find(ctx, "reading directory user "+id, "external_id = ?", id)
}

func (s Users) find(ctx context.Context, what, condition, value string) (User, error) {
	var u User
	err := s.db.briefly(ctx, what, func(ctx context.Context, q querier) (err error) {
		u, err = one(ctx, q, userFields, "SELECT "+userColumns+" FROM users WHERE "+condition, value)
		return err
	})
	return u, err
}

// List returns the users that f chooses, newest first.
func (s Users) List(ctx context.Context, f UserFilter) ([]User, error) {
	query, args := "SELECT "+userColumns+" FROM users", []any{}
	if f.Query != "" {
		query += ` WHERE search LIKE ? ESCAPE '\'`
		args = append(args, like(f.Query))
	}
	query += " ORDER BY id DESC"
	if f.Limit > 0 {
		query += " LIMIT ?"
		args = append(args, f.Limit)
	}
	var users []User
	err := s.db.reading(ctx, "listing users", func(ctx context.Context, q querier) (err error) {
		users, err = all(ctx, q, userFields, query, args...)
		return err
	})
	return users, err
}

// Delete removes a user with keys, tokens, places, administrator's role, tickets and web sessions.
// What the audit log and sessions tell of the user stays. The error is [ErrNotFound] or, for the
// last administrator, [ErrLastAdmin].
func (s Users) Delete(ctx context.Context, id string) error {
	return s.db.withdrawing(ctx, "deleting user "+id, id, func(ctx context.Context, tx querier) error {
		if err := keepAnAdmin(ctx, s.db, tx, id); err != nil {
			return err
		}
		if _, err := exec(ctx, tx, "DELETE FROM tickets WHERE subject = ?", id); err != nil {
			return err
		}
		if _, err := exec(ctx, tx, endWebSessions+" WHERE user_id = ?", id); err != nil {
			return err
		}
		return execOne(ctx, tx, "DELETE FROM users WHERE id = ?", id)
	})
}

// PasswordHash returns the hash of a local user's password, empty if there is none.
func (s Users) PasswordHash(ctx context.Context, id string) (string, error) {
	var hash string
	err := s.db.briefly(ctx, "reading the password hash of user "+id, func(ctx context.Context, q querier) (err error) {
		hash, err = scalar[string](ctx, q, "SELECT password_hash FROM users WHERE id = ?", id)
		return err
	})
	return hash, err
}

// SetPassword replaces the password hash of a user; an empty one takes the password away.
func (s Users) SetPassword(ctx context.Context, id, hash string) error {
	return s.update(ctx, "setting the password of user "+id, "password_hash = ? WHERE id = ?", hash, id)
}

// SetGroups replaces the groups of a user.
func (s Users) SetGroups(ctx context.Context, id string, groups []string) error {
	names, err := toJSON(groupSet(groups))
	if err != nil {
		return fmt.Errorf("setting the groups of user %s: %w", id, err)
	}
	return s.db.withdrawing(ctx, "setting the groups of user "+id, id, func(ctx context.Context, tx querier) error {
		return execOne(ctx, tx, "UPDATE users SET group_names = ? WHERE id = ?", names, id)
	})
}

// Lock keeps a user from logging in until a time, or until [Users.Unlock] if it is zero. What was remembered
// of the user's codes is forgotten.
func (s Users) Lock(ctx context.Context, id, reason string, until time.Time) error {
	return s.db.withdrawing(ctx, "locking user "+id, id, func(ctx context.Context, tx querier) error {
		return lockUser(ctx, tx, id, reason, until)
	})
}

func lockUser(ctx context.Context, tx querier, id, reason string, until time.Time) error {
	err := execOne(ctx, tx, "UPDATE users SET locked = TRUE, lock_reason = ?, locked_until = ? WHERE id = ?", reason, ms(until), id)
	if err == nil {
		_, err = endGrants(ctx, tx, id)
	}
	return err
}

// Unlock takes back what [Users.Lock] did. It does not clear lockouts, see [Attempts.Clear].
func (s Users) Unlock(ctx context.Context, id string) error {
	return s.update(ctx, "unlocking user "+id, "locked = FALSE, lock_reason = '', locked_until = 0 WHERE id = ?", id)
}

// GrantFree gives a user all logins without a code anew, also if there was a token.
func (s Users) GrantFree(ctx context.Context, id string) error {
	return s.update(ctx, "granting logins without a code to user "+id, "free_logins = 0, free_over = FALSE, free_since = ? WHERE id = ?", ms(s.db.now()), id)
}

// SetLockout sets when failures lock a user; the zero value: as everybody.
func (s Users) SetLockout(ctx context.Context, id string, l UserLockout) error {
	text, err := toJSON(l)
	if err != nil {
		return fmt.Errorf("setting the lockout of user %s: %w", id, err)
	}
	return s.update(ctx, "setting the lockout of user "+id, "lockout = ? WHERE id = ?", text, id)
}

// Touch notes that a user logged in now.
func (s Users) Touch(ctx context.Context, id string) error {
	return s.db.writing(ctx, "noting the login of user "+id, func(ctx context.Context, q querier) error {
		return execOne(ctx, q, touchUser, ms(s.db.now()), id)
	})
}

const touchUser = "UPDATE users SET last_login = ? WHERE id = ?"

func (s Users) update(ctx context.Context, what, assignments string, args ...any) error {
	return s.db.writing(ctx, what, func(ctx context.Context, q querier) error {
		return execOne(ctx, q, "UPDATE users SET "+assignments, args...)
	})
}
