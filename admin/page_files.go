package admin

import (
	"bufio"
	"fmt"
	"net/http"
	"time"

	"sallyport/audit"
	"sallyport/internal/web"
	"sallyport/ledger"
	"sallyport/store"
)

// filesShown is how many lines of the ledger the page of a session has; the page of its files has the rest.
const filesShown = 20

// fileRow is one line as the pages show it.
type fileRow struct {
	store.Transfer
	Verb string
	Took time.Duration
}

// fileVerbs are the operations in words.
var fileVerbs = map[string]string{
	ledger.OpRead: "download", ledger.OpWrite: "upload", ledger.OpRename: "rename", ledger.OpRemove: "removal", ledger.OpMkdir: "new folder",
	ledger.OpRmdir: "removal of a folder", ledger.OpSymlink: "symbolic link", ledger.OpLink: "hard link", ledger.OpSetstat: "attributes", ledger.OpList: "listing", ledger.OpNote: "note",
}

// filesData is what pages show of a session's files.
type filesData struct {
	Path        string // of the page with all of them
	CSV         string
	Rows        []fileRow
	More        bool // than Rows
	First, Next string
}

// sessionFiles is a page of a session's files, after the line of that key.
func (v *visit) sessionFiles(id, after string, limit int) (filesData, error) {
	d := filesData{Path: within("sessions", id, "files"), CSV: within("sessions", id, "files.csv")}
	list, err := v.s.fileList(v.ctx(), store.TransferFilter{SessionID: id, After: after, Limit: limit + 1})
	if err != nil {
		return d, err
	}
	if d.More = len(list) > limit; d.More {
		list = list[:limit]
		d.Next = address(d.Path, "after", list[limit-1].Key())
	}
	if after != "" {
		d.First = d.Path
	}
	for _, t := range list {
		row := fileRow{Transfer: t, Verb: fileVerbs[t.Op]}
		if !t.Ended.IsZero() {
			row.Took = t.Ended.Sub(t.Started)
		}
		d.Rows = append(d.Rows, row)
	}
	return d, nil
}

func (s *Server) filesPage(v *visit) error {
	x, err := s.session(v.ctx(), v.path("id"))
	if err != nil {
		return err
	}
	d, err := v.sessionFiles(x.ID, v.query("after"), 200)
	if err != nil {
		return err
	}
	v.show("files", web.Page{Title: "Files of " + audit.Escape(x.User), Section: "sessions", Wide: true, Refresh: x.State == store.Live && d.First == "",
		Data: struct {
			sessionView
			Files filesData
		}{s.viewSession(x), d}})
	return nil
}

func (s *Server) filesCSV(v *visit) error {
	x, err := s.session(v.ctx(), v.path("id"))
	if err != nil {
		return err
	}
	h := v.w.Header()
	h.Set("Content-Type", mimeCSV)
	h.Set("Content-Disposition", fmt.Sprintf(`attachment; filename="%s-files.csv"`, x.ID))
	out := &counted{to: v.w}
	buffered := bufio.NewWriterSize(out, 64<<10)
	if err = s.writeFiles(v.ctx(), buffered, x.ID); err == nil {
		err = buffered.Flush()
	}
	if err != nil && out.n > 0 { // the answer can only be cut short, so that nobody takes it for whole
		s.cfg.Log.ErrorContext(v.ctx(), "sending a ledger", "session", x.ID, "error", err)
		panic(http.ErrAbortHandler)
	}
	if err != nil {
		h.Del("Content-Disposition")
	}
	return err
}
