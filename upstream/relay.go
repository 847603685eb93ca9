package upstream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"sallyport/audit"
)

// Prompt is one question of a target to the person, safe to show: one line of ASCII that begins with the
// target's name.
type Prompt struct {
	Text string
	Echo bool
}

// Answer is what a person answers to a target's own prompt. It never prints itself, and is kept nowhere.
type Answer string

// String hides the answer.
func (Answer) String() string { return "[answer]" }

// GoString hides the answer.
func (Answer) GoString() string { return "[answer]" }

// Format hides the answer from every verb of package fmt.
func (Answer) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[answer]")) }

// MarshalJSON hides the answer.
func (Answer) MarshalJSON() ([]byte, error) { return []byte(`"[answer]"`), nil }

// Ask shows a person the prompts of a target and returns one answer for each. instruction is safe to
// show, and may be empty. It ends with ctx.
type Ask func(ctx context.Context, instruction string, prompts []Prompt) ([]Answer, error)

// Bounds of what a target may ask a person in one login.
const (
	maxRounds     = 6 // of prompts
	maxQuestions  = 8 // in one round
	maxPromptText = 200
	relayTime     = 2 * time.Minute // for all answers together
)

// questions relays prompts of the target and answers to it.
type questions struct {
	name   string // of the target
	ask    Ask
	limit  *limit // stands still meanwhile
	rounds int
	until  time.Time // zero: nothing was asked yet
}

// relay asks the person what the target asks.
func (q *questions) relay(name, instruction string, texts []string, echos []bool) ([]string, error) {
	if len(texts) > maxQuestions || len(texts) != len(echos) {
		return nil, fmt.Errorf("it asks %d questions at once", len(texts))
	}
	if q.rounds++; q.rounds > maxRounds {
		return nil, fmt.Errorf("it asks more than %d times", maxRounds)
	}
	shown := strings.TrimSpace(name + " " + instruction)
	if len(texts) == 0 && shown == "" {
		return nil, nil
	}
	if shown != "" {
		shown = q.line(shown)
	}
	prompts := make([]Prompt, len(texts))
	for i, text := range texts {
		prompts[i] = Prompt{Text: q.line(text), Echo: echos[i]}
	}
	q.limit.pause()
	defer q.limit.run(0)
	if q.until.IsZero() {
		q.until = time.Now().Add(relayTime)
	}
	ctx, cancel := context.WithDeadline(q.limit.ctx, q.until)
	defer cancel()
	answers, err := q.ask(ctx, shown, prompts)
	switch {
	case ctx.Err() != nil:
		return nil, errors.New("its prompts were not answered in time")
	case err != nil:
		return nil, errors.New("its prompts were not answered")
	case len(answers) != len(texts):
		return nil, fmt.Errorf("%d of its %d prompts were answered", len(answers), len(texts))
	}
	plain := make([]string, len(answers))
	for i, a := range answers {
		plain[i] = string(a)
	}
	return plain, nil
}

// line makes text of the target one line that says whose it is. What is not ASCII becomes a question
// mark: clients show it each in their own way, and it could look like something else.
func (q *questions) line(text string) string {
	text = audit.Escape(strings.TrimRight(text, "\r\n"))
	if len(text) > maxPromptText {
		text = text[:maxPromptText] + "..."
	}
	return q.name + ": " + strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text)
}
