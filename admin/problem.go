package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/internal/web"
	"sallyport/policy"
	"sallyport/recorder"
	"sallyport/store"
)

// Error gives what went wrong in words.
func (p *Problem) Error() string { return p.Detail }

// GetStatus gives the HTTP status; it makes a Problem a huma.StatusError.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType is the media type of RFC 9457, section 3.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// invalid is a refusal of what was sent. The hint says what would have been right.
func invalid(hint, format string, args ...any) error {
	return &Problem{Status: http.StatusUnprocessableEntity, Detail: fmt.Sprintf(format, args...), Hint: hint}
}

// conflict is a refusal because of what is there already.
func conflict(hint, format string, args ...any) error {
	return &Problem{Status: http.StatusConflict, Detail: fmt.Sprintf(format, args...), Hint: hint}
}

// notFound is a refusal because what was named is not there.
func notFound(hint, format string, args ...any) error {
	return &Problem{Status: http.StatusNotFound, Detail: fmt.Sprintf(format, args...), Hint: hint}
}

func tooManyTokens(wait time.Duration) error {
	return &Problem{
		Status: http.StatusTooManyRequests, Detail: "too many wrong API tokens came from this address", retry: wait,
		Hint: "wait " + web.Plural(int(wait.Seconds()), "second", "seconds") + ", then send a token that is listed by: sallyport api-token list",
	}
}

// ifNotFound replaces store.ErrNotFound by a refusal in words, and leaves other errors as they are.
func ifNotFound(err error, hint, format string, args ...any) error {
	if errors.Is(err, store.ErrNotFound) {
		return notFound(hint, format, args...)
	}
	return err
}

// problemOf turns any error into what a caller may read. What is not meant for callers becomes one
// neutral sentence, and its cause goes to the log.
func (s *Server) problemOf(ctx context.Context, err error) *Problem {
	var p *Problem
	var parse *policy.ParseError
	switch {
	case errors.As(err, &p):
		c := *p
		p = &c
	case errors.As(err, &parse):
		p = &Problem{
			Status: http.StatusUnprocessableEntity, Detail: parse.Msg, Line: parse.Line, Column: parse.Column, Excerpt: parse.Excerpt,
			Hint: "correct the line and apply again; the words are explained in docs/rules.md",
		}
	case errors.Is(err, recorder.ErrEncrypted):
		p = &Problem{
			Status: http.StatusConflict, Detail: "the recording is encrypted to its recipients, and this server cannot read it",
			Hint: "whoever has the key of a recipient: sallyport session play ID --identity FILE, or session export ID --identity FILE",
		}
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, auth.ErrUnavailable):
		s.cfg.Log.ErrorContext(ctx, "operator's request", "error", err)
		p = &Problem{Status: http.StatusServiceUnavailable, Detail: "the database or the directory is not available", Hint: "see the server's log, and run: sallyport check"}
	case errors.Is(err, store.ErrNotFound):
		p = &Problem{Status: http.StatusNotFound, Detail: "there is no such thing any more", Hint: "list what there is"}
	case errors.Is(err, store.ErrExists), errors.Is(err, store.ErrNameTaken):
		p = &Problem{Status: http.StatusConflict, Detail: "this exists already", Hint: "list what there is"}
	default:
		s.cfg.Log.ErrorContext(ctx, "operator's request", "error", err)
		p = &Problem{Status: http.StatusInternalServerError, Detail: "the server could not do this", Hint: "the cause is in the server's log"}
	}
	p.Title = http.StatusText(p.Status)
	return p
}

// changed leaves the audit event of a change, such as "user.add". e says what was changed: User,
// Target, Session or Detail. The change is done by now: if the row cannot be written at once, the log
// keeps the event and writes it later.
func (s *Server) changed(ctx context.Context, by Caller, change string, e audit.Event) {
	e.Type, e.Result, e.Door, e.Actor, e.Source = audit.OperatorChange, audit.OK, by.Door, by.Actor, by.source()
	if e.Detail == nil {
		e.Detail = map[string]string{}
	}
	e.Detail["change"] = change
	s.emit(ctx, e)
}

func (s *Server) emit(ctx context.Context, e audit.Event) {
	if err := s.cfg.Audit.Emit(ctx, e); err != nil {
		s.cfg.Log.ErrorContext(ctx, "audit event waits in memory", "error", err)
	}
}
