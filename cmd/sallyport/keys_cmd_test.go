package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"sallyport/admin"
	"sallyport/internal/seal"
	"sallyport/internal/testenv"
)

// keysOf is what keys status says.
func keysOf(t *testing.T, file string) []admin.Key {
	t.Helper()
	out, errs, status := program(t, "keys", "status", "-c", file, "-o", "json")
	if status != 0 {
		t.Fatalf("keys status: %d, %s", status, errs)
	}
	var keys []admin.Key
	noError(t, json.Unmarshal([]byte(out), &keys))
	return keys
}

// A rotation, its second run, and the end of the key before.
func TestKeysRotate(t *testing.T) {
	t.Parallel()
	file := installation(t, "")
	before := keysOf(t, file)
	if len(before) != 1 || before[0].State != admin.KeyActive || before[0].Rows < 2 || before[0].Tables["secrets.value"] < 2 {
		t.Fatalf("keys of a new installation: %+v", before)
	}
	old := before[0].ID
	if _, errs, status := program(t, "keys", "drop", old, "-c", file); status != 1 || !strings.Contains(errs, "active") {
		t.Errorf("dropping the active key: %d, %s", status, errs)
	}
	if _, errs, status := program(t, "keys", "rotate", "-c", file); status != 0 || !strings.Contains(errs, "everything is sealed with key") {
		t.Fatalf("keys rotate: %d, %s", status, errs)
	}
	after := keysOf(t, file)
	if len(after) != 2 || after[0].State != admin.KeyActive || after[0].ID == old || after[0].Rows != before[0].Rows || after[1].ID != old || after[1].Rows != 0 || after[1].State != admin.KeyOpens {
		t.Fatalf("after the rotation: %+v", after)
	}
	if _, errs, status := program(t, "keys", "drop", "12345678", "-c", file); status != 1 || !strings.Contains(errs, "no key") {
		t.Errorf("dropping a key that is not there: %d, %s", status, errs)
	}
	if _, errs, status := program(t, "keys", "drop", old, "-c", file); status != 0 {
		t.Errorf("dropping the key before: %d, %s", status, errs)
	}
	if got := keysOf(t, file); len(got) != 1 || got[0].ID != after[0].ID {
		t.Errorf("after dropping: %+v", got)
	}
	ring := filepath.Join(filepath.Dir(file), "keyring")
	if info, err := os.Stat(ring); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file %v, %v", info, err)
	}
	if out, _, status := program(t, "check", "-c", file); !strings.Contains(out, "keyring") || status > 1 || strings.Contains(out, "FAIL  keyring") {
		t.Errorf("check after a rotation: %s", out)
	}
}

// A key that is still in use stays, and a rotation that was killed in the middle goes on with the same key.
func TestKeysRotateGoesOn(t *testing.T) {
	t.Parallel()
	file := installation(t, "")
	cfg, err := loadConfig(file)
	noError(t, err)
	old := keysOf(t, file)[0].ID
	// As if killed after the first batch: the new key is active, one row is sealed with it.
	next, err := seal.AddKey(string(cfg.Keys.Ring))
	noError(t, err)
	ring, err := loadRing(cfg)
	noError(t, err)
	st, err := openStore(t.Context(), cfg, ring)
	noError(t, err)
	defer st.Close()
	_, err = st.Keys.SetNext(t.Context(), "", next)
	noError(t, err)
	noError(t, seal.Promote(string(cfg.Keys.Ring), next))
	if _, err := st.Keys.Reload(); err != nil {
		t.Fatal(err)
	}
	noError(t, st.Secrets.Put(t.Context(), "one", []byte("1")))
	if _, errs, status := program(t, "keys", "drop", old, "-c", file); status != 1 || !strings.Contains(errs, "rows are sealed with key "+old) {
		t.Errorf("dropping a key in use: %d, %s", status, errs)
	}
	if _, errs, status := program(t, "keys", "rotate", "-c", file); status != 0 {
		t.Fatalf("keys rotate: %d, %s", status, errs)
	}
	if got := keysOf(t, file); len(got) != 2 || got[0].ID != next || got[1].Rows != 0 {
		t.Errorf("keys %+v, want all under %s", got, next)
	}
}

