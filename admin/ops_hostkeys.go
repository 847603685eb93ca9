package admin

import (
	"context"
	"errors"
	"strings"

	"sallyport/audit"
	"sallyport/store"
)

const seeHostKeys = "see: sallyport hostkey list"

// waitingHostKeys lists the host keys that wait: of one target, or of all with these labels.
func (s *Server) waitingHostKeys(ctx context.Context, target string, labels map[string]string) ([]WaitingHostKey, error) {
	id := ""
	if target != "" {
		t, err := s.target(ctx, target)
		if err != nil {
			return nil, err
		}
		id = t.ID
	}
	waiting, err := s.cfg.Store.HostKeys.List(ctx, id)
	if err != nil {
		return nil, err
	}
	targets, err := s.cfg.Store.Targets.List(ctx)
	if err != nil {
		return nil, err
	}
	byID := map[string]store.Target{}
	for _, t := range targets {
		if hasLabels(t, labels) {
			byID[t.ID] = t
		}
	}
	found := []WaitingHostKey{}
	for _, w := range waiting {
		if t, ok := byID[w.TargetID]; ok {
			found = append(found, wireWaiting(w, t))
		}
	}
	return found, nil
}

func hasLabels(t store.Target, labels map[string]string) bool {
	for k, v := range labels {
		if t.Labels[k] != v {
			return false
		}
	}
	return true
}

// approveHostKey makes a key that waits the host key of its target.
func (s *Server) approveHostKey(ctx context.Context, by Caller, id string, add bool) (WaitingHostKey, error) {
	w, before, err := s.cfg.Store.HostKeys.Approve(ctx, id, add)
	if errors.Is(err, store.ErrConflict) {
		return WaitingHostKey{}, conflict("to pin a key instead: sallyport target update NAME --host-key", "this target takes host certificates only")
	}
	if err := ifNotFound(err, seeHostKeys, "this host key does not wait any more"); err != nil {
		return WaitingHostKey{}, err
	}
	detail := map[string]string{"fingerprint": fingerprintOf(w.Key), "was": strings.Join(fingerprints(before.HostKeys), ",")}
	if add {
		detail["added"] = "beside them"
	}
	s.changed(ctx, by, "hostkey.approve", audit.Event{Target: w.Target, Detail: detail})
	return wireWaiting(w, before), nil
}

// rejectHostKey takes a key that waits away, and has it never accepted for its target.
func (s *Server) rejectHostKey(ctx context.Context, by Caller, id string) (WaitingHostKey, error) {
	w, before, err := s.cfg.Store.HostKeys.Reject(ctx, id)
	if err := ifNotFound(err, seeHostKeys, "this host key does not wait any more"); err != nil {
		return WaitingHostKey{}, err
	}
	s.changed(ctx, by, "hostkey.reject", audit.Event{Target: w.Target, Detail: map[string]string{"fingerprint": fingerprintOf(w.Key)}})
	return wireWaiting(w, before), nil
}
