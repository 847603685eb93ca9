package main

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/store"
)

// installation makes one with init and gives its configuration, with more lines at the end.
func installation(t *testing.T, more string) (file string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "sallyport")
	if _, errs, status := program(t, "init", "--dir", dir, "--ssh", "127.0.0.1:0", "--web", "127.0.0.1:0"); status != 0 {
		t.Fatal(errs)
	}
	file = filepath.Join(dir, "sallyport.yaml")
	if more != "" {
		if err := os.WriteFile(file, []byte("data: "+dir+"\n"+more), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return file
}

// checked runs check and gives its findings by id.
func checked(t *testing.T, file string) (findings map[string]finding, status int) {
	t.Helper()
	out, errs, status := program(t, "check", "-c", file, "-o", "json")
	var list []finding
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatalf("%v in %q, %q", err, out, errs)
	}
	findings = map[string]finding{}
	for _, f := range list {
		if f.ID == "" || f.Detail == "" || !f.OK && f.Fix == "" {
			t.Errorf("finding %+v: an id, what was seen, and what to do if it is not right", f)
		}
		findings[f.ID] = f
	}
	return findings, status
}

func TestCheckOfNewInstallation(t *testing.T) {
	t.Parallel()
	file := installation(t, "ssh: {listen: \"127.0.0.1:0\"}\nweb: {listen: \"127.0.0.1:0\"}\nrecordings: {reserve: 1MiB}\n")
	findings, status := checked(t, file)
	for id, f := range findings {
		if !f.OK {
			t.Errorf("%s: %s -> %s", id, f.Detail, f.Fix)
		}
	}
	if status != 0 {
		t.Errorf("status %d", status)
	}
	for _, id := range []string{"configuration", "file/configuration", "file/keyring", "database", "keyring", "directory", "storage", "storage/space", "clock/database", "listener/ssh", "listener/web", "targets"} {
		if _, ok := findings[id]; !ok {
			t.Errorf("%s was not looked at", id)
		}
	}
	out, _, _ := program(t, "check", "-c", file)
	if !strings.Contains(out, "ok    database ") {
		t.Errorf("table:\n%s", out)
	}
}

func TestCheckFinds(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() }) // after the subtests, which are parallel
	port := taken.Addr().(*net.TCPAddr).String()
	base := "ssh: {listen: \"127.0.0.1:0\"}\nweb: {listen: \"127.0.0.1:0\"}\n"
	tests := []struct {
		name, more string
		damage     func(t *testing.T, dir string)
		id, fix    string
	}{
		{"key ring open to others", base, func(t *testing.T, dir string) { chmod(t, filepath.Join(dir, "keyring"), 0o644) }, "file/keyring", "chmod 0600"},
		{"key ring gone", base, func(t *testing.T, dir string) { remove(t, filepath.Join(dir, "keyring")) }, "file/keyring", "backup"},
		{"key ring of another", base, func(t *testing.T, dir string) {
			other, err := os.ReadFile(filepath.Join(filepath.Dir(installation(t, "")), "keyring"))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "keyring"), other, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "keyring", "bring back"},
		{"database gone", base, func(t *testing.T, dir string) { remove(t, filepath.Join(dir, "sallyport.db")) }, "database", "sallyport init"},
		{"configuration open to writers", base, func(t *testing.T, dir string) { chmod(t, filepath.Join(dir, "sallyport.yaml"), 0o666) }, "file/configuration", "chmod 0644"},
		{"data open to others", base, func(t *testing.T, dir string) { chmod(t, dir, 0o755) }, "file/data", "chmod 0700"},
		{"no room", base + "recordings: {reserve: 1000TiB}\n", nil, "storage/space", "make room"},
		{"port taken", "ssh: {listen: \"" + port + "\"}\nweb: {listen: \"\"}\n", nil, "listener/ssh", "ss -ltnp"},
		{"address of another machine", "ssh: {listen: \"192.0.2.1:22\"}\nweb: {listen: \"\"}\n", nil, "listener/ssh", "an address that this machine has"},
		{"directory not reachable", base + "directory: {servers: [\"ldap://127.0.0.1:1\"], base: dc=x}\n", nil, "directory/", ""},
		{"certificate", "ssh: {listen: \"127.0.0.1:0\"}\nweb: {listen: \"127.0.0.1:0\", certificate: none.pem, key: none.key}\n", nil, "web/certificate", "PEM"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			file := installation(t, tt.more)
			if tt.damage != nil {
				tt.damage(t, filepath.Dir(file))
			}
			findings, status := checked(t, file)
			if status != exitFailed {
				t.Errorf("status %d", status)
			}
			for id, f := range findings {
				if strings.HasPrefix(id, tt.id) && !f.OK && strings.Contains(f.Fix, tt.fix) {
					return
				}
			}
			t.Errorf("no complaint about %s that says %q in %+v", tt.id, tt.fix, findings)
		})
	}
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// Targets are proved one by one, also beside the running server, whose ports are then no complaint.
func TestCheckBesideTheServer(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	file := installation(t, "ssh: {listen: \""+address+"\"}\nweb: {listen: \"\"}\nrecordings: {reserve: 1MiB}\n")
	s := startServe(t, file)
	addTarget(t, file)
	findings, _ := checked(t, file)
	if f := findings["listener/ssh"]; !f.OK || !strings.Contains(f.Detail, "runs") {
		t.Errorf("listener: %+v", f)
	}
	if f := findings["target/gone/reach"]; f.OK || f.Fix == "" {
		t.Errorf("target: %+v", f)
	}
	s.end()
	if status := <-s.status; status != 0 {
		t.Errorf("status %d: %s", status, s.errs.String())
	}
}

// addTarget puts a target that cannot be reached into the database.
func addTarget(t *testing.T, file string) {
	t.Helper()
	cfg, err := loadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	ring, err := loadRing(cfg)
	if err != nil {
		t.Fatal(err)
	}
	st, err := openStore(t.Context(), cfg, ring)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	if _, err := st.Targets.Add(t.Context(), store.Target{Name: "gone", Address: nowhere, Accounts: []string{"root"}, HostKeyMode: store.TOFU}); err != nil {
		t.Fatal(err)
	}
}
