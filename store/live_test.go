package store_test

import (
	"fmt"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/store"
)

// Somebody watches from when they say so until they stop saying so.
func TestWatches(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		near, far, ctx := e.open(), e.open(), t.Context()
		event := audit.Event{Type: audit.SessionWatched, Result: audit.OK}
		x := must[store.Session](t)(near.Sessions.Open(ctx, store.Session{User: "alice", Node: "n1"}))
		heard, cancel := near.Bus.Subscribe(store.TopicLive)
		defer cancel()
		id := must[string](t)(far.Watching.Begin(ctx, store.Watch{SessionID: x.ID, Node: "n2", Watcher: "carol", Login: "carol", Groups: []string{"auditors"}}, event))
		for e.name != "sqlite" { // one process has one store there
			m := <-heard
			if m.Topic == store.TopicLive && m.Payload == x.ID {
				break
			}
		}
		got := must[[]store.Watch](t)(near.Watching.WatchesAt(ctx, "n1"))
		if len(got) != 1 || got[0].ID != id || got[0].Watcher != "carol" || got[0].Node != "n2" || len(got[0].Groups) != 1 || !got[0].Started.Equal(start) {
			t.Errorf("watches at n1: %+v", got)
		}
		if got := must[[]store.Watch](t)(near.Watching.WatchesAt(ctx, "n2")); len(got) != 0 {
			t.Errorf("watches at n2: %+v", got)
		}
		e.clock.Move(10 * time.Second)
		check(t, far.Watching.Renew(ctx, id, 3))
		e.clock.Move(10 * time.Second)
		if got := must[[]store.Watch](t)(near.Watching.Watches(ctx, x.ID)); len(got) != 1 || got[0].Channel != 3 {
			t.Errorf("watches after renewing: %+v", got)
		}
		e.clock.Move(10 * time.Second)
		if got := must[[]store.Watch](t)(near.Watching.Watches(ctx, x.ID)); len(got) != 0 {
			t.Errorf("watches that were not renewed: %+v", got)
		}
		wantError(t, "renewing what has expired", far.Watching.Renew(ctx, id, 3), store.ErrNotFound)
		check(t, near.Purge(ctx))
		if n := count(t, e, "live_watches"); n != 0 {
			t.Errorf("%d watches are left", n)
		}
		check(t, far.Watching.End(ctx, id, x.ID, event))
		check(t, near.Sessions.End(ctx, x.ID, "over"))
		_, err := far.Watching.Begin(ctx, store.Watch{SessionID: x.ID, Watcher: "carol"}, event)
		wantError(t, "watching what is over", err, store.ErrNotFound)
		if list := must[[]audit.Event](t)(near.Audit.List(ctx, store.AuditFilter{Type: audit.SessionWatched})); len(list) != 2 {
			t.Errorf("%d events, want the beginning and the end", len(list))
		}
	})
}

// What is sent arrives in order, sealed on its way, as long as somebody reads it.
func TestLiveStreams(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		near, far, ctx := e.open(), e.open(), t.Context()
		x := must[store.Session](t)(near.Sessions.Open(ctx, store.Session{User: "alice", Node: "n1"}))
		stream := store.LiveStream{SessionID: x.ID, Channel: 2, Node: "n2"}
		stream.ID = must[string](t)(far.Watching.Ask(ctx, stream))
		if got := must[[]store.LiveStream](t)(near.Watching.Streams(ctx, "n1")); len(got) != 1 || got[0] != stream {
			t.Fatalf("streams: %+v", got)
		}
		if _, alive, err := far.Watching.Read(ctx, stream.ID, 0); err != nil || alive {
			t.Errorf("a sender is there before any came: %v %v", alive, err)
		}
		for seq := range int64(3) {
			check(t, near.Watching.Put(ctx, stream.ID, store.LiveChunk{Seq: seq + 1, Data: fmt.Appendf(nil, "secret %d", seq+1), Last: seq == 2}))
		}
		if e.name != "memory" {
			var kept string
			check(t, raw(t, e.dsn).QueryRowContext(ctx, "SELECT data FROM live_chunks WHERE seq = 1").Scan(&kept))
			if kept == "secret 1" || len(kept) < 20 {
				t.Errorf("not sealed: %q", kept)
			}
		}
		list, alive, err := far.Watching.Read(ctx, stream.ID, 1)
		if err != nil || !alive || len(list) != 2 || string(list[0].Data) != "secret 2" || list[0].Last || !list[1].Last {
			t.Errorf("read %v %v %v", list, alive, err)
		}
		check(t, far.Watching.Keep(ctx, stream.ID, 3))
		if n := count(t, e, "live_chunks"); n != 0 {
			t.Errorf("%d chunks are left after they were read", n)
		}
		// A reader who does not read holds nobody up.
		seq := int64(4)
		for ; err == nil; seq++ {
			err = near.Watching.Put(ctx, stream.ID, store.LiveChunk{Seq: seq, Data: []byte("x")})
		}
		wantError(t, "a reader who does not read", err, store.ErrUnread)
		if seq > 60 {
			t.Errorf("%d chunks wait", seq)
		}
		e.clock.Move(10 * time.Second)
		check(t, near.Watching.Sending(ctx, stream.ID))
		e.clock.Move(10 * time.Second)
		wantError(t, "nobody reads", near.Watching.Sending(ctx, stream.ID), store.ErrNotFound)
		wantError(t, "nobody reads", near.Watching.Put(ctx, stream.ID, store.LiveChunk{Seq: seq}), store.ErrNotFound)
		check(t, near.Purge(ctx))
		if n := count(t, e, "live_chunks") + count(t, e, "live_streams"); n != 0 {
			t.Errorf("%d rows are left", n)
		}
	})
}
