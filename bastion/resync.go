package bastion

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/term"

	"sallyport/audit"
	"sallyport/auth"
)

// resyncTime is how long a person may take for two codes, which come a minute apart at most.
const resyncTime = 5 * time.Minute

// resyncCommand finds out where a token of the person is, by two codes that they type one after the other.
// They have got in by something else, such as a recovery code, a bypass code or another token.
func (r *reception) resyncCommand(_ context.Context, args []string, _ bool) uint32 {
	token := ""
	if len(args) > 0 {
		token = args[0]
	}
	codes, ok := r.twoCodes()
	if !ok {
		return r.fail(statusUsage, "two codes are needed, as the token shows them one after the other.")
	}
	t, err := r.c.s.cfg.Engine.Resync(context.Background(), r.c.id, token, codes[0], codes[1])
	var refused *auth.Refused
	switch {
	case errors.As(err, &refused):
		return r.fail(statusNo, "%s", refused.Public)
	case err != nil:
		return r.failed("resynchronising a token", err)
	}
	found := "its counter is known again"
	if t.Period > 0 { // it goes by time
		found = fmt.Sprintf("its clock is %+d seconds off", t.Drift*t.Period)
	}
	return r.fail(statusOK, "found your token %s: %s. Both codes are used; sign in with the next one.", audit.Escape(t.Name), found)
}

// assignCommand gives the person a token out of the stock whose serial they name.
func (r *reception) assignCommand(_ context.Context, args []string, _ bool) uint32 {
	codes, ok := r.twoCodes()
	if !ok {
		return r.fail(statusUsage, "two codes are needed, as the token shows them one after the other.")
	}
	t, err := r.c.s.cfg.Engine.AssignBySerial(context.Background(), r.c.id, args[0], codes[0], codes[1])
	var refused *auth.Refused
	switch {
	case errors.As(err, &refused):
		return r.fail(statusNo, "%s", refused.Public)
	case err != nil:
		return r.failed("giving a token to a person", err)
	}
	return r.fail(statusOK, "token %s is yours now. Both codes are used; sign in with the next one.", audit.Escape(t.Serial))
}

// twoCodes asks for two codes that a token shows one after the other.
func (r *reception) twoCodes() (codes [2]string, ok bool) {
	timer := time.AfterFunc(resyncTime, func() { _ = r.ch.Close() })
	defer timer.Stop()
	ask := r.asker()
	for i, prompt := range []string{"A code of the token: ", "The next one: "} {
		var err error
		if codes[i], err = ask(prompt); err != nil || codes[i] == "" {
			return codes, false
		}
	}
	return codes, true
}

// maxLine bounds what somebody types in one line.
const maxLine = 200

// asker returns what asks for one line after the other. On a terminal the bastion echoes what is typed;
// without one the client's own does.
func (r *reception) asker() func(prompt string) (string, error) {
	if r.term {
		t := term.NewTerminal(struct {
			io.Reader
			io.Writer
		}{io.LimitReader(r.ch, 2*maxLine), r.ch}, "")
		return func(prompt string) (string, error) {
			t.SetPrompt(prompt)
			line, err := t.ReadLine()
			return strings.TrimSpace(line), err
		}
	}
	in := bufio.NewReaderSize(io.LimitReader(r.ch, 2*maxLine), maxLine)
	return func(prompt string) (string, error) {
		if _, err := r.ch.Stderr().Write([]byte(prompt)); err != nil {
			return "", err
		}
		line, err := in.ReadSlice('\n')
		if errors.Is(err, io.EOF) && len(line) > 0 {
			err = nil
		}
		if err != nil { // what is said next stands on a line of its own
			_, _ = r.ch.Stderr().Write([]byte("\n"))
		}
		return strings.TrimSpace(string(line)), err
	}
}
