package bastion

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/ssh"

	"sallyport/auth"
	"sallyport/store"
	"sallyport/upstream"
)

// Bounds of opening a session: with prompts of the target's own, the person's answers take their time too.
const (
	openTime    = 15 * time.Second
	openAskTime = openTime + 2*time.Minute
)

// admitted is what authentication ends with after the verdict. If the target that was named asks the person
// itself, it does so now, while there is a way to; ask is nil if that takes another method, which the client
// is told then.
func (c *connection) admitted(id auth.Identity, login Login, ask *asker) (*ssh.Permissions, error) {
	yes := &ssh.Permissions{ExtraData: map[any]any{identityKey{}: verdict{id: id, login: login}}}
	d, ok := c.asksItself(id, login)
	switch {
	case !ok:
		return yes, nil
	case ask != nil:
		c.answerTarget(id, d, ask)
		return yes, nil
	}
	_ = c.pre.SendAuthBanner(fmt.Sprintf("%s has prompts of its own, which follow. A client that answers none (BatchMode) gets no further.\n", d.Target.Name))
	return nil, &ssh.PartialSuccessError{Next: ssh.ServerAuthCallbacks{
		KeyboardInteractiveCallback: func(_ ssh.ConnMetadata, challenge ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
			c.answerTarget(id, d, &asker{c: c, challenge: challenge})
			return yes, nil
		},
	}}
}

// asksItself tells whether the person may go to the target they named and answer its prompts. Everything
// else is told on the first channel, where the rules are asked again.
func (c *connection) asksItself(id auth.Identity, login Login) (auth.Decision, bool) {
	if login.Target == "" {
		return auth.Decision{}, false
	}
	ctx, cancel := context.WithTimeout(context.Background(), openTime)
	defer cancel()
	t, err := c.s.cfg.Store.Targets.ByName(ctx, login.Target)
	if err != nil || t.Credential != store.CredentialRelayed {
		return auth.Decision{}, false
	}
	d, err := c.s.cfg.Engine.Authorize(ctx, id, auth.Request{Target: login.Target, Account: login.Account, Source: c.source})
	return d, err == nil && d.Allow && d.Relay && d.Approval == nil // nobody gets to a target before others have agreed
}

// answerTarget connects to the target and keeps the connection, or the reason why there is none, for the
// first channel.
func (c *connection) answerTarget(id auth.Identity, d auth.Decision, ask *asker) {
	ctx, cancel := context.WithTimeout(context.Background(), openAskTime)
	defer cancel()
	r := c.reach(ctx, id, d, ask.relay, nil)
	c.unreached(ctx, id, r)
	c.kept.put(r)
}

// relay is an upstream.Ask in further rounds of keyboard-interactive. A client that does not answer in time
// is cut off: nothing else ends its round.
func (a *asker) relay(ctx context.Context, instruction string, prompts []upstream.Prompt) ([]upstream.Answer, error) {
	defer context.AfterFunc(ctx, func() { _ = a.c.guarded.Close() })()
	asked := make([]auth.Prompt, len(prompts))
	for i, p := range prompts {
		asked[i] = auth.Prompt{Text: p.Text, Echo: p.Echo}
	}
	given, err := a.Ask(ctx, instruction, asked)
	if err != nil {
		return nil, err
	}
	answers := make([]upstream.Answer, len(given))
	for i, g := range given {
		answers[i] = upstream.Answer(g)
	}
	return answers, nil
}

// errStopped ends prompts on a terminal that the person did not want to answer.
var errStopped = errors.New("stopped")

// question is a round of prompts for somebody at a terminal.
type question struct {
	instruction string
	prompts     []upstream.Prompt
	answered    chan []upstream.Answer // has room for one; closed: stopped

	answers []upstream.Answer
	typed   []byte
}

// askAt is an upstream.Ask that leaves its rounds to whoever has the terminal.
func askAt(terminal chan<- *question) upstream.Ask {
	return func(ctx context.Context, instruction string, prompts []upstream.Prompt) ([]upstream.Answer, error) {
		q := &question{instruction: instruction, prompts: prompts, answered: make(chan []upstream.Answer, 1)}
		select {
		case terminal <- q:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		select {
		case answers, ok := <-q.answered:
			if !ok {
				return nil, errStopped
			}
			return answers, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// maxAnswer bounds one answer in bytes.
const maxAnswer = 1024

// begin gives what the terminal shows first.
func (q *question) begin() string {
	text := ""
	if q.instruction != "" {
		text = q.instruction + "\r\n"
	}
	return text + q.next()
}

// next shows the prompt that is to be answered now; without one the round is over.
func (q *question) next() string {
	if len(q.answers) == len(q.prompts) {
		q.answered <- q.answers
		return ""
	}
	return q.prompts[len(q.answers)].Text
}

// over tells whether the round has its answers.
func (q *question) over() bool { return len(q.answers) == len(q.prompts) }

// press treats keys up to the end of the round and takes them off; show goes to the terminal. It is false if
// the person wants no more.
func (q *question) press(keys *[]byte) (show string, ok bool) {
	for len(*keys) > 0 && !q.over() {
		k, n := nextKey(*keys, false)
		if n == 0 {
			break
		}
		*keys = (*keys)[n:]
		echo := q.prompts[len(q.answers)].Echo
		switch {
		case k.name == keyInterrupt, k.name == keyEOF && len(q.typed) == 0:
			return show + "\r\n", false
		case k.name == keyEnter:
			q.answers = append(q.answers, upstream.Answer(q.typed))
			clear(q.typed)
			q.typed = q.typed[:0]
			show += "\r\n" + q.next()
		case k.name == keyBackspace && len(q.typed) > 0:
			_, last := utf8.DecodeLastRune(q.typed)
			q.typed = q.typed[:len(q.typed)-last]
			if echo {
				show += "\b \b"
			}
		case k.name == keyKill:
			if echo {
				show += strings.Repeat("\b \b", utf8.RuneCount(q.typed))
			}
			q.typed = q.typed[:0]
		case k.char != 0 && len(q.typed) < maxAnswer:
			q.typed = append(q.typed, string(k.char)...)
			if echo {
				show += string(k.char)
			}
		}
	}
	return show, true
}
