package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/admin"
	"sallyport/internal/testenv"
)

// tmux is a real terminal in which a program runs.
type tmux struct {
	t      *testing.T
	socket string
}

func newTmux(t *testing.T, cols, rows int, command string) *tmux {
	t.Helper()
	x := &tmux{t, filepath.Join(t.TempDir(), "tmux")}
	cmd := exec.Command("tmux", "-S", x.socket, "-f", "/dev/null", "new-session", "-d", "-x", fmt.Sprint(cols), "-y", fmt.Sprint(rows), command)
	cmd.Env = append(os.Environ(), asProgram+"=1", "LC_ALL=C.UTF-8", "TMUX=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tmux: %v %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("tmux", "-S", x.socket, "kill-server").Run() })
	return x
}

func (x *tmux) screen() string {
	out, _ := exec.Command("tmux", "-S", x.socket, "capture-pane", "-p").Output()
	return string(out)
}

func (x *tmux) sees(text string) {
	x.t.Helper()
	testenv.WaitFor(x.t, fmt.Sprintf("%q in tmux", text), func() bool { return strings.Contains(x.screen(), text) })
}

func (x *tmux) keys(keys ...string) {
	x.t.Helper()
	if out, err := exec.Command("tmux", append([]string{"-S", x.socket, "send-keys"}, keys...)...).CombinedOutput(); err != nil {
		x.t.Fatalf("tmux: %v %s", err, out)
	}
}

// An operator watches a shell in a terminal of their own, over the socket and over the web with a token: what is on the
// person's screen is on theirs, what they type goes nowhere, q leaves, and the end is told.
func TestOperatorWatches(t *testing.T) {
	t.Parallel()
	o := startOperatedAt(t, "127.0.0.1")
	sshd := testenv.StartSSHD(t)
	o.ok("target", "add", "web1", "--address", sshd.Addr, "--account", sshd.Account, "--host-key", sshd.HostKey, "--credential", "own-key")
	c := o.person("web1")
	sshd.Authorize(strings.TrimSpace(o.ok("target", "onboard", "web1")))
	term := testenv.StartTerminal(t, c.Interactive(), 80, 24)
	// Full-screen, with a question to the terminal and a title: only what draws arrives.
	term.Type("printf '\\033[?1049h\\033[2J\\033[6n\\033]0;evil\\007\\033[5;10H\\033[31malt-%s' screen; read x; printf '\\033[?1049l'; echo back-$((40+2))\n")
	term.Expect("alt-screen")
	sessions := object[[]admin.Session](o, "session", "list")
	if len(sessions) != 1 {
		t.Fatalf("sessions: %+v", sessions)
	}
	id := sessions[0].ID
	exe, err := os.Executable()
	noError(t, err)
	x := newTmux(t, 100, 30, fmt.Sprintf("%s session watch %s --socket %s; echo left-$?; cat", exe, id, o.cfg.Socket))
	x.sees("alt-screen")
	if lines := strings.Split(x.screen(), "\n"); !strings.HasPrefix(lines[4], "         alt-screen") {
		t.Errorf("not in its place:\n%s", x.screen())
	}
	term.Expect("observed by console.")
	x.keys("e", "x", "i", "t", "Enter")
	term.Type("\n")
	x.sees("back-42")
	if strings.Contains(x.screen(), "alt-screen") {
		t.Errorf("the alternate screen is still shown:\n%s", x.screen())
	}
	x.keys("q")
	x.sees("left-0")
	term.Expect("no longer observed.")

	token := o.file("token", strings.TrimSpace(o.ok("api-token", "add", "eyes")))
	x = newTmux(t, 100, 30, fmt.Sprintf("%s session watch %s --server http://%s --token-file %s; echo left-$?; cat", exe, id, o.node.web.Addr(), token))
	x.sees("back-42")
	term.Expect("observed by api-token eyes.")
	o.ok("session", "end", id, "--message", "see you")
	term.Expect("session ended: ended by console: see you.")
	x.sees("the session has ended: ended by console: see you")
	x.sees("left-0")
	o.fails(1, "session", "watch", id)
	o.fails(1, "session", "watch", "none")
	if out := o.ok("audit", "list", "-o", "json"); strings.Count(out, `"session.watched"`) != 4 {
		t.Errorf("the audit log has not four events: %s", out)
	}
}
