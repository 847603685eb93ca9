package admin

import "time"

// Watching is one operator who watches a live session.
type Watching struct {
	Watcher string     `json:"watcher" doc:"as in the audit log"`
	Channel int        `json:"channel" doc:"0: waits for one"`
	Node    string     `json:"node" doc:"at which they watch"`
	Since   *time.Time `json:"since"`
}
