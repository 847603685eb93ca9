package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"reflect"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"sallyport/internal/web"
)

const (
	mimeNDJSON = "application/x-ndjson"
	mimeCSV    = "text/csv; charset=utf-8"
	mimeAge    = "application/age-encryption"
)

type stockInput struct {
	Limit int `query:"limit" minimum:"0" maximum:"1000000" doc:"0: all"`
}

func (s *Server) transferRoutes(api huma.API) {
	s.importRoute(api, "/imports/tokens", "token-import", "Import a list of tokens", maxTokenFile, s.importTokens)
	s.importRoute(api, "/imports/users", "user-import", "Import users from CSV", maxUserFile, s.importUsers)
	s.listRoute(api, "/exports/users", "user-export", "Export users as CSV", "user.export", s.writeUserList)
	s.listRoute(api, "/exports/tokens", "token-export-list", "Export tokens as CSV, without their secrets", "token.export", s.writeTokenList)
	s.secretsRoute(api)
	register(s, api, route(needAuditor, http.MethodGet, "/stock", "stock-list", "List tokens that belong to nobody yet"),
		func(ctx context.Context, _ Caller, in *stockInput) (*body[[]Token], error) {
			tokens, err := s.cfg.Store.Stock.List(ctx, in.Limit)
			if err != nil {
				return nil, err
			}
			return answer(list(tokens, s.wireToken)), nil
		})
	register(s, api, route(needAdmin, http.MethodDelete, "/stock/{serial}", "stock-delete", "Delete a token that belongs to nobody yet"),
		func(ctx context.Context, by Caller, in *struct {
			Serial string `path:"serial" maxLength:"256"`
		}) (*nothing, error) {
			return &nothing{}, s.discardToken(ctx, by, in.Serial)
		})
	register(s, api, route(needAdmin, http.MethodPost, "/users/{login}/tokens/assign", "token-assign", "Give a user a token that belongs to nobody yet"),
		func(ctx context.Context, by Caller, in *byLoginWith[TokenAssignment]) (*body[Token], error) {
			t, err := s.assignToken(ctx, by, in.Login, in.Body)
			if err != nil {
				return nil, err
			}
			return answer(s.wireToken(t)), nil
		})
}

// importer is importTokens or importUsers.
type importer func(context.Context, Caller, importOrder, io.Reader, func(ImportRow) error) (ImportSummary, error)

func (s *Server) importRoute(api huma.API, path, id, summary string, limit int64, do importer) {
	op := route(needAdmin, http.MethodPost, path, id, summary)
	text := func(doc string) *huma.Schema { return &huma.Schema{Type: "string", Description: doc} }
	flag := func(doc string) *huma.Schema { return &huma.Schema{Type: "boolean", Description: doc} }
	fields := map[string]*huma.Schema{
		"dry_run":  flag("report, and write nothing"),
		"skip_bad": flag("write the good rows although others are refused"),
		"file":     {Type: "string", Format: "binary", Description: fmt.Sprintf("the last field; at most %d MiB", limit>>20)},
	}
	if id == "token-import" {
		fields["format"] = text("csv, entra, oath, feitian, yubico, pskc, otpauth, google, users.oath; absent: found out")
		fields["user"] = text("login of rows that name none")
		fields["map_users"] = text("how rows name their user: login (default), email, or upn, of which the part before @ is the login")
		fields["key"] = text("bytes of the pre-shared key of a PSKC file")
		fields["password"] = text("password of a PSKC file")
		fields["create_users"] = flag("make local users of those who are not there")
		fields["unassigned"] = flag("all rows into the stock")
	} else {
		fields["update"] = flag("change users who are there")
	}
	line := api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[ImportLine](), true, "ImportLine")
	op.Responses = map[string]*huma.Response{"200": {
		Description: "A JSON object a line: the rows in the order of the file, and the summary. Nothing is written before the last row, and nothing at all if written is false.",
		Content:     map[string]*huma.MediaType{mimeNDJSON: {Schema: line}},
	}}
	register(s, api, op, func(ctx context.Context, by Caller, _ *nothing) (*huma.StreamResponse, error) {
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			r, w := humago.Unwrap(hc)
			if err := s.answerImport(w, r, by, limit, do); err != nil {
				s.writeProblem(nil, hc, err)
			}
		}}, nil
	})
	// Described only now: huma would otherwise read the whole body itself.
	api.OpenAPI().Paths[path].Post.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
		"multipart/form-data": {Schema: &huma.Schema{Type: "object", Properties: fields, Required: []string{"file"}}},
	}}
}

