package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/store"
)

type searchInput struct {
	Text    string    `query:"text" required:"true" maxLength:"500" doc:"stands on one line, words whole; * after the last word: it may go on; upper and lower case are alike"`
	User    string    `query:"user" maxLength:"255"`
	Target  string    `query:"target" maxLength:"255"`
	Session string    `query:"session" maxLength:"100"`
	Since   time.Time `query:"since" doc:"seen at this time or later"`
	Until   time.Time `query:"until" doc:"seen before this time"`
	Before  string    `query:"before" maxLength:"50" doc:"next of the page before: older hits"`
	Limit   int       `query:"limit" minimum:"1" maximum:"1000" default:"50"`
}

// SearchResult is a page of hits.
type SearchResult struct {
	Hits         []SearchHit `json:"hits" nullable:"false" doc:"newest first"`
	Next         string      `json:"next" doc:"for before: where older hits begin; empty: there are none"`
	SearchedDown *time.Time  `json:"searched_down_to" doc:"the search gave up here before the page was full; go on with next"`
}

// SearchHit is a line that was on the screen of a session.
type SearchHit struct {
	ID      string     `json:"id"`
	Time    *time.Time `json:"time" doc:"when the line was complete"`
	Session string     `json:"session"`
	Channel int        `json:"channel"`
	Second  float64    `json:"second" doc:"the same time, in the recording"`
	User    string     `json:"user"`
	Target  string     `json:"target"`
	Account string     `json:"account"`
	Line    string     `json:"line"`
	From    int        `json:"from" doc:"where in the line the text begins, in bytes of UTF-8"`
	To      int        `json:"to"`
}

// SessionCommand is a command of a session.
type SessionCommand struct {
	Channel int        `json:"channel"`
	Time    *time.Time `json:"time"`
	Second  float64    `json:"second" doc:"in the recording"`
	Command string     `json:"command"`
	FoundBy string     `json:"found_by" enum:"request,prompt,marks" doc:"request: what the client asked to run, in full. Others are an aid, found on the screen: behind what looks like a prompt, or between the shell's own marks"`
}

func (s *Server) searchRoutes(api huma.API) {
	register(s, api, route(needAuditor, http.MethodGet, "/search", "search", "Search what was on the screens"),
		func(ctx context.Context, by Caller, in *searchInput) (*body[SearchResult], error) {
			page, err := s.search(ctx, by, store.SearchFilter{
				Text: in.Text, User: in.User, Target: in.Target, Session: in.Session, Since: in.Since, Until: in.Until, Before: in.Before, Limit: in.Limit,
			})
			if err != nil {
				return nil, err
			}
			return answer(SearchResult{Hits: list(page.Hits, wireHit), Next: page.Next, SearchedDown: timeOf(page.Upto)}), nil
		})
	register(s, api, route(needAuditor, http.MethodGet, "/sessions/{id}/commands", "session-commands", "List the commands of a session"),
		func(ctx context.Context, by Caller, in *byID) (*body[[]SessionCommand], error) {
			x, commands, err := s.commands(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			if err := s.viewed(ctx, by, x, 0, "commands"); err != nil {
				return nil, err
			}
			return answer(commands), nil
		})
}

func wireHit(h store.SearchHit) SearchHit {
	return SearchHit{
		ID: h.ID, Time: timeOf(h.Time), Session: h.Session, Channel: h.Channel, Second: h.At.Seconds(), User: h.User, Target: h.Target, Account: h.Account,
		Line: h.Line, From: h.From, To: h.To,
	}
}
