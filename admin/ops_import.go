package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strconv"
	"strings"

	"sallyport/audit"
	"sallyport/internal/web"
	"sallyport/otp/tokenfile"
	"sallyport/store"
)

// Bounds of an import.
const (
	maxTokenFile    = 256 << 20 // bytes
	maxUserFile     = 32 << 20
	maxImportRows   = 1_000_000
	maxImportFields = 32
	maxImportField  = 64 << 10
)

// importOrder says what to do with a file.
type importOrder struct {
	Format      tokenfile.Format
	User        string // of rows that name none
	MapUsers    string // what a row names its user by: login, email or upn
	Key         []byte // of a PSKC file
	Password    []byte // the same
	DryRun      bool
	SkipBad     bool // write the good rows although others are bad
	CreateUsers bool // tokens: make local users of those who are not there
	Unassigned  bool // tokens: all into the stock
	Update      bool // users: change those who are there
	Keep        bool // put everything aside, and wait for commitImport
}

// readImport reads the form of an import up to its file, which is the last field.
func readImport(body io.Reader, contentType string) (importOrder, io.Reader, error) {
	o := importOrder{MapUsers: "login"}
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil || kind != "multipart/form-data" || params["boundary"] == "" {
		return o, nil, invalid("send multipart/form-data, with the field file last", "this is no form with a file")
	}
	parts := multipart.NewReader(body, params["boundary"])
	for range maxImportFields {
		part, err := parts.NextPart()
		if err != nil {
			return o, nil, uploadFailed(err)
		}
		if part.FormName() == "file" {
			return o, part, o.check()
		}
		value, err := io.ReadAll(io.LimitReader(part, maxImportField+1))
		if err != nil {
			return o, nil, uploadFailed(err)
		}
		if len(value) > maxImportField {
			return o, nil, invalid("the file comes last", "the field %s is too long", audit.Escape(part.FormName()))
		}
		if err := o.set(part.FormName(), value); err != nil {
			return o, nil, err
		}
	}
	return o, nil, invalid("the file comes last", "there are too many fields")
}

func uploadFailed(err error) error {
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return &Problem{Status: http.StatusRequestEntityTooLarge, Detail: fmt.Sprintf("this is more than %d MiB", large.Limit>>20), Hint: "divide the file"}
	case errors.Is(err, io.EOF):
		return invalid("send the field file, as the last one", "there is no file")
	}
	return &Problem{Status: http.StatusBadRequest, Detail: "the form could not be read"}
}

func (o *importOrder) set(name string, value []byte) error {
	text := strings.TrimSpace(string(value))
	flags := map[string]*bool{
		"dry_run": &o.DryRun, "skip_bad": &o.SkipBad, "create_users": &o.CreateUsers, "unassigned": &o.Unassigned, "update": &o.Update,
	}
	switch name {
	case "format":
		o.Format = tokenfile.Format(text)
	case "user":
		o.User = text
	case "map_users":
		if text != "" {
			o.MapUsers = text
		}
	case "key":
		o.Key = value
	case "password":
		if len(value) > 0 {
			o.Password = value
		}
	default:
		flag, known := flags[name]
		if !known {
			return invalid("the fields are described in docs/openapi.json", "there is no field %s", audit.Escape(name))
		}
		var err error
		if *flag, err = strconv.ParseBool(text); err != nil {
			return invalid("write true or false", "%s is neither true nor false", name)
		}
	}
	return nil
}

func (o importOrder) check() error {
	known := o.Format == tokenfile.Auto
	for _, f := range tokenfile.Formats() {
		known = known || f == o.Format
	}
	switch {
	case !known:
		return invalid(fmt.Sprintf("the formats are %v", tokenfile.Formats()), "%s is no format", audit.Escape(string(o.Format)))
	case o.MapUsers != "login" && o.MapUsers != "email" && o.MapUsers != "upn":
		return invalid("use login, email or upn", "users cannot be found by %s", audit.Escape(o.MapUsers))
	case o.Unassigned && (o.User != "" || o.CreateUsers):
		return invalid("leave one of them out", "tokens that go into the stock have no user")
	case o.CreateUsers && o.MapUsers == "email":
		return invalid("use login or upn", "an e-mail address does not say what the login is")
	}
	return nil
}

// importing is an import under way.
type importing struct {
	s      *Server
	o      importOrder
	in     store.Import
	sum    ImportSummary
	report func(ImportRow) error
	places map[string]string // by serial or login: where it stands in the file
}

