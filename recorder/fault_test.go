package recorder

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"
)

// TestEveryOperationFails lets the n-th operation on a file fail, for every n until none is left,
// once alone and once with all that follow. Whatever fails: what Output took is in the recording
// after a restart, nothing else is, and it is proved.
func TestEveryOperationFails(t *testing.T) {
	t.Parallel()
	id, _ := auditor(t)
	for _, forever := range []bool{false, true} {
		for name, ids := range map[string][]age.Identity{"plain": nil, "encrypted": {id}} {
			if ids != nil && forever && !long() {
				continue // the time of make test is short, and the other half is the one in which recordings go on
			}
			t.Run(fmt.Sprintf("%s/forever=%v", name, forever), func(t *testing.T) {
				t.Parallel()
				failed := 1
				for n := int64(1); failed > 0; n++ {
					failed = oneFault(t, n, forever, ids)
				}
			})
		}
	}
}

// oneFault records with the n-th operation failing and checks what is left. It returns how many
// operations failed.
func oneFault(t *testing.T, n int64, forever bool, ids []age.Identity) int {
	dir := t.TempDir()
	var done, faults atomic.Int64
	var to []age.Recipient
	for _, id := range ids {
		to = append(to, id.(*age.X25519Identity).Recipient())
	}
	r, err := New(Config{
		Dir: dir, SigningKey: testKey(1), Sync: time.Millisecond, PartSize: 200, Recipients: to,
		testingFault: func(op, path string) error {
			if i := done.Add(1); i == n || forever && i > n {
				faults.Add(1)
				return fmt.Errorf("%w: %s %s", errInjected, op, path)
			}
			return nil
		},
	})
	must(t, err)
	var taken []byte
	w, err := r.Create(Header{Session: "a"})
	if err != nil && !errors.Is(err, errInjected) {
		t.Fatalf("operation %d: creating: %v", n, err)
	}
	if err == nil {
		for i := range 40 {
			chunk := fmt.Appendf(nil, "chunk %d \xc3", i)
			if err := w.Output(chunk); err == nil {
				taken = append(taken, chunk...)
			} else if !errors.Is(err, errInjected) {
				t.Fatalf("operation %d: output: %v", n, err)
			} else {
				select {
				case <-w.Failed():
				default:
					t.Fatalf("operation %d: Output failed and Failed is not closed", n)
				}
				if i%2 == 0 {
					_ = w.Gap(int64(len(chunk)), "injected") // may fail as well
				}
			}
		}
		if _, err := w.Close(); err != nil && !errors.Is(err, errInjected) {
			t.Fatalf("operation %d: closing: %v", n, err)
		}
	}
	must(t, r.Close())

	after, err := New(Config{Dir: dir, SigningKey: testKey(1)})
	must(t, err)
	defer after.Close()
	recovered, err := after.Recover(t.Context(), nil)
	must(t, err)
	for _, one := range recovered {
		must(t, one.Err)
	}
	if w == nil {
		if len(recovered) != 0 {
			t.Fatalf("operation %d: recovered what was never created: %+v", n, recovered)
		}
		return int(faults.Load())
	}
	var got []byte
	if ids == nil {
		got = dataOf(events(t, after, w.Path()), "o")
	} else {
		got = dataIn(t, decrypted(t, after, w.Path(), ids...))
	}
	if string(got) != string(taken) {
		t.Fatalf("operation %d: taken %q, recorded %q", n, taken, got)
	}
	if report, err := after.Verify(w.Path()); err != nil || !report.Complete() {
		t.Fatalf("operation %d: verify: %+v, %v", n, report, err)
	}
	return int(faults.Load())
}
