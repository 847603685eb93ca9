package admin

import (
	"fmt"
	"time"

	"sallyport/audit"
	"sallyport/internal/web"
	"sallyport/store"
)

// keepView tells on a session's page how long its recordings are kept.
type keepView struct {
	Words []string // one for each recording
	Hold  *store.Hold

	Pending bool // there are recordings that wait for a lost node, and can be given up
}

func (s *Server) viewKeep(v *visit, x store.Session) (keepView, error) {
	rows, err := s.cfg.Store.Recordings.Of(v.ctx(), x.ID)
	if err != nil {
		return keepView{}, err
	}
	holds, err := s.cfg.Store.Recordings.Holds(v.ctx(), x.ID)
	if err != nil {
		return keepView{}, err
	}
	var k keepView
	if h, held := holds[x.ID]; held {
		k.Hold = &h
	}
	for _, r := range rows {
		k.Pending = k.Pending || r.State == store.RecordingPending && r.GivenUp.IsZero()
		words := recordingInWords(wireRecording(r), k.Hold != nil)
		if len(rows) > 1 {
			words = fmt.Sprintf("channel %d: %s", r.Channel, words)
		}
		k.Words = append(k.Words, words)
	}
	return k, nil
}

// recordingInWords tells what has become of a recording, and how long it is kept.
func recordingInWords(r Recording, held bool) string {
	where := "in the bucket"
	if r.OnNode {
		where = "on node " + audit.Escape(r.Node)
	}
	if r.GivenUp != nil {
		where += ", its tail given up on " + r.GivenUp.UTC().Format(time.DateOnly)
	}
	switch {
	case r.State == store.RecordingOpen:
		return "being written " + where
	case r.State == store.RecordingPending && r.Parts > 0:
		return fmt.Sprintf("tail pending: %s is sealed, the rest is on node %s", web.Size(r.Bytes), audit.Escape(r.Node))
	case r.State == store.RecordingPending:
		return "tail pending: all of it is on node " + audit.Escape(r.Node)
	case r.State == store.RecordingRemoving:
		return "being deleted"
	case r.Removed != nil && r.GivenUp != nil && r.Root == "":
		return "given up on " + r.GivenUp.UTC().Format(time.DateOnly) + ": all of it was on node " + audit.Escape(r.Node)
	case r.Removed != nil:
		return "deleted on " + r.Removed.UTC().Format(time.DateOnly) + "; its root stays: " + r.Root
	case held:
		return "sealed, " + where + ", held"
	case r.DeleteAfter == nil:
		return "sealed, " + where + ", kept for ever"
	}
	return "sealed, " + where + ", kept until " + r.DeleteAfter.UTC().Format(time.DateOnly)
}

// RecordingInWords is what session show says of a recording.
func RecordingInWords(r Recording, held bool) string { return recordingInWords(r, held) }

func (s *Server) confirmHoldPage(v *visit) error {
	x, err := s.session(v.ctx(), v.path("id"))
	if err != nil {
		return err
	}
	view := s.viewSession(x)
	return v.confirm("sessions", "Hold the recordings of this session?", confirmation{
		Question:    fmt.Sprintf("%s on %s, %s.", audit.Escape(x.User), audit.Escape(view.Where), x.Started.UTC().Format("2006-01-02 15:04")),
		Consequence: "They are not deleted, however old they become, until somebody releases the session.",
		Action:      view.Path + "/hold", Button: "Hold", Cancel: view.Path, Reason: true,
	})
}

func (s *Server) holdForm(v *visit) error {
	id := v.path("id")
	if err := s.hold(v.ctx(), v.by, id, v.typed("reason")); err != nil {
		return err
	}
	return v.done(within("sessions", id), "The recordings of the session are held.")
}

func (s *Server) confirmReleasePage(v *visit) error {
	x, err := s.session(v.ctx(), v.path("id"))
	if err != nil {
		return err
	}
	holds, err := s.cfg.Store.Recordings.Holds(v.ctx(), x.ID)
	if err != nil {
		return err
	}
	h, held := holds[x.ID]
	if !held {
		return conflict("", "this session is not held")
	}
	view := s.viewSession(x)
	return v.confirm("sessions", "Release this session?", confirmation{
		Question:    "It is held by " + audit.Escape(h.Actor) + ": " + audit.Escape(h.Reason),
		Consequence: "Recordings whose time is over are deleted within a minute.",
		Action:      view.Path + "/release", Button: "Release", Cancel: view.Path,
	})
}

func (s *Server) releaseForm(v *visit) error {
	id := v.path("id")
	if err := s.release(v.ctx(), v.by, id); err != nil {
		return err
	}
	return v.done(within("sessions", id), "The session is released.")
}

func (s *Server) confirmGiveUpPage(v *visit) error {
	x, err := s.session(v.ctx(), v.path("id"))
	if err != nil {
		return err
	}
	keep, err := s.viewKeep(v, x)
	if err != nil {
		return err
	}
	if !keep.Pending {
		return conflict("", "no recording of this session waits for a lost node")
	}
	view := s.viewSession(x)
	return v.confirm("sessions", "Wait no longer for the tail of this session?", confirmation{
		Question: fmt.Sprintf("%s on %s, %s: node %s was lost, and has the end of the recordings, or all of them, on its disk.",
			audit.Escape(x.User), audit.Escape(view.Where), x.Started.UTC().Format("2006-01-02 15:04"), audit.Escape(x.Node)),
		Consequence: "What another node has sealed counts as sealed from now on, and is deleted when its time is over. What was on the lost node alone counts as deleted. If the node comes back after all, its recordings are completed.",
		Action:      view.Path + "/give-up", Button: "Give up the tail", Cancel: view.Path, Reason: true,
	})
}

func (s *Server) giveUpForm(v *visit) error {
	id := v.path("id")
	if _, err := s.giveUp(v.ctx(), v.by, id, v.typed("reason")); err != nil {
		return err
	}
	return v.done(within("sessions", id), "The tail of this session is given up.")
}
