package bastion

import (
	"context"
	"sync"
	"time"

	"sallyport/store"
)

// inventory reads the list of all targets, once for all who ask at the same time: of thousands it takes a while, and
// Ansible comes with dozens of questions at once. Nobody gets a list that was read before they asked. The zero value is ready.
type inventory struct {
	mu      sync.Mutex // guards the fields below
	running *listing   // nil: nobody asks
	next    *listing   // begins when running has ended; nil: nobody waits for it
}

// listing is one reading of the list.
type listing struct {
	done    chan struct{} // closed when the fields below are set
	targets []store.Target
	err     error
}

// listTime bounds one reading, whoever waits for it.
const listTime = 10 * time.Second

// list returns what read gives, which is not to be modified. read must end with its context.
func (i *inventory) list(ctx context.Context, read func(context.Context) ([]store.Target, error)) ([]store.Target, error) {
	l := i.join(read)
	select {
	case <-l.done:
		return l.targets, l.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (i *inventory) join(read func(context.Context) ([]store.Target, error)) *listing {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.running == nil {
		i.running = &listing{done: make(chan struct{})}
		go i.run(i.running, read)
		return i.running
	}
	if i.next == nil {
		i.next = &listing{done: make(chan struct{})}
	}
	return i.next
}

// run reads for l, and for those who came meanwhile.
func (i *inventory) run(l *listing, read func(context.Context) ([]store.Target, error)) {
	for l != nil {
		ctx, cancel := context.WithTimeout(context.Background(), listTime)
		l.targets, l.err = read(ctx)
		cancel()
		close(l.done)
		i.mu.Lock()
		i.running, i.next = i.next, nil
		l = i.running
		i.mu.Unlock()
	}
}

// targets lists all targets as of now, with ID, Name, Address and Via alone.
func (s *Server) targets(ctx context.Context) ([]store.Target, error) {
	return s.inventory.list(ctx, s.cfg.Store.Targets.Where)
}
