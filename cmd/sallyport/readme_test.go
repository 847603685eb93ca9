package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
)

// The lines of the README's first screen, typed as they stand there. The demo is started in this process, and
// takes the next free port where the one in the README is taken.
func TestFirstScreen(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```\n")
	block, _, _ := strings.Cut(rest, "```")
	var lines []string
	for line := range strings.Lines(block) {
		command, _, _ := strings.Cut(line, "#")
		lines = append(lines, strings.TrimSpace(command))
	}
	if len(lines) != 3 || lines[0] != "make demo" || lines[2] != "make test" {
		t.Fatalf("the first screen says %q", lines)
	}
	for line, want := range map[string]string{lines[0]: "bin/sallyport demo", lines[2]: "go test"} {
		dry := exec.Command("sh", "-c", line+" --dry-run")
		dry.Dir = root
		out, err := dry.CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s would do %q, %v; want %q among it", line, out, err, want)
		}
	}
	ctx, end := context.WithCancel(context.Background())
	var out, errs lockedBuffer
	dir := filepath.Join(t.TempDir(), "state")
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, []string{"demo", "--state", dir}, strings.NewReader(""), &out, &errs) }()
	defer func() { end(); <-ended }()
	awaitTrue(t, "the demo", func() bool { return strings.Contains(out.String(), "s left)") })
	shown := regexp.MustCompile(`ssh -p (\d+) alice@demo@\S+ +password (\S+), `).FindStringSubmatch(out.String())
	code := regexp.MustCompile(`code: (\d{6})`).FindStringSubmatch(out.String())
	if shown == nil || code == nil {
		t.Fatalf("no password or no code in\n%s", out.String())
	}
	line := strings.Replace(lines[1], "2222", shown[1], 1)
	typeSSH(t, line, shown[2], code[1])
}

// typeSSH types a line at a terminal, answers as a person would, and works in the shell that opens.
func typeSSH(t *testing.T, line, password, code string) {
	t.Helper()
	home := t.TempDir()
	cmd := exec.Command("sh", "-c", strings.Replace(line, "ssh ", "ssh -F none -o UserKnownHostsFile="+home+"/known_hosts -o PubkeyAuthentication=no ", 1))
	cmd.Env = append(os.Environ(), "HOME="+home, "TERM=xterm")
	term, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: 80})
	if err != nil {
		t.Fatal(err)
	}
	defer term.Close()
	watchdog := time.AfterFunc(2*time.Minute, func() { term.Close() }) // ends a wait in vain
	defer watchdog.Stop()
	screen := &screenReader{from: term}
	for _, step := range []struct{ await, answer string }{
		{"(yes/no", "yes"}, {"Password: ", password}, {"Code: ", code}, {shellPrompt(), "echo $((6*7))-is-the-answer"}, {"42-is-the-answer", "exit 5"},
	} {
		screen.await(t, step.await)
		if _, err := term.WriteString(step.answer + "\r"); err != nil {
			t.Fatal(err)
		}
	}
	screen.drain()
	_ = cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != 5 {
		t.Errorf("status %d, want 5; screen:\n%s", got, screen.text.String())
	}
}

// shellPrompt is how the prompt of a shell ends. What is typed before ssh has put the terminal into its raw
// mode is thrown away.
func shellPrompt() string {
	if os.Getuid() == 0 {
		return "# "
	}
	return "$ "
}
