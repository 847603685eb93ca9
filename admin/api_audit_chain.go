package admin

import (
	"bufio"
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/audit"
)

type auditChainInput struct {
	Since time.Time `query:"since" doc:"begin with the checkpoint before this time"`
}

// AcceptRestore says why the database came from a backup.
type AcceptRestore struct {
	Reason string `json:"reason" maxLength:"500" doc:"why; it stays in the log, and is told with each proof"`
}

type acceptRestoreInput struct {
	Body AcceptRestore
}

const mimeLines = "application/jsonl"

func (s *Server) auditChainRoutes(api huma.API) {
	register(s, api, route(needAuditor, http.MethodGet, "/audit/verification", "audit-verify", "Prove the audit log"),
		func(ctx context.Context, _ Caller, in *auditChainInput) (*body[AuditVerification], error) {
			found, err := s.proveAudit(ctx, in.Since)
			if err != nil {
				return nil, err
			}
			return answer(found), nil
		})
	register(s, api, route(needAdmin, http.MethodPost, "/audit/restores", "audit-accept-restore", "Answer for what the audit log has lost because the database came from a backup"),
		func(ctx context.Context, by Caller, in *acceptRestoreInput) (*body[AuditRestore], error) {
			r, err := s.acceptRestore(ctx, by, in.Body.Reason)
			if err != nil {
				return nil, err
			}
			return answer(r), nil
		})
	op := route(needAuditor, http.MethodGet, "/audit/export", "audit-export", "Export the audit log with its chain, for a proof without this server")
	op.Responses = map[string]*huma.Response{"200": {Description: "One JSON value a line.", Content: map[string]*huma.MediaType{mimeLines: {}}}}
	register(s, api, op, func(ctx context.Context, by Caller, in *auditChainInput) (*huma.StreamResponse, error) {
		err := s.cfg.Audit.Emit(ctx, audit.Event{
			Type: audit.OperatorView, Result: audit.OK, Door: by.Door, Actor: by.Actor, Source: by.source(), Detail: map[string]string{"view": "audit log"},
		})
		if err != nil {
			return nil, err
		}
		return &huma.StreamResponse{Body: func(hc huma.Context) { s.streamAudit(hc, in.Since) }}, nil
	})
}

func (s *Server) streamAudit(hc huma.Context, since time.Time) {
	out := &lateHeader{hc: hc, mime: mimeLines, name: "audit.jsonl"}
	w := bufio.NewWriterSize(out, 64<<10)
	err := s.cfg.Store.Audit.Lines(hc.Context(), since, func(l audit.Line) error {
		text, err := l.Encode()
		if err == nil {
			_, err = w.Write(text)
		}
		return err
	})
	if err == nil {
		err = w.Flush()
	}
	switch {
	case err == nil && !out.begun:
		out.begin()
	case err != nil && !out.begun:
		s.writeProblem(nil, hc, err)
	case err != nil:
		s.cfg.Log.Error("exporting the audit log", "error", err)
		panic(http.ErrAbortHandler)
	}
}
