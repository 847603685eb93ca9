package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/internal/config"
	"sallyport/internal/seal"
)

// operated is a running server, and the command line that an operator types at it.
type operated struct {
	t    *testing.T
	node *node
	cfg  *config.Config
	dir  string
}

// startOperated starts a server as serve does, on ports of its own.
func startOperated(t *testing.T) *operated {
	t.Helper()
	return startOperatedAt(t, "192.0.2.10")
}

// startOperatedAt starts a server that targets see come from address.
func startOperatedAt(t *testing.T, address string) *operated {
	t.Helper()
	return startOperatedWith(t, address, "")
}

// startOperatedWith starts a server whose configuration has more in it.
func startOperatedWith(t *testing.T, address, more string) *operated {
	t.Helper()
	return startOperatedLogging(t, address, more, io.Discard)
}

// startOperatedLogging starts a server that writes everything it can log to log.
func startOperatedLogging(t *testing.T, address, more string, log io.Writer) *operated {
	t.Helper()
	dir := t.TempDir()
	text := "node: n1\ndata: " + dir + "\nssh: {listen: \"127.0.0.1:0\", addresses: [" + address + "]}\n" + more
	if !strings.Contains(more, "web:") {
		text += "web: {listen: \"127.0.0.1:0\"}\n"
	}
	if !strings.Contains(more, "recordings:") {
		text += "recordings: {reserve: 1KiB}\n"
	}
	cfg, err := config.Parse(filepath.Join(dir, "sallyport.yaml"), []byte(text))
	noError(t, err)
	_, err = seal.LoadOrCreate(string(cfg.Keys.Ring))
	noError(t, err)
	quiet := slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	ctx, stop := context.WithCancel(context.Background())
	n, err := newNode(ctx, cfg, nodeOptions{Log: quiet, AuditLog: quiet})
	noError(t, err)
	noError(t, n.Listen(ctx))
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- n.Run(ctx, func() { close(ready) }) }()
	t.Cleanup(func() {
		stop()
		noError(t, <-ended)
	})
	select {
	case <-ready:
	case <-time.After(time.Minute):
		t.Fatal("the server did not start")
	}
	return &operated{t: t, node: n, cfg: cfg, dir: dir}
}