// answerImport reads a whole upload, and answers only then: the rows of the report wait in a file.
func (s *Server) answerImport(w http.ResponseWriter, r *http.Request, by Caller, limit int64, do importer) (err error) {
	upload := web.Upload(w, r, limit)
	defer func() {
		if err != nil {
			web.Drain(upload)
		}
	}()
	order, file, err := readImport(upload, r.Header.Get("Content-Type"))
	if err != nil {
		return err
	}
	spool, err := newSpool()
	if err != nil {
		return err
	}
	defer spool.close()
	sum, err := do(r.Context(), by, order, file, func(row ImportRow) error { return spool.line(ImportLine{Row: &row}) })
	if err != nil {
		return err
	}
	if err := spool.line(ImportLine{Summary: &sum}); err != nil {
		return err
	}
	w.Header().Set("Content-Type", mimeNDJSON)
	if err := spool.copyTo(w); err != nil {
		s.cfg.Log.ErrorContext(r.Context(), "sending the report of an import", "error", err)
		panic(http.ErrAbortHandler)
	}
	return nil
}

// spool keeps the report of an import, which has no secrets, in a file without a name.
type spool struct {
	f   *os.File
	out *bufio.Writer
	enc *json.Encoder
}

func newSpool() (*spool, error) {
	f, err := os.CreateTemp("", "sallyport-report-")
	if err != nil {
		return nil, fmt.Errorf("making a file for the report of an import: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(fmt.Errorf("making a file for the report of an import: %w", err), f.Close())
	}
	p := &spool{f: f, out: bufio.NewWriter(f)}
	p.enc = json.NewEncoder(p.out)
	return p, nil
}

func (p *spool) line(l ImportLine) error {
	if err := p.enc.Encode(l); err != nil {
		return fmt.Errorf("writing the report of an import: %w", err)
	}
	return nil
}

func (p *spool) copyTo(w io.Writer) error {
	if err := p.out.Flush(); err != nil {
		return err
	}
	if _, err := p.f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err := io.Copy(w, p.f)
	return err
}

func (p *spool) close() { _ = p.f.Close() }

// listRoute is an export without secrets.
func (s *Server) listRoute(api huma.API, path, id, summary, change string, write func(context.Context, io.Writer) error) {
	op := route(needAuditor, http.MethodGet, path, id, summary)
	op.Responses = map[string]*huma.Response{"200": {Description: "The list, with a line of heads.", Content: map[string]*huma.MediaType{"text/csv": {}}}}
	register(s, api, op, func(ctx context.Context, by Caller, _ *nothing) (*huma.StreamResponse, error) {
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			s.exported(hc.Context(), by, change)
			s.streamExport(hc, &lateHeader{hc: hc, mime: mimeCSV, name: id + ".csv"}, write)
		}}, nil
	})
}

func (s *Server) secretsRoute(api huma.API) {
	op := route(needAdmin, http.MethodPost, "/exports/tokens", "token-export", "Export tokens with their secrets, encrypted by age to the recipients")
	op.Responses = map[string]*huma.Response{"200": {Description: "A file of age.", Content: map[string]*huma.MediaType{mimeAge: {}}}}
	register(s, api, op, func(ctx context.Context, by Caller, in *with[NewExport]) (*huma.StreamResponse, error) {
		x, err := s.prepareExport(ctx, by, in.Body)
		if err != nil {
			return nil, err
		}
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			s.streamExport(hc, &lateHeader{hc: hc, mime: mimeAge, name: "tokens.age"}, x.write)
		}}, nil
	})
}

// streamExport sends an export; if it breaks off, so does the answer.
func (s *Server) streamExport(hc huma.Context, out *lateHeader, write func(context.Context, io.Writer) error) {
	w := bufio.NewWriterSize(out, 64<<10)
	err := write(hc.Context(), w)
	if err == nil {
		err = w.Flush()
	}
	switch {
	case err == nil && !out.begun:
		out.begin()
	case err != nil && !out.begun:
		s.writeProblem(nil, hc, err)
	case err != nil:
		s.cfg.Log.Error("exporting", "name", out.name, "error", err)
		panic(http.ErrAbortHandler)
	}
}
