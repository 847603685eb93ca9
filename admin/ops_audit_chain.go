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

	Lost     bool           `json:"lost" doc:"all that is wrong is that heads which were kept elsewhere are not in the log: after a backup was brought back, sallyport audit accept-restore"`
	Restores []AuditRestore `json:"restores" doc:"losses that somebody has answered for; without that the log would not be proved"`
}

// AuditRestore is a loss of the end of the log that somebody has answered for, because the database came from a backup.
type AuditRestore struct {
	After  int64     `json:"after" doc:"position up to which the log still is what it was"`
	Lost   int64     `json:"lost" doc:"last position that is known to be lost; others may have taken their places"`
	Until  time.Time `json:"until" doc:"when that was signed"`
	Time   time.Time `json:"time" doc:"when it was answered for"`
	Actor  string    `json:"actor" doc:"by whom"`
	Reason string    `json:"reason"`
}

func auditRestoreOf(r audit.Restore) AuditRestore {
	return AuditRestore{After: r.After, Lost: r.Lost, Until: r.Until, Time: r.Time, Actor: r.Actor, Reason: r.Reason}
}

// InWords tells it in a line.
func (r AuditRestore) InWords() string {
	return fmt.Sprintf("up to %s events behind position %d were lost with a database that came from a backup (the last was signed %s): %s said so on %s: %s",
		strconv.FormatInt(r.Lost-r.After, 10), r.After, r.Until.UTC().Format(time.DateTime), audit.Escape(r.Actor), r.Time.UTC().Format(time.DateTime), audit.Escape(r.Reason))
}

// AuditVerificationOf puts a proof into the words of the API. err is what the proof ended with.
func AuditVerificationOf(id string, p audit.Proof, err error) AuditVerification {
	v := AuditVerification{ID: id, Proved: err == nil, First: p.First, Last: p.Last, Signed: timeOf(p.At), Node: p.Node, Key: p.Key, Unchained: p.Unchained, Restores: []AuditRestore{}}
	for _, r := range p.Restores {
		v.Restores = append(v.Restores, auditRestoreOf(r))
	}
	if p.Last > 0 {
		v.Head = p.Head.String()
	}
	if err != nil {
		var broken *audit.Broken
		if errors.As(err, &broken) {
			v.Position, v.Lost = broken.Position, broken.Lost
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
	_, v, err := s.readAudit(ctx, since)
	return v, err
}

// readAudit proves the audit log, and returns the chain as it was read, to its end or to the first thing that is wrong.
func (s *Server) readAudit(ctx context.Context, since time.Time) (*audit.Chain, AuditVerification, error) {
	chain := &audit.Chain{Check: AuditCheck(s.cfg.Recorder.Check)}
	// First: what is kept elsewhere was in the database before.
	heads, problem := s.keptHeads(ctx)
	if s.cfg.Chain != nil {
		if lost, ok := s.cfg.Chain.Lost(); ok { // it may be newer than what is kept
			heads = append(slices.Clone(heads), lost)
		}
	}
	chain.Heads = audit.HeadsOf(heads, chain.Check)
	var broken error
	begun := false
	err := s.cfg.Store.Audit.Lines(ctx, since, func(l audit.Line) error {
		if !begun && l.Checkpoint != nil { // it begins here, and the heads of before are not looked at
			maps.DeleteFunc(chain.Heads, func(at int64, _ []audit.Kept) bool { return at < l.Checkpoint.Position })
		}
		begun = true
		if broken = chain.Add(l); broken != nil {
			return errProved
		}
		return nil
	})
	if err != nil && !errors.Is(err, errProved) {
		return nil, AuditVerification{}, err
	}
	proof, end := chain.End()
	if broken == nil {
		broken = end
	}
	if s.cfg.Chain != nil {
		s.cfg.Chain.Answered(proof.Restores)
		if text := s.cfg.Chain.Problem(); broken == nil && since.IsZero() && text != "" {
			broken = errors.New(text)
		}
	}
	v := AuditVerificationOf("audit", proof, broken)
	v.Heads, v.HeadsProblem = len(chain.Heads), problem
	return chain, v, nil
}

// acceptRestore writes that the database came from a backup, and that what the log has lost by that is known. This node signs
// the statement: whoever can write to the database alone cannot make one.
func (s *Server) acceptRestore(ctx context.Context, by Caller, reason string) (AuditRestore, error) {
	if reason == "" {
		return AuditRestore{}, invalid("say why: sallyport audit accept-restore --reason 'the disk of the database was lost'", "it needs a reason")
	}
	if err := checkText("reason", reason, 500); err != nil {
		return AuditRestore{}, err
	}
	if s.cfg.Chain != nil { // what was just written, this command's login among it
		if err := s.cfg.Chain.All(ctx); err != nil {
			return AuditRestore{}, err
		}
	}
	chain, v, err := s.readAudit(ctx, time.Time{})
	if err != nil {
		return AuditRestore{}, err
	}
	r, lost := chain.Loss()
	switch {
	case v.HeadsProblem != "":
		return AuditRestore{}, conflict("see to it that they can be read first", "heads that are kept elsewhere could not all be read: %s", v.HeadsProblem)
	case !v.Proved && !v.Lost:
		return AuditRestore{}, conflict("see: sallyport audit verify", "something else is wrong with the audit log, which no backup explains: %s", v.Problem)
	case !lost:
		return AuditRestore{}, conflict("see: sallyport audit verify", "the audit log has lost nothing: every head that is kept elsewhere is in it")
	}
	r.Node, r.Actor, r.Reason, r.Time = s.cfg.Node, by.Actor, reason, s.cfg.Now().UTC().Truncate(time.Millisecond)
	r.Key, r.Sig = s.cfg.Recorder.Sign(r.SignedText())
	e := r.Event()
	e.Door, e.Source = by.Door, by.source()
	if err := s.cfg.Audit.Emit(ctx, e); err != nil {
		return AuditRestore{}, err
	}
	if s.cfg.Chain != nil {
		s.cfg.Chain.Answered([]audit.Restore{r})
	}
	return auditRestoreOf(r), nil
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
