package notify

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// CommandConfig is a program that sends short messages: its arguments, of which the first is the program, by
// its whole path. In the others {to} stands for the number and {id} for the message's id. It reads the text on
// standard input, and says by exit status 0 that the message is on its way. No shell is involved.
type CommandConfig struct {
	Args    []string
	Timeout time.Duration // 0: 15 s
	Numbers Numbers       // where restricted messages may go
}

// command is a [Sender] by a program.
type command struct{ cfg CommandConfig }

// NewCommand returns a Sender that runs a program.
func NewCommand(cfg CommandConfig) (Sender, error) {
	if len(cfg.Args) == 0 || !filepath.IsAbs(cfg.Args[0]) {
		return nil, fmt.Errorf("command %q: name the program by its whole path", strings.Join(cfg.Args, " "))
	}
	if strings.Contains(strings.Join(cfg.Args, " "), "{text}") {
		return nil, errors.New("command: the text goes to standard input; arguments can be seen by everybody on the machine")
	}
	return &command{cfg}, nil
}

// Name is the program.
func (c *command) Name() string { return filepath.Base(c.cfg.Args[0]) }

// Send runs the program.
func (c *command) Send(ctx context.Context, m Message) error {
	if m.Restricted {
		if err := c.cfg.Numbers.Allow(m.To); err != nil {
			return err
		}
	}
	if !strings.HasPrefix(m.To, "+") {
		return fmt.Errorf("%w: %q is no number in E.164", ErrRejected, m.To) // nor may it be an option
	}
	return within(ctx, c.cfg.Timeout, func(ctx context.Context) error {
		args := make([]string, len(c.cfg.Args))
		for i, a := range c.cfg.Args {
			args[i] = strings.NewReplacer("{to}", m.To, "{id}", m.ID).Replace(a)
		}
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Dir, cmd.Stdin = "/", strings.NewReader(m.Text)
		cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8"} // nothing of ours
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // with what it has started
		cmd.WaitDelay = time.Second
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("running it: %w", err)
		}
		return nil
	})
}
