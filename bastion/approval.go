package bastion

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/crypto/ssh"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/session"
	"sallyport/upstream"
)

// maxApprovalRequests bounds how often one connection may ask others to agree to something.
const maxApprovalRequests = 20

// reasonEnv is the variable by which a client says what a session is for. No target hears of it.
const reasonEnv = "SALLYPORT_REASON"

// approved is what others have agreed to: one session.
type approved struct {
	wait    *auth.ApprovalWait
	session string // id that it will have
	by      []string
	demand  string // of the rules
}

// covers tells whether d is still what was agreed to.
func (a *approved) covers(d auth.Decision) bool {
	return a.wait.Target == d.Target.Name && a.wait.Account == d.Account && a.demand == d.Approval.String()
}

// approve asks others to agree to the session that d allows, and returns when they have, or why there will be none.
// tell is called with lines for the person. The end of ctx withdraws the request, and so does everything after which
// the session could not begin: the end of the client's connection or of this server, and the loss of the right to it.
func (c *connection) approve(ctx context.Context, id auth.Identity, d auth.Decision, asked, reason string, tell func(lines ...string)) (*approved, string) {
	if c.robot() { // the rules have refused it before
		return nil, "a robot does not wait for an approval"
	}
	if c.outermost().asksMade.Add(1) > maxApprovalRequests {
		return nil, "this connection has asked for too many approvals; connect again"
	}
	c.ahead.drop() // a target does not wait this long for somebody to log in
	sessionID, err := uuid.NewV7()
	if err != nil {
		return nil, "the session could not be opened; try again in a minute."
	}
	news := c.newsNow()
	w, err := c.s.cfg.Engine.RequestApproval(ctx, id, d, auth.ApprovalRequest{Session: sessionID.String(), Asked: asked, Reason: reason, Node: c.s.cfg.Sessions.Node()})
	if err != nil {
		return nil, c.notApproved(err)
	}
	tell(c.waitingText(w, d)...)
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	over := make(chan struct{})
	defer close(over)
	go func() {
		for {
			select {
			case <-over:
				return
			case <-c.gone:
				end(errors.New("the client closed the connection"))
				return
			case <-c.s.stopping:
				end(errors.New(strings.TrimSuffix(textStopping, ".")))
				return
			case <-news:
				news = c.newsNow()
				if why := c.lost(ctx, id, d); why != "" {
					end(errors.New(strings.TrimSuffix(why, ".")))
					return
				}
			}
		}
	}()
	a, err := w.Wait(ctx)
	if err != nil {
		return nil, c.notApproved(err)
	}
	by := a.ApprovedBy()
	tell("approved by " + audit.Escape(strings.Join(by, ", ")) + ".")
	return &approved{wait: w, session: a.Session, by: by, demand: d.Approval.String()}, ""
}

// lost tells why the person could not have the session of d any more, if so.
func (c *connection) lost(ctx context.Context, id auth.Identity, d auth.Decision) string {
	if over := c.ended(); over != "" {
		return over
	}
	now, err := c.s.cfg.Engine.Preview(ctx, id, auth.Request{Target: d.Target.Name, Account: d.Account, Source: c.source})
	if err != nil || now.Allow || now.NeedsCode { // what cannot be told now is asked when the session begins
		return ""
	}
	return now.Refusal
}

func (c *connection) notApproved(err error) string {
	var refused *auth.Refused
	if errors.As(err, &refused) {
		if errors.Is(err, auth.ErrUnavailable) {
			c.s.cfg.Log.Error("waiting for an approval", "user", c.id.Login, "error", err)
		}
		return "no session: " + refused.Public
	}
	c.s.cfg.Log.Error("asking for an approval", "user", c.id.Login, "error", err)
	return "no session: an approval cannot be asked for just now; try again in a minute."
}

// waitingText is what the person reads while they wait.
func (c *connection) waitingText(w *auth.ApprovalWait, d auth.Decision) []string {
	need := "an approval"
	if w.Needed > 1 {
		need = fmt.Sprintf("%d approvals", w.Needed)
	}
	how := "ssh YOU@bastion approve " + w.Code
	if url := c.s.cfg.Engine.ApprovalsURL(); url != "" {
		how = url + " or " + how
	}
	lines := []string{
		fmt.Sprintf("%s@%s needs %s before the session starts (rule %s), of: %s.", audit.Escape(w.Account), audit.Escape(w.Target), need, audit.Escape(d.Rule), audit.Escape(w.Who)),
		fmt.Sprintf("The request is %s. They approve it at %s", w.Code, how),
		fmt.Sprintf("Waiting until %s UTC (%s). Ctrl-C withdraws the request.", w.Expires.UTC().Format("15:04:05"), span(w.Expires.Sub(w.Requested))),
	}
	return lines
}

// asking is one request for approval that channels of a connection wait for together, and the session that comes
// of it.
type asking struct {
	begun chan struct{} // closed once lines are there
	done  chan struct{} // closed once session and refusal are there
	stop  context.CancelCauseFunc

	mu    sync.Mutex // guards lines
	lines []string   // for whoever waits

	waiters int // guarded by asks.mu

	session *session.Session
	refusal string
}

