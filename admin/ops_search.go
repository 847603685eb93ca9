package admin

import (
	"context"
	"errors"
	"strings"
	"time"

	"sallyport/audit"
	"sallyport/store"
)

// byRequest says of a command that the client asked to run it; others were found on the screen.
const byRequest = "request"

// maxQuery bounds what is searched for, in bytes.
const maxQuery = 500

// search looks for a text on the screens of all recordings. Who looks for what is part of the proof: without
// the event nothing is shown.
func (s *Server) search(ctx context.Context, by Caller, f store.SearchFilter) (store.SearchPage, error) {
	if !s.cfg.Search {
		return store.SearchPage{}, conflict("set recordings.search to on in the configuration, and start the server again", "the search is switched off")
	}
	if len(f.Text) > maxQuery {
		return store.SearchPage{}, invalid("look for a part of it", "the text has more than %d bytes", maxQuery)
	}
	detail := map[string]string{"view": "search", "query": f.Text}
	for name, value := range map[string]string{"of-user": f.User, "since": wireMoment(f.Since), "until": wireMoment(f.Until)} {
		if value != "" {
			detail[name] = value
		}
	}
	err := s.cfg.Audit.Emit(ctx, audit.Event{
		Type: audit.OperatorView, Result: audit.OK, Door: by.Door, Actor: by.Actor, Source: by.source(), Target: f.Target, Session: f.Session, Detail: detail,
	})
	if err != nil {
		return store.SearchPage{}, err
	}
	page, err := s.cfg.Store.Search.Find(ctx, f)
	switch {
	case errors.Is(err, store.ErrNoWords):
		return page, invalid("a search goes by words; punctuation counts beside them, as in: rm -rf", "there is no word to search for")
	case errors.Is(err, store.ErrNotFound):
		return page, invalid("begin the search anew", "there is no such place to go on from")
	}
	return page, err
}

func wireMoment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// commands are the commands of a session: those of its exec channels in full, and those that were found on its
// screens, in the order of channels and time.
func (s *Server) commands(ctx context.Context, id string) (store.Session, []SessionCommand, error) {
	x, err := s.session(ctx, id)
	if err != nil {
		return store.Session{}, nil, err
	}
	found, err := s.cfg.Store.Search.Commands(ctx, x.ID)
	if err != nil {
		return store.Session{}, nil, err
	}
	list := []SessionCommand{}
	for _, c := range x.Channels {
		if c.Command != "" {
			list = append(list, SessionCommand{Channel: c.ID, Time: timeOf(c.Started), Command: c.Command, FoundBy: byRequest})
		}
		for _, f := range found {
			if f.Channel == c.ID {
				at := c.Started.Add(f.At)
				list = append(list, SessionCommand{Channel: c.ID, Time: timeOf(at.UTC()), Second: f.At.Seconds(), Command: f.Text, FoundBy: f.FoundBy})
			}
		}
	}
	return x, list, nil
}

// indexNotes says of a session's recordings why what was on the screen cannot be found, or not all of it.
func (s *Server) indexNotes(ctx context.Context, id string) (map[int]string, error) {
	states, err := s.cfg.Store.Search.States(ctx, id)
	notes := map[int]string{}
	for _, x := range states {
		switch note := strings.TrimSuffix(x.Note, "."); x.State {
		case store.SearchPending:
			notes[x.Channel] = "not searchable yet"
			if note != "" {
				notes[x.Channel] += ": " + note
			}
		case store.SearchDone:
			if note != "" {
				notes[x.Channel] = note
			}
		default:
			notes[x.Channel] = "not searchable: " + note
		}
	}
	return notes, err
}
