package search

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/recorder"
	"sallyport/store"
)

// open begins a session with a recording that goes on.
func (l *library) open() (string, take) {
	l.t.Helper()
	x, err := l.st.Sessions.Open(l.t.Context(), store.Session{User: "alice", Target: "web1", Account: "root", Node: "n1"})
	noError(l.t, err)
	h := terminal80
	h.Session, h.Channel = x.ID, 1
	w, err := l.rec.Create(h)
	noError(l.t, err)
	noError(l.t, l.st.Sessions.OpenChannel(l.t.Context(), x.ID, store.Channel{ID: 1, Kind: "shell", Recording: w.Path(), Started: l.Now()}))
	return x.ID, take{l.studio, w}
}

// noise fills the open part of a recording, and waits until it is closed and packed. What stands on the screen stays.
func (l *library) noise(k take) {
	l.t.Helper()
	ctx := l.t.Context()
	packed := func() int {
		parts, err := l.rec.Parts(ctx, k.w.Path())
		noError(l.t, err)
		return len(slices.DeleteFunc(parts, func(p recorder.Part) bool { return p.Packed == 0 }))
	}
	before := packed()
	for deadline := time.Now().Add(time.Minute); packed() == before; {
		if time.Now().After(deadline) {
			l.t.Fatal("no part was closed")
		}
		for range 200 {
			noError(l.t, k.w.Output(fmt.Appendf(nil, "\x1b]0;%x%x\x07", rand.Uint64(), rand.Uint64())))
		}
	}
}

// The session of a thief could be searched when it was over, ten hours later. What closed parts of an open recording show is
// found while it goes on, each line once, and in the end all is there that there would be if it had been indexed then.
func TestOpenSessionsAreFound(t *testing.T) {
	t.Parallel()
	l := newLibrary(t)
	ctx := t.Context()
	id, k := l.open()
	x := l.indexer()
	times := func(text string, want int) {
		t.Helper()
		if n := len(l.find(text)); n != want {
			t.Errorf("%q: %d hits, want %d", text, n, want)
		}
	}
	const prompt = "\x1b[?2004halice@web1:~$ "
	k.print(prompt)
	k.typing("first needle")
	k.print("\r\n\x1b[?2004l\rseen early\r\n")
	l.noise(k)
	noError(t, x.Once(ctx))
	times("seen early", 0) // a minute is as long as many sessions are
	l.Move(2 * time.Minute)
	noError(t, x.Once(ctx))
	times("seen early", 1)
	times("first needle", 1)
	if s := l.state(id); s.State != store.SearchPending || !strings.Contains(s.Note, "the session goes on") {
		t.Errorf("state %+v", s)
	}
	commands := func() []string {
		list, err := l.st.Search.Commands(ctx, id)
		noError(t, err)
		return texts(list)
	}
	if got := commands(); !slices.Equal(got, []string{"first needle"}) {
		t.Errorf("commands %q", got)
	}
	// Nothing that was added meanwhile, and then all of it; an alternate screen is under way.
	k.print(prompt)
	k.typing("second needle")
	k.print("\r\n\x1b[?2004l\r" + strings.Repeat("filler\r\n", 40) + "\x1b[?1049h\x1b[2J\x1b[Hin an editor\r\n")
	l.Move(2 * time.Minute)
	noError(t, x.Once(ctx))
	times("second needle", 0)
	l.noise(k)
	l.Move(2 * time.Minute)
	noError(t, x.Once(ctx))
	times("second needle", 1)
	times("in an editor", 1)
	// Another node leaves it alone however long it lasts, and so does whatever takes what is due.
	l.Move(time.Hour)
	other := NewIndexer(Config{Store: l.st, Recorder: l.rec, Node: "n2", Now: l.Now})
	if c, err := l.st.Search.Claim(ctx, "other", "n2", lease); err == nil {
		t.Errorf("claimed %+v while it goes on", c)
	}
	noError(t, x.Once(ctx))
	k.print("\x1b[?1049l" + prompt)
	k.typing("third needle")
	k.print("\r\n\x1b[?2004l\rlast words\r\n")
	sum, err := k.w.Close()
	noError(t, err)
	noError(t, l.st.Sessions.CloseChannel(ctx, id, store.Channel{ID: 1, Kind: "shell", BytesOut: 1, Recording: sum.Path, Ended: l.Now()}))
	noError(t, x.Once(ctx))
	for _, text := range []string{"seen early", "first needle", "second needle", "in an editor", "third needle", "last words"} {
		times(text, 1)
	}
	if got, want := commands(), []string{"first needle", "second needle", "third needle"}; !slices.Equal(got, want) {
		t.Errorf("commands %q", got)
	}
	if s := l.state(id); s.State != store.SearchDone || s.Note != "" {
		t.Errorf("state %+v", s)
	}
	if len(x.growing.open) != 0 {
		t.Errorf("still open: %v", x.growing.open)
	}
	noError(t, other.Once(ctx))
}

// A node that is killed leaves a claim and half an index. When its lease is over the recording is indexed from its beginning.
func TestGrowingIndexOfKilledNode(t *testing.T) {
	t.Parallel()
	l := newLibrary(t)
	ctx := t.Context()
	id, k := l.open()
	k.print("early needle\r\n")
	l.noise(k)
	l.Move(2 * time.Minute)
	noError(t, l.indexer().Once(ctx))
	k.print("late needle\r\n")
	sum, err := k.w.Close() // as the next process does, with what the killed one left
	noError(t, err)
	_, err = l.st.Sessions.MarkLost(ctx, "n1")
	noError(t, err)
	next := l.indexer()
	l.Move(growsLease + time.Second)
	noError(t, next.Once(ctx))
	for _, text := range []string{"early needle", "late needle"} {
		if hits := l.find(text); len(hits) != 1 || hits[0].Session != id {
			t.Errorf("%q: %+v", text, hits)
		}
	}
	if s := l.state(id); s.State != store.SearchDone {
		t.Errorf("state %+v of %s", s, sum.Path)
	}
}

// What must not be found is not found while the session runs either.
func TestOpenSessionsThatAreOff(t *testing.T) {
	t.Parallel()
	l := newLibrary(t)
	x, err := l.st.Sessions.Open(t.Context(), store.Session{User: "alice", Target: "web1", Account: "root", Node: "n1"})
	noError(t, err)
	h := terminal80
	h.Session, h.Channel, h.Tags = x.ID, 1, []string{recorder.TagUnsearched}
	w, err := l.rec.Create(h)
	noError(t, err)
	noError(t, l.st.Sessions.OpenChannel(t.Context(), x.ID, store.Channel{ID: 1, Kind: "shell", Recording: w.Path(), Started: l.Now()}))
	k := take{l.studio, w}
	k.print("a secret needle\r\n")
	l.noise(k)
	l.Move(2 * time.Minute)
	noError(t, l.indexer().Once(t.Context()))
	if hits := l.find("secret needle"); len(hits) != 0 {
		t.Errorf("%+v", hits)
	}
}
