package bastion

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"sallyport/store"
)

// With thousands of targets, 45 connections of Ansible at once (ssh -J) each had all of them read from the database, and were
// told that the targets cannot be read. Whoever asks meanwhile now shares one reading, which begins after they asked.
func TestInventory(t *testing.T) {
	t.Parallel()
	var i inventory
	var reads atomic.Int64
	begun, goOn := make(chan struct{}, 10), make(chan error)
	read := func(context.Context) ([]store.Target, error) {
		n := reads.Add(1)
		begun <- struct{}{}
		return []store.Target{{Name: fmt.Sprint(n)}}, <-goOn
	}
	var all sync.WaitGroup
	ask := func(want string, fail error) {
		l := i.join(read) // here, so that nothing that follows comes before
		all.Go(func() {
			<-l.done
			if len(l.targets) != 1 || l.targets[0].Name != want || !errors.Is(l.err, fail) {
				t.Errorf("reading %s: %v, %v", want, l.targets, l.err)
			}
		})
	}
	broken := errors.New("broken")
	ask("1", nil)
	<-begun
	for range 100 {
		ask("2", broken)
	}
	goOn <- nil
	<-begun
	ask("3", nil)
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := i.list(gone, read); !errors.Is(err, context.Canceled) {
		t.Errorf("who does not wait: %v", err)
	}
	goOn <- broken
	<-begun
	goOn <- nil
	all.Wait()
	if n := reads.Load(); n != 3 {
		t.Errorf("%d readings", n)
	}
	ask("4", nil)
	<-begun
	goOn <- nil
	all.Wait()
}
