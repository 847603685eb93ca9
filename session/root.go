package session

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	"sallyport/audit"
)

// Root stands for all recordings of a session, so that none can be taken away unseen. It is the SHA-256 of one
// line "CHANNEL HEAD\n" for each recording, in the order of the channels; HEAD is the signed head of the
// recording's chain in hexadecimal. The zero value has none.
type Root struct {
	lines map[int]string
}

// Add puts the recording of a channel in.
func (r *Root) Add(channel int, head string) {
	if r.lines == nil {
		r.lines = map[int]string{}
	}
	r.lines[channel] = head
}

// Len is the number of recordings.
func (r *Root) Len() int { return len(r.lines) }

// String is the root in hexadecimal.
func (r *Root) String() string {
	h := sha256.New()
	for _, channel := range slices.Sorted(maps.Keys(r.lines)) {
		fmt.Fprintf(h, "%d %s\n", channel, r.lines[channel])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// sealed notes the head of a recording that has ended.
func (s *Session) sealed(channel int, head string) {
	if head == "" {
		return // it could not be sealed; that is an event of its own
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.root.Add(channel, head)
}

// withRoot adds to the event of the session's end what stands for its recordings.
func (s *Session) withRoot(e audit.Event) audit.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.root.Len() > 0 {
		if e.Detail == nil {
			e.Detail = map[string]string{}
		}
		e.Detail["root"], e.Detail["recordings"] = s.root.String(), fmt.Sprint(s.root.Len())
	}
	return e
}
