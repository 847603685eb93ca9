package main

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sallyport/internal/config"
)

func TestInit(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "sallyport")
	out, errs, status := program(t, "init", "--dir", dir)
	if status != 0 {
		t.Fatalf("status %d: %s", status, errs)
	}
	if !regexp.MustCompile(`^http://127\.0\.0\.1:8080/setup\?ticket=[\w-]{22}\n$`).MatchString(out) {
		t.Errorf("printed %q, want the link alone", out)
	}
	for _, want := range []string{"check -c " + dir, "serve -c " + dir, filepath.Join(dir, "sallyport.sock"), filepath.Join(dir, "keyring")} {
		if !strings.Contains(errs, want) {
			t.Errorf("no %q in\n%s", want, errs)
		}
	}
	for name, mode := range map[string]os.FileMode{".": 0o700, "sallyport.yaml": 0o600, "keyring": 0o600, "signing.key": 0o600, "sallyport.db": 0o600} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v, want mode %04o", name, info, err, mode)
		}
	}
	cfg, err := config.Load(filepath.Join(dir, "sallyport.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(cfg.Data), dir; got != want {
		t.Errorf("data: %q, want %q", got, want)
	}
	before, err := os.ReadFile(filepath.Join(dir, "sallyport.yaml"))
	if err != nil || !strings.Contains(string(before), "# Address and port to listen on.") {
		t.Errorf("the configuration is not annotated: %v", err)
	}
	if _, errs, status := program(t, "init", "--dir", dir, "--ssh", ":22"); status != exitFailed || !strings.Contains(errs, "overwrites nothing") {
		t.Errorf("again: status %d, %q", status, errs)
	}
	if after, err := os.ReadFile(filepath.Join(dir, "sallyport.yaml")); err != nil || string(after) != string(before) {
		t.Errorf("the configuration was changed: %v", err)
	}
}

func TestInitRefuses(t *testing.T) {
	t.Parallel()
	open := filepath.Join(t.TempDir(), "open")
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		args   []string
		status int
		say    string
	}{
		{"web without TLS off loopback", []string{"--web", ":8080"}, exitUsage, "name a certificate and key"},
		{"address", []string{"--ssh", "2222"}, exitUsage, "want address and port"},
		{"database", []string{"--database", "oracle"}, exitUsage, "want sqlite"},
		{"folder open to others", []string{"--dir", open}, exitFailed, "chmod 700"},
		{"database that is not there", []string{"--database", "postgres://nobody@127.0.0.1:1/none?sslmode=disable"}, exitFailed, "database"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "new")
			out, errs, status := program(t, append([]string{"init", "--dir", dir}, tt.args...)...)
			if status != tt.status || out != "" || !strings.Contains(errs, tt.say) {
				t.Errorf("status %d, %q, %q; want %d, %q", status, out, errs, tt.status, tt.say)
			}
			if _, err := os.Stat(filepath.Join(dir, "sallyport.yaml")); err == nil {
				t.Error("a configuration was written")
			}
		})
	}
}

// A second node gets the key ring of the first; init takes it as it is. And once there is an
// administrator there is no link any more.
func TestInitTakesExistingKeys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, second := filepath.Join(dir, "first"), filepath.Join(dir, "second")
	if _, errs, status := program(t, "init", "--dir", first, "-o", "json"); status != 0 {
		t.Fatal(errs)
	}
	if err := os.Mkdir(second, 0o700); err != nil {
		t.Fatal(err)
	}
	ring, err := os.ReadFile(filepath.Join(first, "keyring"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(second, "keyring"), ring, 0o600); err != nil {
		t.Fatal(err)
	}
	out, errs, status := program(t, "init", "--dir", second, "--database", "sqlite:"+filepath.Join(first, "sallyport.db"), "-o", "json")
	if status != 0 {
		t.Fatal(errs)
	}
	var told initialised
	if err := json.Unmarshal([]byte(out), &told); err != nil {
		t.Fatal(err)
	}
	if told.Config != filepath.Join(second, "sallyport.yaml") || told.AdminLink == "" || told.Expires == nil {
		t.Errorf("told %+v", told)
	}
	if after, err := os.ReadFile(filepath.Join(second, "keyring")); err != nil || string(after) != string(ring) {
		t.Errorf("the key ring was changed: %v", err)
	}
}

// The server that init prepares starts, shows the page behind the link, and says where it listens.
func TestInitThenServe(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "sallyport")
	link, errs, status := program(t, "init", "--dir", dir, "--ssh", "127.0.0.1:0", "--web", "127.0.0.1:0")
	if status != 0 {
		t.Fatal(errs)
	}
	s := startServe(t, filepath.Join(dir, "sallyport.yaml"))
	_, path, _ := strings.Cut(strings.TrimSpace(link), "/setup")
	resp, err := http.Get(s.Web + "/setup" + path)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("the page behind the link: %s", resp.Status)
	}
	if _, errs, status := program(t, "serve", "-c", filepath.Join(dir, "sallyport.yaml")); status != exitFailed || !strings.Contains(errs, "already running") {
		t.Errorf("a second server: status %d, %q", status, errs)
	}
	s.end()
	if status := <-s.status; status != 0 {
		t.Errorf("status %d: %s", status, s.errs.String())
	}
}

// served is a server in this process, as serve starts it.
type served struct {
	SSH, Web string
	errs     lockedBuffer
	end      context.CancelFunc
	status   chan int
}

func startServe(t *testing.T, file string) *served {
	t.Helper()
	s := &served{status: make(chan int, 1)}
	var ctx context.Context
	ctx, s.end = context.WithCancel(context.Background())
	t.Cleanup(s.end)
	go func() {
		s.status <- run(ctx, []string{"serve", "-c", file}, strings.NewReader(""), &lockedBuffer{}, &s.errs)
	}()
	awaitTrue(t, "the server to be ready", func() bool {
		for line := range strings.Lines(s.errs.String()) {
			var l struct{ Msg, SSH, Web string }
			if json.Unmarshal([]byte(line), &l) == nil && l.Msg == "ready" {
				s.SSH, s.Web = l.SSH, l.Web
			}
		}
		return s.SSH != ""
	})
	return s
}

func TestServeRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, text string
		status     int
		say        []string
	}{
		{"unknown key", "ssh:\n  lisen: 1\n", exitUsage, []string{"line 3, column 3", `unknown key "lisen"`, "\n      |   ^"}},
		{"no key ring", "node: a\n", exitUsage, []string{"sallyport init", "keyring"}},
		{"web in the clear", "web: {listen: \"0.0.0.0:80\"}\n", exitUsage, []string{"certificate"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file := filepath.Join(dir, "sallyport.yaml")
			if err := os.WriteFile(file, []byte("data: "+dir+"\n"+tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, errs, status := program(t, "serve", "-c", file)
			if status != tt.status {
				t.Errorf("status %d, want %d", status, tt.status)
			}
			for _, want := range tt.say {
				if !strings.Contains(errs, want) {
					t.Errorf("no %q in\n%s", want, errs)
				}
			}
		})
	}
}
