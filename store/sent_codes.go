package store

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// SentCodeLife is how long a sent code is good.
const SentCodeLife = 5 * time.Minute

// sentCodeTries is how often somebody may guess at one sent code.
const sentCodeTries = 3

// resendWaits are the times between a sent code and the next for the same person.
var resendWaits = []time.Duration{30 * time.Second, 60 * time.Second, 300 * time.Second}

// pepperName is the secret with which sent codes are hashed. A million codes can be tried in no time:
// without it a copy of the database would give them away.
const pepperName = "sent-code-pepper"

// SendLimits are how many codes may be sent in any hour.
type SendLimits struct {
	Person    int // to one person
	Recipient int // to one address or number
	Source    int // asked for from one source
	All       int // by the whole installation
}

// NewSentCode is a code to send.
type NewSentCode struct {
	UserID  string
	Attempt string     // the connection, or the like, that it is good for
	Source  netip.Addr // the address that it is good for
	Network string     // what the source counts as for the limits; "": it is not known
	Code    string
	Message OutMessage // to the person; Expires is set here
	Limits  SendLimits
}

// SentCodes is the table of codes that were sent by mail or SMS. There is at most one for each person.
type SentCodes struct{ db *db }

// Issue makes a code the only one that is good for a person, and puts the message that carries it into the
// outbox, in one transaction. The error is [ErrSendLimit] if a limit is reached or the last code was sent too
// short a time ago; then the code before stays good.
func (s SentCodes) Issue(ctx context.Context, c NewSentCode) error {
	what := "issuing a code for user " + c.UserID
	if c.UserID == "" || c.Attempt == "" || c.Code == "" || !c.Source.IsValid() {
		return fmt.Errorf("%s: %w", what, errors.New("person, attempt, code or source is missing"))
	}
	pepper, err := s.pepper(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	id, err := newID()
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	now := s.db.now()
	c.Message.Kind, c.Message.Urgent, c.Message.Expires = KindCode, true, now.Add(SentCodeLife)
	values, err := Outbox{s.db}.values(c.Message)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	source := canonicalAddr(c.Source).String()
	hash := hashCode(pepper, id, c.UserID, c.Attempt, source, c.Code)
	limits := []sendCount{
		{kind: "installation", perHour: c.Limits.All},
		{kind: "person", key: c.UserID, perHour: c.Limits.Person, waits: resendWaits},
		{kind: "recipient", key: c.Message.Channel + ":" + strings.ToLower(c.Message.Recipient), perHour: c.Limits.Recipient},
	}
	if c.Network != "" {
		limits = append(limits, sendCount{kind: "source", key: c.Network, perHour: c.Limits.Source})
	}
	return s.db.changing(ctx, what, func(ctx context.Context, tx querier) error {
		if err := countSends(ctx, tx, limits, now); err != nil {
			return err
		}
		if _, err := exec(ctx, tx, `INSERT INTO sent_codes (user_id, id, attempt, source, hash, tries, expires) VALUES (?, ?, ?, ?, ?, 0, ?)
			ON CONFLICT (user_id) DO UPDATE SET id = excluded.id, attempt = excluded.attempt, source = excluded.source,
				hash = excluded.hash, tries = 0, expires = excluded.expires`,
			c.UserID, id, c.Attempt, source, hash, ms(now.Add(SentCodeLife))); err != nil {
			return err
		}
		return addMessage(ctx, tx, values)
	})
}

// Outstanding tells whether a code waits to be typed in this attempt.
func (s SentCodes) Outstanding(ctx context.Context, userID, attempt string, source netip.Addr) (bool, error) {
	var n int
	err := s.db.briefly(ctx, "looking for a sent code", func(ctx context.Context, q querier) (err error) {
		n, err = scalar[int](ctx, q, "SELECT COUNT(*) FROM sent_codes WHERE user_id = ? AND attempt = ? AND source = ? AND expires > ? AND tries < ?",
			userID, attempt, canonicalAddr(source).String(), ms(s.db.now()), sentCodeTries)
		return err
	})
	return n > 0, err
}

// Take tells whether code is the one that was sent for this person, attempt and source, and makes it
// worthless if it is. Every call is a try, and of any number of calls at once three are looked at for one
// code; of those with the right code one gets true.
func (s SentCodes) Take(ctx context.Context, userID, attempt string, source netip.Addr, code string) (bool, error) {
	const what = "judging a sent code"
	pepper, err := s.pepper(ctx)
	if err != nil {
		return false, fmt.Errorf("%s: %w", what, err)
	}
	from := canonicalAddr(source).String()
	taken := false
	err = s.db.changing(ctx, what, func(ctx context.Context, tx querier) error {
		type row struct{ id, hash string }
		r, err := one(ctx, tx, func(r *row) []any { return []any{&r.id, &r.hash} },
			`UPDATE sent_codes SET tries = tries + 1 WHERE user_id = ? AND attempt = ? AND source = ? AND expires > ? AND tries < ?
			RETURNING id, hash`, userID, attempt, from, ms(s.db.now()), sentCodeTries)
		switch {
		case errors.Is(err, ErrNotFound):
			return nil
		case err != nil:
			return err
		case !hmac.Equal([]byte(r.hash), []byte(hashCode(pepper, r.id, userID, attempt, from, code))):
			return nil // the try counts
		}
		n, err := exec(ctx, tx, "DELETE FROM sent_codes WHERE user_id = ? AND id = ?", userID, r.id)
		taken = n == 1
		return err
	})
	return taken && err == nil, err
}

func (s SentCodes) pepper(ctx context.Context) ([]byte, error) {
	return Secrets{s.db}.GetOrCreate(ctx, pepperName, func() ([]byte, error) {
		b := make([]byte, 32)
		rand.Read(b) // never fails
		return b, nil
	})
}

// hashCode binds a code to its row. None of the parts holds a zero byte: what a person types is cut to
// digits before it comes here, and the others are ours.
func hashCode(pepper []byte, parts ...string) string {
	h := hmac.New(sha256.New, pepper)
	h.Write([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(h.Sum(nil))
}
