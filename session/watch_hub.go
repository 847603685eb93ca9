package session

import (
	"context"
	"errors"
	"io"
	"strconv"
	"sync"

	"sallyport/screen"
	"sallyport/store"
)

// hub is one channel that somebody watches at this node: it follows it, keeps the screen, and gives what happens to
// all who watch. There is none while nobody watches.
type hub struct {
	key  hubKey
	stop context.CancelFunc

	mu         sync.Mutex // guards the fields below
	screen     *screen.Screen
	cols, rows int
	ready      bool // the screen is the present one
	views      map[*View]bool
	ended      bool
	why        string
}

type hubKey struct {
	session string
	channel int
}

// joinHub adds v to those who watch a channel, and begins to follow it if v is the first.
func (m *Manager) joinHub(row store.Session, c store.Channel, v *View) *hub {
	key := hubKey{row.ID, c.ID}
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.hubs[key]
	if h == nil {
		ctx, stop := context.WithCancel(context.Background())
		h = &hub{key: key, stop: stop, views: map[*View]bool{}, cols: 80, rows: 24}
		h.screen = screen.New(h.cols, h.rows)
		if m.hubs == nil {
			m.hubs = map[hubKey]*hub{}
		}
		m.hubs[key] = h
		go m.follow(ctx, h, row, c)
	}
	h.mu.Lock()
	h.views[v] = true
	h.mu.Unlock()
	return h
}

// leaveHub stops to follow a channel with the last who watches it.
func (m *Manager) leaveHub(h *hub, v *View) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.views[v] {
		return
	}
	delete(h.views, v)
	if len(h.views) == 0 {
		if m.hubs[h.key] == h {
			delete(m.hubs, h.key)
		}
		h.stop()
	}
}

// follow runs until the channel is over or nobody watches it any more.
func (m *Manager) follow(ctx context.Context, h *hub, row store.Session, c store.Channel) {
	s := m.find(row.ID) // now: when the channel is over, the session may be gone already, and with it why it ended
	err := m.source(ctx, h, row, c)
	why := "channel " + strconv.Itoa(c.ID) + " has ended"
	if err != nil && !errors.Is(err, io.EOF) {
		why = err.Error()
	} else if s != nil {
		if reason := s.Ended(); reason != "" {
			why = "the session has ended: " + reason
		}
	} else if row.State != store.Live {
		why = "the session has ended: " + row.Reason
	}
	m.mu.Lock()
	if m.hubs[h.key] == h {
		delete(m.hubs, h.key) // the next who watches begins anew
	}
	m.mu.Unlock()
	h.end(why)
}

// show puts one event onto the screen and before all who watch.
func (h *hub) show(e LiveEvent) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch e.Code {
	case "o":
		_, _ = h.screen.Write([]byte(e.Text)) // never fails
	case "r":
		cols, rows, ok := parseSize(e.Text)
		// The size comes from a stranger, and each cell costs memory here and with all who watch.
		cols, rows = min(cols, maxCols), min(rows, maxRows)
		e.Text = formatSize(cols, rows)
		if !ok || cols == h.cols && rows == h.rows {
			return
		}
		h.cols, h.rows = cols, rows
		h.screen.Resize(cols, rows)
	}
	if !h.ready {
		return
	}
	for v := range h.views {
		v.push(e)
	}
}

// maxCols and maxRows bound the screen of a live view.
const maxCols, maxRows = 500, 200

// present tells that the screen is the present one from here on.
func (h *hub) present() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ready {
		return
	}
	h.ready = true
	for v := range h.views {
		v.awake()
	}
}

// end tells all who watch that nothing follows.
func (h *hub) end(why string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended, h.why, h.ready = true, why, true
	for v := range h.views {
		v.awake()
	}
}

// next takes the next event of v, if there is one; after the last it is a marker that says why it is over. Both are one
// look: of two, output and the end that come between them would be taken for the end alone.
func (h *hub) next(v *View) (e LiveEvent, ok, over bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.fresh && h.ready && len(v.paint) == 0 {
		v.fresh, v.queue, v.queued = false, nil, 0
		// ESC c: whatever was shown before is of no use.
		v.paint = []LiveEvent{{"r", formatSize(h.cols, h.rows)}, {"o", "\x1bc" + string(h.screen.Snapshot())}}
	}
	switch {
	case len(v.paint) > 0:
		e, v.paint = v.paint[0], v.paint[1:]
		return e, true, false
	case len(v.queue) > 0:
		e, v.queue = v.queue[0], v.queue[1:]
		v.queued -= e.cost()
		return e, true, false
	case h.ended:
		return LiveEvent{"m", h.why}, true, true
	}
	return LiveEvent{}, false, false
}
