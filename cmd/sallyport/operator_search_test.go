package main

import (
	"strings"
	"testing"
	"time"

	"sallyport/admin"
	"sallyport/internal/testenv"
	"sallyport/recorder"
)

// The node indexes by itself; what was on a screen is found soon after the session, with its second.
func TestOperatorSearches(t *testing.T) {
	t.Parallel()
	o := startOperated(t)
	id := o.record(func(w *recorder.Recording) {
		noError(t, w.Output([]byte("$ \x1b[1mrm\x1b[0m -rf /srv/\x1b]0;x\x07old\r\n"+strings.Repeat("long ", 60)+"needle "+strings.Repeat("end ", 60)+"\r\n")))
	})
	var found admin.SearchResult
	testenv.WaitFor(t, "the index", func() bool {
		found = object[admin.SearchResult](o, "search", "rm -rf", "--user", "dave", "--target", "web1", "--since", "1h")
		return len(found.Hits) > 0
	})
	h := found.Hits[0]
	if h.Session != id || h.Line != "$ rm -rf /srv/old" || h.User != "dave" || h.Time == nil || time.Since(*h.Time) > time.Minute || found.Next != "" {
		t.Errorf("found %+v", found)
	}
	out := o.ok("search", "RM -rf")
	for _, want := range []string{"TIME", "dave", "web1", id, "0.0", "$ rm -rf /srv/old"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in %q", want, out)
		}
	}
	if out := o.ok("search", "needle"); !strings.Contains(out, "…") || len(out) > 600 {
		t.Errorf("a long line: %q", out)
	}
	for _, args := range [][]string{{"--user", "erin"}, {"--until", "2000-01-01"}, {"--session", "none"}} {
		if got := object[admin.SearchResult](o, append([]string{"search", "rm -rf"}, args...)...); len(got.Hits) != 0 {
			t.Errorf("search %q: %+v", args, got)
		}
	}
	if r := o.run("search", "rm -rv"); r.code != 0 || !strings.Contains(r.err, "No line has this text") {
		t.Errorf("no hit: %+v", r)
	}
	o.fails(2, "search", "||")
	o.fails(2, "search")
	if got := object[[]admin.SessionCommand](o, "session", "commands", id); len(got) != 0 {
		t.Errorf("commands %+v", got)
	}
	if r := o.run("session", "commands", id); r.code != 0 || !strings.Contains(r.err, "No commands were found") {
		t.Errorf("commands: %+v", r)
	}
	o.fails(1, "session", "commands", "none")
}
