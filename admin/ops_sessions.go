package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"sallyport/audit"
	"sallyport/recorder"
	"sallyport/session"
	"sallyport/store"
)

const seeSessions = "see: sallyport session list"

// session finds a session by id, with the counters of this moment if it is live on this node.
func (s *Server) session(ctx context.Context, id string) (store.Session, error) {
	x, err := s.cfg.Store.Sessions.Get(ctx, id)
	if err := ifNotFound(err, seeSessions, "there is no session of that id"); err != nil {
		return store.Session{}, err
	}
	return s.withCounters([]store.Session{x})[0], nil
}

// sessionList lists sessions, newest first.
func (s *Server) sessionList(ctx context.Context, f store.SessionFilter) ([]store.Session, error) {
	list, err := s.cfg.Store.Sessions.List(ctx, f)
	if err != nil {
		return nil, err
	}
	return s.withCounters(list), nil
}

// withCounters takes channels from the live connections of this node: the database learns their
// bytes only when they close.
func (s *Server) withCounters(list []store.Session) []store.Session {
	live := map[string]session.Info{}
	for _, i := range s.cfg.Sessions.Live() {
		live[i.ID] = i
	}
	for i, x := range list {
		if info, ok := live[x.ID]; ok {
			list[i].Channels = mergeChannels(x.Channels, info.Channels)
		}
	}
	return list
}

func mergeChannels(rows, live []store.Channel) []store.Channel {
	for _, c := range live {
		i := slices.IndexFunc(rows, func(r store.Channel) bool { return r.ID == c.ID })
		switch {
		case i < 0:
			rows = append(rows, c)
		case rows[i].Ended.IsZero():
			rows[i].BytesIn, rows[i].BytesOut = c.BytesIn, c.BytesOut
			rows[i].FilesRead, rows[i].FilesWritten = c.FilesRead, c.FilesWritten
		}
	}
	return rows
}

// endSession ends a live session on whatever node it is; the person reads message.
func (s *Server) endSession(ctx context.Context, by Caller, id, message string) error {
	x, err := s.session(ctx, id)
	if err != nil {
		return err
	}
	if err := checkText("message", message, 500); err != nil {
		return err
	}
	if x.State != store.Live {
		return conflict("see: sallyport session list --only live", "session %s is over", x.ID)
	}
	err = s.cfg.Sessions.End(ctx, x.ID, by.Actor, message)
	if errors.Is(err, store.ErrNotFound) {
		err = conflict("see: sallyport session list --only live", "session %s ended just now", x.ID)
	}
	if err != nil {
		return err
	}
	s.changed(ctx, by, "session.end", audit.Event{
		User: x.User, Target: x.Target, Account: x.Account, Session: x.ID, Reason: message,
	})
	return nil
}

// endSessions ends what is live of f. The change that leads here is done already and keeps new
// sessions out: what cannot be ended is logged.
func (s *Server) endSessions(ctx context.Context, by Caller, f store.SessionFilter, message string) {
	f.State = store.Live
	for {
		list, err := s.cfg.Store.Sessions.List(ctx, f)
		if err != nil {
			s.cfg.Log.ErrorContext(ctx, "listing sessions to end", "error", err)
			return
		}
		for _, x := range list {
			if err := s.cfg.Sessions.End(ctx, x.ID, by.Actor, message); err != nil && !errors.Is(err, store.ErrNotFound) {
				s.cfg.Log.ErrorContext(ctx, "ending a session", "session", x.ID, "error", err)
			}
		}
		if len(list) == 0 {
			return
		}
		f.Before = list[len(list)-1].ID
	}
}

// recording finds the recording of one channel; channel 0 is the first that has one.
func (s *Server) recording(ctx context.Context, id string, channel int) (store.Session, store.Channel, error) {
	x, err := s.session(ctx, id)
	if err != nil {
		return store.Session{}, store.Channel{}, err
	}
	for _, c := range x.Channels {
		if c.Recording != "" && (channel == 0 || c.ID == channel) {
			return x, c, s.readable(ctx, x, c)
		}
	}
	if channel != 0 {
		return x, store.Channel{}, notFound("see its channels: sallyport session show "+x.ID, "channel %d of session %s has no recording", channel, x.ID)
	}
	return x, store.Channel{}, notFound("see the rule: sallyport session show "+x.ID, "session %s has no recording", x.ID)
}

// viewed leaves the audit event of a replay or an export, before the first byte is shown: who watches
// is part of the proof. The error refuses.
func (s *Server) viewed(ctx context.Context, by Caller, x store.Session, channel int, how string) error {
	return s.cfg.Audit.Emit(ctx, audit.Event{
		Type: audit.OperatorView, Result: audit.OK, Door: by.Door, Actor: by.Actor, Source: by.source(),
		User: x.User, Target: x.Target, Account: x.Account, Session: x.ID,
		Detail: map[string]string{"channel": fmt.Sprint(channel), "view": how},
	})
}

// verify proves the recordings of a session, one answer for each channel that has one.
func (s *Server) verify(ctx context.Context, id string) ([]Verification, error) {
	x, err := s.session(ctx, id)
	if err != nil {
		return nil, err
	}
	log, err := s.witness(ctx, x.ID)
	if err != nil {
		return nil, err
	}
	found := log.missing(x)
	for _, c := range x.Channels {
		if c.Recording == "" {
			continue
		}
		var report recorder.Report
		err := s.readable(ctx, x, c)
		if err == nil {
			report, err = s.cfg.Recorder.Verify(c.Recording)
		}
		if err == nil && (report.Session != x.ID || report.Channel != c.ID) { // the table says whose it is, and may have been altered
			err = fmt.Errorf("%w: it is the recording of channel %d of session %s", recorder.ErrDamaged, report.Channel, report.Session)
		}
		v := VerificationOf(fmt.Sprintf("%s/%d", x.ID, c.ID), report, err)
		log.check(&v, c.Recording)
		found = append(found, v)
	}
	found = log.checkSession(x.ID, found)
	if len(found) == 0 {
		return nil, notFound("see the rule: sallyport session show "+x.ID, "session %s has no recording", x.ID)
	}
	return found, nil
}

// keys are the public keys by which recordings are verified: this node's first.
func (s *Server) keys() ([]RecordingKey, error) {
	list := []RecordingKey{}
	for _, k := range s.cfg.Recorder.Keys() {
		text, err := k.MarshalPEM()
		if err != nil {
			return nil, fmt.Errorf("writing a public key as PEM: %w", err)
		}
		list = append(list, RecordingKey{ID: k.ID(), PEM: string(text), Node: strings.Join(k.Nodes, ", "), CompromisedFrom: timeOf(k.CompromisedFrom)})
	}
	return list, nil
}
