package admin

import (
	"time"

	"sallyport/auth"
)

// Watching is one operator who watches a live session.
type Watching struct {
	Watcher string     `json:"watcher" doc:"as in the audit log"`
	Channel int        `json:"channel" doc:"0: waits for one"`
	Node    string     `json:"node" doc:"at which they watch"`
	Since   *time.Time `json:"since"`
}

func observedWord(d auth.Decision) string {
	if d.Silent {
		return "silent"
	}
	return "tell"
}

func moderatorWords(d auth.Decision) string {
	switch m := d.Moderator; {
	case m == nil:
		return ""
	case m.Pause:
		return m.Who() + " (waits for one)"
	default:
		return m.Who() + " (ends without one)"
	}
}
