package search

import (
	"bytes"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"

	"sallyport/store"
)

// Line editors (of bash, zsh, fish, Python, psql …) have pastes bracketed for as long as they read a line, and only
// then. So a row that was drawn between the two is a line that was edited, also when its keys came before the prompt
// did and the editor drew prompt, line and end at once.
var (
	editBegin = []byte("\x1b[?2004h")
	editEnd   = []byte("\x1b[?2004l")
)

// promptEvents is in how many pieces of output an editor draws its prompt. What looks like one later was typed.
const promptEvents = 3

// maxAhead bounds the rows that wait for their prompt to become known.
const maxAhead = 64

// ahead finds commands that were typed before their prompt was drawn.
type ahead struct {
	editing bool
	edited  int   // the line that is edited, counted as finder.line
	more    bool  // the command goes on behind a line break
	first   row   // … its first line
	events  int   // of output since the editing began
	unknown []int // places in commands: rows that were edited, with a prompt that is not known yet
}

// edits is told that a line editor begins to read.
func (t *terminal) edits() {
	if t.marked || t.fullScreen() {
		return
	}
	if t.more {
		t.completed("")
		t.waiting = false
	}
	text, _, y := t.atCursor()
	t.events = 0
	if t.editing = true; strings.TrimSpace(text) == "" {
		t.edited = t.gone + y
		return
	}
	// zsh says so behind its prompt.
	if t.edited = t.gone + y; isPrompt(text, strings.TrimRight(text, " ")) && !t.waiting {
		t.wait(text, y)
	}
}

// editingEnds is told that an editor is done.
func (t *terminal) editingEnds(at time.Duration) {
	switch t.editing = false; {
	case !t.waiting:
		t.editedRow(at)
	case t.more:
		t.entered(at)
	}
}

// editedRow takes a row whose editing ends, where no prompt was seen waiting.
func (t *terminal) editedRow(at time.Duration) {
	t.editing = false
	if t.fullScreen() {
		return
	}
	text, ok := t.below(t.edited)
	if !ok {
		return
	}
	switch prompt := t.lastPrompt; {
	case prompt != "" && strings.HasPrefix(text, prompt):
		t.found(at, text[len(prompt):], foundByPrompt)
	case len(t.commands) < t.most && text != "":
		if len(t.unknown) == maxAhead {
			t.guess()
		}
		t.unknown = append(t.unknown, len(t.commands))
		t.commands = append(t.commands, store.Command{At: at, Text: text})
	}
}

// goesOn tells whether a line that is edited goes on behind a line break, as several lines do that are pasted: an editor
// that is done says so right behind the break. rest begins with the break.
func (t *terminal) goesOn(rest []byte) bool {
	if !t.waiting || !t.editing || t.marked || t.shells {
		return false
	}
	following := between.ReplaceAll(rest[1:min(len(rest), maxMark)], nil)
	if bytes.HasPrefix(following, editEnd) {
		return false
	}
	if !t.more {
		t.more, t.first.since = true, t.now
		t.first.text, t.more = t.command()
	}
	return t.more
}

// between is what may stand between the end of a line and the mark that its editing is over.
var between = regexp.MustCompile(`^(\r|\n|\x1b\[[0-9;]*[mK]|\x1b\(B)+`)

// pasted adds the further lines of a command whose first was found.
func (t *terminal) pasted(at time.Duration, by string) {
	_, y := t.screen.Cursor()
	lines := t.screen.Lines()
	from := max(t.line-t.gone, 0)
	for i, wrapped := from, ""; i <= y && i < len(lines); i++ {
		wrapped += lines[i]
		if ansi.StringWidth(lines[i]) >= t.cols && i < y {
			continue
		}
		if text, ok := strings.CutPrefix(wrapped, t.prompt); ok || i > from {
			t.found(at, text, by)
		}
		wrapped = ""
	}
}

// completed is told that a prompt is drawn while a command goes on, and what is behind it: a list of completions stood
// between if it is the same line once more, else the end was not seen.
func (t *terminal) completed(typed string) {
	if t.more && (typed == "" || !strings.HasPrefix(typed, strings.TrimSpace(t.first.text))) {
		t.found(t.first.since, t.first.text, foundByPrompt)
		t.fresh = true
	}
	t.more = false
}

