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
	"sallyport/recorder"
	"sallyport/store"
)

// channel is one session channel, relayed between the person (down) and the target (up).
type channel struct {
	s        *Session
	down, up ssh.Channel
	vacated  bool // the place in the session was given back; guarded by s.mu

	in, out   atomic.Int64 // bytes from the person, and to the person
	limitTold atomic.Bool  // the audit log knows that the recording has reached its limit
	tapped    atomic.Pointer[tap]
	holding   atomic.Pointer[bool] // set once a moderator was waited for before anything runs: there is a terminal
	size      atomic.Uint64        // columns and rows of the terminal, as packed by sizeOf

	sides  atomic.Int32 // that have closed the channel
	exited bool         // the target has told how the program ended; only for its requests

	// The fields below belong to the goroutine that handles the client's requests until started is
	// closed, and do not change after that.
	term    *PTYRequest // nil: no terminal
	envs    int
	envSize int
	rec     *recorder.Recording // nil: not recorded
	files   *files              // nil: no files are transferred, or nobody wants to know
	grant   Grant
	started chan struct{} // closed when shell, exec or subsystem runs
	written bool          // the row is in the database and wants its end, whether or not anything ran
	running bool          // started is closed; only the goroutine of the client's requests looks
	replay  bool          // the request at hand was answered to the client before; only that goroutine looks
	refusal string        // why nothing was started; read when that goroutine has ended
	reqs    <-chan *ssh.Request

	starting sync.Mutex     // held from asking the target to run something until the client has the answer
	fromUp   sync.WaitGroup // stdout and stderr of the target
	streams  atomic.Int32   // of them, those that are not over
	cut      atomic.Bool    // one of them ended although there may be more
	over     chan struct{}  // closed when the channel is done
	left     chan struct{}  // closed when the client has closed it

	telling sync.Mutex // guards told; held while the person is told
	told    []string   // who watches, as the person was told last

	gap         atomic.Bool // the recording cannot be written just now
	glass       sync.Mutex  // guards glassBroken
	glassBroken bool        // … and the session goes on all the same, as its rule says
	input       *echoes     // what was typed and is not yet seen to be shown; nil: input is not recorded
	eof         sync.Once   // see endOutput

	mu     sync.Mutex    // guards the fields below
	row    store.Channel // ID is set before the channel is shared
	became became
	lost   int64     // bytes in the gap so far
	retry  time.Time // when to try again to end it
}

// Channel relays one channel that the client opened, and calls over when it is over, perhaps before it returns.
func (s *Session) Channel(nc ssh.NewChannel, over func()) {
	c := &channel{s: s, started: make(chan struct{}), over: make(chan struct{}), left: make(chan struct{})}
	if err := s.reserve(c); err != nil {
		_ = nc.Reject(ssh.ResourceShortage, err.Error())
		over()
		return
	}
	done := func() { s.release(c); over() }
	upReqs, downReqs, ok := s.openBoth(c, nc)
	if !ok {
		done()
		return
	}
	c.fromTarget(upReqs, done)
	c.fromClient(downReqs, done)
}

// openBoth opens both sides of c.
func (s *Session) openBoth(c *channel, nc ssh.NewChannel) (upReqs, downReqs <-chan *ssh.Request, ok bool) {
	up, upReqs, err := s.openUpstream()
	if err != nil {
		rejectAs(nc, err)
		return nil, nil, false
	}
	c.up = up
	// The client hears of the channel only now: what it sends must have somewhere to go.
	down, downReqs, err := nc.Accept()
	if err != nil {
		_ = up.Close()
		return nil, nil, false
	}
	c.down = down
	if !s.attach(c) {
		_ = down.Close()
		_ = up.Close()
		return nil, nil, false
	}
	return upReqs, downReqs, true
}

