package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"sallyport/audit"
	"sallyport/recorder"
	"sallyport/store"
)

// source shows at h what happens on a channel, until it is over (io.EOF).
func (m *Manager) source(ctx context.Context, h *hub, row store.Session, c store.Channel) error {
	if s := m.find(row.ID); s != nil {
		return s.show(ctx, h, c)
	}
	if row.Node == m.cfg.Node {
		return m.showEnded(ctx, h, c)
	}
	return m.receive(ctx, h, row, c)
}

// lookBack bounds how much of a long recording is read for the present screen, in bytes of its file.
const lookBack = 4 << 20

// show follows the recording of a channel, which costs the session nothing. Where there is none that this
// node can read, what is printed from now on is tapped.
func (s *Session) show(ctx context.Context, h *hub, row store.Channel) error {
	s.mu.Lock()
	c := s.channels[row.ID]
	s.mu.Unlock()
	if c == nil {
		return s.m.showEnded(ctx, h, row)
	}
	if cols, rows := c.termSize(); cols > 0 {
		h.show(LiveEvent{"r", formatSize(cols, rows)})
	}
	if row.Recording != "" {
		r, err := s.m.cfg.Recorder.Follow(ctx, row.Recording)
		if err == nil {
			defer r.Close()
			return showRecording(ctx, r, h, row.Term)
		}
	}
	return c.tap(ctx, h)
}

// showEnded shows a channel that was over before anybody looked.
func (m *Manager) showEnded(ctx context.Context, h *hub, row store.Channel) error {
	if row.Recording != "" {
		r, err := m.cfg.Recorder.Open(row.Recording)
		if err == nil {
			defer r.Close()
			return showRecording(ctx, r, h, row.Term)
		}
	}
	h.show(LiveEvent{"o", fmt.Sprintf("[channel %d was over at once, and is not recorded where it could be read: it cannot be seen]\r\n", row.ID)})
	return io.EOF
}

// showRecording shows a recording from its beginning, or what is left of a long one.
func showRecording(ctx context.Context, r *recorder.Reader, h *hub, term bool) error {
	r.OnWait(h.present)
	if err := r.SkipTo(lookBack); err != nil {
		return err
	}
	begun := time.Now()
	lines := newlines{off: term}
	for {
		e, err := r.Next()
		if err == nil {
			err = ctx.Err() // of what is over already the reader knows nothing of it
		}
		if err != nil {
			return err
		}
		if time.Since(begun) > time.Second {
			h.present() // there is always more; that is the present
		}
		switch e.Code {
		case recorder.CodeOutput, recorder.CodeStderr:
			text := e.Text
			if text == "" && len(e.Data) >= 64 {
				text = fmt.Sprintf("[%d bytes that are not text]\n", len(e.Data))
			}
			h.show(LiveEvent{"o", lines.fix(text)})
		case recorder.CodeResize:
			h.show(LiveEvent{"r", e.Text})
		case recorder.CodeMark:
			h.show(LiveEvent{"m", e.Text})
		case recorder.CodeExit:
			h.show(LiveEvent{"x", e.Text})
		case recorder.CodeGap:
			h.show(LiveEvent{"o", lines.fix("\r\n[some bytes are missing here]\r\n")})
		case recorder.CodeLimit:
			h.show(LiveEvent{"o", lines.fix("\r\n[from here on the output is not kept, and not shown]\r\n")})
		}
	}
}

// newlines has lines begin at the left where no terminal has seen to that.
type newlines struct {
	off  bool
	last byte
}

func (n *newlines) fix(text string) string {
	if n.off || text == "" || !strings.Contains(text, "\n") {
		if text != "" {
			n.last = text[len(text)-1]
		}
		return text
	}
	var b strings.Builder
	for i := range len(text) {
		if text[i] == '\n' && n.last != '\r' {
			b.WriteByte('\r')
		}
		n.last = text[i]
		b.WriteByte(text[i])
	}
	return b.String()
}

// tap is what is printed on a channel while somebody watches it who cannot read its recording.
type tap struct {
	mu     sync.Mutex // guards the fields below
	events []LiveEvent
	bytes  int
	lost   bool // more came than was taken
	closed bool
	wake   chan struct{}
}