// Two at once, on one installation: both end well or say that the other one was faster, and nothing is lost.
func TestKeysRotateTwiceAtOnce(t *testing.T) {
	t.Parallel()
	file := installation(t, "")
	rows := keysOf(t, file)[0].Rows
	statuses := make(chan string, 2)
	for range 2 {
		go func() {
			_, errs, status := program(t, "keys", "rotate", "-c", file)
			if status == 0 {
				errs = ""
			}
			statuses <- errs
		}()
	}
	good := 0
	for range 2 {
		switch errs := <-statuses; {
		case errs == "":
			good++
		case !strings.Contains(errs, "at the same moment"):
			t.Errorf("one of them: %s", errs)
		}
	}
	if good == 0 {
		t.Error("neither came to an end")
	}
	got := keysOf(t, file)
	if got[0].Rows != rows {
		t.Errorf("keys %+v, want %d rows under the first", got, rows)
	}
	for _, k := range got[1:] {
		if k.Rows != 0 || k.State == admin.KeyMissing {
			t.Errorf("key %+v", k)
		}
	}
}

// Another node that does not have the new key yet stops the rotation before anything is sealed with it; a
// running server reads its ring again by itself.
func TestKeysRotateWaitsForNodes(t *testing.T) {
	t.Parallel()
	file := installation(t, "")
	cfg, err := loadConfig(file)
	noError(t, err)
	ring, err := loadRing(cfg)
	noError(t, err)
	st, err := openStore(t.Context(), cfg, ring)
	noError(t, err)
	defer st.Close()
	old := ring.IDs()[0]

	// A node whose key ring is a file of its own.
	text, err := os.ReadFile(string(cfg.Keys.Ring))
	noError(t, err)
	foreign := filepath.Join(t.TempDir(), "keyring")
	noError(t, os.WriteFile(foreign, text, 0o600))
	foreignRing, err := seal.Load(foreign)
	noError(t, err)
	far, err := openStore(t.Context(), cfg, foreignRing)
	noError(t, err)
	defer far.Close()
	noError(t, far.Keys.Publish(t.Context(), "far"))
	_, errs, status := program(t, "keys", "rotate", "-c", file)
	if status != 1 || !strings.Contains(errs, "not yet on: far") || !strings.Contains(errs, "Copy") {
		t.Fatalf("rotating without the far node: %d, %s", status, errs)
	}
	got := keysOf(t, file)
	if got[0].ID != old || len(got) != 2 || got[1].Rows != 0 {
		t.Fatalf("keys %+v: something was sealed with a key that a node does not have", got)
	}
	next := got[1].ID

	// The operator copies the file, the node reads it and says so.
	if text, err = os.ReadFile(string(cfg.Keys.Ring)); err != nil {
		t.Fatal(err)
	}
	noError(t, os.WriteFile(foreign, text, 0o600))
	done := make(chan string)
	go func() {
		_, errs, status := program(t, "keys", "rotate", "-c", file)
		if status == 0 {
			errs = "good: " + errs
		}
		done <- errs
	}()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for copied := false; ; {
		select {
		case errs := <-done:
			if !strings.HasPrefix(errs, "good: ") {
				t.Fatalf("after copying: %s", errs)
			}
			if got := keysOf(t, file); got[0].ID != next || got[1].Rows != 0 {
				t.Errorf("keys %+v", got)
			}
			return
		case <-tick.C: // what the node's housekeeping does
			if text, err := os.ReadFile(string(cfg.Keys.Ring)); err == nil && !copied && !strings.HasPrefix(firstKey(string(text)), old) {
				noError(t, os.WriteFile(foreign, text, 0o600))
				copied = true
			}
			_, err := far.Keys.Reload()
			noError(t, err)
			noError(t, far.Keys.Publish(t.Context(), "far"))
		}
	}
}

func firstKey(text string) string {
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") {
			return line
		}
	}
	return ""
}