// openUpstream opens a session channel on the target. sshd frees the place of a channel (MaxSessions)
// only after it has read all that arrived together with its close, so that an open which follows at
// once can fail where a moment later it would not.
func (s *Session) openUpstream() (ch ssh.Channel, reqs <-chan *ssh.Request, err error) {
	for pause := 10 * time.Millisecond; ; pause *= 2 {
		ch, reqs, err = s.openAt("session", nil, openTime, nil)
		var open *ssh.OpenChannelError
		if err == nil || pause > 500*time.Millisecond || !errors.As(err, &open) || open.Reason != ssh.ConnectionFailed {
			return ch, reqs, err
		}
		select {
		case <-time.After(pause):
		case <-s.closing:
		}
	}
}

// How long a target may take to answer the opening of a channel. For a forward it has to reach a host first,
// and Linux gives up on one that is silent after 127 s.
const (
	openTime        = 10 * time.Second
	openForwardTime = 135 * time.Second
)

var (
	errSilent  = errors.New("the target does not answer")
	errStopped = errors.New("it is not allowed any more")
)

// openAt opens a channel on the target, unless stop is closed before it answers. What it answers later than
// limit, or than stop, is closed again.
func (s *Session) openAt(kind string, payload []byte, limit time.Duration, stop <-chan struct{}) (ssh.Channel, <-chan *ssh.Request, error) {
	type opened struct {
		ch   ssh.Channel
		reqs <-chan *ssh.Request
		err  error
	}
	answer := make(chan opened)
	given := make(chan struct{})
	defer close(given)
	go func() {
		ch, reqs, err := s.p.Upstream.OpenChannel(kind, payload)
		select {
		case answer <- opened{ch, reqs, err}:
		case <-given:
			if err == nil {
				go ssh.DiscardRequests(reqs)
				_ = ch.Close()
			}
		}
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case o := <-answer:
		return o.ch, o.reqs, o.err
	case <-stop:
		return nil, nil, errStopped
	case <-timer.C:
		if s.silent.Add(1) > maxSessionChannels { // each that is still open costs something
			go s.End("the target does not answer")
		}
		return nil, nil, errSilent
	case <-s.closing:
		return nil, nil, errors.New("the session has ended")
	}
}

