package bastion_test

import (
	"context"
	"net"
	"testing"
	"time"
)

// A server that was stopped in the moment in which it began to accept went on accepting for ever, and its node never
// ended: the library closes the listeners that it knows of by then.
func TestStoppedBeforeServing(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	check(t, s.Server.Shutdown(ctx))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	served := make(chan error, 1)
	go func() { served <- s.Server.Serve(l) }()
	select {
	case err := <-served:
		check(t, err)
	case <-ctx.Done():
		l.Close()
		t.Fatal("it accepts connections after its end")
	}
}
