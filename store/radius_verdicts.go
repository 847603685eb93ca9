package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Times that requests which may come to several nodes are remembered for.
const (
	RadiusClaimLife   = 30 * time.Second // of one that a node works on: longer than it can take
	RadiusVerdictLife = 10 * time.Second // of one that was answered
)

// RadiusVerdicts is the table of requests that were judged just now, so that a node that is asked the same answers the
// same, and does not judge a code again that is used up. Nothing of a request is kept but a digest.
type RadiusVerdicts struct{ db *db }

// Claim begins the work on a request, known by its digest. Of many at once, at whichever nodes, one gets an owner, and
// has to call [RadiusVerdicts.Settle] or [RadiusVerdicts.Release]. The others get none, and the verdict once there is one.
func (s RadiusVerdicts) Claim(ctx context.Context, digest string) (owner string, verdict []byte, err error) {
	const what = "claiming a RADIUS request"
	if owner, err = newID(); err != nil {
		return "", nil, fmt.Errorf("%s: %w", what, err)
	}
	claimed := false
	err = s.db.writing(ctx, what, func(ctx context.Context, q querier) error {
		now := s.db.now()
		n, err := exec(ctx, q, `INSERT INTO radius_verdicts (digest, owner, verdict, expires) VALUES (?, ?, '', ?)
			ON CONFLICT (digest) DO UPDATE SET owner = excluded.owner, verdict = '', expires = excluded.expires
			WHERE radius_verdicts.expires <= ? OR radius_verdicts.owner = excluded.owner`,
			digest, owner, ms(now.Add(RadiusClaimLife)), ms(now))
		claimed = n == 1
		return err
	})
	if err != nil || claimed {
		return owner, nil, err
	}
	verdict, err = s.Find(ctx, digest)
	return "", verdict, err
}

// Find returns the verdict on a request; nil: there is none yet.
func (s RadiusVerdicts) Find(ctx context.Context, digest string) ([]byte, error) {
	const what = "looking for the verdict on a RADIUS request"
	var sealed string
	err := s.db.briefly(ctx, what, func(ctx context.Context, q querier) (err error) {
		sealed, err = scalar[string](ctx, q, "SELECT verdict FROM radius_verdicts WHERE digest = ? AND expires > ?", digest, ms(s.db.now()))
		return err
	})
	switch {
	case errors.Is(err, ErrNotFound), err == nil && sealed == "":
		return nil, nil
	case err != nil:
		return nil, err
	}
	verdict, err := s.db.ring.Open("radius_verdicts", "verdict", digest, sealed)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return verdict, nil
}

// Settle keeps the verdict of the owner, for whoever is asked the same in the next seconds.
func (s RadiusVerdicts) Settle(ctx context.Context, digest, owner string, verdict []byte) error {
	const what = "keeping the verdict on a RADIUS request"
	sealed, err := s.db.ring.Seal("radius_verdicts", "verdict", digest, verdict)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return s.db.writing(ctx, what, func(ctx context.Context, q querier) error {
		_, err := exec(ctx, q, "UPDATE radius_verdicts SET verdict = ?, expires = ? WHERE digest = ? AND owner = ?",
			sealed, ms(s.db.now().Add(RadiusVerdictLife)), digest, owner)
		return err
	})
}

// Release ends the work of the owner without a verdict: the next who is asked begins anew.
func (s RadiusVerdicts) Release(ctx context.Context, digest, owner string) error {
	return s.db.writing(ctx, "releasing a RADIUS request", func(ctx context.Context, q querier) error {
		_, err := exec(ctx, q, "DELETE FROM radius_verdicts WHERE digest = ? AND owner = ?", digest, owner)
		return err
	})
}

// Several tells whether more than one node lives, so that a request may come to another one.
func (s Sessions) Several(ctx context.Context) (bool, error) {
	var n int
	err := s.db.reading(ctx, "counting the nodes that live", func(ctx context.Context, q querier) (err error) {
		n, err = scalar[int](ctx, q, "SELECT COUNT(*) FROM nodes WHERE seen >= "+s.db.clockSQL()+" - ?", nodeSilence.Milliseconds())
		return err
	})
	return n > 1, err
}
