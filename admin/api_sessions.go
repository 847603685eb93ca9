package admin

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/recorder"
	"sallyport/store"
)

type sessionsInput struct {
	State  string    `query:"state" enum:"live,ended,lost"`
	User   string    `query:"user" maxLength:"255"`
	Target string    `query:"target" maxLength:"255"`
	Source string    `query:"source" maxLength:"64"`
	Since  time.Time `query:"since" doc:"started at this time or later"`
	Until  time.Time `query:"until" doc:"started before this time"`
	Before string    `query:"before" maxLength:"100" doc:"id: older than this session"`
	Limit  int       `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

type recordingInput struct {
	ID      string `path:"id" maxLength:"100"`
	Channel int    `query:"channel" minimum:"0" maximum:"9999" doc:"0: the first that has a recording"`
	Format  string `query:"format" enum:"asciicast3,asciicast2,text,json,encrypted" default:"asciicast3"`
	For     string `query:"for" enum:"export,replay" default:"export" doc:"named in the audit log"`
}

type endInput struct {
	ID   string `path:"id" maxLength:"100"`
	Body NewEnd
}

func (s *Server) sessionRoutes(api huma.API) {
	register(s, api, route(needAuditor, http.MethodGet, "/sessions", "session-list", "List sessions"),
		func(ctx context.Context, _ Caller, in *sessionsInput) (*body[[]Session], error) {
			sessions, err := s.sessionList(ctx, store.SessionFilter{
				State: in.State, User: in.User, Target: in.Target, Source: in.Source,
				Since: in.Since, Until: in.Until, Before: in.Before, Limit: in.Limit,
			})
			if err != nil {
				return nil, err
			}
			return answer(list(sessions, wireSession)), nil
		})
	register(s, api, route(needAuditor, http.MethodGet, "/sessions/{id}", "session-show", "Show a session"),
		func(ctx context.Context, _ Caller, in *byID) (*body[Session], error) {
			x, err := s.session(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			return answer(wireSession(x)), nil
		})
	register(s, api, route(needAdmin, http.MethodPost, "/sessions/{id}/end", "session-end", "End a live session"),
		func(ctx context.Context, by Caller, in *endInput) (*nothing, error) {
			return &nothing{}, s.endSession(ctx, by, in.ID, in.Body.Message)
		})
	register(s, api, route(needAuditor, http.MethodGet, "/sessions/{id}/verification", "session-verify", "Prove the recordings of a session"),
		func(ctx context.Context, _ Caller, in *byID) (*body[[]Verification], error) {
			found, err := s.verify(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			return answer(found), nil
		})
	s.recordingRoute(api)
	s.recordingRoutes(api)
	s.fileRoutes(api)
}

// Media types of exports.
const (
	mimeCast = "application/x-asciicast"
	mimeText = "text/plain; charset=utf-8"
	mimeJSON = "application/json"
	mimeTar  = "application/x-tar"
)

// recordingRoute streams one recording. A stream that breaks off is not ended properly, so that the
// receiver never takes a part for the whole.
func (s *Server) recordingRoute(api huma.API) {
	op := route(needAuditor, http.MethodGet, "/sessions/{id}/recording", "session-export", "Export the recording of one channel")
	op.Responses = map[string]*huma.Response{"200": {Description: "The recording.", Content: map[string]*huma.MediaType{
		mimeCast: {}, mimeText: {}, mimeJSON: {}, mimeTar: {},
	}}}
	register(s, api, op, func(ctx context.Context, by Caller, in *recordingInput) (*huma.StreamResponse, error) {
		x, c, err := s.recording(ctx, in.ID, in.Channel)
		if err != nil {
			return nil, err
		}
		if err := s.viewed(ctx, by, x, c.ID, in.For+" "+in.Format); err != nil {
			return nil, err
		}
		return &huma.StreamResponse{Body: func(hc huma.Context) { s.streamRecording(hc, x.ID, c, recorder.Format(in.Format)) }}, nil
	})
}

func (s *Server) streamRecording(hc huma.Context, id string, c store.Channel, f recorder.Format) {
	mime, suffix := mimeCast, "cast"
	switch f {
	case recorder.Text:
		mime, suffix = mimeText, "txt"
	case recorder.JSON:
		mime, suffix = mimeJSON, "json"
	case recorder.Encrypted:
		mime, suffix = mimeTar, "tar"
	}
	out := &lateHeader{hc: hc, mime: mime, name: fmt.Sprintf("%s-%d.%s", id, c.ID, suffix)}
	w := bufio.NewWriterSize(out, 64<<10)
	err := s.cfg.Recorder.Export(w, c.Recording, f)
	if err == nil {
		err = w.Flush()
	}
	switch {
	case err == nil && !out.begun:
		out.begin()
	case err != nil && !out.begun:
		s.writeProblem(nil, hc, err)
	case err != nil:
		s.cfg.Log.Error("exporting a recording", "session", id, "channel", c.ID, "error", err)
		panic(http.ErrAbortHandler)
	}
}

// lateHeader sends the head of the answer with the first bytes, so that an error before them can
// still be told.
type lateHeader struct {
	hc         huma.Context
	mime, name string
	begun      bool
}

func (l *lateHeader) begin() {
	l.begun = true
	l.hc.SetHeader("Content-Type", l.mime)
	l.hc.SetHeader("Content-Disposition", `attachment; filename="`+l.name+`"`)
	l.hc.SetStatus(http.StatusOK)
}

func (l *lateHeader) Write(p []byte) (int, error) {
	if !l.begun {
		l.begin()
	}
	return l.hc.BodyWriter().Write(p)
}
