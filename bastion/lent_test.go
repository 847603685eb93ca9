package bastion

import (
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
)

// A session that has ended may still be taking what was typed in the very moment in which the menu is shown again. The menu
// read the rest without waiting for it: found by the race detector, and a key was lost, or taken twice.
func TestTypedChangesHands(t *testing.T) {
	t.Parallel()
	from, to := io.Pipe()
	ended := make(chan struct{})
	defer close(ended)
	keys := readTyped(from, ended)
	const total = 2000
	go func() {
		for i := range total {
			_, _ = fmt.Fprintf(to, "%4d", i)
		}
		_ = to.Close()
	}()
	var got []byte
	for over := false; !over; {
		stop := make(chan struct{})
		var reader sync.WaitGroup
		first := make(chan struct{})
		var taken []byte
		reader.Go(func() { // a session that has it for two reads or more
			p := make([]byte, 3)
			for n := 0; ; n++ {
				if n == 2 {
					close(first)
				}
				m, err := keys.read(p, stop)
				taken = append(taken, p[:m]...)
				if err != nil {
					if n < 2 {
						close(first)
					}
					return
				}
			}
		})
		<-first
		close(stop)
		keys.settle()
		rest := slices.Clone(keys.rest) // what the menu would treat
		keys.rest = nil
		reader.Wait()
		got = append(append(got, taken...), rest...)
		select {
		case b, ok := <-keys.chunks:
			got = append(got, b...)
			over = !ok
		default:
		}
	}
	if len(got) != 4*total {
		t.Fatalf("%d bytes, want %d", len(got), 4*total)
	}
	for i := range total {
		if want := fmt.Sprintf("%4d", i); string(got[4*i:4*i+4]) != want {
			t.Fatalf("at %d is %q, want %q", i, got[4*i:4*i+4], want)
		}
	}
}
