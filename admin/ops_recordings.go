package admin

import (
	"context"
	"errors"
	"os"
	"time"

	"sallyport/audit"
	"sallyport/store"
)

// recordings tells of the recordings of a session and its hold.
func (s *Server) recordings(ctx context.Context, id string) (SessionRecordings, error) {
	x, err := s.session(ctx, id)
	if err != nil {
		return SessionRecordings{}, err
	}
	rows, err := s.cfg.Store.Recordings.Of(ctx, x.ID)
	if err != nil {
		return SessionRecordings{}, err
	}
	holds, err := s.cfg.Store.Recordings.Holds(ctx, x.ID)
	if err != nil {
		return SessionRecordings{}, err
	}
	found := SessionRecordings{Session: x.ID, Recordings: list(rows, wireRecording)}
	if h, held := holds[x.ID]; held {
		found.Hold = &SessionHold{Reason: h.Reason, By: h.Actor, Since: timeOf(h.Created)}
	}
	return found, nil
}

// hold keeps the recordings of a session whatever their age, until release.
func (s *Server) hold(ctx context.Context, by Caller, id, reason string) error {
	x, err := s.session(ctx, id)
	if err != nil {
		return err
	}
	if reason == "" {
		return invalid("say why: sallyport session hold "+x.ID+" --reason 'case 4711'", "a hold needs a reason")
	}
	if err := checkText("reason", reason, 500); err != nil {
		return err
	}
	err = s.cfg.Store.Recordings.Hold(ctx, store.Hold{SessionID: x.ID, Reason: reason, Actor: by.Actor})
	if errors.Is(err, store.ErrBeingRemoved) {
		return conflict("see: sallyport session show "+x.ID, "a recording of session %s is being deleted at this moment, its time is over", x.ID)
	}
	if err != nil {
		return err
	}
	s.changed(ctx, by, "session.hold", audit.Event{User: x.User, Target: x.Target, Account: x.Account, Session: x.ID, Reason: reason})
	return nil
}

// release ends a hold: from then on the recordings are deleted when their time is over.
func (s *Server) release(ctx context.Context, by Caller, id string) error {
	x, err := s.session(ctx, id)
	if err != nil {
		return err
	}
	if err := ifNotFound(s.cfg.Store.Recordings.Release(ctx, x.ID), "see: sallyport session show "+x.ID, "session %s is not held", x.ID); err != nil {
		return err
	}
	s.changed(ctx, by, "session.release", audit.Event{User: x.User, Target: x.Target, Account: x.Account, Session: x.ID})
	return nil
}

// giveUp waits no longer for what a node that never comes back has of the recordings of a session.
func (s *Server) giveUp(ctx context.Context, by Caller, id, reason string) (GivenUp, error) {
	x, err := s.session(ctx, id)
	if err != nil {
		return GivenUp{}, err
	}
	if reason == "" {
		return GivenUp{}, invalid("say why: sallyport session give-up "+x.ID+" --reason 'the disk is destroyed'", "giving up needs a reason")
	}
	if err := checkText("reason", reason, 500); err != nil {
		return GivenUp{}, err
	}
	e, err := s.cfg.Audit.Complete(audit.Event{
		Type: audit.OperatorChange, Result: audit.OK, Door: by.Door, Actor: by.Actor, Source: by.source(),
		User: x.User, Target: x.Target, Account: x.Account, Session: x.ID, Reason: reason, Detail: map[string]string{"change": "session.give-up", "lost-node": x.Node},
	})
	if err != nil {
		return GivenUp{}, err
	}
	_, hasStore := s.cfg.Recorder.Shipping()
	n, err := s.cfg.Store.Recordings.GiveUp(ctx, x.ID, hasStore, e)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return GivenUp{}, conflict("see: sallyport session show "+x.ID, "no recording of session %s waits for a lost node", x.ID)
	case errors.Is(err, store.ErrConflict):
		return GivenUp{}, conflict("try again in a minute", "what has reached the bucket of session %s is being sealed", x.ID)
	case err != nil:
		return GivenUp{}, err
	}
	s.cfg.Audit.Print(ctx, e)
	return GivenUp{ID: x.ID, Recordings: n}, nil
}

// readable refuses to read a recording that is not to be had here, and says where it is.
func (s *Server) readable(ctx context.Context, x store.Session, c store.Channel) error {
	if s.cfg.Recorder.Here(c.Recording) {
		return nil
	}
	rows, err := s.cfg.Store.Recordings.Of(ctx, x.ID)
	if err != nil {
		return err
	}
	for _, r := range rows {
		if r.Channel == c.ID && (r.State == store.RecordingRemoved || r.State == store.RecordingRemoving) {
			if !r.GivenUp.IsZero() && r.Root == "" {
				return notFound("see who gave it up: sallyport audit list --session "+x.ID, "all of the recording was on node %s, which never came back", audit.Escape(r.Node))
			}
			return notFound("its signed root is in the audit log: sallyport audit list --type recording.deleted", "the recording was deleted when its time was over")
		}
	}
	if _, err := s.cfg.Recorder.Parts(ctx, c.Recording); errors.Is(err, os.ErrNotExist) && x.Node != s.cfg.Node {
		return notFound("ask node "+x.Node+", or wait until it is back", "the recording is on the disk of node %s", audit.Escape(x.Node))
	}
	return nil
}

// recordingStatus tells how it stands with recordings on all nodes, and with those of this one that wait.
func (s *Server) recordingStatus(ctx context.Context) (RecordingStatus, error) {
	u, err := s.cfg.Store.Recordings.Usage(ctx)
	if err != nil {
		return RecordingStatus{}, err
	}
	free, err := s.cfg.Recorder.Free()
	if err != nil {
		return RecordingStatus{}, err
	}
	st := RecordingStatus{
		Node: s.cfg.Node, Kept: u.Kept, KeptBytes: u.Packed, OnNodes: u.AtNodes, TailPending: u.Pending, HeldSessions: u.Held, FreeBytes: free,
		ReserveBytes: s.cfg.Reserve, QuotaBytes: s.cfg.Quota,
	}
	if err := s.cfg.Recorder.Accepting(); err != nil {
		st.Refusing = audit.Escape(err.Error())
	}
	sh, hasStore := s.cfg.Recorder.Shipping()
	st.Store = hasStore
	st.Waiting, st.WaitingBytes, st.WaitingSince, st.Failures, st.Stored = sh.Recordings, sh.Bytes, timeOf(sh.Oldest), sh.Failures, sh.Stored
	if sh.Err != nil {
		st.Problem = audit.Escape(sh.Err.Error())
	}
	return st, nil
}

// lateUpload is how long recordings may wait for the store before it is worth a word.
const lateUpload = 10 * time.Minute
