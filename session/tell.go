package session

import (
	"time"

	"golang.org/x/crypto/ssh"
)

// tellTimeout is how long a refused channel may take to ask for something and to read the answer.
const tellTimeout = 10 * time.Second

// Tell answers a session channel that nothing will be opened for: it lets the client come as far as
// its shell, exec or subsystem request, shows text where the person reads it (on the terminal, or on
// stderr without one), and ends with exit status 255, as ssh does for its own failures.
func Tell(nc ssh.NewChannel, text string) {
	ch, reqs, err := nc.Accept()
	if err != nil {
		return
	}
	timer := time.AfterFunc(tellTimeout, func() { _ = ch.Close() })
	defer timer.Stop()
	defer ch.Close()
	term := false
	for r := range reqs {
		switch r.Type {
		case "pty-req":
			term = true
			_ = r.Reply(true, nil)
		case "shell", "exec", "subsystem":
			_ = r.Reply(true, nil)
			say(ch, term, text)
			_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(exitStatus{255}))
			_ = ch.CloseWrite()
			return
		default:
			if r.WantReply {
				_ = r.Reply(false, nil)
			}
		}
	}
}

// say writes one line for the person. Nothing is ever written to the stdout of a channel without a
// terminal: it belongs to the program at the other end.
func say(ch ssh.Channel, term bool, text string) {
	if term {
		_, _ = ch.Write([]byte("\r\nsallyport: " + text + "\r\n"))
		return
	}
	_, _ = ch.Stderr().Write([]byte("sallyport: " + text + "\n"))
}

// exitStatus is the payload of an exit-status request (RFC 4254, section 6.10).
type exitStatus struct{ Status uint32 }
