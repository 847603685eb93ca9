package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/store/storetest"
)

// lockedBuffer is a buffer that a command writes while a test reads.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// program runs the whole program in this process and gives what it printed and its exit status.
func program(t *testing.T, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	var out, errs lockedBuffer
	status = run(t.Context(), args, strings.NewReader(""), &out, &errs)
	return out.String(), errs.String(), status
}

// runningDemo is a demo in this process.
type runningDemo struct {
	readyLine
	out, errs lockedBuffer
	end       context.CancelFunc
	status    chan int
	took      time.Duration // from start to ready
}

// startDemo starts a demo and waits until it is ready. Without a state folder among args it gets a new one.
func startDemo(t *testing.T, args ...string) *runningDemo {
	t.Helper()
	args = append([]string{"demo", "--json", "--ssh", "127.0.0.1:0", "--web", "127.0.0.1:0", "--radius", "127.0.0.1:0"}, args...)
	if !slices.Contains(args, "--state") {
		args = append(args, "--state", filepath.Join(t.TempDir(), "state"))
	}
	d := &runningDemo{status: make(chan int, 1)}
	var ctx context.Context
	ctx, d.end = context.WithCancel(context.Background())
	begun := time.Now()
	go func() { d.status <- run(ctx, args, strings.NewReader(""), &d.out, &d.errs) }()
	t.Cleanup(func() {
		d.end()
		<-d.status
	})
	awaitTrue(t, "the demo to be ready", func() bool {
		select {
		case status := <-d.status:
			d.status <- status
			t.Fatalf("the demo ended with status %d: %s", status, d.errs.String())
		default:
		}
		return strings.HasSuffix(d.out.String(), "\n")
	})
	d.took = time.Since(begun)
	if err := json.Unmarshal([]byte(d.out.String()), &d.readyLine); err != nil {
		t.Fatalf("%v in %q", err, d.out.String())
	}
	return d
}

// stop ends the demo as SIGTERM does and gives its exit status.
func (d *runningDemo) stop(t *testing.T) int {
	t.Helper()
	d.end()
	select {
	case status := <-d.status:
		d.status <- status // for Cleanup
		return status
	case <-time.After(time.Minute):
		t.Fatal("the demo does not end")
		return 0
	}
}

// code is the code of a user that was not printed before.
func (d *runningDemo) code(t *testing.T, login string) string {
	t.Helper()
	out, errs, status := program(t, "demo", "otp", login, "--unused", "--state", d.State)
	if status != 0 {
		t.Fatalf("otp: status %d, %s", status, errs)
	}
	return strings.TrimSpace(out)
}

// dial logs in with password and code.
func (d *runningDemo) dial(t *testing.T, login, name, password string) (*ssh.Client, error) {
	t.Helper()
	return ssh.Dial("tcp", d.SSH, &ssh.ClientConfig{
		User: name, Timeout: time.Minute, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
		Auth: []ssh.AuthMethod{ssh.KeyboardInteractive(func(_, _ string, questions []string, _ []bool) ([]string, error) {
			var answers []string
			for _, q := range questions {
				switch q {
				case "Password: ":
					answers = append(answers, password)
				case "Code: ":
					answers = append(answers, d.code(t, login))
				default:
					return nil, errors.New("unexpected question " + q)
				}
			}
			return answers, nil
		})},
	})
}

func (d *runningDemo) mustDial(t *testing.T, login, target string) *ssh.Client {
	t.Helper()
	c, err := d.dial(t, login, login+"@"+target, d.Password)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestDemoTellsWhatTheContractSays(t *testing.T) {
	t.Parallel()
	d := startDemo(t)
	t.Logf("ready in %s", d.took)
	if got := strings.Count(d.out.String(), "\n"); got != 1 {
		t.Errorf("printed %d lines, want one", got)
	}
	var line map[string]any
	if err := json.Unmarshal([]byte(d.out.String()), &line); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"ssh", "web", "admin_link", "api_token", "socket", "state", "pid", "user", "password", "target", "accounts", "radius", "radius_secret"} {
		if v, ok := line[key]; !ok || v == "" {
			t.Errorf("%s = %v", key, v)
		}
	}
	if d.User != "alice" || d.Target != "demo" || d.PID != os.Getpid() || !slices.Equal(d.Accounts, []string{whoStarted().Name}) {
		t.Errorf("line = %+v", d.readyLine)
	}
	for _, url := range []string{d.AdminLink, d.Web + "/api/v1/sessions"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if url != d.AdminLink {
			req.Header.Set("Authorization", "Bearer "+d.APIToken)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", url, resp.Status)
		}
	}
	if status := d.stop(t); status != 0 {
		t.Errorf("ended with status %d: %s", status, d.errs.String())
	}
	if !strings.Contains(d.errs.String(), "node.stopped") {
		t.Error("the end was not logged")
	}
}

