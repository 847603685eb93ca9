package admin

import (
	"bytes"
	"cmp"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"sallyport/internal/web"
	"sallyport/otp/tokenfile"
	"sallyport/store"
)

// userColumns of the CSV of users, in the order in which they are written. The last three are for people to
// read; an import passes them over.
var userColumns = []string{"login", "name", "email", "phone", "groups", "source", "locked", "tokens"}

// importUsers imports users from CSV with a header line; see importTokens.
func (s *Server) importUsers(ctx context.Context, by Caller, o importOrder, file io.Reader, report func(ImportRow) error) (ImportSummary, error) {
	i, err := s.beginImport(ctx, by, store.ImportUsers, o, report)
	if err != nil {
		return ImportSummary{}, err
	}
	i.o.Format = tokenfile.CSV
	u := userImport{importing: i}
	return i.end(ctx, by, u.read(ctx, file))
}

type userImport struct {
	*importing
	at map[string]int // column by name
}

// userRow is a row of the file.
type userRow struct {
	where string
	user  store.User
	local bool // it does not say that the directory is its source
	bad   error
}

func (u *userImport) read(ctx context.Context, file io.Reader) error {
	c := csv.NewReader(withoutMark(file))
	c.FieldsPerRecord, c.ReuseRecord, c.TrimLeadingSpace = -1, true, true
	head, err := c.Read()
	if err == nil {
		err = u.header(head)
	}
	if errors.Is(err, io.EOF) {
		return errors.New("the file is empty; its first line names the columns, such as: login,name,email,phone,groups")
	}
	var batch []userRow
	for n := 0; err == nil; n++ {
		var f []string
		if f, err = c.Read(); err != nil {
			break
		}
		if n >= store.MaxImportedUsers {
			err = fmt.Errorf("there are more than %d rows; divide the file", store.MaxImportedUsers)
			break
		}
		line, _ := c.FieldPos(0)
		if batch = append(batch, u.row(line, f)); len(batch) == store.MaxImportBatch {
			if err := u.flush(ctx, batch); err != nil {
				return err
			}
			batch = batch[:0]
		}
	}
	if flushed := u.flush(ctx, batch); flushed != nil {
		return flushed
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return err
}

// withoutMark drops a byte order mark.
func withoutMark(r io.Reader) io.Reader {
	mark := make([]byte, 3)
	n, _ := io.ReadFull(r, mark)
	if mark = mark[:n]; bytes.Equal(mark, []byte("\xef\xbb\xbf")) {
		mark = nil
	}
	return io.MultiReader(bytes.NewReader(mark), r)
}

func (u *userImport) header(f []string) error {
	u.at = map[string]int{}
	for i, name := range f {
		name = strings.ToLower(strings.TrimSpace(name))
		if !slices.Contains(userColumns, name) {
			return fmt.Errorf("column %q is not known; there are %s", shorten(name, 40), strings.Join(userColumns, ", "))
		}
		if _, twice := u.at[name]; twice {
			return fmt.Errorf("column %s stands there twice", name)
		}
		u.at[name] = i
	}
	if _, ok := u.at["login"]; !ok {
		return errors.New("column login is missing")
	}
	return nil
}

func (u *userImport) row(line int, f []string) userRow {
	r := userRow{where: fmt.Sprintf("line %d", line)}
	get := func(name string) string {
		if i, ok := u.at[name]; ok && i < len(f) {
			return strings.TrimSpace(tokenfile.FromCell(f[i]))
		}
		return ""
	}
	r.user.Login = get("login")
	login, err := checkLogin(r.user.Login)
	if err != nil || len(f) != len(u.at) {
		r.bad = cmp.Or(err, fmt.Errorf("it has %s, and the first line %d", web.Plural(len(f), "cell", "cells"), len(u.at)))
		return r
	}
	r.local = get("source") != string(store.Directory)
	r.user = store.User{Login: login, Name: get("name"), Email: get("email")}
	for _, g := range strings.Split(get("groups"), ";") {
		if g = strings.TrimSpace(g); g != "" {
			r.user.Groups = append(r.user.Groups, g)
		}
	}
	r.user.Groups = tidy(r.user.Groups)
	r.user.Phone, err = u.s.checkPhone(get("phone"))
	r.bad = cmp.Or(checkGroups(r.user.Groups), checkText("name", r.user.Name, 255), checkEmail(r.user.Email), err)
	return r
}

func (u *userImport) flush(ctx context.Context, batch []userRow) error {
	var logins []string
	for _, r := range batch {
		logins = append(logins, r.user.Login)
	}
	users, err := u.s.cfg.Store.Imports.Users(ctx, logins, nil)
	if err != nil {
		return err
	}
	robots, err := u.s.cfg.Store.Imports.Robots(ctx, logins)
	if err != nil {
		return err
	}
	there := map[string]store.User{}
	for _, x := range users {
		there[x.Login] = x
	}
	var taken []store.ImportedUser
	for _, r := range batch {
		out := ImportRow{Place: r.where, User: r.user.Login, Result: "refused"}
		known, ok := there[r.user.Login]
		var before string
		if r.bad == nil {
			before = u.first(r.user.Login, r.where)
		}
		switch {
		case r.bad != nil:
			out.Detail = whyNot(r.bad)
		case before != "":
			out.Detail = "its login stands at " + before + " already"
		case !r.local || ok && known.Source != store.Local:
			out.Detail = "people of the directory are changed there"
		case ok && u.merge(known, &r.user):
			out.Result = "same"
		case ok && !u.o.Update:
			out.Detail = "there is a user of this login already; --update changes them"
		case ok:
			out.Result = "update"
			taken = append(taken, store.ImportedUser{User: r.user, Known: true})
		default:
			if out.Detail, err = u.s.nameFree(ctx, r.user.Login, robots); err != nil {
				return err
			}
			if out.Detail == "" {
				out.Result = "add"
				if r.user.ID, err = u.s.cfg.Store.Imports.NewID(); err != nil {
					return err
				}
				taken = append(taken, store.ImportedUser{User: r.user})
			}
		}
		if err := u.tell(out); err != nil {
			return err
		}
	}
	return u.s.cfg.Store.Imports.AddUsers(ctx, u.in.ID, taken)
}

// merge keeps of a user who is there what the file has no column for, and tells whether nothing changes.
func (u *userImport) merge(known store.User, r *store.User) (same bool) {
	r.ID = known.ID
	for column, keep := range map[string]func(){
		"name": func() { r.Name = known.Name }, "email": func() { r.Email = known.Email },
		"phone": func() { r.Phone = known.Phone }, "groups": func() { r.Groups = known.Groups },
	} {
		if _, ok := u.at[column]; !ok {
			keep()
		}
	}
	return r.Name == known.Name && r.Email == known.Email && r.Phone == known.Phone && slices.Equal(tidy(r.Groups), tidy(known.Groups))
}
