package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"sallyport/audit"
	"sallyport/store"
)

// How messages are delivered.
const (
	deliverers  = 4                // messages under way at once, so that one slow server does not hold up all codes
	pollEvery   = 5 * time.Second  // what the bus did not tell, and what is due again
	deliverTime = time.Minute      // of one try, all senders together
	leaseTime   = 90 * time.Second // longer than deliverTime: nobody else tries meanwhile
	firstRetry  = 2 * time.Second
	lastRetry   = time.Hour
)

// WorkerConfig of a [Worker].
type WorkerConfig struct {
	Store     *store.Store
	Mail, SMS Sender                                   // nil: this node has none, and leaves such messages to others
	Emit      func(context.Context, audit.Event) error // nil: nobody is told of what was given up
	Log       *slog.Logger                             // nil: slog.Default()
}

// Worker delivers what is in the outbox.
type Worker struct {
	cfg      WorkerConfig
	channels []string
}

// NewWorker returns a Worker.
func NewWorker(cfg WorkerConfig) *Worker {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	w := &Worker{cfg: cfg}
	if cfg.Mail != nil {
		w.channels = append(w.channels, store.ByMail)
	}
	if cfg.SMS != nil {
		w.channels = append(w.channels, store.BySMS)
	}
	return w
}

// Run delivers until ctx ends. What it has in hand then is put back.
func (w *Worker) Run(ctx context.Context) {
	if len(w.channels) == 0 {
		return
	}
	messages, cancel := w.cfg.Store.Bus.Subscribe(store.TopicOutbox)
	defer cancel()
	wake := make(chan struct{}, deliverers)
	var running sync.WaitGroup
	for range deliverers {
		running.Go(func() { w.deliverAll(ctx, wake) })
	}
	defer running.Wait()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case wake <- struct{}{}:
		default: // all are awake
		}
		select {
		case <-ctx.Done():
			return
		case _, open := <-messages:
			if !open {
				messages = nil // the store is being closed
			}
		case <-tick.C:
		}
	}
}

// deliverAll delivers what there is each time it is woken.
func (w *Worker) deliverAll(ctx context.Context, wake chan struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-wake:
		}
		for ctx.Err() == nil {
			found, err := w.DeliverOne(ctx)
			if err != nil && ctx.Err() == nil {
				w.cfg.Log.Warn("outbox", "error", err)
			}
			if !found || err != nil {
				break
			}
			select {
			case wake <- struct{}{}: // there may be more than one can do
			default:
			}
		}
	}
}

// DeliverOne takes one message out of the outbox and tries to deliver it. It tells whether there was one.
// An error is of the database; that of a sender is kept with the message.
func (w *Worker) DeliverOne(ctx context.Context) (found bool, err error) {
	m, err := w.cfg.Store.Outbox.Claim(ctx, leaseTime, w.channels...)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return false, nil
	case err != nil:
		return false, err
	}
	sender := w.cfg.Mail
	if m.Channel == store.BySMS {
		sender = w.cfg.SMS
	}
	trying, cancel := context.WithTimeout(ctx, deliverTime)
	defer cancel()
	failed := sender.Send(trying, Message{ID: m.ID, To: m.Recipient, Subject: m.Subject, Text: m.Text, Restricted: m.Kind == store.KindCode || m.Kind == store.KindEnrolment})
	// What became of the message is noted even if this node is being stopped.
	settling, cancelSettling := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancelSettling()
	return true, w.settle(settling, m, failed, ctx.Err() != nil)
}

// settle notes what became of m.
func (w *Worker) settle(ctx context.Context, m store.OutMessage, failed error, stopping bool) error {
	outbox, log := w.cfg.Store.Outbox, w.cfg.Log.With("id", m.ID, "channel", m.Channel, "kind", m.Kind, "user", m.User, "try", m.Tries)
	if failed == nil {
		log.Info("message sent")
		return ifHeld(outbox.Sent(ctx, m))
	}
	cause := audit.Escape(failed.Error())
	due := time.Now().Add(retryAfter(m.Tries))
	switch {
	case stopping:
		return ifHeld(outbox.Later(ctx, m, time.Now(), cause))
	case !errors.Is(failed, ErrRejected) && due.Before(m.Expires):
		log.Warn("message not sent yet", "error", cause, "next", due.UTC())
		return ifHeld(outbox.Later(ctx, m, due, cause))
	}
	log.Error("message given up", "error", cause)
	if err := outbox.Fail(ctx, m, cause); err != nil {
		return ifHeld(err)
	}
	if w.cfg.Emit == nil {
		return nil
	}
	err := w.cfg.Emit(ctx, audit.Event{
		Type: audit.MessageFailed, Result: audit.Error, Door: audit.DoorNode, User: m.User, Reason: cause,
		Detail: map[string]string{"id": m.ID, "channel": m.Channel, "kind": m.Kind},
	})
	if err != nil {
		return fmt.Errorf("telling that a message was given up: %w", err)
	}
	return nil
}

// ifHeld leaves out that the lease was lost, or the message dropped: somebody else decides about it now.
func ifHeld(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// retryAfter grows from 2 s to an hour, a fifth more or less so that not all come at once.
func retryAfter(tries int) time.Duration {
	d := lastRetry
	if tries < 12 {
		d = min(firstRetry<<max(tries-1, 0), lastRetry)
	}
	return d*4/5 + rand.N(d*2/5)
}
