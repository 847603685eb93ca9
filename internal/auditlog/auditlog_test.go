package auditlog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"sallyport/audit"
)

// sink can be told to refuse, which a database cannot at a chosen moment.
type sink struct {
	refuse bool
	kept   []audit.Event
}

func (s *sink) Append(_ context.Context, e audit.Event) error {
	if s.refuse {
		return errors.New("away")
	}
	s.kept = append(s.kept, e)
	return nil
}

// An event is one JSON line with nothing dangerous in it, and one row; while the database is away it
// waits, in order, and whoever emitted it knows.
func TestEmit(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := &sink{}
	l := New(Config{Sink: s, Logger: slog.New(slog.NewJSONHandler(&out, nil)), Node: "n1"})
	ctx := context.Background()
	if err := l.Emit(ctx, audit.Event{Type: audit.LoginRefused, Result: audit.Refused, User: "eve\nforged line"}); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "\n"); n != 1 {
		t.Errorf("%d lines: %q", n, out.String())
	}
	var line struct{ Event audit.Event }
	if err := json.Unmarshal(out.Bytes(), &line); err != nil || line.Event.User != `eve\nforged line` || line.Event.Node != "n1" || line.Event.ID == "" {
		t.Errorf("line %+v, %v", line.Event, err)
	}
	s.refuse = true
	for _, user := range []string{"a", "b", "c"} {
		if err := l.Emit(ctx, audit.Event{Type: audit.LoginAccepted, User: user}); err == nil {
			t.Error("a refused row is not reported")
		}
	}
	if l.Pending() != 3 || l.Flush(ctx) == nil {
		t.Errorf("%d events wait", l.Pending())
	}
	s.refuse = false
	if err := l.Flush(ctx); err != nil || l.Pending() != 0 {
		t.Errorf("flush: %v, %d left", err, l.Pending())
	}
	got := ""
	for _, e := range s.kept[1:] {
		got += e.User
	}
	if got != "abc" {
		t.Errorf("kept in the order %q", got)
	}
}
