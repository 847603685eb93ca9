// Package custody looks after recordings once they are written: those of nodes that are lost, those
// that have left for the store, and those whose time is over.
package custody

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"sallyport/audit"
	"sallyport/internal/auditlog"
	"sallyport/recorder"
	"sallyport/store"
)

// Config of a [Keeper]. It must not be modified after New.
type Config struct {
	Store    *store.Store
	Recorder *recorder.Recorder
	Audit    *auditlog.Log
	Node     string
	Quota    int64         // bytes of recordings kept on all nodes together from which on none is begun; 0: no bound
	Silence  time.Duration // after which a node that says nothing is lost; 0: store.LostAfter
	Log      *slog.Logger  // nil: slog.Default()

	// Forget is called before a recording is deleted, for what else holds anything of it. After an error
	// it is tried again later. May be nil.
	Forget func(ctx context.Context, session string, channel int) error

	Keys func(context.Context) ([]recorder.Key, error) // the signing keys of all nodes
}

// How often a Keeper looks.
const (
	lostEvery   = 5 * time.Second
	storedEvery = 5 * time.Second
	oldEvery    = time.Minute
	quotaEvery  = 10 * time.Second

	lockedLater = 24 * time.Hour   // what the store has locked is tried again
	failedLater = 15 * time.Minute // … and what could not be deleted
)

// Keeper does the work of one node.
type Keeper struct {
	cfg  Config
	wake chan struct{} // a recording has left for the store

	reached time.Time // since when the database has answered each time; of the goroutine that looks for lost nodes
	last    time.Time // when it answered last
}

// New returns a Keeper. Call [Keeper.Run].
func New(cfg Config) *Keeper {
	if cfg.Silence <= 0 {
		cfg.Silence = store.LostAfter
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Keeper{cfg: cfg, wake: make(chan struct{}, 1)}
}

// Left is told that a recording has left for the store.
func (k *Keeper) Left() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// Run works until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	done := make(chan struct{})
	go func() { // deleting can take long, and must not keep lost nodes waiting
		defer close(done)
		k.every(ctx, oldEvery, nil, "deleting old recordings", k.deleteOld)
	}()
	go k.every(ctx, quotaEvery, nil, "counting recordings", k.lookAtQuota)
	stored := make(chan struct{})
	go func() {
		defer close(stored)
		k.every(ctx, storedEvery, k.wake, "noting which recordings are in the store", k.noteStored)
	}()
	k.every(ctx, min(lostEvery, k.cfg.Silence/4), nil, "looking for lost nodes", k.lookForLost)
	<-done
	<-stored
}

// every does something again and again, and says once when it begins to fail.
func (k *Keeper) every(ctx context.Context, pause time.Duration, wake <-chan struct{}, what string, do func(context.Context) error) {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	failing := false
	for {
		err := do(ctx)
		if err != nil && !failing && ctx.Err() == nil {
			k.cfg.Log.Error(what, "error", err)
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-wake:
		}
	}
}

// lookForLost takes the sessions of nodes that are silent for lost, and seals what has reached the
// store of their recordings.
func (k *Keeper) lookForLost(ctx context.Context) error {
	if !k.sure() {
		return k.beat(k.cfg.Store.Sessions.Alive(ctx, k.cfg.Node))
	}
	lost, err := k.cfg.Store.Sessions.MarkLostNodes(ctx, k.cfg.Node, k.cfg.Silence, k.lostEvent)
	if k.beat(err) != nil {
		return err
	}
	for _, x := range lost {
		if e, err := k.lostEvent(x); err == nil {
			k.cfg.Audit.Print(ctx, e)
		}
	}
	if _, hasStore := k.cfg.Recorder.Shipping(); !hasStore {
		return nil
	}
	pending, err := k.cfg.Store.Recordings.ClaimPending(ctx, k.cfg.Node)
	for _, r := range pending {
		if failed := k.sealPending(ctx, r); failed != nil && !errors.Is(failed, store.ErrConflict) {
			err = errors.Join(err, failed)
		}
	}
	return err
}

// sure tells whether this node may say of others that they are silent. It may not when it could not
// reach the database itself a moment ago: then they may all be in the same case.
func (k *Keeper) sure() bool {
	now := time.Now()
	return !k.last.IsZero() && now.Sub(k.last) < k.cfg.Silence && now.Sub(k.reached) >= k.cfg.Silence
}

