package recorder

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestFollow(t *testing.T) {
	t.Parallel()
	r := newRecorder(t, nil)
	w := create(t, r, Header{Title: "live"})
	must(t, w.Output([]byte("before ")))
	reader, err := r.Follow(t.Context(), w.Path())
	must(t, err)
	defer reader.Close()
	if reader.Header().Title != "live" {
		t.Errorf("header %+v", reader.Header())
	}
	result := make(chan []Event, 1)
	go func() {
		all, err := allEvents(reader)
		if err != nil {
			t.Errorf("following: %v", err)
		}
		result <- all
	}()
	for i := range 100 {
		must(t, w.Output([]byte("x")))
		if i%10 == 0 {
			runtime.Gosched()
		}
	}
	closed(t, w)
	if got := dataOf(<-result, "o"); string(got) != "before "+strings.Repeat("x", 100) {
		t.Errorf("followed %q", got)
	}
	ended, err := r.Follow(t.Context(), w.Path())
	must(t, err)
	defer ended.Close()
	if all, err := allEvents(ended); err != nil || len(all) != 101 {
		t.Errorf("following what has ended: %d events, %v", len(all), err)
	}
}

func TestFollowEndsWithContext(t *testing.T) {
	t.Parallel()
	r := newRecorder(t, nil)
	w := create(t, r, Header{})
	ctx, cancel := context.WithCancel(t.Context())
	reader, err := r.Follow(ctx, w.Path())
	must(t, err)
	defer reader.Close()
	time.AfterFunc(10*time.Millisecond, cancel)
	if e, err := reader.Next(); !errors.Is(err, ctx.Err()) || err == nil {
		t.Errorf("got %+v, %v", e, err)
	}
	must(t, w.Output([]byte("x")))
	closed(t, w)
}

// FuzzReader: any file is read to an end, times never go back.
func FuzzReader(f *testing.F) {
	const header = `{"version":3,"term":{"cols":80,"rows":24},"sallyport":{"session":"x","channel":0,"started":"2026-11-23T00:00:00Z"}}` + "\n"
	for _, s := range []string{
		"", header, header + "[0.5,\"o\",\"x\"]\n# comment\n\n[1,\"e\",\"\"]\n[0,\"b\",\"/w==\"]\n[0,\"o\",\"\uFFFD\"]\n[0,\"g\",\"5 x\"]\n",
		header + "[0,\"b\",\"\"]\n[0,\"m\",\"\"]\n", header + "[946080000,\"x\",\"\"]\n[946080000,\"x\",\"\"]\n", header + "[0,\"o\",",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		r, err := newReader(nopCloser{bytes.NewReader(content)})
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatalf("got %v", err)
			}
			return
		}
		all, err := allEvents(r)
		if err != nil && !errors.Is(err, ErrDamaged) {
			t.Fatalf("got %v", err)
		}
		last := time.Duration(0)
		for _, e := range all {
			if e.At < last {
				t.Fatalf("at %v after %v", e.At, last)
			}
			last = e.At
		}
	})
}

// TestManyEvents: sums of long intervals do not overflow.
func TestManyEvents(t *testing.T) {
	t.Parallel()
	content := `{"version":3,"sallyport":{}}` + "\n" + strings.Repeat("[946080000,\"x\",\"\"]\n", 50_000)
	r, err := newReader(nopCloser{strings.NewReader(content)})
	must(t, err)
	all, err := allEvents(r)
	if err != nil || len(all) != 50_000 || all[len(all)-1].At < all[0].At {
		t.Errorf("%d events, %v", len(all), err)
	}
}
