package store_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"sallyport/internal/testenv"
	"sallyport/store"
	"sallyport/store/storetest"
)

// receive returns the next message within 10 s.
func receive(t *testing.T, c <-chan store.Message) store.Message {
	t.Helper()
	select {
	case m, ok := <-c:
		if !ok {
			t.Fatal("the subscription has ended")
		}
		return m
	case <-time.After(time.Minute):
		t.Fatal("no message came")
	}
	return store.Message{}
}

func TestBus(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		if e.name == "sqlite" {
			return // one node; the bus is the same as in memory
		}
		nodes, ctx := e.nodes(), t.Context()
		own, cancel := nodes[0].Bus.Subscribe("session.end", "lock")
		other, cancelOther := nodes[1].Bus.Subscribe("session.end")
		defer cancelOther()
		for _, payload := range []string{"one", "", "юникод\x00\n'", strings.Repeat("x", 5000)} {
			check(t, nodes[0].Bus.Publish(ctx, "policy", "nobody listens"))
			check(t, nodes[0].Bus.Publish(ctx, "session.end", payload))
			want := store.Message{Topic: "session.end", Payload: payload}
			for name, c := range map[string]<-chan store.Message{"own": own, "other": other} {
				if got := receive(t, c); got != want {
					t.Errorf("%s node: got %.50v, want %.50v", name, got, want)
				}
			}
		}
		check(t, nodes[1].Bus.Publish(ctx, "lock", "two"))
		if got := receive(t, own); got.Topic != "lock" || got.Payload != "two" || got.Missed {
			t.Errorf("got %+v", got)
		}
		if err := nodes[0].Bus.Publish(ctx, "lock", strings.Repeat("x", 8000)); err == nil {
			t.Error("a message of 8000 bytes was published")
		}
		cancel()
		cancel()
		if _, ok := <-own; ok {
			t.Error("a message came once only, or after the end")
		}
		check(t, nodes[0].Close())
		if e.name == "postgres" {
			check(t, nodes[1].Bus.Publish(ctx, "session.end", "last"))
			if got := receive(t, other); got.Payload != "last" {
				t.Errorf("got %+v", got)
			}
			check(t, nodes[1].Close())
		}
		if _, ok := <-other; ok {
			t.Error("the subscription outlives the store")
		}
		late, _ := nodes[0].Bus.Subscribe("lock")
		if _, ok := <-late; ok {
			t.Error("a closed bus gives messages")
		}
	})
}

func TestSlowReceiverIsTold(t *testing.T) {
	t.Parallel()
	s := open(t, store.Config{DSN: "sqlite::memory:", Ring: newRing(t)})
	c, cancel := s.Bus.Subscribe("t")
	defer cancel()
	for i := range 300 {
		check(t, s.Bus.Publish(t.Context(), "t", fmt.Sprint(i)))
	}
	for i := range 256 {
		if got := receive(t, c); got.Missed || got.Payload != fmt.Sprint(i) {
			t.Fatalf("message %d: got %+v", i, got)
		}
	}
	check(t, s.Bus.Publish(t.Context(), "t", "after"))
	if got := receive(t, c); !got.Missed || got.Payload != "after" {
		t.Errorf("got %+v, want to be told of the missed ones", got)
	}
	check(t, s.Bus.Publish(t.Context(), "t", "again"))
	if got := receive(t, c); got.Missed {
		t.Errorf("got %+v, want to be told once", got)
	}
}

func TestBusSurvivesItsConnection(t *testing.T) {
	t.Parallel()
	dsn := storetest.Postgres(t)
	ring := newRing(t)
	one := open(t, store.Config{DSN: dsn, Ring: ring})
	two := open(t, store.Config{DSN: dsn, Ring: ring})
	c, cancel := two.Bus.Subscribe("t")
	defer cancel()
	store.KillBus(two)
	if got := receive(t, c); !got.Missed || got.Topic != "" {
		t.Errorf("got %+v, want to be told that messages may be lost", got)
	}
	check(t, one.Bus.Publish(t.Context(), "t", "x"))
	if got := receive(t, c); got.Payload != "x" {
		t.Errorf("got %+v", got)
	}
}

func TestBusWithoutDatabase(t *testing.T) {
	t.Parallel()
	server := testenv.PostgresServer(t)
	s := open(t, store.Config{DSN: server.DSN(), Ring: newRing(t)})
	c, cancel := s.Bus.Subscribe("t")
	defer cancel()
	server.Stop()
	if err := s.Bus.Publish(t.Context(), "t", "x"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("got error %v, want %v", err, store.ErrUnavailable)
	}
	if got := receive(t, c); got.Payload != "x" {
		t.Errorf("this process did not get the message, but %+v", got)
	}
	server.Start()
	if got := receive(t, c); !got.Missed {
		t.Errorf("got %+v, want to be told that messages may be lost", got)
	}
}