func TestDemoLogins(t *testing.T) {
	t.Parallel()
	for _, database := range []string{"sqlite", "postgres"} {
		t.Run(database, func(t *testing.T) {
			t.Parallel()
			args := []string{"--users", "4"}
			if database == "postgres" {
				args = append(args, "--database", storetest.Postgres(t))
			}
			d := startDemo(t, args...)
			out, errs := exec1(t, d.mustDial(t, "alice", "demo"), "whoami; echo $((6*7)) >&2")
			if out != whoStarted().Name+"\n" || errs != "42\n" {
				t.Errorf("printed %q and %q", out, errs)
			}
			// What a new user tries first works here too: the demo had the search switched off once.
			awaitTrue(t, "the search to find what was printed", func() bool {
				out, errs, status := program(t, "search", whoStarted().Name, "--state", d.State, "-o", "json")
				if status != 0 {
					t.Fatalf("search ended with status %d: %s", status, errs)
				}
				return strings.Contains(out, `"user": "alice"`)
			})
			if out, _ := exec1(t, d.mustDial(t, "u1", "default@demo"), "echo as default"); out != "as default\n" {
				t.Errorf("account default printed %q", out)
			}
			for target, want := range map[string]string{
				"down":  "cannot reach down (127.0.0.1:1): connection refused",
				"vault": "vault is reached from the office only",
			} {
				login := map[string]string{"down": "u2", "vault": "u3"}[target]
				if _, errs := exec1(t, d.mustDial(t, login, target), "true"); !strings.Contains(errs, want) {
					t.Errorf("%s says %q, want %q in it", target, errs, want)
				}
			}
			if c, err := d.dial(t, "u4", "u4@demo", "wrong"); err == nil {
				c.Close()
				t.Error("a wrong password was accepted")
			}
		})
	}
}

// exec1 runs a command and gives what it printed, whatever its status.
func exec1(t *testing.T, c *ssh.Client, command string) (stdout, stderr string) {
	t.Helper()
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var out, errs bytes.Buffer
	s.Stdout, s.Stderr = &out, &errs
	_ = s.Run(command)
	return out.String(), errs.String()
}

// What the demo keeps between two runs, and what it does not.
func TestDemoState(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	first := startDemo(t, "--state", dir)
	if out, errs, status := program(t, "demo", "--json", "--state", dir, "--ssh", "127.0.0.1:0", "--web", "127.0.0.1:0", "--radius", "127.0.0.1:0"); status != exitFailed || out != "" || !strings.Contains(errs, "already running") {
		t.Errorf("a second one on the same folder: status %d, %q, %q", status, out, errs)
	}
	if _, errs, status := program(t, "demo", "--json", "--reset", "--state", dir); status != exitFailed || !strings.Contains(errs, "already running") {
		t.Errorf("--reset under a running one: status %d, %q", status, errs)
	}
	hostKey := hostKeyOf(t, first.SSH)
	first.stop(t)
	for _, path := range []string{dir, filepath.Join(dir, "demo.json"), filepath.Join(dir, "keyring"), filepath.Join(dir, "signing.key"), filepath.Join(dir, "sallyport.db")} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	second := startDemo(t, "--state", dir, "--users", "1")
	if second.Password != first.Password || second.APIToken != first.APIToken || second.RADIUSSecret != first.RADIUSSecret || hostKeyOf(t, second.SSH) != hostKey {
		t.Error("password, API token, secret of RADIUS or host key changed between two runs")
	}
	if out, _ := exec1(t, second.mustDial(t, "u1", "demo"), "echo in"); out != "in\n" {
		t.Errorf("a user added at the second run got %q", out)
	}
	second.stop(t)
	third := startDemo(t, "--state", dir, "--reset")
	if third.Password == first.Password || hostKeyOf(t, third.SSH) == hostKey {
		t.Error("--reset kept password or host key")
	}
}

func hostKeyOf(t *testing.T, addr string) string {
	t.Helper()
	var key string
	_, err := ssh.Dial("tcp", addr, &ssh.ClientConfig{User: "x", Timeout: time.Minute, HostKeyCallback: func(_ string, _ net.Addr, k ssh.PublicKey) error {
		key = ssh.FingerprintSHA256(k)
		return errors.New("seen enough")
	}})
	if key == "" {
		t.Fatal(err)
	}
	return key
}

func TestDemoTouchesNoOtherFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	kept := filepath.Join(dir, "thesis.tex")
	if err := os.WriteFile(kept, []byte("ten years"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"demo", "--json", "--state", dir}, {"demo", "--json", "--reset", "--state", dir}} {
		if _, errs, status := program(t, args...); status != exitUsage || !strings.Contains(errs, "no demo's") {
			t.Errorf("%v: status %d, %q", args, status, errs)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("the folder now has %v, %v", entries, err)
	}
}

