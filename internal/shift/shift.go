// Package shift has loops that take what comes by Go's channels of an SSH connection end while nothing comes, and
// begins them anew for the next, with the SSH library of hack/patchssh: a goroutine that waits costs more than all
// else that an idle channel holds. With the library as it is published they wait.
package shift

import "sync"

// Later is true if there is nothing to take, and f is called in a goroutine of its own when there is. If it is false
// there is something, and f is not called. nil: nobody can call.
type Later func(f func()) bool

// Requests is Later of the requests of c, an ssh.Channel or an ssh.Conn.
func Requests(c any) Later {
	if c, ok := c.(interface{ RequestsLater(f func()) bool }); ok {
		return c.RequestsLater
	}
	return nil
}

// Channels is Later of the channels that the other side opens on c, an ssh.Conn.
func Channels(c any) Later {
	if c, ok := c.(interface{ ChannelsLater(f func()) bool }); ok {
		return c.ChannelsLater
	}
	return nil
}

// Each has take called for one after the other of what comes by ch, and over when ch is closed, in goroutines of their
// own.
func Each[T any](ch <-chan T, later Later, take func(T), over func()) {
	var l *Loop
	l = New(func() {
		for !l.Rests() {
			v, ok := <-ch
			if !ok {
				over()
				return
			}
			take(v)
		}
	}, later)
	l.Call()
}

// Loop is work for one goroutine, which is there while there is some.
type Loop struct {
	run   func()
	later []Later
	woken func() // called; made once

	mu     sync.Mutex // guards the fields below
	runs   bool
	called bool // while it runs
}

// New returns a Loop that the first [Loop.Call] begins. run takes what later are of, and nothing else but what Call is
// called for. Before it may wait for that it asks [Loop.Rests], and returns if that is true; it is called again when
// there is something.
func New(run func(), later ...Later) *Loop {
	l := &Loop{run: run, later: later}
	l.woken = func() {
		if l.begins() {
			l.run()
		}
	}
	return l
}

// Call is for whoever has made work that later say nothing of by themselves, after making it.
func (l *Loop) Call() {
	if l.begins() {
		go l.run()
	}
}

// begins is true if run has to be called.
func (l *Loop) begins() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.called = l.runs
	l.runs = true
	return !l.called
}

// Rests is true if run has to return, and false if there may be something to take.
func (l *Loop) Rests() bool {
	for {
		for _, later := range l.later {
			if later == nil || !later(l.woken) {
				return false
			}
		}
		if l.ends() {
			return true
		}
	}
}

// ends is false if there was a call meanwhile: then all has to be looked at again.
func (l *Loop) ends() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.runs, l.called = l.called, false
	return !l.runs
}
