package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/coder/websocket"
	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"sallyport/session"
)

type liveInput struct {
	ID      string `path:"id" maxLength:"100"`
	Channel int    `query:"channel" minimum:"0" maximum:"9999" doc:"0: the first that runs something, which is waited for"`
}

// liveRoutes are the live view as a stream, and who watches.
func (s *Server) liveRoutes(api huma.API, callerOf func(*http.Request) (Caller, error)) {
	register(s, api, route(needAuditor, http.MethodGet, "/sessions/{id}/watchers", "session-watchers", "List who watches a live session"),
		func(ctx context.Context, _ Caller, in *byID) (*body[[]Watching], error) {
			x, err := s.session(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			list, err := s.watchers(ctx, x.ID)
			if err != nil {
				return nil, err
			}
			return answer(list), nil
		})
	op := route(needAuditor, http.MethodGet, "/sessions/{id}/live", "session-watch", "Watch a live session")
	op.Description += " An asciicast v3 that goes on for as long as the channel does: first the present screen, then what happens. " +
		"Empty lines are signs of life; a marker (m) at the end says why it is over."
	op.Responses = map[string]*huma.Response{"200": {Description: "The present screen, and what happens.", Content: map[string]*huma.MediaType{mimeCast: {}}}}
	register(s, api, op, func(ctx context.Context, by Caller, in *liveInput) (*huma.StreamResponse, error) {
		v, _, err := s.watch(ctx, by, in.ID, in.Channel)
		if err != nil {
			return nil, err
		}
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			defer v.Close()
			r, w := humago.Unwrap(hc)
			ctx, cancel := context.WithCancel(r.Context())
			defer cancel()
			go s.guardView(ctx, v, by, func() (Caller, error) { return callerOf(r) })
			s.streamView(ctx, w, v)
		}}, nil
	})
}

func (s *Server) streamView(ctx context.Context, w http.ResponseWriter, v *session.View) {
	w.Header().Set("Content-Type", mimeCast)
	w.Header().Set("X-Accel-Buffering", "no") // nginx would keep it back
	control := http.NewResponseController(w)
	_ = castOf(ctx, v, func(line []byte) error { // the watcher has left
		_ = control.SetWriteDeadline(time.Now().Add(watchWrite)) // where it cannot be set, the connection's own limits hold
		if _, err := w.Write(append(line, '\n')); err != nil {
			return err
		}
		return control.Flush()
	})
}

// livePath is where browsers watch. It is beside the routes of huma, which know no WebSockets.
const livePath = "GET " + apiPath + "/sessions/{id}/live/socket"

// liveSocket shows a live session to the player of a page: a WebSocket on which each line of an asciicast is a message.
// Nothing that comes in is read. Other sites' pages are refused by their Origin, and have no cookie.
func (s *Server) liveSocket(w http.ResponseWriter, r *http.Request) {
	by, err := s.webCaller(r)
	if err == nil && !needAuditor.allows(by.Role) {
		err = forbidden(by)
	}
	if err == nil && r.Header.Get("Upgrade") == "" {
		err = invalid("open it as a WebSocket, or ask for …/live", "this is a WebSocket")
	}
	channel := 0
	if err == nil {
		channel, err = channelNumber(r.URL.Query().Get("channel"))
	}
	if err == nil && !sameOrigin(r) {
		err = &Problem{Status: http.StatusForbidden, Detail: "this request came from another site's page", Hint: "open the page of the session itself"}
	}
	if err != nil {
		s.sendProblem(w, r, err)
		return
	}
	v, _, err := s.watch(r.Context(), by, r.PathValue("id"), channel)
	if err != nil {
		s.sendProblem(w, r, err)
		return
	}
	defer v.Close()
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"v3.asciicast"}})
	if err != nil {
		return // it has answered
	}
	defer c.CloseNow()
	watching, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	defer cancel()
	go func() { // returns when the watcher has left; nothing may come in
		defer cancel()
		_, _, _ = c.Reader(watching)
	}()
	go s.guardView(watching, v, by, func() (Caller, error) { return s.webCaller(r) })
	err = castOf(watching, v, func(line []byte) error {
		ctx, cancel := context.WithTimeout(watching, watchWrite)
		defer cancel()
		if line == nil {
			return c.Ping(ctx)
		}
		return c.Write(ctx, websocket.MessageText, line)
	})
	v.Close() // at once: the person is told
	if err == nil && watching.Err() == nil {
		_ = c.Close(websocket.StatusNormalClosure, "") // with any other status the player tries again
	}
}

// sameOrigin tells that a page of this very site asks, or no page at all.
func sameOrigin(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	return origin == "" || origin == "https://"+r.Host || origin == "http://"+r.Host
}