// A real server goes on while its keys are rotated beside it, with tokens that work before, meanwhile and
// after, and drops nothing it needs.
func TestKeysRotateBesideAServer(t *testing.T) {
	t.Parallel()
	o := startOperated(t)
	u := object[admin.User](o, "user", "add", "dave", "--generate")
	for range 20 {
		o.ok("token", "add", "dave")
	}
	file := filepath.Join(t.TempDir(), "sallyport.yaml")
	noError(t, os.WriteFile(file, []byte("data: "+string(o.cfg.Data)+"\ndatabase: "+string(o.cfg.Database)+"\nkeys: {ring: "+string(o.cfg.Keys.Ring)+"}\n"), 0o600))
	if _, errs, status := program(t, "keys", "rotate", "-c", file); status != 0 {
		t.Fatalf("keys rotate: %d, %s", status, errs)
	}
	if list, err := o.node.Store.Tokens.Usable(t.Context(), u.ID); err != nil || len(list) != 20 {
		t.Errorf("the server reads %d tokens, %v", len(list), err)
	}
	keys := object[[]admin.Key](o, "keys", "status", "-c", file)
	testenv.WaitFor(t, "the server to read its key ring again", func() bool {
		_, err := o.node.Store.Keys.Reload()
		noError(t, err)
		noError(t, o.node.Store.Secrets.Put(t.Context(), "fresh", []byte("x")))
		return object[[]admin.Key](o, "keys", "status", "-c", file)[0].Rows > keys[0].Rows
	})
	o.ok("token", "add", "dave")
	if got := keysOf(t, file); got[1].Rows != 0 || got[0].Tables["tokens.secret"] != 21 {
		t.Errorf("keys %+v", got)
	}
}

func TestKeysNew(t *testing.T) {
	t.Parallel()
	out, _, status := program(t, "keys", "new")
	if status != 0 || !regexp.MustCompile(`^[0-9a-f]{8} [A-Za-z0-9+/]{43}=\n$`).MatchString(out) {
		t.Errorf("status %d: %q", status, out)
	}
}

// The key ring from a credential of systemd and from the environment. Not parallel, because of the
// environment.
func TestKeyRingSources(t *testing.T) {
	file := installation(t, "")
	dir := filepath.Dir(file)
	text, err := os.ReadFile(filepath.Join(dir, "keyring"))
	noError(t, err)
	noError(t, os.Remove(filepath.Join(dir, "keyring")))
	config, err := os.ReadFile(file)
	noError(t, err)
	credentials := t.TempDir()
	noError(t, os.WriteFile(filepath.Join(credentials, "ring"), text, 0o400))
	lines := strings.TrimSpace(firstKey(string(text))) + ",# no more"
	for source, set := range map[string]func(on bool){
		"credential:ring": func(on bool) { t.Setenv("CREDENTIALS_DIRECTORY", map[bool]string{true: credentials}[on]) },
		"env:TEST_RING":   func(on bool) { t.Setenv("TEST_RING", map[bool]string{true: lines}[on]) },
	} {
		changed := regexp.MustCompile(`(?m)^(\s+)ring: .*$`).ReplaceAllString(string(config), "${1}ring: "+source)
		other := filepath.Join(dir, "other.yaml")
		noError(t, os.WriteFile(other, []byte(changed), 0o600))
		set(false)
		if _, errs, status := program(t, "keys", "status", "-c", other); status == 0 || !strings.Contains(errs, source) {
			t.Errorf("%s that is not there: %d, %s", source, status, errs)
		}
		set(true)
		keys := keysOf(t, other)
		if len(keys) != 1 || keys[0].Rows < 2 {
			t.Errorf("%s: %+v", source, keys)
		}
		if _, errs, status := program(t, "keys", "rotate", "-c", other); status != 0 || !strings.Contains(errs, "sallyport keys new") {
			t.Errorf("%s: rotate: %d, %s", source, status, errs)
		}
	}
	// A new key in front of the credential: rotate seals everything with it.
	line, _, _ := program(t, "keys", "new")
	noError(t, os.Remove(filepath.Join(credentials, "ring")))
	noError(t, os.WriteFile(filepath.Join(credentials, "ring"), []byte(line+string(text)), 0o400))
	other := filepath.Join(dir, "credential.yaml")
	noError(t, os.WriteFile(other, regexp.MustCompile(`(?m)^(\s+)ring: .*$`).ReplaceAll(config, []byte("${1}ring: credential:ring")), 0o600))
	if _, errs, status := program(t, "keys", "rotate", "-c", other); status != 0 {
		t.Errorf("rotate: %d, %s", status, errs)
	}
	if keys := keysOf(t, other); len(keys) != 2 || keys[0].ID != line[:8] || keys[1].Rows != 0 {
		t.Errorf("keys %+v", keys)
	}
}
