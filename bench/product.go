package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"sallyport/admin"
)

// product is the real sallyport, set up by its own commands.
type product struct {
	bin    string
	dir    string
	socket string
	addr   string // of the SSH door
	radius string // address of the RADIUS door
	log    *os.File
	server *process
	api    *http.Client // over the socket; nil: not used yet
}

const (
	targetName = "target"
	trusted    = "bench" // the user who needs no code here
	unrecorded = "quiet" // the same target by another name, where nothing is recorded
)

// rules are what the product decides by: one person comes with a key from here, the others
// with a key and a code. Everything is recorded, but for what goes to the target by its other name.
const rules = `version: 1
networks:
  here: [127.0.0.0/8]
rules:
  - name: trusted-source
    users: [` + trusted + `]
    targets: [` + targetName + `]
    from: [here]
    code: none
    channels: [shell, exec, sftp]
    recording: required
  - name: unrecorded
    users: [` + trusted + `]
    targets: [` + unrecorded + `]
    from: [here]
    code: none
    channels: [shell, exec, sftp]
    recording: off
  - name: with-code
    users: [group:code]
    targets: [` + targetName + `]
    channels: [shell, exec, sftp]
    recording: required
`

// startProduct initialises a new installation in dir and runs it. changes are pairs for replaceOnce in its configuration,
// initialise further words for its init.
func startProduct(ctx context.Context, bin, dir string, changes []string, initialise ...string) (*product, error) {
	s := &product{bin: bin, dir: dir}
	var made struct {
		Config string `json:"config"`
		Socket string `json:"socket"`
	}
	if err := s.run(ctx, "", &made, append([]string{"init", "--dir", dir, "--ssh", "127.0.0.1:0", "--web", "127.0.0.1:0"}, initialise...)...); err != nil {
		return nil, err
	}
	s.socket = made.Socket
	var err error
	if s.radius, err = freeUDPAddr(); err != nil {
		return nil, err
	}
	// All clients come from one address here, which the guard would hold back like a flood.
	err = replaceOnce(made.Config, append([]string{"exempt: []", "exempt: [127.0.0.0/8]", "addresses: []", "addresses: [127.0.0.1]",
		"Empty: no RADIUS.\n  listen: \"\"", "Empty: no RADIUS.\n  listen: \"" + s.radius + "\"",
		// Drawing what terminals have printed is a job of its own, at the lowest priority, and costs more than to relay it.
		`search: "on"`, `search: "off"`}, changes...)...)
	if err != nil {
		return nil, err
	}
	if s.log, err = os.Create(filepath.Join(dir, "bench.log")); err != nil {
		return nil, err
	}
	cmd := exec.Command(bin, "serve", "-c", made.Config)
	cmd.Stderr = s.log
	if s.server, err = start(cmd); err != nil {
		return nil, err
	}
	err = poll("sallyport to be ready", 30*time.Second, func() (bool, error) {
		select {
		case <-s.server.exited:
			return false, fmt.Errorf("sallyport ended at once:\n%s", s.tail())
		default:
		}
		s.addr, err = readyAddr(s.log.Name())
		return s.addr != "", errors.Join(err, ctx.Err())
	})
	if err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// replaceOnce changes parts of a file, each of which must be there exactly once.
func replaceOnce(file string, pairs ...string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		if n := bytes.Count(text, []byte(pairs[i])); n != 1 {
			return fmt.Errorf("changing %s: %q is there %d times, want once", file, pairs[i], n)
		}
		text = bytes.Replace(text, []byte(pairs[i]), []byte(pairs[i+1]), 1)
	}
	return os.WriteFile(file, text, 0o600)
}

// readyAddr finds the line in the log by which the server says that it answers, and where. It is ""
// before that line is there.
func readyAddr(log string) (string, error) {
	f, err := os.Open(log)
	if err != nil {
		return "", err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var line struct {
			Msg string `json:"msg"`
			SSH string `json:"ssh"`
		}
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "ready" {
			return line.SSH, nil
		}
	}
	return "", lines.Err()
}

