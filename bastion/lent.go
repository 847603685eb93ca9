package bastion

import (
	"io"
	"sync"

	"golang.org/x/crypto/ssh"
)

// typed is what a person types, for whoever has the terminal now. One goroutine reads the channel, at
// most two buffers ahead, so that a key is not lost to a reader that has just let go.
type typed struct {
	chunks chan []byte // closed at the end of input

	mu   sync.Mutex // held by the reader of now
	rest []byte     // of the last chunk
}

// typedBuffer is how much is read at once.
const typedBuffer = 4 << 10

// readTyped reads from ch until it ends or stop is closed.
func readTyped(ch io.Reader, stop <-chan struct{}) *typed {
	t := &typed{chunks: make(chan []byte)}
	go func() {
		defer close(t.chunks)
		// Whoever takes a chunk is through with the one before it.
		now, next := make([]byte, typedBuffer), make([]byte, typedBuffer)
		for {
			n, err := ch.Read(now)
			if n > 0 {
				select {
				case t.chunks <- now[:n]:
				case <-stop:
					return
				}
				now, next = next, now
			}
			if err != nil {
				return
			}
		}
	}()
	return t
}

// read reads as an io.Reader does, until stop is closed.
func (t *typed) read(p []byte, stop <-chan struct{}) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-stop:
		return 0, io.EOF // it takes nothing any more, see settle
	default:
	}
	if len(t.rest) == 0 {
		select {
		case b, ok := <-t.chunks:
			if !ok {
				return 0, io.EOF
			}
			t.rest = b
		case <-stop:
			return 0, io.EOF
		}
	}
	select {
	case <-stop:
		return 0, io.EOF // what was typed belongs to the next reader
	default:
	}
	n := copy(p, t.rest)
	t.rest = t.rest[n:]
	return n, nil
}

// settle waits until readers whose stop is closed have let go of what they took; they take nothing afterwards.
func (t *typed) settle() {
	t.mu.Lock()
	defer t.mu.Unlock()
}

// lent is a person's terminal for as long as one session has it. What would end the client's channel only
// gives it back.
type lent struct {
	ssh.Channel // of the client
	typed       *typed
	reqs        chan *ssh.Request // what the client asks for meanwhile
	back        chan struct{}     // closed when the session is through with it
	once        sync.Once

	mu     sync.Mutex // guards the field below
	status *uint32    // of the program that ran
}

func newLent(ch ssh.Channel, t *typed) *lent {
	return &lent{Channel: ch, typed: t, reqs: make(chan *ssh.Request), back: make(chan struct{})}
}

// Read implements ssh.Channel.
func (l *lent) Read(p []byte) (int, error) { return l.typed.read(p, l.back) }

// Write implements ssh.Channel.
func (l *lent) Write(p []byte) (int, error) {
	select {
	case <-l.back:
		return 0, io.ErrClosedPipe
	default:
		return l.Channel.Write(p)
	}
}

// CloseWrite implements ssh.Channel: the end of one program's output is not the end of the channel's.
func (l *lent) CloseWrite() error { return nil }

// Close implements ssh.Channel.
func (l *lent) Close() error {
	l.once.Do(func() { close(l.back) })
	return nil
}

// SendRequest implements ssh.Channel. How the program ended is kept for the menu; the client would take
// it for the end of everything.
func (l *lent) SendRequest(name string, wantReply bool, payload []byte) (bool, error) {
	switch name {
	case "exit-status":
		var p struct{ Status uint32 }
		if ssh.Unmarshal(payload, &p) == nil {
			l.mu.Lock()
			l.status = &p.Status
			l.mu.Unlock()
		}
		return false, nil
	case "exit-signal", "eow@openssh.com":
		return false, nil
	}
	return l.Channel.SendRequest(name, wantReply, payload)
}

func (l *lent) exitStatus() *uint32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status
}

// pass gives the session the client's requests while it has the terminal; note sees each before. It is
// false when the client has closed the channel.
func (l *lent) pass(reqs <-chan *ssh.Request, note func(*ssh.Request)) bool {
	defer close(l.reqs)
	for {
		select {
		case <-l.back:
			return true
		case q, ok := <-reqs:
			if !ok {
				return false
			}
			note(q)
			select {
			case l.reqs <- q:
			case <-l.back:
				if q.WantReply {
					_ = q.Reply(false, nil)
				}
				return true
			}
		}
	}
}

// lentConn is the person's connection as a session from the menu knows it: closing it gives the terminal
// back.
type lentConn struct {
	ssh.Conn
	terminal *lent
}

// Close implements ssh.Conn.
func (c lentConn) Close() error { return c.terminal.Close() }
