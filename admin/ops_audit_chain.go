package admin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/audit"
	"sallyport/recorder"
	"sallyport/session"
	"sallyport/store"
)

// AuditVerification is what the proof of the audit log found.
type AuditVerification struct {
	ID        string     `json:"id" doc:"what was proved: audit, or the file"`
	Proved    bool       `json:"proved" doc:"every event that has a place in the chain is as it was written"`
	First     int64      `json:"first" doc:"position of the first event that is proved"`
	Last      int64      `json:"last" doc:"… and of the last; less than first if none is"`
	Head      string     `json:"head" doc:"value of the chain after the last one"`
	Signed    *time.Time `json:"signed" doc:"when it was signed"`
	Node      string     `json:"node" doc:"by which node"`
	Key       string     `json:"key" doc:"with which key"`
	Unchained int        `json:"unchained" doc:"events so new that they have no place yet"`
	Position  int64      `json:"position" doc:"where the first wrong thing is; 0 if nothing is wrong, or it is in no place"`
	Problem   string     `json:"problem" doc:"what is wrong first; empty when proved"`

	Heads        int    `json:"heads" doc:"signed heads kept outside of the database that the log was held against"`
	HeadsProblem string `json:"heads_problem" doc:"why there may be more of them; empty: they could be read"`
}

// AuditVerificationOf puts a proof into the words of the API. err is what the proof ended with.
func AuditVerificationOf(id string, p audit.Proof, err error) AuditVerification {
	v := AuditVerification{ID: id, Proved: err == nil, First: p.First, Last: p.Last, Signed: timeOf(p.At), Node: p.Node, Key: p.Key, Unchained: p.Unchained}
	if p.Last > 0 {
		v.Head = p.Head.String()
	}
	if err != nil {
		var broken *audit.Broken
		if errors.As(err, &broken) {
			v.Position = broken.Position
		}
		v.Problem = audit.Escape(err.Error())
	}
	return v
}

// AuditCheck is how an [audit.Chain] has signatures checked.
func AuditCheck(check func(node, id string, at time.Time, text, sig []byte) error) func(string, string, time.Time, []byte, []byte) error {
	return func(node, id string, at time.Time, text, sig []byte) error {
		err := check(node, id, at, text, sig)
		if errors.Is(err, recorder.ErrCompromised) {
			return fmt.Errorf("%w: %w", audit.ErrDoubtful, err)
		}
		return err
	}
}

// proveAudit proves the audit log from a time on, or all of it.
func (s *Server) proveAudit(ctx context.Context, since time.Time) (AuditVerification, error) {
	chain := audit.Chain{Check: AuditCheck(s.cfg.Recorder.Check)}
	var broken error
	// First: what is kept elsewhere was in the database before.
	heads, problem := s.keptHeads(ctx)
	if chain.Heads, broken = audit.HeadsOf(heads, chain.Check); broken != nil {
		return AuditVerificationOf("audit", audit.Proof{}, broken), nil
	}
	begun := false
	err := s.cfg.Store.Audit.Lines(ctx, since, func(l audit.Line) error {
		if !begun && l.Checkpoint != nil { // it begins here, and the heads of before are not looked at
			maps.DeleteFunc(chain.Heads, func(at int64, _ audit.Hash) bool { return at < l.Checkpoint.Position })
		}
		begun = true
		if broken = chain.Add(l); broken != nil {
			return errProved
		}
		return nil
	})
	if err != nil && !errors.Is(err, errProved) {
		return AuditVerification{}, err
	}
	proof, end := chain.End()
	if broken == nil {
		broken = end
	}
	if broken == nil && s.cfg.Chain != nil && since.IsZero() {
		if text := s.cfg.Chain.Problem(); text != "" {
			broken = errors.New(text)
		}
	}
	v := AuditVerificationOf("audit", proof, broken)
	v.Heads, v.HeadsProblem = len(chain.Heads), problem
	return v, nil
}

// keptHeads are heads of the chain that are kept outside of the database, and why there may be more.
func (s *Server) keptHeads(ctx context.Context) ([]audit.Checkpoint, string) {
	if s.cfg.Heads == nil {
		return nil, ""
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	heads, err := s.cfg.Heads(ctx)
	if err != nil {
		return heads, audit.Escape(err.Error())
	}
	return heads, ""
}

// errProved stops the reading of a log of which enough is known.
var errProved = errors.New("enough")

// witness is what the audit log says of the recordings of a session.
type witness struct {
	roots   map[string]string // signed head by path of the recording
	ended   session.Root      // of the channels that ended as they should
	session string            // the session's root; "" if it ended without one
	problem string            // why the log proves nothing
}

// witness reads what the audit log says of a session, and proves that part of it.
func (s *Server) witness(ctx context.Context, id string) (witness, error) {
	w := witness{roots: map[string]string{}}
	events, stretches, err := s.cfg.Store.Audit.Proving(ctx, id, audit.ChannelEnded, audit.RecordSealed, audit.SessionEnded)
	if err != nil {
		return w, err
	}
	for _, lines := range stretches {
		if err := s.proveStretch(lines); err != nil {
			w.problem = "the audit log, which has its root, was altered: " + err.Error()
		}
	}
	for _, l := range events {
		if l.Position == 0 && s.cfg.Chain != nil && s.cfg.Now().Sub(l.Event.Time) > time.Minute {
			w.problem = "the audit log, which has its root, was altered: event " + audit.Escape(l.Event.ID) + " has no place in the chain"
		}
		d := l.Event.Detail
		if l.Event.Type == audit.SessionEnded && d["root"] != "" {
			w.session = d["root"]
			continue
		}
		if d["recording"] != "" && d["root"] != "" {
			w.roots[d["recording"]] = d["root"]
			if channel, err := strconv.Atoi(d["channel"]); err == nil && l.Event.Type == audit.ChannelEnded {
				w.ended.Add(channel, d["root"])
			}
		}
	}
	return w, nil
}

func (s *Server) proveStretch(lines []audit.Line) error {
	chain := audit.Chain{Check: AuditCheck(s.cfg.Recorder.Check)}
	for _, l := range lines {
		if err := chain.Add(l); err != nil {
			return err
		}
	}
	_, err := chain.End()
	return err
}

// check holds the proof of one recording against the audit log.
func (w witness) check(v *Verification, path string) {
	if !v.Proved {
		return
	}
	root, known := w.roots[path]
	switch {
	case w.problem != "":
		v.Problem = w.problem
	case known && root != v.Root:
		v.Problem = "its signed head is not the one in the audit log: another recording was put in its place"
	case !known && w.session != "":
		v.Problem = "the audit log does not have its signed head"
	}
	v.Proved = v.Problem == ""
}

// missing are the recordings that the audit log tells of and the session does not have.
func (w witness) missing(x store.Session) []Verification {
	var found []Verification
	for path := range w.roots {
		if !slices.ContainsFunc(x.Channels, func(c store.Channel) bool { return c.Recording == path }) {
			found = append(found, Verification{ID: x.ID + "/" + path, Keys: []string{}, Root: w.roots[path], Problem: "the audit log tells of this recording, and the session does not have it any more"})
		}
	}
	slices.SortFunc(found, func(a, b Verification) int { return strings.Compare(a.ID, b.ID) })
	return found
}

// checkSession compares the root of the session with the heads of its recordings.
func (w witness) checkSession(id string, found []Verification) []Verification {
	if w.session == "" || w.ended.String() == w.session {
		return found
	}
	return append(found, Verification{ID: id, Keys: []string{}, Root: w.session, Problem: "the session's root in the audit log stands for other recordings than these"})
}