// beat notes whether the database has answered, and when.
func (k *Keeper) beat(err error) error {
	now := time.Now()
	if err != nil {
		k.last = time.Time{}
		return err
	}
	if k.last.IsZero() || now.Sub(k.last) >= k.cfg.Silence {
		k.reached = now
	}
	k.last = now
	return nil
}

func (k *Keeper) lostEvent(x store.Session) (audit.Event, error) {
	return k.cfg.Audit.Complete(audit.Event{
		Type: audit.SessionEnded, Result: audit.Error, Door: audit.DoorSSH, User: x.User, Source: x.Source, Target: x.Target, Account: x.Account,
		Session: x.ID, Reason: "lost: node " + x.Node + " is silent", Detail: map[string]string{"lost-node": x.Node},
	})
}

// sealPending seals what has reached the store of a recording.
func (k *Keeper) sealPending(ctx context.Context, r store.Recording) error {
	p, err := k.cfg.Recorder.SealPending(ctx, r.Path)
	if errors.Is(err, recorder.ErrUnknownKey) { // its node came after this one was started
		if err = k.learnKeys(ctx); err == nil {
			p, err = k.cfg.Recorder.SealPending(ctx, r.Path)
		}
	}
	switch {
	case errors.Is(err, recorder.ErrNothingStored):
		return k.cfg.Store.Recordings.SetPending(ctx, r, nil, store.SealedRecording{})
	case errors.Is(err, recorder.ErrDamaged) || errors.Is(err, recorder.ErrUnknownKey) || errors.Is(err, recorder.ErrCompromised):
		k.emit(ctx, r, audit.RecordSealed, audit.Error, err.Error(), nil)
		return k.cfg.Store.Recordings.SetPending(ctx, r, nil, store.SealedRecording{})
	case err != nil:
		return err
	}
	sum := p.Summary
	sealed := store.SealedRecording{Path: sum.Path, Root: sum.Root, Bytes: sum.Bytes, Packed: sum.Packed, Parts: sum.Parts}
	detail := map[string]string{"recording": sum.Path, "root": sum.Root}
	if p.Sealed { // its node had only not come to say so
		return k.note(ctx, r, audit.RecordSealed, "", detail, func(e audit.Event) error {
			return k.cfg.Store.Recordings.SealLost(ctx, r.SessionID, r.Channel, sealed, e)
		})
	}
	detail["tail"] = "pending"
	return k.note(ctx, r, audit.RecordSealed, "what has reached the store; the tail is on node "+r.Node, detail, func(e audit.Event) error {
		return k.cfg.Store.Recordings.SetPending(ctx, r, p.Line, sealed, e)
	})
}

// learnKeys has the recorder trust the keys that all nodes have published.
func (k *Keeper) learnKeys(ctx context.Context) error {
	keys, err := k.cfg.Keys(ctx)
	if err != nil {
		return err
	}
	k.cfg.Recorder.Trust(keys)
	return nil
}

// noteStored notes which recordings of this node are in the store alone.
func (k *Keeper) noteStored(ctx context.Context) error {
	if _, hasStore := k.cfg.Recorder.Shipping(); !hasStore {
		return nil
	}
	here, err := k.cfg.Store.Recordings.AtNode(ctx, k.cfg.Node)
	if err != nil {
		return err
	}
	for _, r := range here {
		if k.cfg.Recorder.Here(r.Path) || k.cfg.Recorder.Ships(r.Path) {
			continue
		}
		if err := k.cfg.Store.Recordings.Stored(ctx, r.SessionID, r.Channel); err != nil {
			return err
		}
	}
	return nil
}

// deleteOld deletes the recordings whose time is over, and that nobody holds.
func (k *Keeper) deleteOld(ctx context.Context) error {
	for {
		old, err := k.cfg.Store.Recordings.ClaimExpired(ctx, k.cfg.Node)
		if err != nil {
			return err
		}
		if len(old) == 0 {
			return k.deleteLedgers(ctx)
		}
		var errs []error
		for _, r := range old {
			errs = append(errs, k.delete(ctx, r))
		}
		if err := errors.Join(errs...); err != nil || ctx.Err() != nil {
			return err
		}
	}
}

// deleteLedgers deletes the lists of files whose time is over, of channels that were not recorded.
func (k *Keeper) deleteLedgers(ctx context.Context) error {
	old, err := k.cfg.Store.Transfers.Expired(ctx)
	for _, x := range old {
		r := store.Recording{SessionID: x.SessionID, Channel: x.Channel}
		detail := map[string]string{"ledger": fmt.Sprint(x.Lines)}
		failed := k.note(ctx, r, audit.RecordDeleted, "kept for "+x.Retention.String(), detail, func(e audit.Event) error {
			return k.cfg.Store.Transfers.Remove(ctx, x, e)
		})
		if failed != nil && !errors.Is(failed, store.ErrConflict) { // held, or deleted by another node
			err = errors.Join(err, failed)
		}
	}
	return err
}

