package radius

import (
	"net/netip"
	"sync"
	"time"
)

// replyKey tells requests apart (RFC 5080, section 2.2.2).
type replyKey struct {
	socket string
	from   netip.AddrPort
	id     byte
}

// replies are the answers that may be asked for once more, and the requests that have none yet.
type replies struct {
	mu       sync.Mutex // guards the fields below
	known    map[replyKey]*answered
	answered []*answered // in the order of their answers
}

// answered is a request that was taken on.
type answered struct {
	key           replyKey
	authenticator [16]byte
	reply         []byte // nil: in work
	at            time.Time
}

// begin takes a request on. For one that was taken on before it returns nil, and the answer if there is one.
func (r *replies) begin(key replyKey, authenticator [16]byte, now time.Time) (*answered, []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expire(now)
	if a := r.known[key]; a != nil && a.authenticator == authenticator {
		return nil, a.reply
	}
	if r.known == nil {
		r.known = map[replyKey]*answered{}
	}
	a := &answered{key: key, authenticator: authenticator}
	r.known[key] = a
	return a, nil
}

// end keeps the answer; with none the request is forgotten, and evaluated anew if it comes again.
func (r *replies) end(a *answered, reply []byte, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known[a.key] != a {
		return // the client has used the identifier for something else since
	}
	if reply == nil {
		delete(r.known, a.key)
		return
	}
	a.reply, a.at = reply, now
	r.answered = append(r.answered, a)
}

func (r *replies) expire(now time.Time) {
	n := 0
	for n < len(r.answered) && (now.Sub(r.answered[n].at) > replyLife || len(r.answered)-n > maxReplies) {
		if a := r.answered[n]; r.known[a.key] == a {
			delete(r.known, a.key)
		}
		r.answered[n] = nil
		n++
	}
	r.answered = r.answered[n:]
}
