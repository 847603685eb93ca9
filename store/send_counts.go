package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// ErrSendLimit is why a message is not sent now: there were too many lately, or the last one was just now.
var ErrSendLimit = errors.New("no further message may be sent now")

// sendWindow is the time in which messages count together.
const sendWindow = time.Hour

// sendCount is one limit that a message is under.
type sendCount struct {
	kind, key string
	perHour   int
	waits     []time.Duration // after the first message, the second, … of the hour; the last one holds for all further ones
}

// countSends takes a place for one message under every limit, or none: [ErrSendLimit]. A row is locked until
// the transaction ends, and all transactions lock theirs in one order, so that any number of nodes at once
// pass exactly as many messages as the limits allow in any hour.
func countSends(ctx context.Context, tx querier, counts []sendCount, now time.Time) error {
	for i := range counts {
		counts[i].key = storedKey(counts[i].key)
	}
	slices.SortFunc(counts, func(a, b sendCount) int {
		if c := strings.Compare(a.kind, b.kind); c != 0 {
			return c
		}
		return strings.Compare(a.key, b.key)
	})
	for _, c := range counts {
		if err := c.count(ctx, tx, now); err != nil {
			return err
		}
	}
	return nil
}

func (c sendCount) count(ctx context.Context, tx querier, now time.Time) error {
	text, err := scalar[string](ctx, tx, `INSERT INTO send_counts (kind, key, times, expires) VALUES (?, ?, '[]', ?)
		ON CONFLICT (kind, key) DO UPDATE SET expires = excluded.expires RETURNING times`,
		c.kind, c.key, ms(now.Add(sendWindow)))
	if err != nil {
		return err
	}
	var times []int64
	if err := json.Unmarshal([]byte(text), &times); err != nil {
		return fmt.Errorf("decoding when messages were sent: %w", err)
	}
	times = slices.DeleteFunc(times, func(at int64) bool { return at <= ms(now.Add(-sendWindow)) })
	if len(times) >= c.perHour {
		return fmt.Errorf("%w: %d for this %s in an hour", ErrSendLimit, len(times), c.kind)
	}
	if n := len(times); n > 0 && len(c.waits) > 0 {
		wait := c.waits[min(n, len(c.waits))-1]
		if since := now.Sub(time.UnixMilli(times[n-1])); since < wait {
			return fmt.Errorf("%w: the last one was %s ago, the next may follow %s after it", ErrSendLimit, since.Round(time.Second), wait)
		}
	}
	if text, err = toJSON(append(times, ms(now))); err != nil {
		return err
	}
	_, err = exec(ctx, tx, "UPDATE send_counts SET times = ? WHERE kind = ? AND key = ?", text, c.kind, c.key)
	return err
}