// tail is the end of the log, for errors.
func (s *product) tail() string {
	text, _ := os.ReadFile(s.log.Name())
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

// run runs one of the operator's commands with stdin and reads the JSON that it prints into out, unless
// that is nil.
func (s *product) run(ctx context.Context, stdin string, out any, args ...string) error {
	all := append([]string{"-o", "json"}, args...)
	if s.socket != "" {
		all = append([]string{"--socket", s.socket}, all...)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.bin, all...)
	cmd.Stdin = strings.NewReader(stdin)
	var printed, complained bytes.Buffer
	cmd.Stdout, cmd.Stderr = &printed, &complained
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("sallyport %s: %w\n%s", strings.Join(args, " "), err, strings.TrimSpace(complained.String()))
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(printed.Bytes(), out); err != nil {
		return fmt.Errorf("sallyport %s printed %q: %w", strings.Join(args, " "), printed.Bytes(), err)
	}
	return nil
}

// post sends one call of the JSON API over the socket, for what is done so often that a process for each would take minutes.
func (s *product) post(ctx context.Context, path string, in any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	if s.api == nil {
		s.api = &http.Client{Timeout: time.Minute, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", s.socket)
		}}}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://sallyport/api/v1"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := s.api.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode/100 != 2 {
		err = errors.New(answer.Status)
	}
	if err != nil {
		return fmt.Errorf("POST %s: %w\n%s", path, err, text)
	}
	return nil
}

// peer is the way through the product with the key alone.
func (s *product) peer(name, target string) *peer {
	return &peer{name: name, addr: s.addr, login: trusted + "@" + target, proxy: &proxy{s.server}}
}

// addTarget puts target and rules in force, and lets the product in at the target beside those whose keys
// it knows. It returns all their keys.
func (s *product) addTarget(ctx context.Context, target *sshd, account string, keys []string) ([]string, error) {
	for _, name := range []string{targetName, unrecorded} {
		err := s.run(ctx, "", nil, "target", "add", name, "--address", target.addr, "--account", account, "--host-key", target.host.line())
		if err != nil {
			return nil, err
		}
	}
	if err := s.run(ctx, rules, nil, "apply", "-f", "-"); err != nil {
		return nil, err
	}
	var way admin.Onboarding
	if err := s.run(ctx, "", &way, "target", "onboard", targetName); err != nil {
		return nil, err
	}
	if len(way.AuthorizedKeys) != 1 {
		return nil, fmt.Errorf("onboarding gave %d lines, want 1", len(way.AuthorizedKeys))
	}
	keys = append(keys, way.AuthorizedKeys[0].Line)
	if err := target.authorize(keys...); err != nil {
		return nil, err
	}
	return keys, s.run(ctx, "", nil, "target", "check", targetName)
}

// addUser adds a user who comes with a key.
func (s *product) addUser(ctx context.Context, login string, k key, groups ...string) error {
	args := []string{"user", "add", login, "--no-password"}
	for _, g := range groups {
		args = append(args, "--group", g)
	}
	if err := s.run(ctx, "", nil, args...); err != nil {
		return err
	}
	return s.run(ctx, "", nil, "user", "key", "add", login, "--key-file", k.file+".pub")
}

// proveRecorded makes sure that what was measured was recorded: the newest terminal has a recording of
// which every byte is proved.
func (s *product) proveRecorded(ctx context.Context) error {
	var sessions []admin.Session
	if err := s.run(ctx, "", &sessions, "session", "list", "--limit", "1000"); err != nil {
		return err
	}
	for _, one := range sessions {
		for _, c := range one.Channels {
			if c.Term && one.State == "ended" {
				if c.Recording == "" {
					return fmt.Errorf("session %s had a terminal and no recording", one.ID)
				}
				return s.run(ctx, "", nil, "session", "verify", one.ID)
			}
		}
	}
	return fmt.Errorf("none of the last %d sessions had a terminal, so that nothing proves they are recorded", len(sessions))
}

func (s *product) stop() {
	if s == nil {
		return
	}
	s.server.stop(20 * time.Second)
	if s.log != nil {
		_ = s.log.Close()
	}
}
