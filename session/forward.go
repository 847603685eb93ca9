package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/audit"
	"sallyport/store"
)

// Kinds of forwards, as rules call them.
const (
	kindRemoteForward = "remote-forward"
	kindUnixForward   = "unix-forward"
	kindAgent         = "agent"
	kindX11           = "x11"
)

// Asked is a forward that the client wants through the target.
type Asked struct {
	Kinds   []string               // asked of the rules in this order until one is allowed or denied
	To      string                 // host:port, IPv6 in brackets, or the path of a socket
	Payload func(to string) []byte // of the channel open for the target
}

// forward is a channel that carries a forwarded connection between the person (down) and the target
// (up). Its bytes are counted, not recorded and not understood.
type forward struct {
	s        *Session
	row      store.Channel // does not change but for the counters
	kinds    []string      // what the rules were asked for, in this order
	to       string        // … and where it goes; "" for agent and X11
	reason   string        // why it is not allowed any more; guarded by s.mu
	stop     chan struct{} // closed then
	down, up ssh.Channel   // both nil until both are open; guarded by s.mu until then

	in, out atomic.Int64 // bytes delivered to the target, and to the person
}

// Forward carries one connection that the client opened through the target, and returns when it is over.
func (s *Session) Forward(nc ssh.NewChannel, a Asked) {
	checks := s.checks.Load()
	kind, grant := s.allow(a)
	if !grant.Allowed {
		s.Refused(nc.ChannelType(), grant.Refusal) // first: a client that has its answer thinks the place is free
		_ = nc.Reject(ssh.Prohibited, grant.Refusal)
		return
	}
	to := a.To
	if grant.To != "" {
		to = grant.To
	}
	f, err := s.begin(kind, a.Kinds, a.To, grant.Decided)
	if err != nil {
		_ = nc.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	if s.checks.Load() != checks { // a recheck may have looked before there was something to see
		if g := first(a.Kinds, a.To, "", s.askAgain); !g.Allowed {
			_ = nc.Reject(ssh.Prohibited, g.Refusal)
			f.finish(audit.Refused, g.Refusal)
			return
		}
	}
	up, upReqs, err := s.openAt(nc.ChannelType(), a.Payload(to), openForwardTime, f.stop)
	switch {
	case errors.Is(err, errStopped):
		reason := f.whyCut()
		_ = nc.Reject(ssh.Prohibited, reason)
		f.finish(audit.Refused, reason)
		return
	case err != nil:
		rejectAs(nc, err)
		f.finish(audit.Error, err.Error())
		return
	}
	// The client hears of the channel only now: what it sends must have somewhere to go.
	down, downReqs, err := nc.Accept()
	if err != nil {
		_ = up.Close()
		f.finish(audit.Error, "the client is gone")
		return
	}
	f.relay(down, up, downReqs, upReqs)
}

// allow asks the rules for the kinds in turn. A rule that denies one is final.
func (s *Session) allow(a Asked) (kind string, g Grant) {
	for _, k := range a.Kinds {
		got, err := s.p.Authorize(context.Background(), k, a.To, "")
		if err != nil {
			return k, Grant{Refusal: "the rules could not be read; try again in a minute"}
		}
		if kind == "" || got.Allowed || got.Denied {
			kind, g = k, got
		}
		if got.Allowed || got.Denied {
			break
		}
	}
	return kind, g
}

// begin gives a forward its number, its row and its audit event: the other side hears of it only when
// these are written. kinds are those that the rules were asked for, kind the one that they allowed, by decided.
func (s *Session) begin(kind string, kinds []string, to string, decided audit.Event) (*forward, error) {
	f := &forward{s: s, kinds: kinds, to: to, stop: make(chan struct{})}
	s.await(placeWait, func() bool { return s.ended || s.full() == "" })
	s.mu.Lock()
	full := s.full()
	if s.ended || full != "" {
		s.mu.Unlock()
		s.decided(decided)
		if full != "" {
			s.Refused(kind, full)
			return nil, errors.New(full)
		}
		return nil, errors.New("the session has ended")
	}
	f.row = store.Channel{ID: s.next, Kind: kind, Command: audit.Escape(to), Started: time.Now()}
	s.next++
	s.open++
	s.forwards[f.row.ID] = f
	s.mu.Unlock()
	err := s.m.begun(context.Background(), decided, f.event(audit.ChannelStarted, audit.OK, ""), func(ctx context.Context, events ...audit.Event) error {
		return s.m.cfg.Store.Sessions.OpenChannel(ctx, s.row.ID, f.row, events...)
	})
	if err != nil {
		f.drop()
		return nil, errors.New("the database is not available; try again in a minute")
	}
	s.touch()
	return f, nil
}

// relay moves bytes both ways until both sides are closed.
func (f *forward) relay(down, up ssh.Channel, downReqs, upReqs <-chan *ssh.Request) {
	f.s.mu.Lock()
	f.down, f.up = down, up
	over := f.s.ended || f.reason != ""
	f.s.mu.Unlock()
	if over {
		f.end()
	}
	var both sync.WaitGroup
	both.Go(func() { f.carry(up, down, downReqs, &f.in) })
	f.carry(down, up, upReqs, &f.out)
	both.Wait()
	if reason := f.whyCut(); reason != "" {
		f.finish(audit.Refused, reason)
		return
	}
	f.finish(audit.OK, "")
}

// carry moves bytes from src to dst. When src sends no more, so does dst; when src is closed, dst is
// closed too, after all that came before.
func (f *forward) carry(dst, src ssh.Channel, reqs <-chan *ssh.Request, n *atomic.Int64) {
	moved := make(chan struct{})
	newPump(src, f.move(dst, src, n), func() {
		_ = dst.CloseWrite()
		close(moved)
	}).start()
	for r := range reqs { // none has a meaning on these channels
		if r.WantReply {
			_ = r.Reply(false, nil)
		}
	}
	<-moved
	_ = dst.Close()
}

// move writes to dst what comes from src. A dst that takes no more does not keep src from ending.
func (f *forward) move(dst io.Writer, src io.Reader, n *atomic.Int64) func(p []byte) bool {
	return func(p []byte) bool {
		f.s.touch()
		wrote, err := dst.Write(p)
		n.Add(int64(wrote))
		if err != nil {
			_, _ = io.Copy(io.Discard, src)
		}
		return err == nil
	}
}

// whyCut tells why the forward is not allowed any more; "" if it is.
func (f *forward) whyCut() string {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	return f.reason
}

// end closes both sides, if they are open.
func (f *forward) end() {
	f.s.mu.Lock()
	down, up := f.down, f.up
	f.s.mu.Unlock()
	if down != nil {
		_ = down.Close()
		_ = up.Close()
	}
}

// finish writes the end of the forward.
func (f *forward) finish(result audit.Result, reason string) {
	row := f.snapshot()
	row.Ended = time.Now()
	e := f.event(audit.ChannelEnded, result, reason)
	e.Detail["bytes-in"], e.Detail["bytes-out"] = fmt.Sprint(row.BytesIn), fmt.Sprint(row.BytesOut)
	e.Detail["duration"] = row.Ended.Sub(row.Started).Round(time.Millisecond).String()
	f.s.noteChannelEnd(row, e)
	f.drop()
}

func (f *forward) drop() {
	f.s.mu.Lock()
	delete(f.s.forwards, f.row.ID)
	f.s.open--
	f.s.mu.Unlock()
	f.s.gone.Broadcast()
}

// snapshot is the forward's row with the counters as of now.
func (f *forward) snapshot() store.Channel {
	row := f.row
	row.BytesIn, row.BytesOut = f.in.Load(), f.out.Load()
	return row
}

func (f *forward) event(kind string, result audit.Result, reason string) audit.Event {
	e := f.s.event(kind, result, reason)
	e.Detail = map[string]string{"channel": fmt.Sprint(f.row.ID), "kind": f.row.Kind}
	if f.row.Command != "" {
		e.Detail["destination"] = f.row.Command
	}
	return e
}