// asks is what a connection knows of its requests. The zero value is ready.
type asks struct {
	mu  sync.Mutex // guards now, and who waits for it
	now *asking    // that is not decided; nil: none
}

// over lets nobody join a any more. mu is held.
func (x *asks) over(a *asking) {
	if x.now == a {
		x.now = nil
	}
}

// join has somebody wait for the approval that d demands, together with all others of this connection. leave must be
// called; when everybody has left, the request is withdrawn.
func (c *connection) join(d auth.Decision, asked, reason string) (a *asking, leave func(why string)) {
	c.asks.mu.Lock()
	defer c.asks.mu.Unlock()
	a = c.asks.now
	if a == nil {
		ctx, stop := context.WithCancelCause(context.Background())
		a = &asking{begun: make(chan struct{}), done: make(chan struct{}), stop: stop}
		c.asks.now = a
		go c.ask(ctx, a, d, asked, reason)
	}
	a.waiters++
	c.askedOnce.Do(func() { close(c.asked) })
	var once sync.Once
	return a, func(why string) {
		once.Do(func() {
			c.asks.mu.Lock()
			defer c.asks.mu.Unlock()
			if a.waiters--; a.waiters == 0 {
				c.asks.over(a)
				a.stop(errors.New(why))
			}
		})
	}
}

// ask carries a request to its end.
func (c *connection) ask(ctx context.Context, a *asking, d auth.Decision, asked, reason string) {
	first := true
	ap, refusal := c.approve(ctx, c.id, d, asked, reason, func(lines ...string) {
		a.mu.Lock()
		a.lines = append(a.lines, lines...)
		a.mu.Unlock()
		if first {
			close(a.begun)
			first = false
		}
	})
	switch {
	case ap != nil && ctx.Err() != nil: // they left in the same moment
		refusal = "the request was withdrawn."
	case ap != nil:
		a.session, refusal, _ = c.openNow(ap)
	}
	if ap != nil && a.session == nil {
		ap.wait.Withdraw("the session did not start: " + refusal)
		if ctx.Err() != nil {
			ap.wait.TellAbsent()
		}
	}
	a.refusal = refusal
	if a.session == nil && refusal == "" {
		a.refusal = "no session: the rules ask for another approval now; connect again."
	}
	c.asks.mu.Lock()
	c.asks.over(a)
	c.asks.mu.Unlock()
	close(a.done)
	a.stop(nil)
}

// afterAsking keeps the order of global requests and channels where a channel has not waited for it because others
// had to agree first.
func (c *connection) afterAsking() {
	select {
	case <-c.asked:
		c.afterRequests(nil)
	default:
	}
}

// held is a session channel whose client waits for an approval: it was accepted, so that the person can be told.
type held struct {
	ssh.Channel
	typed *typed        // what is typed on a terminal meanwhile; nil: there is none, and what was sent waits
	never chan struct{} // is never closed
}

// Read implements ssh.Channel.
func (h *held) Read(p []byte) (int, error) {
	if h.typed == nil {
		return h.Channel.Read(p)
	}
	return h.typed.read(p, h.never)
}

// holdChannel waits on a session channel for the approval that d demands, and then relays it.
func (c *connection) holdChannel(nc ssh.NewChannel, d *auth.Decision) {
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
	if start.WantReply {
		_ = start.Reply(true, nil)
		start.WantReply = false
	}
	stop := make(chan struct{})
	defer close(stop)
	h := &held{Channel: ch, never: make(chan struct{})}
	if r.term {
		h.typed = readTyped(ch, stop)
	}
	asked := askedFor(start)
	if forced := c.only().Command; forced != "" {
		asked = "exec: " + audit.Escape(forced)
	}
	s, refusal := r.waitApproved(h, *d, asked)
	if s == nil {
		if refusal != "" {
			_ = r.fail(statusGone, "%s", refusal)
			_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{statusGone}))
			_ = ch.CloseWrite()
		}
		return
	}
	c.afterAsking()
	var pending []*ssh.Request
	if r.term {
		pending = append(pending, &ssh.Request{Type: "pty-req", Payload: ssh.Marshal(r.pty)})
	}
	pending = append(append(pending, r.kept...), start)
	if err := s.Attach(h, pending, reqs); err != nil {
		_ = r.fail(statusGone, "%s.", strings.TrimSuffix(err.Error(), ".")) // unless the channel has told it already, and is closed
		_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{statusGone}))
	}
}

// askedFor says in words what a client came with.
func askedFor(start *ssh.Request) string {
	var p struct{ Text string }
	if start.Type == "shell" || ssh.Unmarshal(start.Payload, &p) != nil {
		return start.Type
	}
	if start.Type == "subsystem" {
		return audit.Escape(p.Text)
	}
	return start.Type + ": " + audit.Escape(p.Text)
}

