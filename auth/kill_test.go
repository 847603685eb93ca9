package auth_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"sallyport/auth"
	"sallyport/identity"
	"sallyport/internal/seal"
)

// deadly is a directory in which somebody is found, and in which proving a password is kill -9.
type deadly struct{}

func (deadly) Lookup(_ context.Context, login string) (identity.Person, error) {
	return identity.Person{ID: "id-of-" + login, Login: login}, nil
}

func (deadly) Bind(context.Context, identity.Person, identity.Password) error {
	return syscall.Kill(os.Getpid(), syscall.SIGKILL)
}

// killEnv names for the process that is to die where its database is.
const killEnv = "SALLYPORT_TEST_KILLED"

// killWorld is a world on a database that two processes open.
func killWorld(t *testing.T, dir string) *world {
	t.Helper()
	ring, err := seal.LoadOrCreate(filepath.Join(dir, "keyring"))
	check(t, err)
	w := &world{t: t, now: time.Now(), dsn: "sqlite:" + filepath.Join(dir, "db"), ring: ring, changes: []change{func(c *auth.Config) { c.Directory = deadly{} }}}
	w.Store, w.Engine = w.node()
	return w
}

// A node is killed between reservation and verdict, after the code was found: the code stays used, and the
// attempt becomes a failure that counts towards the lock.
func TestKilledBeforeTheVerdict(t *testing.T) {
	if dir := os.Getenv(killEnv); dir != "" {
		w := killWorld(t, dir)
		_, _, err := w.enter(auth.Attempt{}, os.Getenv(killEnv+"_CODE"))
		t.Fatalf("still alive: %v", err)
	}
	t.Parallel()
	dir := t.TempDir()
	w := killWorld(t, dir)
	u, err := w.Store.Users.SeenInDirectory(t.Context(), "id-of-dave", "dave", "Dave", "", nil)
	check(t, err)
	secret := w.token(u.ID)
	for _, code := range []string{"000001", "000002", "000003", "000004"} {
		_, _, err := w.enter(auth.Attempt{}, code)
		w.refused(err, auth.ErrCode)
	}
	code := w.code(secret)
	cmd := exec.Command(os.Args[0], "-test.run", "^TestKilledBeforeTheVerdict$")
	cmd.Env = append(os.Environ(), killEnv+"="+dir, killEnv+"_CODE="+code)
	out, _ := cmd.CombinedOutput()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		t.Fatalf("the process ended with %v: %s", cmd.ProcessState, out)
	}
	tokens, err := w.Store.Tokens.List(t.Context(), u.ID)
	check(t, err)
	if tokens[0].LastStep == 0 {
		t.Error("the code is good again")
	}
	locked := func() bool {
		locks, err := w.Store.Attempts.Locks(t.Context())
		check(t, err)
		return len(locks) > 0
	}
	check(t, w.Engine.Housekeeping(t.Context()))
	if locked() {
		t.Error("the attempt counted before its time")
	}
	w.now = time.Now().Add(61 * time.Second)
	check(t, w.Engine.Housekeeping(t.Context()))
	if !locked() {
		t.Error("the attempt is forgotten")
	}
	_, _, err = w.enter(auth.Attempt{}, w.code(secret))
	w.refused(err, auth.ErrLocked)
}
