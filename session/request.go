package session

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"
	"unicode"

	"golang.org/x/crypto/ssh"

	"sallyport/audit"
	"sallyport/internal/shift"
	"sallyport/recorder"
)

// Bounds of what a client may set before its program starts.
const (
	maxEnvs    = 64
	maxEnvSize = 32 << 10
	maxCommand = 256 << 10
)

// PTYRequest is the payload of pty-req (RFC 4254, section 6.2).
type PTYRequest struct {
	Term                          string
	Cols, Rows, WidthPx, HeightPx uint32
	Modes                         string
}

// windowChange is the payload of window-change (RFC 4254, section 6.7).
type windowChange struct{ Cols, Rows, WidthPx, HeightPx uint32 }

// fromClient begins to decide and pass on the client's requests in their order, and tells the target when the client
// has closed the channel.
func (c *channel) fromClient(reqs <-chan *ssh.Request, over func()) {
	c.reqs = reqs
	shift.Each(reqs, shift.Requests(c.down), func(r *ssh.Request) {
		ok := c.clientRequest(r)
		if r.WantReply {
			_ = r.Reply(ok, nil)
		}
	}, func() {
		_ = c.up.Close() // hangs up the program's terminal
		c.s.vacate(c)
		close(c.left)
		c.closed(over)
	})
}

func (c *channel) clientRequest(r *ssh.Request) bool {
	if c.s.p.Only.Commands && !slices.Contains(commandRequests, r.Type) {
		c.refused(r.Type, "a robot runs commands and nothing else")
		return false
	}
	switch r.Type {
	case "pty-req":
		return c.ptyRequest(r)
	case "env":
		return c.envRequest(r)
	case "shell", "exec", "subsystem":
		return c.startRequest(r)
	case "window-change":
		return c.windowChange(r)
	case "auth-agent-req@openssh.com":
		return c.carryRequest(r, kindAgent, &c.s.agent)
	case "x11-req":
		return c.carryRequest(r, kindX11, &c.s.x11)
	case "signal", "break":
		return c.running && c.pass(r)
	}
	if r.Type != "keepalive@openssh.com" {
		c.refused(r.Type, "request is not allowed")
	}
	return false
}

// commandRequests are all that passes where nothing but commands may run. Shells and subsystems are refused
// where rules are asked, so that the client reads why.
var commandRequests = []string{"env", "exec", "shell", "subsystem", "keepalive@openssh.com"}

// pass sends r on as it is and returns the target's answer. Of a request that the client has its answer
// to already, the target's is wanted all the same.
func (c *channel) pass(r *ssh.Request) bool {
	want := r.WantReply || c.replay
	ok, err := c.up.SendRequest(r.Type, want, r.Payload)
	return err == nil && (ok || !want)
}

func (c *channel) ptyRequest(r *ssh.Request) bool {
	var p PTYRequest
	if c.s.p.Only.NoTerminal {
		c.refused(r.Type, "a terminal is not permitted")
		return false
	}
	if c.running || c.term != nil || len(r.Payload) > 8<<10 || ssh.Unmarshal(r.Payload, &p) != nil {
		return false
	}
	if !c.pass(r) {
		return false
	}
	c.term = &p
	c.size.Store(sizeOf(p.Cols, p.Rows))
	return true
}

// envRequest lets the variables of the rule through and drops the rest without a word, as sshd does; what the
// rule does not name could change what runs on the target.
func (c *channel) envRequest(r *ssh.Request) bool {
	var p struct{ Name, Value string }
	if c.running || ssh.Unmarshal(r.Payload, &p) != nil {
		return false
	}
	c.envs++
	c.envSize += len(r.Payload)
	if c.envs > maxEnvs || c.envSize > maxEnvSize {
		return false
	}
	if !c.s.p.Env(p.Name) {
		c.noteEnv(p.Name)
		return false
	}
	return c.pass(r)
}

func (c *channel) windowChange(r *ssh.Request) bool {
	var p windowChange
	if c.term == nil || ssh.Unmarshal(r.Payload, &p) != nil {
		return false
	}
	// Recorded first: what the target then draws is drawn for the new size.
	if c.rec != nil && c.rec.Resize(int(min(p.Cols, 10000)), int(min(p.Rows, 10000))) != nil && c.grant.Required && !c.grant.BreakGlass {
		return false
	}
	c.size.Store(sizeOf(p.Cols, p.Rows))
	if t := c.tapped.Load(); t != nil {
		t.resize(int(min(p.Cols, 10000)), int(min(p.Rows, 10000)))
	}
	return c.pass(r)
}

