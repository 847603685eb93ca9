package bastion

import (
	"context"
	"errors"
	"strings"
	"time"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/upstream"
)

// Bounds of asking for a code in the menu: how often for one choice, and how long in all.
const (
	stepUpTries = 3
	stepUpTime  = 5 * time.Minute
)

// stepUp gives the identity with which what was chosen is opened. If nothing but a one-time code is missing for it,
// the person is asked for one, and the identity with it holds for this session alone. refusal is why there is none;
// everything else that stands against the choice is found and told when it is opened.
func (m *menu) stepUp(ctx context.Context, to Login, ask upstream.Ask) (id auth.Identity, refusal string) {
	c := m.c
	ctx, cancel := context.WithTimeout(ctx, stepUpTime)
	defer cancel()
	d, err := c.s.cfg.Engine.Preview(ctx, c.id, auth.Request{Target: to.Target, Account: to.Account, Source: c.source})
	if err != nil || !d.NeedsCode || d.NoToken {
		return c.id, ""
	}
	name := audit.Escape(d.Target.Name)
	asker := menuAsker{m, ask}
	_ = asker.Show(ctx, "sallyport: "+name+" needs a new one-time code.\n")
	for range stepUpTries {
		conv := c.s.cfg.Engine.Begin(auth.Attempt{
			ID: c.nonce, Door: audit.DoorSSH, Login: c.id.Login, Source: c.source, Target: to.Target, Account: to.Account,
			Client: string(c.conn.ClientVersion()),
		}).WithOuter(auth.Outer{Identity: c.id, Since: c.since})
		got, err := conv.Run(ctx, asker)
		var refused *auth.Refused
		switch {
		case err == nil:
			return *got, ""
		case errors.Is(err, auth.ErrUnavailable) && errors.As(err, &refused):
			return auth.Identity{}, refused.Public
		case !errors.As(err, &refused):
			return auth.Identity{}, name + " needs a one-time code, and none was typed."
		}
		_ = asker.Show(ctx, refused.Public+"\n")
	}
	return auth.Identity{}, name + " needs a one-time code, and none that was typed is good. If yours should be, wait for the next one."
}

// menuAsker carries a conversation to the terminal that shows the menu.
type menuAsker struct {
	m   *menu
	ask upstream.Ask
}

// Ask implements auth.Asker.
func (a menuAsker) Ask(ctx context.Context, instruction string, prompts []auth.Prompt) ([]string, error) {
	asked := make([]upstream.Prompt, len(prompts))
	for i, p := range prompts {
		asked[i] = upstream.Prompt{Text: p.Text, Echo: p.Echo}
	}
	given, err := a.ask(ctx, instruction, asked)
	if err != nil {
		return nil, err
	}
	answers := make([]string, len(given))
	for i, g := range given {
		answers[i] = string(g)
	}
	return answers, nil
}

// Show implements auth.Asker.
func (a menuAsker) Show(_ context.Context, text string) error {
	_, err := a.m.ch.Write([]byte(strings.ReplaceAll(text, "\n", "\r\n")))
	return err
}
