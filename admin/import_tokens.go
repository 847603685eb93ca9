package admin

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"

	"sallyport/identity"
	"sallyport/internal/web"
	"sallyport/otp/tokenfile"
	"sallyport/store"
)

// importTokens imports a list of tokens. report gets every row, in the order of the file; nothing is written
// before the last one.
func (s *Server) importTokens(ctx context.Context, by Caller, o importOrder, file io.Reader, report func(ImportRow) error) (ImportSummary, error) {
	i, err := s.beginImport(ctx, by, store.ImportTokens, o, report)
	if err != nil {
		return ImportSummary{}, err
	}
	t := tokenImport{importing: i, created: map[string]string{}}
	return i.end(ctx, by, t.read(ctx, file))
}

type tokenImport struct {
	*importing
	created map[string]string // id by login of users that are made
}

func (t *tokenImport) read(ctx context.Context, file io.Reader) error {
	var batch []tokenfile.Row
	n := 0
	for row, err := range tokenfile.Read(file, tokenfile.Options{Format: t.o.Format, User: t.o.User, Key: t.o.Key, Password: t.o.Password}) {
		if err == nil {
			if n++; n > maxImportRows {
				err = fmt.Errorf("there are more than %d rows; divide the file", maxImportRows)
			}
		}
		if err != nil {
			if flushed := t.flush(ctx, batch); flushed != nil {
				return flushed
			}
			return err
		}
		if batch = append(batch, row); len(batch) == store.MaxImportBatch {
			if err := t.flush(ctx, batch); err != nil {
				return err
			}
			batch = batch[:0]
		}
	}
	return t.flush(ctx, batch)
}

// named is the user of a row, as the file names them.
type named struct {
	login, email string // one of them, or none
	bad          string
}

func (t *tokenImport) named(row tokenfile.Row) named {
	if t.o.Unassigned || row.User == "" {
		return named{}
	}
	user := row.User
	switch t.o.MapUsers {
	case "email":
		return named{email: strings.ToLower(strings.TrimSpace(user))}
	case "upn":
		user, _, _ = strings.Cut(user, "@")
	}
	login, err := identity.CanonicalLogin(user)
	if err != nil {
		return named{bad: "its user cannot be a login; --map-users says what the file names people by"}
	}
	return named{login: login}
}

// flush looks a batch up at once, and puts aside what can be taken.
func (t *tokenImport) flush(ctx context.Context, batch []tokenfile.Row) error {
	var logins, emails, serials []string
	names := make([]named, len(batch))
	for n, row := range batch {
		names[n] = t.named(row)
		if names[n].login != "" {
			logins = append(logins, names[n].login)
		}
		if names[n].email != "" {
			emails = append(emails, names[n].email)
		}
		if row.Serial != "" {
			serials = append(serials, row.Serial)
		}
	}
	users, err := t.s.cfg.Store.Imports.Users(ctx, logins, emails)
	if err != nil {
		return err
	}
	taken, err := t.s.cfg.Store.Imports.SerialsTaken(ctx, serials)
	if err != nil {
		return err
	}
	var robots map[string]bool
	if t.o.CreateUsers {
		if robots, err = t.s.cfg.Store.Imports.Robots(ctx, logins); err != nil {
			return err
		}
	}
	b := tokenBatch{tokenImport: t, byLogin: map[string]store.User{}, byEmail: map[string][]store.User{}, taken: taken, robots: robots}
	for _, u := range users {
		b.byLogin[u.Login] = u
		if u.Email != "" {
			b.byEmail[strings.ToLower(u.Email)] = append(b.byEmail[strings.ToLower(u.Email)], u)
		}
	}
	for n, row := range batch {
		if err := b.row(ctx, row, names[n]); err != nil {
			return err
		}
	}
	if err := t.s.cfg.Store.Imports.AddUsers(ctx, t.in.ID, b.users); err != nil {
		return err
	}
	return t.s.cfg.Store.Imports.AddTokens(ctx, t.in.ID, b.tokens)
}

// tokenBatch is what was looked up for a batch, and what is taken of it.
type tokenBatch struct {
	*tokenImport
	byLogin map[string]store.User
	byEmail map[string][]store.User
	taken   map[string]bool
	robots  map[string]bool

	users  []store.ImportedUser
	tokens []store.ImportedToken
}

