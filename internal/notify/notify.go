// Package notify sends mail and short messages: what is in the outbox of the database, by senders that are
// tried in order, and it turns audit events into messages for the people they concern.
//
// Nothing here is in the way of a login. Whoever wants to tell somebody something puts a message into the
// outbox, in the transaction of what it tells of where that matters; a [Worker] on any node delivers it, at
// least once.
package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Message is what a [Sender] sends.
type Message struct {
	ID         string // the same for every try
	To         string // e-mail address, or telephone number in E.164
	Subject    string // of a mail
	Text       string
	Restricted bool // carries a secret: goes only where [Mailboxes] and [Numbers] allow
}

// Sender sends messages of one channel. Send returns nil once somebody else has taken responsibility for the
// message. Its error wraps [ErrRejected] if it is of no use to try again, or elsewhere. Texts of errors hold
// nothing of the message's text.
type Sender interface {
	Name() string
	Send(ctx context.Context, m Message) error
}

// ErrRejected is why a message will never be delivered: its recipient is refused or not allowed.
var ErrRejected = errors.New("refused for good")

// Secret is a password or key that prints as a placeholder.
type Secret string

func (Secret) String() string               { return "[secret]" }
func (Secret) GoString() string             { return "[secret]" }
func (Secret) LogValue() slog.Value         { return slog.StringValue("[secret]") }
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"[secret]"`), nil }

// sendTime bounds one try of one sender that has no timeout of its own.
const sendTime = 15 * time.Second

// within runs f with a limit on its time, and says whose limit it was.
func within(ctx context.Context, limit time.Duration, f func(context.Context) error) error {
	if limit <= 0 {
		limit = sendTime
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := f(ctx)
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("no end after %s: %w", limit, err)
	}
	return err
}
