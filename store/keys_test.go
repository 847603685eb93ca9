package store_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/internal/seal"
	"sallyport/store"
)

// sealedPlaces finds what the package seals: nothing may be left out when keys change.
func TestEverySealedColumnIsSealedAgain(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	check(t, err)
	places := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		check(t, err)
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		for _, m := range regexp.MustCompile(`\.Seal\(([^,]+), ([^,]+),`).FindAllStringSubmatch(string(text), -1) {
			if m[1] != "c.sealedFor()" {
				places[m[1]+m[2]] = true
			}
		}
	}
	keys, err := os.ReadFile("keys.go")
	check(t, err)
	for place := range places {
		table, column, _ := strings.Cut(strings.Trim(place, `"`), `""`)
		if !strings.Contains(string(keys), fmt.Sprintf("{%q, %q, ", table, column)) {
			t.Errorf("%s.%s is sealed and not among sealedColumns", table, column)
		}
	}
	if len(places) < 5 {
		t.Errorf("only %v were found", places)
	}
}

// furnished is a database with something sealed in every table.
type furnished struct {
	user          store.User
	tokens, names []string
	ticket        string
	target        store.Target
}

func furnish(t *testing.T, s *store.Store, n int) furnished {
	t.Helper()
	ctx := t.Context()
	f := furnished{user: addUser(t, s, "alice")}
	for i := range n {
		f.tokens = append(f.tokens, must[store.Token](t)(s.Tokens.Add(ctx, store.Token{UserID: f.user.ID, Name: fmt.Sprint(i), Enabled: true}, secret)).ID)
		f.names = append(f.names, fmt.Sprintf("secret-%04d", i))
		check(t, s.Secrets.Put(ctx, f.names[i], []byte(f.names[i])))
	}
	f.ticket = must[string](t)(s.Tickets.Create(ctx, "setup", "x", []byte("data"), time.Hour))
	f.target = must[store.Target](t)(s.Targets.Add(ctx, store.Target{Name: "web1", Address: "10.0.0.1:22", HostKeyMode: store.TOFU}))
	return f
}

// readable fails unless everything opens.
func (f furnished) readable(t *testing.T, s *store.Store) {
	t.Helper()
	ctx := t.Context()
	got, err := s.Tokens.Usable(ctx, f.user.ID)
	if err != nil || len(got) != len(f.tokens) || !bytes.Equal(got[0].Secret, secret) {
		t.Fatalf("%d tokens, %v", len(got), err)
	}
	for _, name := range f.names {
		if v, err := s.Secrets.Get(ctx, name); err != nil || string(v) != name {
			t.Fatalf("secret %s: %q, %v", name, v, err)
		}
	}
	if ticket, err := s.Tickets.Peek(ctx, "setup", f.ticket); err != nil || string(ticket.Data) != "data" {
		t.Fatalf("ticket %+v, %v", ticket, err)
	}
}

// fileRing makes a key file and returns it with the id of its key.
func fileRing(t *testing.T) (path, id string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "keyring")
	ring := must[*seal.Ring](t)(seal.LoadOrCreate(path))
	return path, ring.IDs()[0]
}

func rowsOf(t *testing.T, s *store.Store, id string) int {
	t.Helper()
	for _, u := range must[[]store.KeyUse](t)(s.Keys.Uses(t.Context())) {
		if u.ID == id {
			return u.Rows
		}
	}
	return 0
}

// A rotation that dies after any of its batches leaves every row readable, for the node that rotates and for
// one that runs beside it and had never heard of the new key; the next run finishes it.
func TestRotationKilledAtEveryBatch(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		if e.name == "memory" {
			return // is gone with its process
		}
		ctx := t.Context()
		path, last := fileRing(t)
		first := open(t, store.Config{DSN: e.dsn, Ring: must[*seal.Ring](t)(seal.Load(path)), Now: e.clock.Now})
		f := furnish(t, first, 230)
		beside := open(t, store.Config{DSN: e.dsn, Ring: must[*seal.Ring](t)(seal.Load(path)), Now: e.clock.Now})
		total := rowsOf(t, first, last)
		die, finished := 0, false
		for !finished {
			die++
			id, err := seal.AddKey(path)
			check(t, err)
			check(t, seal.Promote(path, id))
			dying := open(t, store.Config{DSN: e.dsn, Ring: must[*seal.Ring](t)(seal.Load(path)), Now: e.clock.Now})
			var p store.Pass
			for i := 0; i < die && !finished; i++ {
				finished, err = dying.Keys.Reseal(ctx, &p)
				check(t, err)
			}
			check(t, dying.Close())
			f.readable(t, beside)

			again := open(t, store.Config{DSN: e.dsn, Ring: must[*seal.Ring](t)(seal.Load(path)), Now: e.clock.Now})
			f.readable(t, again)
			p = store.Pass{}
			for done := false; !done; {
				done, err = again.Keys.Reseal(ctx, &p)
				check(t, err)
			}
			f.readable(t, again)
			f.readable(t, beside)
			if got, old := rowsOf(t, again, id), rowsOf(t, again, last); got != total || old != 0 || len(p.Failed) != 0 {
				t.Fatalf("died at %d: %d rows have the new key and %d the old one, want %d and 0 (%v)", die, got, old, total, p.Failed)
			}
			last = id
			check(t, again.Close())
		}
		if die < 9 {
			t.Errorf("only %d batches: nothing was proved", die)
		}
	})
}

