package session

import (
	"context"
	"errors"
	"sync"

	"sallyport/audit"
	"sallyport/store"
)

// doubts are sessions that were not opened since the database did not answer, or was not waited for: it may have written
// their rows all the same, and would count them as live for as long as this node lives.
type doubts struct {
	mu   sync.Mutex // guards the field below
	list []doubt
}

type doubt struct {
	id  string
	end audit.Event
	no  int // how often the database said that there is no such row
}

// maxNo is how often in a row the database has to say that it knows nothing of a session: what it was doing when it
// fell silent can come later than the first answer.
const maxNo = 10

// doubt has s ended if its row turns out to be there.
func (m *Manager) doubt(s *Session) {
	e, err := m.cfg.Audit.Complete(s.event(audit.SessionEnded, audit.Error, "it was not opened: the database did not answer in time"))
	if err != nil {
		m.cfg.Log.Error("noting a session that may be open", "error", err)
		return
	}
	m.doubts.mu.Lock()
	defer m.doubts.mu.Unlock()
	m.doubts.list = append(m.doubts.list, doubt{id: s.row.ID, end: e})
}

// settle looks for the rows of sessions that were not opened, and ends those that are there.
func (m *Manager) settle(ctx context.Context) {
	m.doubts.mu.Lock()
	list := m.doubts.list
	m.doubts.list = nil
	m.doubts.mu.Unlock()
	var left []doubt
	for i, d := range list {
		err := m.cfg.Store.Sessions.End(ctx, d.id, d.end.Reason, d.end)
		if errors.Is(err, store.ErrUnavailable) {
			left = append(left, list[i:]...)
			break
		}
		if errors.Is(err, store.ErrNotFound) {
			if d.no++; d.no < maxNo {
				left = append(left, d)
			}
			continue
		}
		if err != nil {
			m.cfg.Log.Error("ending a session that was not opened", "error", err)
			continue
		}
		m.cfg.Audit.Print(ctx, d.end)
	}
	m.doubts.mu.Lock()
	defer m.doubts.mu.Unlock()
	m.doubts.list = append(m.doubts.list, left...)
}