func (t *tap) output(p []byte) { t.add(LiveEvent{"o", string(p)}) }

func (t *tap) resize(cols, rows int) { t.add(LiveEvent{"r", formatSize(cols, rows)}) }

// add never waits: what is not taken in time is not seen.
func (t *tap) add(e LiveEvent) {
	t.mu.Lock()
	if t.bytes += e.cost(); t.bytes > maxQueued {
		t.lost, t.bytes, t.events = true, 0, nil
	} else {
		t.events = append(t.events, e)
	}
	t.mu.Unlock()
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// tap shows what is printed from now on.
func (c *channel) tap(ctx context.Context, h *hub) error {
	t := &tap{wake: make(chan struct{}, 1)}
	c.tapped.Store(t)
	defer c.tapped.CompareAndSwap(t, nil)
	select {
	case <-c.over:
		return io.EOF
	default:
	}
	note := "[this session is not recorded where it could be read: what was shown before cannot be seen]\r\n"
	h.show(LiveEvent{"o", note})
	h.present()
	lines := newlines{off: c.term != nil}
	var rest []byte // of a character that is not whole yet
	for {
		t.mu.Lock()
		events, lost, closed := t.events, t.lost, t.closed
		t.events, t.bytes, t.lost = nil, 0, false
		t.mu.Unlock()
		if lost {
			h.show(LiveEvent{"o", "\r\n[too much was printed at once: some of it is missing here]\r\n"})
		}
		for _, e := range events {
			if e.Code == "o" {
				e.Text, rest = wholeText(append(rest, e.Text...))
				e.Text = lines.fix(e.Text)
			}
			h.show(e)
		}
		if closed {
			return io.EOF
		}
		select {
		case <-t.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// untap ends the view of a channel that is over.
func (c *channel) untap() {
	if t := c.tapped.Load(); t != nil {
		t.mu.Lock()
		t.closed = true
		t.mu.Unlock()
		select {
		case t.wake <- struct{}{}:
		default:
		}
	}
}

// wholeText gives p as text, without the beginning of a character at its end.
func wholeText(p []byte) (text string, rest []byte) {
	for n := 1; n < utf8.UTFMax && n <= len(p); n++ {
		if b := p[len(p)-n]; utf8.RuneStart(b) {
			if !utf8.FullRune(p[len(p)-n:]) {
				return strings.ToValidUTF8(string(p[:len(p)-n]), "\ufffd"), append([]byte(nil), p[len(p)-n:]...)
			}
			break
		}
	}
	return strings.ToValidUTF8(string(p), "\ufffd"), nil
}

// sizeOf packs a size for channel.size.
func sizeOf(cols, rows uint32) uint64 { return uint64(min(cols, 10000))<<32 | uint64(min(rows, 10000)) }

func (c *channel) termSize() (cols, rows int) {
	n := c.size.Load()
	return int(n >> 32), int(n & 0xffffffff)
}

// Times of what goes from node to node.
const (
	sendEvery   = 100 * time.Millisecond // between two chunks at least
	sendAtMost  = 128 << 10              // bytes of text in one chunk, about
	receiveLook = time.Second            // between two looks without a message of the bus
	sendRetry   = time.Second
)

// receive shows what another node sends.
func (m *Manager) receive(ctx context.Context, h *hub, row store.Session, c store.Channel) error {
	w := m.cfg.Store.Watching
	heard, cancel := m.cfg.Store.Bus.Subscribe(store.TopicLiveChunk)
	defer cancel()
	stream := store.LiveStream{SessionID: row.ID, Channel: c.ID, Node: m.cfg.Node}
	id, err := w.Ask(ctx, stream)
	if err != nil {
		return fmt.Errorf("asking node %s for the session: %w", audit.Escape(row.Node), err)
	}
	stream.ID = id
	defer func() { _ = w.Drop(context.WithoutCancel(ctx), stream) }() // it expires anyway
	tick := time.NewTicker(receiveLook)
	defer tick.Stop()
	seen, got, kept, lastKept := time.Now(), int64(0), int64(0), time.Now()
	for {
		chunks, alive, err := w.Read(ctx, id, got)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, store.ErrNotFound):
			return errors.New("the view was not kept alive; watch again")
		case err == nil && alive:
			seen = time.Now()
		case time.Since(seen) > 15*time.Second:
			return fmt.Errorf("node %s does not answer", audit.Escape(row.Node))
		}
		for _, chunk := range chunks {
			got = chunk.Seq
			var events []LiveEvent
			if err := json.Unmarshal(chunk.Data, &events); err != nil {
				return fmt.Errorf("reading what node %s sent: %w", audit.Escape(row.Node), err)
			}
			for i, e := range events {
				if chunk.Last && i == len(events)-1 && e.Code == "m" {
					return errors.New(e.Text)
				}
				h.show(e)
			}
			h.present()
			if chunk.Last {
				return io.EOF
			}
		}
		if got-kept >= 10 || time.Since(lastKept) > store.LiveRenew {
			if err := w.Keep(ctx, id, got); err == nil {
				kept, lastKept = got, time.Now()
			}
		}
		if !m.await(ctx, heard, id, tick.C) {
			return ctx.Err()
		}
	}
}

// await waits for news of a stream, or for the next tick. It is false when ctx has ended.
func (m *Manager) await(ctx context.Context, heard <-chan store.Message, id string, tick <-chan time.Time) bool {
	for {
		select {
		case <-ctx.Done():
			return false
		case <-tick:
			return true
		case msg, ok := <-heard:
			if !ok {
				heard = nil
			} else if msg.Missed || msg.Payload == id {
				return true
			}
		}
	}
}

// send sends a channel of a session of this node to another one, until nobody reads it any more or it is over.
func (m *Manager) send(ctx context.Context, x store.LiveStream) {
	w := m.cfg.Store.Watching
	row, err := m.cfg.Store.Sessions.Get(ctx, x.SessionID)
	if err != nil {
		return // asked for again
	}
	i := slices.IndexFunc(row.Channels, func(c store.Channel) bool { return c.ID == x.Channel && watchable(c.Kind) })
	if i < 0 {
		why := fmt.Sprintf("channel %d has ended", x.Channel)
		_ = m.put(ctx, x.ID, 1, true, []LiveEvent{{"m", why}})
		return
	}
	c := row.Channels[i] // which may be over by now, and is shown all the same
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	v := &View{m: m, session: row.ID, channel: c.ID, fresh: true, wake: make(chan struct{}, 1), ctx: ctx, stop: stop}
	v.hub = m.joinHub(row, c, v)
	h := v.hub
	defer m.leaveHub(h, v)
	said := time.Now()
	for seq := int64(1); ; {
		events, over := v.collect(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case len(events) == 0 && time.Since(said) < store.LiveRenew:
			continue
		case len(events) == 0:
			err = w.Sending(ctx, x.ID)
		default:
			err = m.put(ctx, x.ID, seq, over, events)
			if err == nil {
				seq++
			}
		}
		switch {
		case err == nil:
			said = time.Now()
		case errors.Is(err, store.ErrNotFound):
			return
		default: // the reader or the database is slow: the whole screen comes next
			v.mu.Lock()
			v.fresh = true
			v.mu.Unlock()
			v.awake()
			time.Sleep(sendRetry)
		}
		if over && (err == nil || time.Since(said) > 15*time.Second) {
			return
		}
		time.Sleep(sendEvery)
	}
}

func (m *Manager) put(ctx context.Context, id string, seq int64, last bool, events []LiveEvent) error {
	data, err := json.Marshal(events)
	if err != nil {
		return err
	}
	return m.cfg.Store.Watching.Put(ctx, id, store.LiveChunk{Seq: seq, Last: last, Data: data})
}

// collect takes what waits for v, or the first that comes within a second. over tells that nothing follows; the last
// event then says why.
func (v *View) collect(ctx context.Context) (events []LiveEvent, over bool) {
	size := 0
	for size < sendAtMost {
		e, ok, over := v.hub.next(v)
		switch {
		case over:
			return append(events, e), true
		case ok:
			size += len(e.Text)
			// Outputs in a row are one.
			if n := len(events); n > 0 && e.Code == "o" && events[n-1].Code == "o" {
				events[n-1].Text += e.Text
			} else {
				events = append(events, e)
			}
			continue
		case len(events) > 0:
			return events, false
		}
		select {
		case <-v.wake:
		case <-time.After(time.Second):
			return nil, false
		case <-ctx.Done():
			return nil, false
		}
	}
	return events, false
}

// believed is for how long a moderated session goes on while nobody can tell who watches it.
const believed = 20 * time.Second

// lookLimit is for how long the database is asked who watches, the time before its turn included.
const lookLimit = 3 * time.Second

// keepWatches looks at who watches with each change, and every few seconds, until ctx ends. It does so beside all
// else that this node does, and what was known holds for a while only, whatever the database does.
func (m *Manager) keepWatches(ctx context.Context) {
	messages, cancel := m.cfg.Store.Bus.Subscribe(store.TopicLive)
	defer cancel()
	go m.doubtWatches(ctx)
	tick := time.NewTicker(store.LiveRenew)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case _, ok := <-messages:
			if !ok {
				messages = nil // the bus has closed, of which Run tells
				continue
			}
		case <-tick.C:
		}
		m.lookAtWatches(ctx)
	}
}