// rejectAs passes on why the target did not open a channel (its MaxSessions, for instance).
func rejectAs(nc ssh.NewChannel, err error) {
	var open *ssh.OpenChannelError
	if errors.As(err, &open) {
		_ = nc.Reject(open.Reason, "the target refused: "+audit.Escape(open.Message))
		return
	}
	if errors.Is(err, errSilent) {
		_ = nc.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	_ = nc.Reject(ssh.ConnectionFailed, "the connection to the target is gone")
}

// start begins to move data, once the target has agreed to run something. PTY and request state must
// be complete: other goroutines read it from here on.
func (c *channel) start() {
	c.running = true
	if c.term != nil {
		c.s.terminalOpen()
	}
	close(c.started)
	if c.files != nil {
		go c.files.run()
	}
	c.s.tellNotices(c)
	c.s.greet(c)
	c.tellObserved()
	c.tellPaused()
	c.fromUp.Add(2)
	c.streams.Store(2)
	newPump(c.up, c.toClient(c.down, c.up, recordOutput), c.streamOver).start()
	newPump(c.up.Stderr(), c.toClient(c.down.Stderr(), c.up.Stderr(), recordStderr), c.streamOver).start()
	newPump(c.down, c.toTarget, func() { _ = c.up.CloseWrite() }).start()
}

// toTarget moves what the person types.
func (c *channel) toTarget(p []byte) bool {
	if !c.hold() {
		return false
	}
	c.in.Add(int64(len(p)))
	c.s.touch()
	if c.term != nil {
		c.s.typed.Store(c.s.active.Load())
	}
	c.input.typed(p)
	p, ok := c.files.fromClient(p)
	if !ok {
		return false
	}
	_, err := c.up.Write(p)
	return err == nil
}

// Streams of the target, as the recorder tells them apart.
type stream bool

const (
	recordOutput stream = false
	recordStderr stream = true
)

// toClient moves what the target shows from src to dst. The recorder has each byte before the person does.
func (c *channel) toClient(dst io.Writer, src io.Reader, which stream) func(p []byte) bool {
	return func(p []byte) (goOn bool) {
		defer func() {
			if !goOn {
				c.cut.Store(true)
			}
		}()
		c.out.Add(int64(len(p)))
		c.s.touch()
		if !c.admit(which, p) {
			return false
		}
		if which == recordOutput {
			c.input.shown(p)
		}
		if err := c.show(dst, p, which); err != nil {
			// The person is gone or has closed the channel. Go on taking what the target
			// sends, so that its window cannot block other channels, until it notices.
			_ = c.up.Close()
			_, _ = io.Copy(io.Discard, src)
			return false
		}
		return true
	}
}

// show writes p to the person, or what the ledger of files leaves of it.
func (c *channel) show(dst io.Writer, p []byte, which stream) error {
	if c.files == nil || which != recordOutput {
		_, err := dst.Write(p)
		return err
	}
	err, ok := c.files.toClient(p, dst)
	if !ok {
		return errStopped
	}
	return err
}

// errGap is why nothing can be recorded just now.
var errGap = errors.New("the recording could not be written")

// record hands p to the recorder. It is false when the session must end because p could not be kept.
func (c *channel) record(which stream, p []byte) bool {
	if c.rec == nil {
		return true
	}
	write := c.rec.Output
	if which == recordStderr {
		write = c.rec.Stderr
	}
	if c.gap.Load() && !c.resume(len(p)) {
		if c.grant.Required && c.breakGlass(errGap) != nil {
			return false // the session is being ended, and until it is nothing more is shown
		}
		_ = write(p) // the recorder counts it as lost
		return true
	}
	if err := write(p); err != nil {
		return c.recordingFailed(err, len(p))
	}
	if c.rec.Truncated() && c.limitTold.CompareAndSwap(false, true) {
		_ = c.s.m.emit(context.Background(), c.event(audit.RecordLimit, audit.OK, "from here on bytes are counted and hashed, not kept", nil))
	}
	return true
}

// recordingFailed ends the session if the rule requires a recording. Else it raises the alarm and the
// session goes on with a gap in its recording, which begins with lost bytes.
func (c *channel) recordingFailed(err error, lost int) bool {
	c.mu.Lock()
	c.lost += int64(lost)
	c.retry = time.Now().Add(gapRetry)
	c.mu.Unlock()
	first := c.gap.CompareAndSwap(false, true)
	if first {
		_ = c.s.m.emit(context.Background(), c.event(audit.RecordFailed, audit.Error, err.Error(), nil))
	}
	if !c.grant.Required || c.breakGlass(err) == nil {
		return true
	}
	if first {
		go c.s.End("its recording could not be written")
	}
	return false
}

// gapRetry is how often a recording that need not be complete tries to go on.
const gapRetry = time.Second

// resume ends a gap if the recorder can write again; else it counts n more bytes as lost.
func (c *channel) resume(n int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.gap.Load() {
		return true // the other stream has ended it
	}
	if now := time.Now(); now.Before(c.retry) {
		c.lost += int64(n)
		return false
	} else if err := c.rec.Gap(c.lost, "the recording could not be written"); err != nil {
		c.lost += int64(n)
		c.retry = now.Add(gapRetry)
		return false
	}
	_ = c.s.m.emit(context.Background(), c.event(audit.RecordFailed, audit.OK, "the recording goes on after a gap", map[string]string{"lost": fmt.Sprint(c.lost)}))
	c.lost = 0
	c.gap.Store(false)
	return true
}

// snapshot is the channel's row with the counters as of now.
func (c *channel) snapshot() store.Channel {
	c.mu.Lock()
	defer c.mu.Unlock()
	row := c.row
	row.BytesIn, row.BytesOut = c.in.Load(), c.out.Load()
	select {
	case <-c.started:
		if c.files != nil {
			sum := c.files.p.Summary()
			row.FilesRead, row.FilesWritten = sum.Read, sum.Written
		}
	default:
	}
	return row
}

func (c *channel) event(kind string, result audit.Result, reason string, detail map[string]string) audit.Event {
	e := c.s.event(kind, result, reason)
	e.Detail = map[string]string{"channel": fmt.Sprint(c.row.ID)}
	for k, v := range detail {
		e.Detail[k] = v
	}
	return e
}