// resolve looks for commands in the rows whose prompt was not known.
func (t *terminal) resolve(prompt string) {
	t.unknown = slices.DeleteFunc(t.unknown, func(i int) bool {
		return i >= len(t.commands) || t.split(&t.commands[i], prompt)
	})
}

// split makes a command of a row that begins with the prompt.
func (t *terminal) split(c *store.Command, prompt string) bool {
	text, ok := strings.CutPrefix(c.Text, prompt)
	if ok {
		c.Text, c.FoundBy = command(text), foundByPrompt
	}
	return ok
}

// guess finds the commands in rows whose prompt never stood alone. What looks like the end of a prompt is taken for it if
// another row begins in the same way; else somebody has a shell without a prompt, and all of the row is what they typed.
func (t *terminal) guess() {
	rows := make([]string, 0, len(t.unknown))
	for _, i := range t.unknown {
		if i < len(t.commands) {
			rows = append(rows, t.commands[i].Text)
		}
	}
	for _, i := range t.unknown {
		if i >= len(t.commands) {
			continue
		}
		prompt := promptEnd.FindString(t.commands[i].Text)
		alike := 0
		for _, r := range rows {
			if strings.HasPrefix(r, prompt) {
				alike++
			}
		}
		if alike < 2 && len(rows) > 1 {
			prompt = ""
		}
		t.split(&t.commands[i], prompt)
	}
	t.unknown = nil
}

// complete are the commands so far, and how many of them stay as they are.
func (t *terminal) complete() (list []store.Command, settled int) {
	settled = len(t.commands) - 1 // the last may turn out to be a line that is drawn again
	if len(t.unknown) > 0 {
		settled = min(settled, t.unknown[0])
	}
	for _, c := range t.commands {
		if c.FoundBy != "" && c.Text != "" {
			list = append(list, c)
		} else {
			settled = min(settled, len(list))
		}
	}
	return list, max(settled, 0)
}

// promptEnd is what the prompts of common shells end with.
var promptEnd = regexp.MustCompile(`^[^` + promptEnds + `]*[` + promptEnds + `] `)

// command is the text of a command, or "" if there is none.
func command(text string) string {
	text = legible(strings.TrimSpace(text))
	if strings.HasSuffix(text, "^C") {
		return ""
	}
	return clip(text, maxCommand)
}

// found adds a command, if it is one.
func (t *terminal) found(at time.Duration, text, by string) {
	if text = command(text); text != "" && len(t.commands) < t.most {
		t.commands = append(t.commands, store.Command{At: at, Text: text, FoundBy: by})
	}
}

// multiplexers are programs that show shells on the alternate screen.
var multiplexers = map[string]bool{"tmux": true, "screen": true, "byobu": true, "tmate": true, "zellij": true, "dvtm": true, "abduco": true}

// status is the last row of tmux as it comes: the session, then the windows.
var status = regexp.MustCompile(`^\[[^\[\]]+\] *[0-9]+:\S`)

// multiplexes tells whether a command line starts a multiplexer.
func multiplexes(line string) bool {
	for word := range strings.FieldsSeq(line) {
		switch name := path.Base(word); {
		case multiplexers[name]:
			return true
		case name == "sudo", name == "exec", name == "env", name == "command", strings.HasPrefix(word, "-"), strings.Contains(word, "="):
		default:
			return false
		}
	}
	return false
}

// fullScreen tells whether a program has the whole screen that is none with shells in it.
func (t *terminal) fullScreen() bool { return t.screen.AltScreen() && !t.shells }

// exchanged is told that the alternate screen begins or ends.
func (t *terminal) exchanged() {
	t.completed("")
	last := t.started
	if n := len(t.commands); n > 0 {
		last = t.commands[n-1].Text
	}
	t.shells = multiplexes(last)
	t.waiting, t.editing = false, false
}

// statusRow looks for the status of tmux among the rows of the alternate screen.
func (t *terminal) statusRow(lines []string) {
	if n := len(lines); !t.shells && n > 1 {
		t.shells = status.MatchString(lines[n-1]) || status.MatchString(lines[0])
	}
}
