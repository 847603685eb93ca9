package admin

import (
	"errors"
	"slices"

	"sallyport/internal/web"
	"sallyport/otp/tokenfile"
	"sallyport/store"
)

// reportRows bounds the report of a page; refused rows come first.
const reportRows = 500

type importForms struct{ Formats []tokenfile.Format }

// importReport is what would become of a file, and asks whether it shall.
type importReport struct {
	Kind    string
	Summary ImportSummary
	Rows    []ImportRow
	More    bool
}

func (s *Server) importPage(v *visit) error {
	v.show("import", web.Page{Title: "Import", Section: "users", Data: importForms{tokenfile.Formats()}})
	return nil
}

// importForm puts a file aside and shows the report; commitImportForm writes it.
func (s *Server) importForm(kind string) func(*visit) error {
	do, limit := importer(s.importTokens), int64(maxTokenFile)
	if kind == store.ImportUsers {
		do, limit = s.importUsers, maxUserFile
	}
	return func(v *visit) (err error) {
		upload := web.Upload(v.w, v.r, limit)
		defer func() {
			if err != nil {
				web.Drain(upload)
			}
		}()
		order, file, err := readImport(upload, v.r.Header.Get("Content-Type"))
		if err != nil {
			return err
		}
		order.Keep = true
		var refused, others []ImportRow
		sum, err := do(v.ctx(), v.by, order, file, func(row ImportRow) error {
			if row.Result == "refused" && len(refused) < reportRows {
				refused = append(refused, row)
			} else if len(others) < reportRows {
				others = append(others, row)
			}
			return nil
		})
		if err != nil {
			return err
		}
		rows := slices.Concat(refused, others)
		rows = rows[:min(len(rows), reportRows)]
		v.show("import_report", web.Page{Title: "Import", Section: "users", Data: importReport{kind, sum, rows, sum.Rows > len(rows)}})
		return nil
	}
}

func (s *Server) commitImportForm(v *visit) error {
	gone := notFound("send the file again", "this import was written already, or is over an hour old")
	in, err := s.cfg.Store.Imports.Get(v.ctx(), v.typed("import"))
	switch {
	case errors.Is(err, store.ErrNotFound), err == nil && in.Author != v.by.Actor:
		return gone
	case err != nil:
		return err
	}
	why, err := s.commitImport(v.ctx(), v.by, in)
	switch {
	case err != nil:
		return err
	case why != "":
		return conflict("", "nothing was written: %s", why)
	}
	return v.done("/users", "The import is written: %s %s added, %s kept in stock, %s changed.", in.Counts["added"], in.Kind, in.Counts["stock"], in.Counts["updated"])
}