func (b *tokenBatch) row(ctx context.Context, row tokenfile.Row, who named) error {
	out := ImportRow{Place: row.Where, User: row.User, Serial: row.Serial, Result: "refused"}
	refuse := func(format string, args ...any) error {
		out.Detail = fmt.Sprintf(format, args...)
		return b.tell(out)
	}
	if row.Err != nil {
		return refuse("%s", row.Err)
	}
	if err := checkText("name", row.Name, 100); err != nil {
		return refuse("%s", whyNot(err))
	}
	if err := checkText("serial", row.Serial, 100); err != nil {
		return refuse("%s", whyNot(err))
	}
	if who.bad != "" {
		return refuse("%s", who.bad)
	}
	if row.Serial != "" {
		if before := b.first(row.Serial, row.Where); before != "" {
			return refuse("its serial stands at %s already", before)
		}
		if b.taken[row.Serial] {
			return refuse("there is a token of this serial already")
		}
	}
	userID, login, problem, err := b.owner(ctx, who)
	if err != nil {
		return err
	}
	out.User = login
	switch {
	case problem != "":
		out.User = row.User
		return refuse("%s", problem)
	case userID == "" && row.Serial == "":
		return refuse("it has neither a user nor a serial by which somebody could take it")
	case userID == "":
		out.Result = "stock"
	default:
		out.Result = "add"
	}
	if n := len(row.Recovery); n > 0 {
		out.Detail = fmt.Sprintf("its %s not taken over; make new ones: sallyport recovery-codes new %s", web.Plural(n, "recovery code is", "recovery codes are"), login)
	}
	lastStep := int64(0)
	if row.Kind == tokenfile.HOTP {
		lastStep, row.Params.Period, row.Drift = row.Counter-1, 0, 0
	}
	b.tokens = append(b.tokens, store.ImportedToken{
		Token: store.Token{
			UserID: userID, Name: cmp.Or(row.Name, "token"), Kind: row.Kind, Algorithm: string(row.Params.Algorithm), Digits: row.Params.Digits,
			Period: row.Params.Period, LastStep: lastStep, Serial: row.Serial, Drift: row.Drift,
		},
		Secret: row.Secret,
	})
	return b.tell(out)
}

// owner finds the user of a row, or makes one; all empty: nobody. problem says why there is none.
func (b *tokenBatch) owner(ctx context.Context, who named) (id, login, problem string, err error) {
	switch {
	case who.email != "":
		switch users := b.byEmail[who.email]; len(users) {
		case 0:
			return "", "", "nobody here has this e-mail address", nil
		case 1:
			return users[0].ID, users[0].Login, "", nil
		default:
			return "", "", "several people here have this e-mail address", nil
		}
	case who.login == "":
		return "", "", "", nil
	}
	if u, ok := b.byLogin[who.login]; ok {
		return u.ID, u.Login, "", nil
	}
	if id, ok := b.created[who.login]; ok {
		return id, who.login, "", nil
	}
	if !b.o.CreateUsers {
		return "", "", "there is no user of this name; people of the directory are there after their first login, others with --create-users", nil
	}
	if problem, err := b.s.nameFree(ctx, who.login, b.robots); problem != "" || err != nil {
		return "", "", problem, err
	}
	if b.sum.UsersCreated++; b.sum.UsersCreated > store.MaxImportedUsers {
		return "", "", fmt.Sprintf("a file brings at most %d new users", store.MaxImportedUsers), nil
	}
	if id, err = b.s.cfg.Store.Imports.NewID(); err != nil {
		return "", "", "", err
	}
	b.created[who.login] = id
	b.users = append(b.users, store.ImportedUser{User: store.User{ID: id, Login: who.login}})
	return id, who.login, "", nil
}

// nameFree tells why a local user cannot have a login that no user has: "" if they can.
func (s *Server) nameFree(ctx context.Context, login string, robots map[string]bool) (problem string, err error) {
	if robots[login] {
		return "a robot has this name", nil
	}
	known, err := s.cfg.Engine.InDirectory(ctx, login)
	if known {
		problem = "this name is in the directory, and comes by itself at the first login"
	}
	return problem, err
}
