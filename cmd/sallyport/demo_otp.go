package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"sallyport/otp"
)

func newDemoOTPCommand(g *globals) *cobra.Command {
	var unused bool
	c := &cobra.Command{
		Use:   "otp USER",
		Short: "Print the current code of a user of the demo",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := g.demoState()
			if err != nil {
				return err
			}
			return printDemoCode(cmd.Context(), g, dir, args[0], unused)
		},
	}
	c.Flags().BoolVar(&unused, "unused", false, "print a code that was not printed before, and wait for the next one if need be")
	return c
}

func printDemoCode(ctx context.Context, g *globals, dir, login string, unused bool) error {
	secrets, err := readSecrets(dir)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("there is no demo in %s; start one: sallyport demo", dir)
	}
	if err != nil {
		return err
	}
	login = strings.ToLower(login)
	seed := secrets.Seeds[login]
	if seed == "" {
		if _, ok := secrets.Passwords[login]; ok {
			return fmt.Errorf("%s has no token of the demo's making: the first login enrols one", login)
		}
		return fmt.Errorf("the demo has no user %q with a token; there are alice, and u1 to uN with --users N", login)
	}
	secret, err := otp.ParseSecret(seed)
	if err != nil {
		return fmt.Errorf("reading the seed of %s: %w", login, err)
	}
	params := otp.DefaultParams()
	step, err := takeStep(dir, login, params.StepAt(time.Now()), unused)
	if err != nil {
		return err
	}
	if err := waitUntil(ctx, params.StepEnd(step-1)); err != nil {
		return err
	}
	code := params.Code(secret, step)
	if g.json() {
		return g.printJSON(struct {
			User    string `json:"user"`
			Code    string `json:"code"`
			Seconds int    `json:"seconds"` // for which it is the current one
		}{login, code, max(0, int(time.Until(params.StepEnd(step)).Seconds()))})
	}
	_, err = fmt.Fprintln(g.Out, code)
	return err
}

// takeStep returns the time step whose code is to be printed and remembers it as printed. With unused it
// is one that no call took before; it may lie ahead. The file is locked meanwhile, not while anybody waits.
func takeStep(dir, login string, now int64, unused bool) (step int64, err error) {
	folder := filepath.Join(dir, "otp")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return 0, fmt.Errorf("remembering codes: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(folder, login), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return 0, fmt.Errorf("remembering codes: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }() // gives up the lock
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return 0, fmt.Errorf("locking %s: %w", f.Name(), err)
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return 0, fmt.Errorf("remembering codes: %w", err)
	}
	last, _ := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64) // an empty file: none yet
	step = now
	if unused && last >= now {
		step = last + 1
	}
	if step <= last {
		return step, nil
	}
	if _, err := f.WriteAt([]byte(strconv.FormatInt(step, 10)+"\n"), 0); err != nil {
		return 0, fmt.Errorf("remembering codes: %w", err)
	}
	return step, nil
}

func waitUntil(ctx context.Context, t time.Time) error {
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