// doubtWatches has moderated sessions stand still when nobody could say for too long who watches them. It waits for
// nobody, and for no database.
func (m *Manager) doubtWatches(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, s := range m.sessions() {
			if s.p.Moderation != nil {
				go s.unobserved(believed)
			}
		}
	}
}

// lookAtWatches asks the database who watches the sessions of this node, and to which nodes they are to be sent. It
// returns after a look that began no earlier than this call, or after a few seconds.
func (m *Manager) lookAtWatches(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	enough := m.looks.Load() + 1
	select {
	case m.watching <- struct{}{}: // one after the other: what is told is never older than what was told before
		defer func() { <-m.watching }()
	case <-ctx.Done():
		for _, s := range m.sessions() {
			s.unobserved(believed)
		}
		return
	}
	if m.looks.Load() >= enough {
		return // somebody else has looked meanwhile
	}
	m.looks.Add(1)
	if sessions := m.sessions(); len(sessions) == 0 || m.tellWatches(ctx, sessions) {
		m.sendStreams(ctx)
	}
}

// tellWatches tells sessions who watches them. It is false if the database did not say.
func (m *Manager) tellWatches(ctx context.Context, sessions []*Session) bool {
	asked := time.Now()
	watches, err := m.cfg.Store.Watching.WatchesAt(ctx, m.cfg.Node)
	if err != nil {
		for _, s := range sessions {
			s.unobserved(believed)
		}
		return false
	}
	of := map[string][]store.Watch{}
	for _, w := range watches {
		of[w.SessionID] = append(of[w.SessionID], w)
	}
	var told sync.WaitGroup // one that waits for its event in the audit log, or for its client, holds up no other
	for _, s := range sessions {
		if s.p.Moderation == nil {
			s.observed(of[s.row.ID], asked)
			continue
		}
		told.Go(func() { s.observed(of[s.row.ID], asked) })
	}
	told.Wait()
	return true
}

// sendStreams begins to send what other nodes ask for, of a session that is just over too.
func (m *Manager) sendStreams(ctx context.Context) {
	streams, err := m.cfg.Store.Watching.Streams(ctx, m.cfg.Node)
	if err != nil {
		return
	}
	for _, x := range streams {
		if x.Node == m.cfg.Node {
			continue
		}
		m.mu.Lock()
		known := m.sending[x.ID]
		if m.sending == nil {
			m.sending = map[string]bool{}
		}
		m.sending[x.ID] = true
		m.mu.Unlock()
		if known {
			continue
		}
		go func() {
			defer func() {
				m.mu.Lock()
				delete(m.sending, x.ID)
				m.mu.Unlock()
			}()
			m.send(context.Background(), x)
		}()
	}
}
