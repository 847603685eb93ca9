package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"sallyport/store"
)

// SessionRecordings is what is known of the recordings of a session. It stays when they are deleted.
type SessionRecordings struct {
	Session    string       `json:"session"`
	Hold       *SessionHold `json:"hold" doc:"keeps them from being deleted; null: nothing does"`
	Recordings []Recording  `json:"recordings" nullable:"false"`
}

// SessionHold keeps the recordings of a session.
type SessionHold struct {
	Reason string     `json:"reason"`
	By     string     `json:"by"`
	Since  *time.Time `json:"since"`
}

// Recording is what is known of the recording of one channel.
type Recording struct {
	Channel     int        `json:"channel"`
	Node        string     `json:"node" doc:"that recorded"`
	Path        string     `json:"path"`
	State       string     `json:"state" enum:"open,tail-pending,sealed,removing,removed" doc:"tail-pending: the node is lost, and has more on its disk"`
	OnNode      bool       `json:"on_node" doc:"on the disk of the node; else it is in the store alone"`
	Bytes       int64      `json:"bytes" doc:"of asciicast, sealed"`
	PackedBytes int64      `json:"packed_bytes"`
	Parts       int        `json:"parts"`
	Root        string     `json:"root" doc:"signed head of the chain"`
	DeleteAfter *time.Time `json:"delete_after" doc:"null: it is kept for ever, or still open"`
	Removed     *time.Time `json:"removed"`
	GivenUp     *time.Time `json:"given_up" doc:"when an operator said that its node never comes back; null: nobody did"`
}

// NewHold says why a session is held.
type NewHold struct {
	Reason string `json:"reason" maxLength:"500"`
}

// RecordingStatus is how it stands with recordings.
type RecordingStatus struct {
	Node         string     `json:"node" doc:"that answers; what is waiting and free is its own"`
	Kept         int        `json:"kept" doc:"recordings of all nodes"`
	KeptBytes    int64      `json:"kept_bytes" doc:"of those that are sealed"`
	OnNodes      int        `json:"on_nodes" doc:"sealed ones on the disk of a node"`
	TailPending  int        `json:"tail_pending" doc:"of lost nodes"`
	HeldSessions int        `json:"held_sessions"`
	FreeBytes    int64      `json:"free_bytes" doc:"on this node"`
	ReserveBytes int64      `json:"reserve_bytes" doc:"below which no recording is begun; 0: no bound"`
	QuotaBytes   int64      `json:"quota_bytes" doc:"of recordings kept, from which on none is begun; 0: no bound"`
	Refusing     string     `json:"refusing" doc:"why this node begins no recording; empty: it does"`
	Store        bool       `json:"store" doc:"there is a bucket"`
	Waiting      int        `json:"waiting" doc:"recordings of this node of which something is not in the bucket yet"`
	WaitingBytes int64      `json:"waiting_bytes"`
	WaitingSince *time.Time `json:"waiting_since"`
	Failures     int64      `json:"failures" doc:"requests to the bucket that failed since the start"`
	Stored       int64      `json:"stored" doc:"recordings that went to the bucket since the start"`
	Problem      string     `json:"problem" doc:"why the last request to the bucket failed; empty when it did not"`
}

func wireRecording(r store.Recording) Recording {
	return Recording{
		Channel: r.Channel, Node: r.Node, Path: r.Path, State: r.State, OnNode: r.AtNode, Bytes: r.Bytes, PackedBytes: r.Packed, Parts: r.Parts,
		Root: r.Root, DeleteAfter: timeOf(r.DeleteAfter), Removed: timeOf(r.Removed), GivenUp: timeOf(r.GivenUp),
	}
}

// GiveUp says why what is missing of the recordings of a session is not waited for any more.
type GiveUp struct {
	Reason string `json:"reason" maxLength:"500"`
}

// GivenUp is what was given up.
type GivenUp struct {
	ID         string `json:"id" doc:"of the session"`
	Recordings int    `json:"recordings" doc:"whose tail is not waited for any more"`
}

type giveUpInput struct {
	ID   string `path:"id" maxLength:"100"`
	Body GiveUp
}

type holdInput struct {
	ID   string `path:"id" maxLength:"100"`
	Body NewHold
}

func (s *Server) recordingRoutes(api huma.API) {
	register(s, api, route(needAuditor, http.MethodGet, "/sessions/{id}/recordings", "session-recordings", "Tell of the recordings of a session"),
		func(ctx context.Context, _ Caller, in *byID) (*body[SessionRecordings], error) {
			found, err := s.recordings(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			return answer(found), nil
		})
	hold := route(needAdmin, http.MethodPost, "/sessions/{id}/hold", "session-hold", "Keep the recordings of a session from being deleted")
	hold.DefaultStatus = http.StatusNoContent
	register(s, api, hold, func(ctx context.Context, by Caller, in *holdInput) (*nothing, error) {
		return &nothing{}, s.hold(ctx, by, in.ID, in.Body.Reason)
	})
	register(s, api, route(needAdmin, http.MethodDelete, "/sessions/{id}/hold", "session-release", "End the hold of a session"),
		func(ctx context.Context, by Caller, in *byID) (*nothing, error) {
			return &nothing{}, s.release(ctx, by, in.ID)
		})
	register(s, api, route(needAdmin, http.MethodPost, "/sessions/{id}/give-up", "session-give-up", "Wait no longer for what a lost node has of the recordings of a session"),
		func(ctx context.Context, by Caller, in *giveUpInput) (*body[GivenUp], error) {
			found, err := s.giveUp(ctx, by, in.ID, in.Body.Reason)
			if err != nil {
				return nil, err
			}
			return answer(found), nil
		})
	register(s, api, route(needAuditor, http.MethodGet, "/recordings", "recording-status", "Tell how it stands with recordings"),
		func(ctx context.Context, _ Caller, _ *nothing) (*body[RecordingStatus], error) {
			st, err := s.recordingStatus(ctx)
			if err != nil {
				return nil, err
			}
			return answer(st), nil
		})
}