func noError(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ran is what a command did.
type ran struct {
	code     int
	out, err string
}

// command runs the real main with nobody at a terminal.
func command(stdin string, args ...string) ran {
	var out, errs bytes.Buffer
	code := run(context.Background(), args, strings.NewReader(stdin), &out, &errs)
	return ran{code, out.String(), errs.String()}
}

// run types a command at the server.
func (o *operated) run(args ...string) ran { return o.feed("", args...) }

// feed types a command that reads stdin.
func (o *operated) feed(stdin string, args ...string) ran {
	return command(stdin, append([]string{"--socket", string(o.cfg.Socket)}, args...)...)
}

// ok types a command that must succeed, and returns its data.
func (o *operated) ok(args ...string) string {
	o.t.Helper()
	r := o.run(args...)
	if r.code != 0 {
		o.t.Fatalf("sallyport %q: exit %d, stdout %q, stderr %q", args, r.code, r.out, r.err)
	}
	return r.out
}

// fails types a command that must fail, and returns what people read. Every error ends with what to do.
func (o *operated) fails(code int, args ...string) string {
	o.t.Helper()
	r := o.run(args...)
	if r.code != code {
		o.t.Errorf("sallyport %q: exit %d, want %d; stdout %q, stderr %q", args, r.code, code, r.out, r.err)
	}
	if lines := strings.Split(strings.TrimSpace(r.err), "\n"); len(lines) < 2 {
		o.t.Errorf("sallyport %q: the error does not say what to do: %q", args, r.err)
	}
	return r.err
}

// object types a command with -o json and reads its one value.
func object[T any](o *operated, args ...string) T {
	o.t.Helper()
	return decode[T](o.t, o.ok(append([]string{"-o", "json"}, args...)...))
}

func decode[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	d := json.NewDecoder(strings.NewReader(text))
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	if _, err := d.Token(); err != io.EOF {
		t.Errorf("more than one JSON value: %q", text)
	}
	return v
}

// file writes a file for a test.
func (o *operated) file(name, text string) string {
	o.t.Helper()
	path := filepath.Join(o.dir, name)
	noError(o.t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// addTarget adds a target whose host key nobody has seen.
func (o *operated) addTarget(name string) {
	o.t.Helper()
	o.ok("target", "add", name, "--address", "192.0.2.5", "--account", "root", "--host-key", testHostKey)
}

const testHostKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"

func TestOperatorExitStatus(t *testing.T) {
	t.Parallel()
	o := startOperated(t)
	nowhere := filepath.Join(o.dir, "nowhere.sock")
	token := o.file("token", "sp_wrong\n")
	web := "http://" + o.node.web.Addr().String()
	for _, tc := range []struct {
		code int
		args string
	}{
		{0, "user list"},
		{1, "user show nobody"},
		{1, "user delete nobody"},
		{1, "target show nowhere"},
		{1, "session show none"},
		{1, "session end none"},
		{1, "admin remove nobody"},
		{1, "token delete nobody x"},
		{1, "lockout clear source:192.0.2.1"},
		{2, "user"},
		{2, "user show"},
		{2, "user show a b"},
		{2, "user shwo a"},
		{2, "user show da/../ve"},
		{2, "user add dave"},
		{2, "user add dave --password-file /does/not/exist"},
		{2, "user add dave --generate --password-file x"},
		{2, "user list --colour"},
		{2, "-o yaml user list"},
		{2, "target add web1"},
		{2, "target add web1 --address x"},
		{2, "target add we@b --address 192.0.2.5 --host-key " + strings.ReplaceAll(testHostKey, " ", "_")},
		{2, "target add web1 --address 192.0.2.5 --label x --tofu"},
		{2, "apply"},
		{2, "apply -f /does/not/exist"},
		{2, "explain --user dave"},
		{2, "session list --only dead"},
		{2, "session list --since yesterday"},
		{2, "session export none --format gif"},
		{2, "audit list --limit 0"},
		{2, "lockout clear"},
		{2, "lockout clear x --all"},
		{2, "--state " + o.dir + " user list"},
		{2, "--server " + web + " user list"},
	} {
		args := strings.Fields(tc.args)
		if r := o.run(args...); r.code != tc.code {
			t.Errorf("sallyport %s: exit %d, want %d; stdout %q, stderr %q", tc.args, r.code, tc.code, r.out, r.err)
		} else if r.code != 0 && (len(strings.Split(strings.TrimSpace(r.err), "\n")) < 2 && !strings.Contains(r.err, "Try:") && !strings.Contains(r.err, "formats are") || r.out != "") {
			t.Errorf("sallyport %s: stdout %q, stderr %q: an error goes to stderr alone and says what to do", tc.args, r.out, r.err)
		}
	}
	for _, args := range []string{
		"--socket " + nowhere + " user list",
		"--state " + filepath.Join(o.dir, "nothing") + " user list",
		"--server http://127.0.0.1:1 --token-file " + token + " user list",
	} {
		if r := command("", strings.Fields(args)...); r.code != 3 || strings.Count(strings.TrimSpace(r.err), "\n") < 1 {
			t.Errorf("sallyport %s: exit %d, want 3; stderr %q", args, r.code, r.err)
		}
	}
	for args, code := range map[string]int{
		"--server " + web + " --token-file " + token + " user list":                1,
		"--server http://bastion.example.org --token-file " + token + " user list": 2,
		"--server ftp://127.0.0.1 --token-file " + token + " user list":            2,
		"--token-file " + token + " user list":                                     2,
	} {
		if r := command("", strings.Fields(args)...); r.code != code {
			t.Errorf("sallyport %s: exit %d, want %d; stderr %q", args, r.code, code, r.err)
		}
	}
}

// Flags may stand before, between and after arguments.
func TestOperatorFlagsAnywhere(t *testing.T) {
	t.Parallel()
	o := startOperated(t)
	socket := string(o.cfg.Socket)
	for _, args := range [][]string{
		{"--socket", socket, "user", "add", "u1", "--generate", "-o", "json"},
		{"user", "--socket", socket, "add", "--generate", "u2", "-o=json"},
		{"user", "add", "-o", "json", "--generate", "--socket=" + socket, "u3"},
	} {
		if r := command("", args...); r.code != 0 || !strings.Contains(r.out, `"password"`) {
			t.Errorf("sallyport %q: exit %d, %q, %q", args, r.code, r.out, r.err)
		}
	}
}

// The state folder of a demo, and a server by URL with a token, reach the same commands.
func TestOperatorWaysToTheServer(t *testing.T) {
	t.Parallel()
	o := startOperated(t)
	if r := command("", "--state", o.dir, "user", "list"); r.code != 0 {
		t.Errorf("by --state: exit %d, %q", r.code, r.err)
	}
	made := o.run("api-token", "add", "robot", "--role", "admin", "--for", "30d")
	if made.code != 0 || strings.Count(made.out, "\n") != 1 || !strings.HasPrefix(made.out, "sp_") {
		t.Fatalf("api-token add: %+v", made)
	}
	web := "http://" + o.node.web.Addr().String()
	r := command(made.out, "--server", web, "--token-file", "-", "user", "add", "dave", "--generate")
	if r.code != 0 {
		t.Errorf("by --server: %+v", r)
	}
	if r := command("", "--server", web, "--token-file", o.file("token", made.out), "-o", "json", "user", "show", "dave"); r.code != 0 || !strings.Contains(r.out, `"login": "dave"`) {
		t.Errorf("by --server with a file: %+v", r)
	}
	eyes := o.ok("api-token", "add", "eyes")
	if r := command(eyes, "--server", web+"/", "--token-file", "-", "user", "delete", "dave"); r.code != 1 || !strings.Contains(r.err, "auditor") {
		t.Errorf("an auditor deletes: %+v", r)
	}
	if got := object[[]map[string]any](o, "audit", "list", "--query", "robot"); len(got) == 0 {
		t.Error("the audit log does not name the API token")
	}
}

// A server that is no Sallyport is told from one that refuses.
func TestOperatorNotASallyportServer(t *testing.T) {
	t.Parallel()
	other := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(other.Close)
	token := filepath.Join(t.TempDir(), "token")
	noError(t, os.WriteFile(token, []byte("sp_x\n"), 0o600))
	if r := command("", "--server", other.URL, "--token-file", token, "user", "list"); r.code != 1 || !strings.Contains(r.err, "Sallyport server") {
		t.Errorf("%+v", r)
	}
}
