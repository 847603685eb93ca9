package admin

import (
	"context"
	"fmt"
	"time"

	"sallyport/audit"
	"sallyport/internal/web"
)

// auditProofData is the dot of the page that proves the audit log.
type auditProofData struct {
	AuditVerification
	Events int64
	Part   int // not all of the log, but so many days
	Keys   []RecordingKey
}

// A log of more events than provedAtOnce, which takes about two seconds, is not proved whole while somebody waits
// for a page.
const (
	provedAtOnce = 200_000
	provedDays   = 7
)

func (s *Server) auditVerifyPage(v *visit) error {
	state, err := s.cfg.Store.Audit.ChainState(v.ctx())
	if err != nil {
		return err
	}
	var since time.Time
	d := auditProofData{}
	if state.Last.Position > provedAtOnce {
		d.Part = provedDays
		since = v.now().AddDate(0, 0, -provedDays)
	}
	if d.AuditVerification, err = s.proveAudit(v.ctx(), since); err != nil {
		return err
	}
	d.Events = max(d.Last-d.First+1, 0)
	if d.Keys, err = s.keys(); err != nil {
		return err
	}
	v.show("audit_verify", web.Page{Title: "Proof of the audit log", Section: "audit", Data: d})
	return nil
}

// chainLate is after how long an event without a place in the chain is a bad sign.
const chainLate = 15 * time.Second

// auditHealth tells how the audit log stands.
func (s *Server) auditHealth(ctx context.Context) healthLine {
	line := healthLine{"Audit log", "ok", "all events are written"}
	if waiting := s.cfg.Audit.Pending(); waiting > 0 {
		return healthLine{line.Name, "warn", web.Plural(waiting, "event waits", "events wait") + " for the database"}
	}
	if s.cfg.Chain == nil {
		return line
	}
	state, err := s.cfg.Store.Audit.ChainState(ctx)
	switch problem := s.cfg.Chain.Problem(); {
	case problem != "":
		return healthLine{line.Name, "bad", audit.Escape(problem)}
	case err != nil:
		return healthLine{line.Name, "bad", "its chain cannot be read"}
	case state.Unchained > 0 && s.cfg.Now().Sub(state.Oldest) > chainLate:
		return healthLine{line.Name, "warn", fmt.Sprintf("events that are not chained: %d, the oldest for %s", state.Unchained, web.Span(s.cfg.Now().Sub(state.Oldest)))}
	case state.Last.Position > 0:
		line.Detail = fmt.Sprintf("all events are written; %d are chained, last signed by %s", state.Last.Position, audit.Escape(state.Last.Node))
	}
	return line
}