// startRequest is where a channel becomes a shell, a command or a file transfer: the rules are asked,
// the recording begins, and only then does the target hear of it.
func (c *channel) startRequest(r *ssh.Request) bool {
	if c.running {
		return false // RFC 4254, section 6.5: only one of these can succeed per channel
	}
	defer func(replay bool) { c.replay = replay }(c.replay)
	original := c.force(r)
	asked, command, err := parseStart(r)
	if err != nil {
		c.refused(r.Type, err.Error())
		return false
	}
	if asked == kindExec && isMosh(command) {
		c.refused(r.Type, noUDP)
		return c.refuseStart(r, noUDP)
	}
	if !c.alone() {
		c.refused(r.Type, errNotAlone)
		return c.refuseStart(r, errNotAlone)
	}
	var kind string
	var allowed audit.Event // written with the channel that it allows, or at the end
	defer func() { _ = c.s.decided(allowed) }()
	for again := true; again; {
		checks := c.s.checks.Load()
		grant, decided, err := c.authorize(asked, command)
		if err != nil || !grant.Allowed {
			text := grant.Refusal
			if err != nil {
				text = "the rules could not be read; try again in a minute"
			}
			return c.refuseStart(r, text)
		}
		allowed, grant.Decided = grant.Decided, audit.Event{}
		c.grant, kind = grant, decided
		c.mu.Lock()
		c.row.Kind, c.row.Command, c.row.Term, c.row.Started = kind, audit.Escape(command), c.term != nil, time.Now()
		c.became = became{kindsOf(asked, command), command, transfers(asked, command), grant.Files.text()}
		c.mu.Unlock()
		waits := c.s.paused.Load()
		if waits { // for who knows how long
			if c.s.decided(allowed) != nil {
				return c.refuseStart(r, noDatabase)
			}
			allowed = audit.Event{}
		}
		if err := c.awaitModerator(r); errors.Is(err, errHeld) {
			c.refusal = err.Error()
			return true
		} else if err != nil {
			return c.refuseStart(r, err.Error())
		}
		again = waits || c.s.checks.Load() != checks // a recheck may have looked before there was something to see
		if again {
			_ = c.s.decided(allowed)
			allowed = audit.Event{}
		}
	}
	if text := c.beginFiles(asked, command); text != "" {
		return c.refuseFiles(r, command, text)
	}
	if err := c.beginRecording(kind, command); err != nil {
		return c.refuseStart(r, "this session has to be recorded, and that is not possible now: "+err.Error()+". Tell an operator")
	}
	started := c.event(audit.ChannelStarted, audit.OK, "", startDetail(kind, command, original))
	err = c.s.m.begun(context.Background(), allowed, started, func(ctx context.Context, events ...audit.Event) error {
		return c.s.m.cfg.Store.Sessions.OpenChannel(ctx, c.s.row.ID, c.snapshot(), events...)
	})
	allowed = audit.Event{}
	if err != nil {
		c.abandon()
		return c.refuseStart(r, noDatabase)
	}
	c.written = true
	c.tellOriginal(original)
	c.starting.Lock()
	defer c.starting.Unlock()
	ok := c.pass(r)
	c.answer(r, ok)
	if !ok && c.holding.Load() != nil { // the client was told yes while it waited
		c.abandon()
		return c.refuseStart(r, "the target would not start it")
	}
	if !ok {
		c.abandon()
		return false
	}
	c.start()
	return true
}

// noDatabase is what people read who ask for what cannot be noted.
const noDatabase = "the database is not available; try again in a minute"

// answer replies now, and only once, to a request that the caller goes on with.
func (c *channel) answer(r *ssh.Request, ok bool) {
	if r.WantReply {
		_ = r.Reply(ok, nil)
		r.WantReply = false
	}
}

