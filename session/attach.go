package session

import (
	"errors"

	"golang.org/x/crypto/ssh"
)

// Attach relays a client's channel that was accepted before its target was known, and returns when it is
// over. pending are the client's requests up to the one that starts the program; the client has its answers
// already, so that WantReply must be false in them. reqs are those that come after; it must be closed when
// down is closed. The error says in words for the person why nothing was started.
func (s *Session) Attach(down ssh.Channel, pending []*ssh.Request, reqs <-chan *ssh.Request) error {
	c := &channel{s: s, down: down, started: make(chan struct{}), over: make(chan struct{}), left: make(chan struct{})}
	if err := s.reserve(c); err != nil {
		return err
	}
	defer s.release(c)
	up, upReqs, err := s.openUpstream()
	if err != nil {
		return errors.New("the target opened no channel")
	}
	c.up = up
	if !s.attach(c) {
		_ = up.Close()
		return errors.New("the session has ended")
	}
	over := make(chan struct{})
	done := func() { close(over) }
	c.fromTarget(upReqs, done)
	c.reqs = reqs
	c.replayRequests(pending)
	c.fromClient(reqs, done)
	<-over
	if c.refusal != "" {
		return errors.New(c.refusal)
	}
	return nil
}

// replayRequests treats requests that the client has its answers to. If nothing runs after the last of
// them, the channel is closed.
func (c *channel) replayRequests(pending []*ssh.Request) {
	c.replay = true
	for _, r := range pending {
		c.clientRequest(r)
	}
	c.replay = false
	if !c.running && c.refusal == "" {
		c.refusal = "the target would not start a shell"
		_ = c.up.Close()
	}
}

// Ended tells why the session was ended from here or by its target; "" if it was not.
func (s *Session) Ended() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reason
}
