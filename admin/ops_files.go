package admin

import (
	"context"
	"encoding/base64"
	"encoding/csv"
	"errors"
	"io"
	"strconv"

	"sallyport/audit"
	"sallyport/ledger"
	"sallyport/otp/tokenfile"
	"sallyport/store"
)

// fileList returns a page of the ledger of a session's files, in the order in which they began.
func (s *Server) fileList(ctx context.Context, f store.TransferFilter) ([]store.Transfer, error) {
	x, err := s.session(ctx, f.SessionID)
	if err != nil {
		return nil, err
	}
	list, err := s.cfg.Store.Transfers.List(ctx, f)
	if errors.Is(err, store.ErrKey) {
		return nil, invalid("give the id of the last line of the page before, such as 1.25", "after is no id of a line")
	}
	for i := range list {
		if t := &list[i]; t.Result == ledger.ResultOpen && x.State != store.Live {
			t.Result, t.Detail = ledger.ResultUnknown, "the node stopped before it was over"
		}
	}
	return list, err
}

// fileColumns are the heads of the CSV.
var fileColumns = []string{"id", "started", "ended", "seconds", "operation", "path", "new_path", "bytes", "offset", "sha256", "in_order", "result", "detail", "path_base64", "new_path_base64"}

// writeFiles writes the whole ledger of a session as CSV. Paths are escaped; the exact bytes of one that is not
// the same then stand in base64.
func (s *Server) writeFiles(ctx context.Context, w io.Writer, session string) error {
	c := csv.NewWriter(w)
	_ = c.Write(fileColumns) // told by Flush
	f := store.TransferFilter{SessionID: session, Limit: 1000}
	for {
		list, err := s.fileList(ctx, f)
		if err != nil {
			return err
		}
		for _, t := range list {
			_ = c.Write(fileCells(t))
		}
		c.Flush()
		if err := c.Error(); err != nil || len(list) < f.Limit {
			return err
		}
		f.After = list[len(list)-1].Key()
	}
}

func fileCells(t store.Transfer) []string {
	path, pathExact := pathCell(t.Path)
	newPath, newExact := pathCell(t.NewPath)
	seconds := ""
	if !t.Ended.IsZero() {
		seconds = strconv.FormatFloat(t.Ended.Sub(t.Started).Seconds(), 'f', 3, 64)
	}
	return []string{
		t.Key(), cellTime(t.Started), cellTime(t.Ended), seconds, t.Op, path, newPath, strconv.FormatInt(t.Bytes, 10), strconv.FormatInt(t.First, 10),
		t.SHA256, strconv.FormatBool(t.InOrder), t.Result, tokenfile.Cell(t.Detail), pathExact, newExact,
	}
}

// pathCell makes a cell that a spreadsheet takes for text, and the exact bytes if it is another text.
func pathCell(path string) (cell, exact string) {
	if cell = tokenfile.Cell(audit.Escape(path)); cell != path {
		exact = base64.StdEncoding.EncodeToString([]byte(path))
	}
	return cell, exact
}
