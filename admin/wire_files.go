package admin

import (
	"encoding/base64"
	"time"
	"unicode/utf8"

	"sallyport/store"
)

// File is one line of the ledger of a session's files.
type File struct {
	ID            string     `json:"id" doc:"channel and number, as after takes it" example:"1.25"`
	Channel       int        `json:"channel"`
	Operation     string     `json:"operation" enum:"read,write,rename,remove,mkdir,rmdir,symlink,link,setstat,list,note" doc:"read: to the person; write: from them"`
	Path          string     `json:"path"`
	NewPath       string     `json:"new_path" doc:"of a rename, or the name of a link; empty: none"`
	PathBase64    string     `json:"path_base64,omitempty" doc:"the exact bytes of path, where that is not UTF-8"`
	NewPathBase64 string     `json:"new_path_base64,omitempty" doc:"the exact bytes of new_path, where that is not UTF-8"`
	Bytes         int64      `json:"bytes" doc:"of content that passed; of a write, that the target confirmed"`
	Offset        int64      `json:"offset" doc:"where in the file the first of them stands"`
	SHA256        string     `json:"sha256" doc:"of these bytes; empty: not known, as where they did not pass in their order"`
	InOrder       bool       `json:"in_order"`
	Result        string     `json:"result" enum:"ok,failed,refused,aborted,open,unknown"`
	Detail        string     `json:"detail"`
	Started       *time.Time `json:"started"`
	Ended         *time.Time `json:"ended" doc:"null while it is not over"`
	Duration      float64    `json:"duration" doc:"seconds; 0 while it is not over"`
}

func wireFile(t store.Transfer) File {
	exact := func(s string) string {
		if utf8.ValidString(s) {
			return ""
		}
		return base64.StdEncoding.EncodeToString([]byte(s))
	}
	f := File{
		ID: t.Key(), Channel: t.Channel, Operation: t.Op, Path: t.Path, NewPath: t.NewPath, PathBase64: exact(t.Path), NewPathBase64: exact(t.NewPath),
		Bytes: t.Bytes, Offset: t.First, SHA256: t.SHA256, InOrder: t.InOrder, Result: t.Result, Detail: t.Detail,
		Started: timeOf(t.Started), Ended: timeOf(t.Ended),
	}
	if !t.Ended.IsZero() {
		f.Duration = t.Ended.Sub(t.Started).Seconds()
	}
	return f
}
