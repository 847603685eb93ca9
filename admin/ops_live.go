package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/session"
	"sallyport/store"
)

// watch begins to watch a live session on whatever node it is, for whoever may read recordings; channel 0 is the
// first that runs something. What the caller does reaches nothing of the session.
func (s *Server) watch(ctx context.Context, by Caller, id string, channel int) (*session.View, store.Session, error) {
	x, err := s.session(ctx, id)
	if err != nil {
		return nil, x, err
	}
	who := session.Watcher{Name: by.Actor, Began: s.watched(by, x, "began"), Ended: s.watched(by, x, "ended")}
	if by.UserID != "" { // their groups decide whether they moderate: those of now
		u, err := s.cfg.Engine.Present(ctx, by.UserID)
		var refused *auth.Refused
		switch {
		case err == nil:
			who.UserID, who.Login, who.Groups = u.ID, u.Login, u.Groups
		case errors.Is(err, auth.ErrUnavailable):
			who.Note = "whether you may moderate cannot be told just now: the directory does not answer. You only watch"
		case errors.As(err, &refused):
			return nil, x, conflict("sign in anew", "%s", refused.Public)
		default:
			return nil, x, err
		}
	}
	v, err := s.cfg.Sessions.Watch(ctx, x.ID, channel, who)
	switch {
	case errors.Is(err, session.ErrNotWatchable):
		hint := "see its channels: sallyport session show " + x.ID
		if x.State != store.Live {
			hint = "play its recording: sallyport session play " + x.ID
		}
		return nil, x, conflict(hint, "%s", err.Error())
	case errors.Is(err, store.ErrNotFound):
		return nil, x, conflict("play its recording: sallyport session play "+x.ID, "session %s ended just now", x.ID)
	}
	return v, x, err
}

// watched is the event of the beginning or the end of a watch.
func (s *Server) watched(by Caller, x store.Session, what string) audit.Event {
	return audit.Event{
		Type: audit.SessionWatched, Result: audit.OK, Door: by.Door, Actor: by.Actor, Source: by.source(),
		User: x.User, Target: x.Target, Account: x.Account, Session: x.ID, Rule: x.Rule, Detail: map[string]string{"watch": what},
	}
}

// Times of a live view.
const (
	watchLook  = 5 * time.Second  // how often the right to watch is looked at again
	watchDoubt = 15 * time.Second // for how long it may not be known
	entryLook  = 10 * time.Second // how often the directory is asked whether a moderator still is one
	entryDoubt = 15 * time.Minute // for how long it may not answer
	watchWrite = 10 * time.Second // for a watcher to take one event
	watchPulse = 15 * time.Second // between two signs of life
)

// guardView ends v when its watcher may not watch any more. callerOf asks again who they are. It returns when ctx ends.
func (s *Server) guardView(ctx context.Context, v *session.View, by Caller, callerOf func() (Caller, error)) {
	tick := time.NewTicker(watchLook)
	defer tick.Stop()
	last, asked, answered := time.Now(), time.Now(), time.Now()
	moderates := v.Watcher().UserID != ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now, err := callerOf()
		var refused *Problem
		var person store.User
		if err == nil && moderates {
			person, err = s.cfg.Store.Users.ByID(ctx, by.UserID)
		}
		if err == nil && moderates && time.Since(asked) >= entryLook {
			asked = time.Now()
			entry, problem := s.cfg.Engine.Present(ctx, by.UserID)
			var out *auth.Refused
			switch {
			case problem == nil:
				person, answered = entry, asked
			case !errors.Is(problem, auth.ErrUnavailable) && errors.As(problem, &out):
				v.End(strings.TrimSuffix(out.Public, "."))
				return
			case asked.Sub(answered) > entryDoubt:
				v.End("the directory does not answer, so that nobody can tell whether you may still moderate")
				return
			}
		}
		switch {
		case err == nil && moderates && !slices.Equal(person.Groups, v.Watcher().Groups): // by which they may moderate, or do not any more
			v.End("your groups have changed; watch again")
			return
		case err == nil && now.Actor == by.Actor && now.UserID == by.UserID && needAuditor.allows(now.Role):
			last = time.Now()
		case err == nil, errors.As(err, &refused), time.Since(last) > watchDoubt:
			v.End("you are signed out, or may not watch any more")
			return
		}
	}
}

// watchers are those who watch a session now, as people read them.
func (s *Server) watchers(ctx context.Context, id string) ([]Watching, error) {
	list, err := s.cfg.Store.Watching.Watches(ctx, id)
	if err != nil {
		return nil, err
	}
	out := make([]Watching, len(list))
	for i, w := range list {
		out[i] = Watching{Watcher: w.Watcher, Channel: w.Channel, Node: w.Node, Since: timeOf(w.Started)}
	}
	return out, nil
}

// castOf sends a live view as the lines of an asciicast v3, until it is over; the error is of send.
func castOf(ctx context.Context, v *session.View, send func(line []byte) error) error {
	var cast session.CastWriter
	for {
		next, cancel := context.WithTimeout(ctx, watchPulse)
		e, err := v.Next(next)
		cancel()
		switch {
		case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
			err = send(nil)
		case err != nil:
			return nil // the end, which was told, or the watcher has left
		default:
			for _, line := range cast.Lines(e) {
				if err = send(line); err != nil {
					break
				}
			}
		}
		if err != nil {
			return fmt.Errorf("sending a live view: %w", err)
		}
	}
}