func TestDemoStaysOnLoopback(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ flag, value, say string }{
		{"--ssh", ":2222", "loopback only"}, {"--ssh", "0.0.0.0:2222", "loopback only"}, {"--ssh", "192.0.2.1:2222", "loopback only"},
		{"--ssh", "[::]:2222", "loopback only"}, {"--web", ":0", "loopback only"}, {"--web", "10.0.0.1:8080", "loopback only"},
		{"--ssh", "127.0.0.1", "want address and port"}, {"--web", "127.0.0.1.example.org:80", "want address and port"},
		{"--radius", ":1812", "loopback only"}, {"--radius", "192.0.2.1:0", "loopback only"},
		{"--users", "-1", "want 0 to"}, {"--users", "many", "invalid argument"},
	} {
		dir := filepath.Join(t.TempDir(), "state")
		out, errs, status := program(t, "demo", "--json", "--state", dir, tt.flag, tt.value)
		if status != exitUsage || out != "" || !strings.Contains(errs, tt.say) {
			t.Errorf("%s %s: status %d, %q, %q", tt.flag, tt.value, status, out, errs)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s %s: the state folder was made", tt.flag, tt.value)
		}
	}
}

// serve must never run on a database that a demo has filled.
func TestServeRefusesDemo(t *testing.T) {
	t.Parallel()
	d := startDemo(t)
	d.stop(t)
	file := filepath.Join(t.TempDir(), "sallyport.yaml")
	if err := os.WriteFile(file, []byte("data: "+d.State+"\nssh: {listen: \"127.0.0.1:0\"}\nweb: {listen: \"\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, errs, status := program(t, "serve", "-c", file); status != exitUsage || !strings.Contains(errs, "belongs to a demo") {
		t.Errorf("status %d, %q", status, errs)
	}
}

// And a demo never on a database that is none's.
func TestDemoRefusesOthersDatabase(t *testing.T) {
	t.Parallel()
	dsn := storetest.Postgres(t)
	first := startDemo(t, "--database", dsn)
	first.stop(t)
	if _, errs, status := program(t, "demo", "--json", "--database", dsn, "--state", filepath.Join(t.TempDir(), "other")); status != exitFailed || !strings.Contains(errs, "another state folder") {
		t.Errorf("another state folder: status %d, %q", status, errs)
	}
}

// Somebody at work is told before the demo ends, the recording is whole, and the exit status is 0.
func TestDemoDrains(t *testing.T) {
	t.Parallel()
	d := startDemo(t, "--users", "2")
	d.mustDial(t, "u2", "demo") // nothing runs in it
	s, err := d.mustDial(t, "u1", "demo").NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.RequestPty("xterm", 24, 80, nil); err != nil {
		t.Fatal(err)
	}
	screen, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start("echo at-'work'; sleep 600"); err != nil {
		t.Fatal(err)
	}
	reader := &screenReader{from: screen}
	reader.await(t, "at-work")
	begun := time.Now()
	d.end()
	reader.await(t, "this bastion stops: this session ends in 2s")
	rest, err := io.ReadAll(screen)
	if err != nil || !strings.Contains(string(rest), "this bastion stops; connect again") {
		t.Errorf("the last words are %q, %v", rest, err)
	}
	if status := d.stop(t); status != 0 {
		t.Errorf("status %d: %s", status, d.errs.String())
	}
	if took := time.Since(begun); took > time.Minute {
		t.Errorf("took %s", took)
	}
	if log := d.errs.String(); !strings.Contains(log, "stopping") || strings.Contains(log, "cutting connections") {
		t.Errorf("a connection had to be cut: %s", log)
	}
	sealed, err := filepath.Glob(filepath.Join(d.State, "recordings", "*", "*", "*", "*", "*.cast.zst"))
	if err != nil || len(sealed) != 1 {
		t.Errorf("sealed recordings: %v, %v", sealed, err)
	}
	open, err := filepath.Glob(filepath.Join(d.State, "recordings", "*", "*", "*", "*", "*.cast"))
	if err != nil || len(open) != 0 {
		t.Errorf("recordings left open: %v, %v", open, err)
	}
}

// The rules of the demo show a line that remembers codes, as a comment: with it alice is asked for a code once.
func TestDemoRemembersCodes(t *testing.T) {
	t.Parallel()
	d := startDemo(t)
	rules := filepath.Join(t.TempDir(), "rules.yaml")
	text := strings.Replace(demoRules, "# trust:", "trust:", 1)
	if text == demoRules {
		t.Fatal("there is no such line")
	}
	if err := os.WriteFile(rules, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, errs, status := program(t, "apply", "-f", rules, "--state", d.State); status != 0 {
		t.Fatalf("status %d: %s%s", status, out, errs)
	}
	asked := 0
	for range 3 {
		c, err := ssh.Dial("tcp", d.SSH, &ssh.ClientConfig{
			User: "alice@demo", Timeout: time.Minute, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
			Auth: []ssh.AuthMethod{ssh.KeyboardInteractive(func(_, _ string, questions []string, _ []bool) (answers []string, _ error) {
				for _, q := range questions {
					if q == "Code: " {
						asked++
						answers = append(answers, d.code(t, "alice"))
					} else {
						answers = append(answers, d.Password)
					}
				}
				return answers, nil
			})},
		})
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	if asked != 1 {
		t.Errorf("asked for a code %d times", asked)
	}
}