// parseStart gives the kind that the request asks for, before rules.
func parseStart(r *ssh.Request) (kind, command string, err error) {
	if r.Type == "shell" {
		return kindShell, "", nil
	}
	var p struct{ Text string }
	if len(r.Payload) > maxCommand {
		return "", "", errors.New("command is longer than 256 KiB")
	}
	if err := ssh.Unmarshal(r.Payload, &p); err != nil {
		return "", "", errors.New("malformed request")
	}
	if r.Type == "exec" {
		return kindExec, p.Text, nil
	}
	if p.Text == "sftp" {
		return kindSFTP, "", nil
	}
	if strings.ContainsFunc(p.Text, unicode.IsControl) { // sshd ends a name at a NUL behind it
		return "", "", errors.New("malformed name of a subsystem")
	}
	return kindSubsystem, p.Text, nil
}

// authorize asks the rules. A command that is one of the named shortcuts is asked for by that name
// first; where no rule speaks of the shortcut, who may exec may also do this. A rule that denies the
// shortcut is final.
func (c *channel) authorize(kind, command string) (Grant, string, error) {
	ctx := context.Background()
	if kind == kindExec {
		if name := shortcut(command); name != "" {
			g, err := c.s.p.Authorize(ctx, name, "", command)
			if err != nil || g.Allowed || g.Denied {
				return g, name, err
			}
		}
	}
	g, err := c.s.p.Authorize(ctx, kind, "", command)
	return g, kind, err
}

// refuseStart says why on the channel itself, so that the person reads it wherever they are, and
// accepts the request for that alone.
func (c *channel) refuseStart(r *ssh.Request, text string) bool {
	c.answer(r, true)
	c.refusal = text
	say(c.down, c.term != nil, text)
	_, _ = c.down.SendRequest("exit-status", false, ssh.Marshal(exitStatus{255}))
	c.endOutput()
	_ = c.down.Close()
	_ = c.up.Close()
	return true
}

// beginRecording begins the recording if the rule wants one. File transfers are counted, not recorded.
func (c *channel) beginRecording(kind, command string) error {
	if !c.grant.Record || kind == kindSFTP {
		return nil
	}
	h := recorder.Header{
		Session: c.s.row.ID, Channel: c.row.ID, Started: c.row.Started, Width: 80, Height: 24, Kind: kind, Command: command,
		Title: c.s.row.User + " on " + c.s.row.Account + "@" + c.s.row.Target,
	}
	if c.term != nil {
		h.Width, h.Height, h.Term = int(min(c.term.Cols, 10000)), int(min(c.term.Rows, 10000)), c.term.Term
	} else {
		h.Limit = c.grant.RecordLimit
	}
	if c.grant.Unsearched {
		h.Tags = append(h.Tags, recorder.TagUnsearched)
	}
	rec, err := c.s.m.cfg.Recorder.Create(h)
	if err != nil {
		_ = c.s.m.emit(context.Background(), c.event(audit.RecordFailed, audit.Error, err.Error(), nil))
		if c.grant.Required {
			return c.breakGlass(err)
		}
		return nil
	}
	c.rec = rec
	c.listenInput()
	c.mu.Lock()
	c.row.Recording, c.row.Retention = rec.Path(), c.grant.Retention
	c.mu.Unlock()
	// An error of the background sync while nothing is being written.
	rec.OnFail(func() {
		select {
		case <-c.over:
		default:
			c.recordingFailed(rec.Err(), 0)
		}
	})
	return nil
}

// abandon closes a recording of something that never ran.
func (c *channel) abandon() {
	if c.rec != nil {
		if sum, err := c.rec.Close(); err == nil {
			c.mu.Lock()
			c.row.Recording, c.row.Sealed = sum.Path, sealedRow(sum)
			c.mu.Unlock()
		}
		c.rec = nil
	}
}

func (c *channel) refused(what, why string) {
	c.s.reportRefused(c.event(audit.ChannelRefused, audit.Refused, why, map[string]string{"request": audit.Escape(what)}))
}

// Refused writes the audit event of a channel that the door turned away.
func (s *Session) Refused(what, why string) {
	e := s.event(audit.ChannelRefused, audit.Refused, why)
	e.Detail = map[string]string{"channel-type": what}
	s.reportRefused(e)
}

// maxRefusedEvents bounds the events that one session can cause by asking for what it may not have.
const maxRefusedEvents = 100

func (s *Session) reportRefused(e audit.Event) {
	switch n := s.refused.Add(1); {
	case n > maxRefusedEvents:
		return
	case n == maxRefusedEvents:
		e.Reason += " (further ones of this session are not listed)"
	}
	_ = s.m.emit(context.Background(), e)
}
