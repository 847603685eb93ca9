package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// WaitingKey is a host key that a target showed and that was refused: an operator may approve it.
type WaitingKey struct {
	ID       string
	TargetID string
	Target   string // name
	Key      string // form of authorized_keys without comment
	Address  string // where it was seen
	Seen     int    // how many times
	First    time.Time
	Last     time.Time
}

// maxWaitingKeys bounds the keys that wait for one target: whoever is in between may show a new one each
// time.
const maxWaitingKeys = 20

// HostKeys is the table of host keys that wait for an operator.
type HostKeys struct{ db *db }

const waitingColumns = "w.id, w.target_id, t.name, w.host_key, w.address, w.seen, w.first, w.last"

func waitingFields(w *WaitingKey) []any {
	return []any{&w.ID, &w.TargetID, &w.Target, &w.Key, &w.Address, &w.Seen, timeColumn{&w.First}, timeColumn{&w.Last}}
}

// Wait notes that a target showed a key that was refused. Beyond twenty keys for one target nothing is
// noted.
func (s HostKeys) Wait(ctx context.Context, targetID, key, address string) error {
	what := "noting a host key of target " + targetID
	id, err := newID()
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return s.db.changing(ctx, what, func(ctx context.Context, q querier) error {
		if _, err := (Targets{s.db}).hold(ctx, q, "id = ?", targetID); err != nil {
			return err
		}
		now := ms(s.db.now())
		n, err := exec(ctx, q, "UPDATE waiting_host_keys SET seen = seen + 1, last = ?, address = ? WHERE target_id = ? AND host_key = ?", now, address, targetID, key)
		if err != nil || n > 0 {
			return err
		}
		waiting, err := scalar[int64](ctx, q, "SELECT COUNT(*) FROM waiting_host_keys WHERE target_id = ?", targetID)
		if err != nil || waiting >= maxWaitingKeys {
			return err
		}
		_, err = exec(ctx, q, "INSERT INTO waiting_host_keys (id, target_id, host_key, address, seen, first, last) VALUES (?, ?, ?, ?, 1, ?, ?)",
			id, targetID, key, address, now, now)
		return err
	})
}

// List returns the keys that wait, newest first: those of one target, or all if the id is empty.
func (s HostKeys) List(ctx context.Context, targetID string) ([]WaitingKey, error) {
	var waiting []WaitingKey
	err := s.db.reading(ctx, "listing waiting host keys", func(ctx context.Context, q querier) (err error) {
		waiting, err = all(ctx, q, waitingFields, "SELECT "+waitingColumns+` FROM waiting_host_keys w JOIN targets t ON t.id = w.target_id
			WHERE ? = '' OR w.target_id = ? ORDER BY w.id DESC`, targetID, targetID)
		return err
	})
	return waiting, err
}

// Waiting is how many keys wait for an operator, of all targets.
func (s HostKeys) Waiting(ctx context.Context) (n int, err error) {
	err = s.db.reading(ctx, "counting host keys that wait", func(ctx context.Context, q querier) (err error) {
		n, err = scalar[int](ctx, q, "SELECT COUNT(*) FROM waiting_host_keys")
		return err
	})
	return n, err
}

// ByID returns a key that waits, or [ErrNotFound].
func (s HostKeys) ByID(ctx context.Context, id string) (WaitingKey, error) {
	var w WaitingKey
	err := s.db.reading(ctx, "reading waiting host key "+id, func(ctx context.Context, q querier) (err error) {
		w, err = one(ctx, q, waitingFields, "SELECT "+waitingColumns+" FROM waiting_host_keys w JOIN targets t ON t.id = w.target_id WHERE w.id = ?", id)
		return err
	})
	return w, err
}

// Approve makes the key that waits under id the host key of its target, in the place of all that were
// known and with nothing else waiting for it any more; with add, beside them. It returns the target as
// it was before. Of several at once, approving or rejecting, one does so; the others get
// [ErrNotFound].
func (s HostKeys) Approve(ctx context.Context, id string, add bool) (WaitingKey, Target, error) {
	return s.take(ctx, "approving host key "+id, id, func(ctx context.Context, q querier, w WaitingKey, t Target) error {
		if t.HostKeyMode == HostCA {
			return ErrConflict
		}
		if !add {
			t.HostKeys = nil
			if _, err := exec(ctx, q, "DELETE FROM waiting_host_keys WHERE target_id = ?", t.ID); err != nil {
				return err
			}
		}
		t.HostKeys = appendNew(t.HostKeys, w.Key)
		t.RevokedKeys = slices.DeleteFunc(t.RevokedKeys, func(k string) bool { return k == w.Key })
		return updateTarget(ctx, q, t)
	})
}

// Reject takes the key that waits under id away, and has its target never accept it, whatever else
// may speak for it. Otherwise it is as [HostKeys.Approve].
func (s HostKeys) Reject(ctx context.Context, id string) (WaitingKey, Target, error) {
	return s.take(ctx, "rejecting host key "+id, id, func(ctx context.Context, q querier, w WaitingKey, t Target) error {
		t.RevokedKeys = appendNew(t.RevokedKeys, w.Key)
		return updateTarget(ctx, q, t)
	})
}

// take removes the row of id and decides about it, with its target held.
func (s HostKeys) take(ctx context.Context, what, id string, decide func(context.Context, querier, WaitingKey, Target) error) (WaitingKey, Target, error) {
	var w WaitingKey
	var before Target
	err := s.db.changing(ctx, what, func(ctx context.Context, q querier) (err error) {
		// The target first, in the same order as everybody: two keys of one target are decided one after
		// the other.
		targetID, err := scalar[string](ctx, q, "SELECT target_id FROM waiting_host_keys WHERE id = ?", id)
		if err != nil {
			return err
		}
		if before, err = (Targets{s.db}).hold(ctx, q, "id = ?", targetID); err != nil {
			return err
		}
		w, err = one(ctx, q, waitingFields, "SELECT "+waitingColumns+" FROM waiting_host_keys w JOIN targets t ON t.id = w.target_id WHERE w.id = ?", id)
		if err != nil {
			return err
		}
		if err := execOne(ctx, q, "DELETE FROM waiting_host_keys WHERE id = ?", id); err != nil {
			return err
		}
		after := before
		after.HostKeys, after.RevokedKeys = slices.Clone(before.HostKeys), slices.Clone(before.RevokedKeys)
		return decide(ctx, q, w, after)
	})
	if err != nil {
		return WaitingKey{}, Target{}, err
	}
	return w, before, nil
}

// Forget takes keys that wait for a target away because they are known now.
func (s HostKeys) Forget(ctx context.Context, targetID string, keys []string) error {
	var errs []error
	for _, k := range keys {
		errs = append(errs, s.db.writing(ctx, "forgetting a waiting host key of target "+targetID, func(ctx context.Context, q querier) error {
			_, err := exec(ctx, q, "DELETE FROM waiting_host_keys WHERE target_id = ? AND host_key = ?", targetID, k)
			return err
		}))
	}
	return errors.Join(errs...)
}

// appendNew returns l with v at its end unless it is in it.
func appendNew(l []string, v string) []string {
	if slices.Contains(l, v) {
		return l
	}
	return append(l, v)
}