// waitApproved tells the person that others have to agree, and waits with them. Without a session and a refusal the
// client is gone.
func (r *reception) waitApproved(h *held, d auth.Decision, asked string) (*session.Session, string) {
	var chunks <-chan []byte
	var keys []byte // for the target
	if h.typed != nil {
		chunks = h.typed.chunks
		if d.Approval.Reason && r.reason == "" {
			reason, ok := r.askReason(h, &keys)
			if !ok {
				return nil, "no session: no reason was given."
			}
			r.reason = reason
		}
		defer func() { h.typed.rest = keys }()
	}
	a, leave := r.c.join(d, asked, r.reason)
	defer leave("the client closed the channel")
	begun, reqs := a.begun, r.reqs
	told := 0
	tell := func() {
		a.mu.Lock()
		lines := a.lines[told:]
		told = len(a.lines)
		a.mu.Unlock()
		for _, line := range lines {
			r.fail(statusOK, "%s", line)
		}
	}
	for {
		select {
		case <-begun:
			begun = nil
			tell()
		case <-a.done:
			if begun == nil {
				tell()
			}
			return a.session, a.refusal
		case b, ok := <-chunks:
			if !ok {
				chunks = nil // the end of what is typed is the target's to hear
				break
			}
			if i := strings.IndexByte(string(b), 3); i >= 0 {
				leave("the person typed Ctrl-C")
				return nil, "the request was withdrawn."
			}
			if keys = append(keys, b...); len(keys) > typedBuffer {
				chunks = nil // it keeps until there is somebody to read it
			}
		case q, ok := <-reqs:
			if !ok {
				leave("the client closed the channel")
				return nil, ""
			}
			answered := q.Type == "window-change" && r.resize(q)
			if q.WantReply {
				_ = q.Reply(answered, nil)
			}
		}
	}
}

// reasonTime is how long a person may take to say what a session is for.
const reasonTime = 2 * time.Minute

// askReason asks for the person's reason on their terminal.
func (r *reception) askReason(h *held, keys *[]byte) (reason string, ok bool) {
	q := &question{prompts: []upstream.Prompt{{Text: "sallyport: this needs an approval. Reason: ", Echo: true}}, answered: make(chan []upstream.Answer, 1)}
	_, _ = r.ch.Write([]byte(q.begin()))
	timeout := time.NewTimer(reasonTime)
	defer timeout.Stop()
	for !q.over() {
		select {
		case b, more := <-h.typed.chunks:
			if !more {
				return "", false
			}
			*keys = append(*keys, b...)
			show, goOn := q.press(keys)
			_, _ = r.ch.Write([]byte(show))
			if !goOn {
				return "", false
			}
		case req, more := <-r.reqs:
			if !more {
				return "", false
			}
			answered := req.Type == "window-change" && r.resize(req)
			if req.WantReply {
				_ = req.Reply(answered, nil)
			}
		case <-timeout.C:
			return "", false
		}
	}
	reason = strings.TrimSpace(string(q.answers[0]))
	return reason, reason != ""
}

// approval is for what is chosen in the menu: if nothing but an approval is missing for it, others are asked, and
// what they agree to is returned. Everything else is found and told when it is opened.
func (m *menu) approval(ctx context.Context, id auth.Identity, to Login, ask upstream.Ask) (ap *approved, refusal string) {
	d, err := m.c.s.cfg.Engine.Preview(ctx, id, auth.Request{Target: to.Target, Account: to.Account, Source: m.c.source})
	if err != nil || !d.Allow || d.Approval == nil {
		return nil, ""
	}
	if err := m.c.room(ctx, d); err != nil {
		return nil, m.c.noRoom(ctx, d, err)
	}
	reason := m.reason
	if d.Approval.Reason && reason == "" {
		asking, cancel := context.WithTimeout(ctx, reasonTime)
		defer cancel()
		answers, err := ask(asking, "", []upstream.Prompt{{Text: "sallyport: this needs an approval. Reason: ", Echo: true}})
		if err != nil || len(answers) != 1 || strings.TrimSpace(string(answers[0])) == "" {
			return nil, "no session: no reason was given."
		}
		reason = string(answers[0])
	}
	return m.c.approve(ctx, id, d, "menu", reason, func(lines ...string) {
		for _, line := range lines {
			_, _ = m.ch.Write([]byte("sallyport: " + line + "\r\n"))
		}
	})
}

// standsStill looks afresh at the person whose session others have agreed to, in the directory too: much may have
// happened while they waited. It says why there is no session, if so.
func (c *connection) standsStill(ctx context.Context, id auth.Identity, ap *approved) string {
	if ap == nil {
		return ""
	}
	now, err := c.s.cfg.Engine.Recheck(ctx, id, true)
	switch {
	case err != nil:
		c.s.cfg.Log.Error("looking at a person before an approved session", "user", id.Login, "error", err)
		return "you cannot be looked up just now; try again in a minute."
	case now.Refusal != "":
		return now.Refusal + "."
	}
	return ""
}
