package store_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"sallyport/store"
)

// Lines keep every byte of a path, are written again without harm, and come in pages.
func TestTransfers(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		x := must[store.Session](t)(s.Sessions.Open(ctx, store.Session{User: "alice"}))
		open := store.Transfer{SessionID: x.ID, Channel: 1, Seq: 1, Op: "read", Path: "/a\xff\x00'b", Result: "open", Started: start}
		check(t, s.Transfers.Put(ctx, x.ID, 1, []store.Transfer{open}))
		done := open
		done.Result, done.Ended, done.Bytes, done.First, done.SHA256, done.InOrder, done.Detail = "ok", start.Add(time.Second), 1<<40, 7, "ab", true, "x"
		check(t, s.Transfers.Put(ctx, x.ID, 1, []store.Transfer{done}))
		check(t, s.Transfers.Put(ctx, x.ID, 1, []store.Transfer{open})) // late, and once more
		got := must[[]store.Transfer](t)(s.Transfers.List(ctx, store.TransferFilter{SessionID: x.ID}))
		if len(got) != 1 || got[0] != done {
			t.Errorf("got %+v, want %+v", got, done)
		}

		var many []store.Transfer
		for i := range 450 {
			many = append(many, store.Transfer{SessionID: x.ID, Channel: 2, Seq: i + 1, Op: "rename", Path: "/p", NewPath: fmt.Sprint("/q", i), Result: "ok", Started: start, Ended: start})
		}
		check(t, s.Transfers.Put(ctx, x.ID, 2, many))
		f := store.TransferFilter{SessionID: x.ID, Limit: 200}
		n, last := 0, ""
		for {
			page := must[[]store.Transfer](t)(s.Transfers.List(ctx, f))
			if len(page) == 0 {
				break
			}
			n += len(page)
			last = page[len(page)-1].NewPath
			f.After = page[len(page)-1].Key()
		}
		if n != 451 || last != "/q449" {
			t.Errorf("%d lines, the last %s", n, last)
		}
		if got := must[[]store.Transfer](t)(s.Transfers.List(ctx, store.TransferFilter{SessionID: x.ID, Channel: 1})); len(got) != 1 {
			t.Errorf("channel 1: %+v", got)
		}
		_, err := s.Transfers.List(ctx, store.TransferFilter{SessionID: x.ID, After: "x"})
		if !errors.Is(err, store.ErrKey) {
			t.Errorf("after x: %v", err)
		}
		wantError(t, "files of no session", s.Transfers.Put(ctx, "nothing", 1, many), store.ErrNotFound)

		check(t, s.Sessions.CloseChannel(ctx, x.ID, store.Channel{ID: 2, Kind: "sftp", FilesRead: 3, FilesWritten: 4}))
		if c := must[store.Session](t)(s.Sessions.Get(ctx, x.ID)).Channels[0]; c.FilesRead != 3 || c.FilesWritten != 4 {
			t.Errorf("got %+v", c)
		}
	})
}