// beginImport starts an import; end must follow.
func (s *Server) beginImport(ctx context.Context, by Caller, kind string, o importOrder, report func(ImportRow) error) (*importing, error) {
	in, err := s.cfg.Store.Imports.Begin(ctx, kind, by.Actor)
	if err != nil {
		return nil, err
	}
	return &importing{s: s, o: o, in: in, sum: ImportSummary{DryRun: o.DryRun}, report: report, places: map[string]string{}}, nil
}

// tell reports a row and counts it.
func (i *importing) tell(row ImportRow) error {
	row.User, row.Serial, row.Detail = shorten(row.User, 100), shorten(row.Serial, 100), shorten(row.Detail, 300)
	i.sum.Rows++
	switch row.Result {
	case "add":
		i.sum.Added++
	case "stock":
		i.sum.Stock++
	case "update":
		i.sum.Updated++
	case "same":
		i.sum.Same++
	default:
		i.sum.Refused++
	}
	return i.report(row)
}

// shorten escapes what stands in a file and keeps n characters of it.
func shorten(s string, n int) string {
	if len(s) > 8*n {
		s = s[:8*n]
	}
	if s = audit.Escape(s); len([]rune(s)) > n {
		s = string([]rune(s)[:n]) + "..."
	}
	return s
}

// first tells where in the file a serial or login stood before, "" if this is the first time.
func (i *importing) first(name, place string) string {
	before, ok := i.places[name]
	if !ok {
		i.places[name] = place
	}
	return before
}

// end writes the import if it may be, and drops it otherwise. failed is why the file could not be read to its
// end.
func (i *importing) end(ctx context.Context, by Caller, failed error) (ImportSummary, error) {
	ctx = context.WithoutCancel(ctx) // what was put aside goes away, whoever has hung up
	write := false
	switch {
	case failed != nil:
		i.sum.Error = shorten(failed.Error(), 300)
	case i.sum.Rows == 0:
		i.sum.Error = "there is nothing in the file"
	case i.sum.Refused > 0 && !i.o.SkipBad:
		are := "are"
		if i.sum.Refused == 1 {
			are = "is"
		}
		i.sum.Error = fmt.Sprintf("%d of %s %s refused", i.sum.Refused, web.Plural(i.sum.Rows, "row", "rows"), are)
	default:
		write = !i.o.DryRun && i.sum.Added+i.sum.Stock+i.sum.Updated > 0
	}
	if !write {
		return i.sum, i.s.cfg.Store.Imports.Drop(ctx, i.in.ID)
	}
	i.in.Counts = map[string]string{
		"import": i.in.ID, "format": string(i.o.Format), "rows": strconv.Itoa(i.sum.Rows), "added": strconv.Itoa(i.sum.Added), "stock": strconv.Itoa(i.sum.Stock),
		"updated": strconv.Itoa(i.sum.Updated), "refused": strconv.Itoa(i.sum.Refused), "users_created": strconv.Itoa(i.sum.UsersCreated),
	}
	if i.o.Keep {
		i.sum.Kept = i.in.ID
		return i.sum, i.s.cfg.Store.Imports.Count(ctx, i.in.ID, i.in.Counts)
	}
	var err error
	i.sum.Error, err = i.s.commitImport(ctx, by, i.in)
	i.sum.Written = i.sum.Error == "" && err == nil
	return i.sum, err
}

// commitImport writes what was put aside, and leaves the event. why says why it could not be, and then it is
// dropped.
func (s *Server) commitImport(ctx context.Context, by Caller, in store.Import) (why string, err error) {
	ctx = context.WithoutCancel(ctx)
	err = s.cfg.Store.Imports.Commit(ctx, in.ID)
	for _, known := range []struct {
		err  error
		text string
	}{
		{store.ErrExists, "somebody took one of the serials or logins meanwhile; import again"},
		{store.ErrNameTaken, "a robot took one of the names meanwhile; import again"},
		{store.ErrNotFound, "one of the users was deleted meanwhile, or the import took over an hour; import again"},
	} {
		if errors.Is(err, known.err) {
			return known.text, s.cfg.Store.Imports.Drop(ctx, in.ID)
		}
	}
	if err != nil {
		return "", err
	}
	change := map[string]string{store.ImportTokens: "token.import", store.ImportUsers: "user.import"}[in.Kind]
	s.changed(ctx, by, change, audit.Event{Detail: in.Counts})
	return "", nil
}

// whyNot is an error in the words of its row.
func whyNot(err error) string {
	var p *Problem
	if errors.As(err, &p) && p.Hint != "" {
		return p.Detail + ": " + p.Hint
	}
	return err.Error()
}
