package session

import "sallyport/audit"

// Announce tells everybody with a session on this node something, and ends nothing. It does not wait for
// clients that read nothing.
func (m *Manager) Announce(message string) {
	for _, s := range m.sessions() {
		s.mu.Lock()
		for _, c := range s.channels {
			go c.announce(message)
		}
		s.mu.Unlock()
	}
}

// announce tells the person on this channel something, once something runs on it.
func (c *channel) announce(message string) {
	select {
	case <-c.started:
		say(c.down, c.term != nil, audit.Escape(message))
	default:
	}
}