func (k *Keeper) delete(ctx context.Context, r store.Recording) error {
	var err error
	if k.cfg.Forget != nil {
		err = k.cfg.Forget(ctx, r.SessionID, r.Channel)
	}
	if err == nil {
		err = k.cfg.Recorder.Delete(ctx, r.Path)
	}
	switch {
	case errors.Is(err, recorder.ErrPartlyDeleted) && ctx.Err() == nil: // too late for a hold
		later := failedLater
		if errors.Is(err, recorder.ErrLocked) {
			later = lockedLater
		}
		k.emit(ctx, r, audit.RecordDeleted, audit.Error, err.Error(), map[string]string{"recording": r.Path, "root": r.Root})
		return errors.Join(err, k.cfg.Store.Recordings.TryAgain(ctx, r, later))
	case errors.Is(err, recorder.ErrLocked):
		k.cfg.Log.Info("a recording is locked in the store, it is deleted later", "session", r.SessionID, "channel", r.Channel, "error", err)
		return k.cfg.Store.Recordings.Postpone(ctx, r, time.Now().Add(lockedLater))
	case ctx.Err() != nil:
		return ctx.Err() // it is given out again
	case err != nil:
		k.emit(ctx, r, audit.RecordDeleted, audit.Error, err.Error(), map[string]string{"recording": r.Path, "root": r.Root})
		return errors.Join(err, k.cfg.Store.Recordings.Postpone(ctx, r, time.Now().Add(failedLater)))
	}
	if err := k.cfg.Store.Search.Forget(ctx, r.SessionID, r.Channel, "the recording was deleted"); err != nil {
		return err // it is given out again
	}
	detail := map[string]string{"recording": r.Path, "root": r.Root, "bytes": fmt.Sprint(r.Bytes)}
	err = k.note(ctx, r, audit.RecordDeleted, "kept for "+r.Retention.String(), detail, func(e audit.Event) error {
		return k.cfg.Store.Recordings.Removed(ctx, r, e)
	})
	if errors.Is(err, store.ErrConflict) {
		return nil // this took so long that another node was given it too, and has noted it
	}
	return err
}

// lookAtQuota has no recording begun while there are too many.
func (k *Keeper) lookAtQuota(ctx context.Context) error {
	if k.cfg.Quota <= 0 {
		return nil
	}
	u, err := k.cfg.Store.Recordings.Usage(ctx)
	if err != nil {
		return err // what was found last holds
	}
	var full error
	if u.Packed >= k.cfg.Quota {
		full = fmt.Errorf("%w: %d MiB are kept, recordings.quota is %d MiB", recorder.ErrQuota, u.Packed>>20, k.cfg.Quota>>20)
	}
	k.cfg.Recorder.Refuse(full)
	return nil
}

// note writes a row and its event, both or neither.
func (k *Keeper) note(ctx context.Context, r store.Recording, kind, reason string, detail map[string]string, write func(audit.Event) error) error {
	e, err := k.event(ctx, r, kind, audit.OK, reason, detail)
	if err != nil {
		return err
	}
	if err := write(e); err != nil {
		return err
	}
	k.cfg.Audit.Print(ctx, e)
	return nil
}

func (k *Keeper) emit(ctx context.Context, r store.Recording, kind string, result audit.Result, reason string, detail map[string]string) {
	e, err := k.event(ctx, r, kind, result, reason, detail)
	if err == nil {
		err = k.cfg.Audit.Emit(ctx, e)
	}
	if err != nil {
		k.cfg.Log.Error("writing audit event", "type", kind, "error", err)
	}
}

func (k *Keeper) event(ctx context.Context, r store.Recording, kind string, result audit.Result, reason string, detail map[string]string) (audit.Event, error) {
	all := map[string]string{"channel": fmt.Sprint(r.Channel)}
	for name, value := range detail {
		all[name] = value
	}
	e := audit.Event{Type: kind, Result: result, Door: audit.DoorNode, Session: r.SessionID, Reason: reason, Detail: all}
	if x, err := k.cfg.Store.Sessions.Get(ctx, r.SessionID); err == nil {
		e.User, e.Target, e.Account, e.Source = x.User, x.Target, x.Account, x.Source
	}
	return k.cfg.Audit.Complete(e)
}