// Two nodes rotate at once while others write and read: nothing is lost, nothing is written back.
func TestRotationInParallel(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		if e.name == "memory" {
			return
		}
		path, old := fileRing(t)
		newStore := func() *store.Store {
			return open(t, store.Config{DSN: e.dsn, Ring: must[*seal.Ring](t)(seal.Load(path)), Now: e.clock.Now})
		}
		writer := newStore() // still seals with the old key until it looks again
		f := furnish(t, writer, 150)
		id, err := seal.AddKey(path)
		check(t, err)
		check(t, seal.Promote(path, id))
		nodes := []*store.Store{newStore(), newStore()}
		var written atomic.Int32
		parallel(3, func(i int) {
			if i == 2 {
				for n := range 60 {
					name := f.names[n]
					if err := writer.Secrets.Put(context.Background(), name, []byte(name)); err == nil {
						written.Add(1)
					}
				}
				return
			}
			var p store.Pass
			for done := false; !done; {
				var err error
				if done, err = nodes[i].Keys.Reseal(context.Background(), &p); err != nil {
					t.Errorf("node %d: %v", i, err)
					return
				}
			}
		})
		f.readable(t, writer)
		f.readable(t, nodes[0])
		if changed := must[bool](t)(writer.Keys.Reload()); written.Load() == 0 || !changed && rowsOf(t, writer, id) == 0 {
			t.Errorf("%d written, reloaded %v", written.Load(), changed)
		}
		for _, s := range []*store.Store{writer, nodes[0]} { // what the writer left
			var p store.Pass
			for done := false; !done; {
				done, err = s.Keys.Reseal(t.Context(), &p)
				check(t, err)
			}
		}
		if n := rowsOf(t, nodes[1], old); n != 0 {
			t.Errorf("%d rows have the old key", n)
		}
		f.readable(t, writer)
	})
}

// What cannot be opened is left alone and told.
func TestRotationLeavesWhatDoesNotOpen(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		if e.name == "memory" {
			return
		}
		path, _ := fileRing(t)
		s := open(t, store.Config{DSN: e.dsn, Ring: must[*seal.Ring](t)(seal.Load(path)), Now: e.clock.Now})
		f := furnish(t, s, 3)
		_, err := raw(t, e.dsn).ExecContext(t.Context(), "INSERT INTO secrets (name, value, created) VALUES ('foreign', 'v1.00000000.AAAA', 0)")
		check(t, err)
		id, err := seal.AddKey(path)
		check(t, err)
		check(t, seal.Promote(path, id))
		check2 := must[bool](t)(s.Keys.Reload())
		var p store.Pass
		for done := false; !done; {
			done, err = s.Keys.Reseal(t.Context(), &p)
			check(t, err)
		}
		if !check2 || len(p.Failed) != 1 || !strings.Contains(p.Failed[0].Error(), "foreign") || p.Moved < 7 {
			t.Errorf("reloaded %v, moved %d, failed %v", check2, p.Moved, p.Failed)
		}
		f.readable(t, s)
		uses := must[[]store.KeyUse](t)(s.Keys.Uses(t.Context()))
		i := slices.IndexFunc(uses, func(u store.KeyUse) bool { return u.ID == "00000000" })
		if i < 0 || uses[i].InRing || uses[i].Rows != 1 || uses[i].Tables["secrets.value"] != 1 || !uses[0].Active || uses[0].ID != id {
			t.Errorf("uses %+v", uses)
		}
	})
}

func TestRingsOfNodes(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		check(t, s.Keys.Publish(ctx, "b"))
		e.clock.Move(2 * time.Minute)
		check(t, s.Keys.Publish(ctx, "a"))
		nodes := must[[]store.NodeRing](t)(s.Keys.Nodes(ctx))
		if len(nodes) != 2 || nodes[0].Node != "a" || !slices.Equal(nodes[0].IDs, e.ring.IDs()) || len(nodes[0].IDs) != 1 {
			t.Errorf("nodes %+v", nodes)
		}
		e.clock.Move(time.Minute)
		if nodes := must[[]store.NodeRing](t)(s.Keys.Nodes(ctx)); len(nodes) != 1 || nodes[0].Node != "a" {
			t.Errorf("a minute later: %+v", nodes)
		}
		var begun atomic.Int32
		parallel(20, func(i int) {
			if ok, err := e.open().Keys.SetNext(context.Background(), "", fmt.Sprint("key", i)); ok && err == nil {
				begun.Add(1)
			}
		})
		next := must[string](t)(s.Keys.Next(ctx))
		if begun.Load() != 1 || next == "" {
			t.Errorf("%d began, next %q", begun.Load(), next)
		}
		if ok := must[bool](t)(s.Keys.SetNext(ctx, next, "")); !ok || must[string](t)(s.Keys.Next(ctx)) != "" {
			t.Error("the end of a rotation")
		}
	})
}
