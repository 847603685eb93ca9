package bastion

import (
	"fmt"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/audit"
	"sallyport/session"
)

// maxReceptions bounds the channels without a target that are open at once in one connection.
const maxReceptions = 10

// receptionTimeout is how long a channel without a target may take to say what it wants.
const receptionTimeout = 10 * time.Second

// Exit statuses of what the bastion itself does for people, as of the operators' program.
const (
	statusOK    = 0
	statusNo    = 1 // the answer is no, or something did not work
	statusUsage = 2
	statusGone  = 255 // as ssh's own failures
)

// reception is a session channel of somebody who named no target. On a terminal it shows the menu;
// without one it answers the commands of commands.go.
type reception struct {
	c    *connection
	ch   ssh.Channel
	reqs <-chan *ssh.Request // read by one goroutine at a time: the menu's, or the one of a lent terminal

	term     bool
	pty      session.PTYRequest
	noColour bool           // the client sent NO_COLOR
	kept     []*ssh.Request // what the client asked for besides, for the target to hear: WantReply is false
	keptSize int
	reason   string        // that the client sent for an approval
	left     chan struct{} // of a command: closed when the client has closed the channel
}

// reception serves a channel of a connection whose login named no target.
func (c *connection) reception(nc ssh.NewChannel) {
	defer c.receptions.Add(-1)
	if c.receptions.Add(1) > maxReceptions {
		_ = nc.Reject(ssh.ResourceShortage, fmt.Sprintf("no more than %d channels without a target at once in one connection", maxReceptions))
		return
	}
	ch, reqs, err := nc.Accept()
	if err != nil {
		return
	}
	defer ch.Close()
	r := &reception{c: c, ch: ch, reqs: reqs}
	timer := time.AfterFunc(receptionTimeout, func() { _ = ch.Close() })
	start := r.prepare()
	timer.Stop()
	if start == nil {
		return
	}
	status := r.serve(start)
	_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{status}))
	_ = ch.CloseWrite()
}

// prepare answers requests up to the one that is to start something, and returns that one, unanswered;
// nil if the client left before.
func (r *reception) prepare() *ssh.Request {
	for q := range r.reqs {
		ok := false
		switch q.Type {
		case "shell", "exec", "subsystem":
			return q
		case "pty-req":
			ok = !r.term && !r.c.only().NoTerminal && len(q.Payload) <= 8<<10 && ssh.Unmarshal(q.Payload, &r.pty) == nil
			r.term = r.term || ok
		case "window-change":
			ok = r.resize(q)
		case "env":
			ok = r.env(q)
		case "auth-agent-req@openssh.com", "x11-req":
			ok = r.keep(q) // the rules of the target that is chosen decide
		}
		if q.WantReply {
			_ = q.Reply(ok, nil)
		}
	}
	return nil
}

// env keeps what may go to a target, whose rule decides then; NO_COLOR is for the menu alone.
func (r *reception) env(q *ssh.Request) bool {
	var p struct{ Name, Value string }
	if ssh.Unmarshal(q.Payload, &p) != nil {
		return false
	}
	if p.Name == "NO_COLOR" {
		r.noColour = p.Value != ""
		return true
	}
	if p.Name == reasonEnv {
		r.reason = p.Value
		return true
	}
	return r.keep(q)
}

// Bounds of what is kept for the target.
const (
	maxKept     = 80
	maxKeptSize = 40 << 10
)

func (r *reception) keep(q *ssh.Request) bool {
	r.keptSize += len(q.Payload)
	if len(r.kept) >= maxKept || r.keptSize > maxKeptSize {
		return false
	}
	r.kept = append(r.kept, &ssh.Request{Type: q.Type, Payload: q.Payload})
	return true
}

// resize notes the size of the client's window.
func (r *reception) resize(q *ssh.Request) bool {
	var p struct{ Cols, Rows, WidthPx, HeightPx uint32 }
	if !r.term || ssh.Unmarshal(q.Payload, &p) != nil {
		return false
	}
	r.pty.Cols, r.pty.Rows, r.pty.WidthPx, r.pty.HeightPx = p.Cols, p.Rows, p.WidthPx, p.HeightPx
	return true
}

// pending is what a target is to hear before anything else: the terminal in its size of now, the rest,
// and a shell.
func (r *reception) pending() []*ssh.Request {
	list := []*ssh.Request{{Type: "pty-req", Payload: ssh.Marshal(r.pty)}}
	list = append(list, r.kept...)
	return append(list, &ssh.Request{Type: "shell"})
}

// serve does what start asks for and returns the exit status.
func (r *reception) serve(start *ssh.Request) uint32 {
	var p struct{ Text string }
	if start.Type != "shell" && ssh.Unmarshal(start.Payload, &p) != nil {
		_ = start.Reply(false, nil)
		return statusUsage
	}
	if start.WantReply {
		_ = start.Reply(true, nil)
	}
	user := audit.Escape(r.c.id.Login)
	switch {
	case start.Type == "subsystem":
		go ssh.DiscardRequests(r.reqs)
		return r.fail(statusUsage, "no target was named. Type: sftp %s@TARGET@bastion", user)
	case start.Type == "exec":
		r.left = make(chan struct{})
		go func() {
			defer close(r.left)
			ssh.DiscardRequests(r.reqs)
		}()
		return r.command(p.Text)
	case !r.term:
		go ssh.DiscardRequests(r.reqs)
		return r.fail(statusUsage, "no target was named, and the menu needs a terminal. Type: ssh %s@TARGET@bastion, or: ssh -t %s@bastion. What there is: ssh %s@bastion targets", user, user, user)
	case r.pty.Term == "dumb" || r.pty.Term == "":
		go ssh.DiscardRequests(r.reqs)
		return r.fail(statusUsage, "no target was named, and this terminal cannot show the menu (TERM=%s). Type: ssh %s@TARGET@bastion. What there is: ssh %s@bastion targets",
			audit.Escape(r.pty.Term), user, user)
	}
	return r.menu()
}

// fail tells the person something on one line and gives status back. Without a terminal it goes to
// stderr: stdout belongs to programs.
func (r *reception) fail(status uint32, format string, args ...any) uint32 {
	text := "sallyport: " + fmt.Sprintf(format, args...)
	if r.term {
		_, _ = r.ch.Write([]byte(text + "\r\n"))
	} else {
		_, _ = r.ch.Stderr().Write([]byte(text + "\n"))
	}
	return status
}

// opened writes the event of somebody who is shown what they may reach.
func (r *reception) opened(what string) audit.Event {
	return audit.Event{
		Type: audit.MenuOpened, Result: audit.OK, Door: audit.DoorSSH, User: r.c.id.Login, Source: r.c.source.String(),
		Detail: map[string]string{"command": what},
	}
}
