package store_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/store"
)

// signed stands for a key: the real ones are the nodes'.
func signed(c *audit.Checkpoint) error {
	c.Key = "key"
	text, err := c.SignedText()
	sum := sha256.Sum256(text)
	c.Sig = sum[:]
	return err
}

func checkSigned(_, _ string, _ time.Time, text, sig []byte) error {
	if sum := sha256.Sum256(text); string(sum[:]) != string(sig) {
		return errors.New("false")
	}
	return nil
}

func proveLog(t *testing.T, s *store.Store, since time.Time) (audit.Proof, error) {
	t.Helper()
	c := audit.Chain{Check: checkSigned}
	var broken error
	check(t, s.Audit.Lines(t.Context(), since, func(l audit.Line) error {
		if broken == nil {
			broken = c.Add(l)
		}
		return nil
	}))
	if broken != nil {
		return audit.Proof{}, broken
	}
	return c.End()
}

func chainAll(t *testing.T, s *store.Store) (total int) {
	t.Helper()
	for {
		n, _, err := s.Audit.Chain(t.Context(), "n1", signed)
		check(t, err)
		if n == 0 {
			return total
		}
		total += n
	}
}

func TestAuditChain(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		if n, _, err := s.Audit.Chain(ctx, "n1", signed); n != 0 || err != nil {
			t.Errorf("nothing to chain: %d, %v", n, err)
		}
		event := func(i int) {
			check(t, s.Audit.Append(ctx, audit.Event{Type: audit.LoginAccepted, Result: audit.OK, User: "<é> " + fmt.Sprint(i), Session: fmt.Sprint("s", i%3), Detail: map[string]string{"b": "2", "a": "1\n"}}))
		}
		for i := range 603 {
			event(i)
		}
		// A node that dies, or cannot sign, leaves everything as it was.
		if n, _, err := s.Audit.Chain(ctx, "n1", func(*audit.Checkpoint) error { return errors.New("no") }); n != 0 || err == nil {
			t.Errorf("an unsigned batch: %d, %v", n, err)
		}
		if n := chainAll(t, s); n != 603 {
			t.Errorf("%d events were chained", n)
		}
		e.clock.Move(time.Hour)
		late := e.clock.Now()
		event(2000)
		chainAll(t, s)
		// One that a node could not write earlier comes late, and stands where it came.
		check(t, s.Audit.Append(ctx, audit.Event{ID: "00-early", Type: audit.NodeStarted, Time: start.Add(-time.Hour)}))
		if n := chainAll(t, s); n != 1 {
			t.Errorf("%d late events were chained", n)
		}
		event(2001)
		state := must[store.ChainState](t)(s.Audit.ChainState(ctx))
		if state.Last.Position != 605 || state.Unchained != 1 || !state.Oldest.Equal(late) || !state.Last.Time.Equal(late) {
			t.Errorf("state %+v", state)
		}
		proof, err := proveLog(t, s, time.Time{})
		if err != nil || proof.First != 1 || proof.Last != 605 || proof.Unchained != 1 {
			t.Errorf("proof %+v, %v", proof, err)
		}
		proof, err = proveLog(t, s, late)
		if err != nil || proof.First != 604 || proof.Last != 605 || proof.Unchained != 1 {
			t.Errorf("proof since %v: %+v, %v", late, proof, err)
		}
		events, stretches, err := s.Audit.Proving(ctx, "s1", audit.LoginAccepted)
		if err != nil || len(events) != 201 || len(stretches) != 2 {
			t.Errorf("%d events of the session, %d stretches, %v", len(events), len(stretches), err)
		}
	})
}

// TestAuditChainTampered: what is done to the rows behind the server's back is found where it begins.
func TestAuditChainTampered(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		if e.name == "memory" {
			return // nobody else can reach it
		}
		s, ctx := e.open(), t.Context()
		for i := range 9 {
			check(t, s.Audit.Append(ctx, audit.Event{Type: audit.LoginAccepted, User: fmt.Sprint("u", i)}))
			if i%3 == 2 {
				chainAll(t, s)
			}
		}
		db := raw(t, e.dsn)
		for _, c := range []struct{ what, do, undo, want string }{
			{"altered", "UPDATE audit_events SET user_name = 'x' WHERE position = 5", "UPDATE audit_events SET user_name = 'u4' WHERE position = 5", "position 5: event "},
			{"removed", "UPDATE audit_events SET position = 99 WHERE position = 4", "UPDATE audit_events SET position = 4 WHERE position = 99", "position 4: the event is missing"},
			{"taken out", "UPDATE audit_events SET position = 0 WHERE position = 4", "UPDATE audit_events SET position = 4 WHERE position = 0", "position 4: the event is missing"},
			{"head", "UPDATE audit_checkpoints SET node = 'x' WHERE position = 6", "UPDATE audit_checkpoints SET node = 'n1' WHERE position = 6", "position 6: the checkpoint proves nothing: false"},
			{"no head", "UPDATE audit_checkpoints SET position = -6 WHERE position = 6", "UPDATE audit_checkpoints SET position = 6 WHERE position = -6", "position 4: a checkpoint is missing or repeated"},
		} {
			_, err := db.ExecContext(ctx, c.do)
			check(t, err)
			if _, err := proveLog(t, s, time.Time{}); err == nil || err.Error()[:min(len(c.want), len(err.Error()))] != c.want {
				t.Errorf("%s: %v, want %s", c.what, err, c.want)
			}
			_, err = db.ExecContext(ctx, c.undo)
			check(t, err)
			if _, err := proveLog(t, s, time.Time{}); err != nil {
				t.Fatalf("%s, undone: %v", c.what, err)
			}
		}
	})
}

// TestAuditChainOfSeveralNodes: nodes write and chain at once; there is one chain, and every event is in it once.
func TestAuditChainOfSeveralNodes(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		var wg sync.WaitGroup
		const nodes, events = 4, 40
		for n := range nodes {
			s := e.open()
			wg.Go(func() {
				for i := range events {
					if err := s.Audit.Append(t.Context(), audit.Event{Type: audit.LoginAccepted, User: fmt.Sprint(n, "-", i)}); err != nil {
						t.Error(err)
					}
					if _, _, err := s.Audit.Chain(t.Context(), fmt.Sprint("n", n), signed); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		s := e.open()
		chainAll(t, s)
		if proof, err := proveLog(t, s, time.Time{}); err != nil || proof.Last != nodes*events {
			t.Errorf("%+v, %v", proof, err)
		}
	})
}
