package main

import (
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/otp"
)

func TestDemoOTP(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	if _, errs, status := program(t, "demo", "otp", "alice", "--state", dir); status != exitFailed || !strings.Contains(errs, "sallyport demo") {
		t.Errorf("without a demo: status %d, %q", status, errs)
	}
	if err := prepareState(dir, false); err != nil {
		t.Fatal(err)
	}
	secrets, err := loadSecrets(dir, 2)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := otp.ParseSecret(secrets.Seeds["u2"])
	if err != nil {
		t.Fatal(err)
	}
	p := otp.DefaultParams()
	before := p.StepAt(time.Now())
	out, errs, status := program(t, "demo", "otp", "--state", dir, "u2")
	after := p.StepAt(time.Now())
	if code := strings.TrimSpace(out); status != 0 || code != p.Code(secret, before) && code != p.Code(secret, after) {
		t.Errorf("code %q, status %d, %q", out, status, errs)
	}
	for login, want := range map[string]string{"bob": "has no token", "u3": "no user", "../x": "no user"} {
		if out, errs, status := program(t, "demo", "otp", login, "--state", dir); status != exitFailed || out != "" || !strings.Contains(errs, want) {
			t.Errorf("%s: status %d, %q, %q", login, status, out, errs)
		}
	}
}

// However many ask at once: no step is handed out twice as unused, none that was printed, none of the past.
func TestUnusedCodesAreDistinct(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const now, callers = 1000, 100
	if step, err := takeStep(dir, "alice", now, false); err != nil || step != now {
		t.Fatalf("first step %d, %v", step, err)
	}
	var mu sync.Mutex
	seen := map[int64]bool{now: true}
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			step, err := takeStep(dir, "alice", now, true)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if seen[step] || step < now {
				t.Errorf("caller %d got step %d, which was handed out or has passed", i, step)
			}
			seen[step] = true
		})
	}
	all.Wait()
	for step := int64(now); step <= now+callers; step++ {
		if !seen[step] {
			t.Errorf("step %d was left out", step)
		}
	}
	if step, err := takeStep(dir, "alice", now, false); err != nil || step != now {
		t.Errorf("the current code is that of step %d, %v, want %d", step, err, now)
	}
	if step, err := takeStep(dir, "alice", now+5000, true); err != nil || step != now+5000 {
		t.Errorf("later: step %d, %v", step, err)
	}
	if step, err := takeStep(dir, "u1", now, true); err != nil || step != now {
		t.Errorf("another user: step %d, %v", step, err)
	}
}
