package recorder

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// Whoever wants to know the present reads the end alone, and is told when there is nothing more to read.
func TestSkipTo(t *testing.T) {
	t.Parallel()
	r := newRecorder(t, nil)
	w := create(t, r, Header{Kind: "shell", Term: "xterm"})
	for i := range 2000 {
		if err := w.Output(fmt.Appendf(nil, "line %d \xff", i)); err != nil {
			t.Fatal(err)
		}
	}
	for _, back := range []int64{1, 100, 1000, 10_000, 1 << 30} {
		ctx, cancel := context.WithCancel(t.Context())
		reader, err := r.Follow(ctx, w.Path())
		if err != nil {
			t.Fatal(err)
		}
		if err := reader.SkipTo(back); err != nil {
			t.Fatal(err)
		}
		waits := 0
		reader.OnWait(func() { waits++; cancel() })
		var seen []string
		for {
			e, err := reader.Next()
			if errors.Is(err, context.Canceled) {
				break
			}
			if err != nil {
				t.Fatalf("the last %d bytes: %v", back, err)
			}
			seen = append(seen, e.Text)
		}
		all := strings.Join(seen, "")
		if waits != 1 || back > 100 && !strings.Contains(all, "line 1999 ") || strings.Contains(all, "line 0 ") != (back == 1<<30) || int64(len(all)) > back {
			t.Errorf("the last %d bytes: %d times told, %d events, from %.40q", back, waits, len(seen), all)
		}
		reader.Close()
		cancel()
	}
}
