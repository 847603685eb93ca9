package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/crypto/ssh"
)

func TestDemoConsole(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	ctx, end := context.WithCancel(context.Background())
	var out, errs lockedBuffer
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"demo", "--state", dir, "--ssh", "127.0.0.1:0", "--web", "127.0.0.1:0", "--radius", "127.0.0.1:0", "--users", "1"}, strings.NewReader(""), &out, &errs)
	}()
	awaitTrue(t, "the console", func() bool { return strings.Contains(out.String(), "s left)") })
	text := out.String()
	secrets, err := readSecrets(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"alice@demo@localhost", "sftp -P ", "bob@demo@localhost", secrets.Passwords["alice"], secrets.Passwords["bob"], "/setup?ticket=", "SHA256:", "demo otp alice --state " + dir,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	for line := range strings.Lines(text) {
		if len(line) > 100 && !strings.Contains(line, dir) {
			t.Errorf("long line: %s", line)
		}
	}
	_, rest, _ := strings.Cut(text, "ssh -p ")
	port, _, _ := strings.Cut(rest, " ")
	d := &runningDemo{readyLine: readyLine{State: dir, SSH: "127.0.0.1:" + port, Password: secrets.Passwords["alice"]}}
	if out, _ := exec1(t, d.mustDial(t, "u1", "demo"), "echo hi"); out != "hi\n" {
		t.Errorf("printed %q", out)
	}
	// What it says about RADIUS works as it is printed.
	_, command, _ := strings.Cut(text, "  echo ")
	command, _, _ = strings.Cut(command, "\n\n")
	shell := exec.Command("sh", "-c", "echo "+command)
	shell.Env = append(os.Environ(), asProgram+"=1")
	if said, _ := shell.CombinedOutput(); !strings.Contains(string(said), "Received Access-Accept") || !strings.Contains(string(said), `Filter-Id = "demo"`) {
		t.Errorf("%s\nprints:\n%s", command, said)
	}
	awaitTrue(t, "live lines", func() bool {
		return strings.Contains(out.String(), "u1 127.0.0.1  signed in") && strings.Contains(out.String(), "signed in (radius)") && strings.Contains(out.String(), "-> demo")
	})
	end()
	if status := <-ended; status != 0 {
		t.Errorf("status %d: %s", status, errs.String())
	}
	if errs.String() != "" {
		t.Errorf("standard error has %q", errs.String())
	}
}

// On a terminal the last line is alice's code, drawn again every second, below what happens.
func TestDemoRedraws(t *testing.T) {
	t.Parallel()
	screen, terminal, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer screen.Close()
	watchdog := time.AfterFunc(2*time.Minute, func() { screen.Close() }) // ends a wait in vain
	defer watchdog.Stop()
	ctx, end := context.WithCancel(context.Background())
	var errs lockedBuffer
	ended := make(chan int, 1)
	go func() {
		args := []string{"demo", "--state", filepath.Join(t.TempDir(), "state"), "--ssh", "127.0.0.1:0", "--web", "127.0.0.1:0", "--radius", "127.0.0.1:0"}
		ended <- run(ctx, args, strings.NewReader(""), terminal, &errs)
		terminal.Close()
	}()
	reader := &screenReader{from: screen}
	reader.await(t, "alice's code: ")
	reader.await(t, "s left)\r\x1b[Kalice's code: ") // drawn over
	reader.await(t, "s left)\r\x1b[Kalice's code: ")
	_, rest, _ := strings.Cut(reader.text.String(), "ssh -p ")
	port, _, _ := strings.Cut(rest, " ")
	if _, err := ssh.Dial("tcp", "127.0.0.1:"+port, &ssh.ClientConfig{
		User: "mallory@demo", Timeout: time.Minute, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
		Auth: []ssh.AuthMethod{ssh.KeyboardInteractive(func(_, _ string, questions []string, _ []bool) ([]string, error) {
			return make([]string, len(questions)), nil
		})},
	}); err == nil {
		t.Error("mallory is in")
	}
	reader.await(t, "\r\x1b[K") // the line gives way to what happened, and comes back below it
	reader.await(t, "mallory 127.0.0.1  was not let in (ssh)")
	reader.await(t, "alice's code: ")
	end()
	reader.await(t, "\r\x1b[K")
	if status := <-ended; status != 0 {
		t.Errorf("status %d: %s", status, errs.String())
	}
}
