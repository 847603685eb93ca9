package search

import (
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"

	"sallyport/store"
)

// How a command was found.
const (
	foundByPrompt = "prompt"
	foundByMarks  = "marks"
)

// maxCommand bounds a command that was found, in bytes.
const maxCommand = 4 << 10

// maxMark is how long a mark may be, in bytes.
const maxMark = 256

// promptEnds are the characters that the prompts of common shells, and of programs that take commands, end with
// before a space.
const promptEnds = "$#%>❯»λ➜"

// finder finds commands: what is echoed behind a prompt until the line ends. A prompt is what a shell marks as one
// (OSC 133, as FinalTerm, iTerm2, VS Code and others do), else a row with the cursor right behind one of promptEnds and
// a space, when nothing more comes. Where nothing is echoed, such as for a password, there is nothing to find.
type finder struct {
	most     int
	commands []store.Command
	gone     int // lines that have left the top

	waiting bool   // for the end of the line with the command
	prompt  string // on that line
	line    int    // that line, counted from the first that ever was
	marked  bool   // the shell marks its prompts: no others are looked for

	lastPrompt string
	fresh      bool // the last command was found in the output that has just been drawn

	started string // the command line of the channel, if it has one
	shells  bool   // the alternate screen is that of a program that shows shells
	ahead
}

// below is the text on the screen from a line on to the row of the cursor, which may be one line that was wrapped.
// Lines that are full go on in the next.
func (t *terminal) below(line int) (text string, ok bool) {
	_, y := t.screen.Cursor()
	first := line - t.gone
	lines := t.screen.Lines()
	if first < 0 || first > y || y >= len(lines) {
		return "", false
	}
	for i := first; i <= y; i++ {
		text += lines[i]
		if ansi.StringWidth(lines[i]) < t.cols {
			break
		}
	}
	return text, true
}

// atCursor is the text of the cursor's row before the cursor, with the spaces at its end.
func (t *terminal) atCursor() (text string, x, y int) {
	x, y = t.screen.Cursor()
	lines := t.screen.Lines()
	if y >= len(lines) {
		return "", x, y
	}
	text = ansi.Truncate(lines[y], x, "")
	return text + strings.Repeat(" ", max(0, x-ansi.StringWidth(text))), x, y
}

// prompted looks whether a prompt waits, once an event was drawn.
func (t *terminal) prompted(p []byte) {
	defer func() { t.fresh = false }()
	if t.waiting && !t.more || t.marked || len(p) == 0 || p[len(p)-1] == '\n' || t.fullScreen() {
		return
	}
	if x, _ := t.screen.Cursor(); x < 2 {
		return
	}
	text, _, y := t.atCursor()
	t.events++
	switch trimmed := strings.TrimRight(text, " "); {
	case isPrompt(text, trimmed) && (!t.editing || t.shells || t.events <= promptEvents):
		t.completed("")
		t.wait(text, y)
	case t.lastPrompt != "" && strings.HasPrefix(text, t.lastPrompt):
		// The prompt and more came together: keys that were typed ahead, or the line as it was before the
		// shell listed what it could be completed to. That was no command yet.
		typed := strings.TrimSpace(text[len(t.lastPrompt):])
		t.completed(typed)
		if n := len(t.commands); t.fresh && n > 0 && strings.HasPrefix(typed, t.commands[n-1].Text) {
			t.commands = t.commands[:n-1]
		}
		t.wait(t.lastPrompt, y)
	}
}

func isPrompt(text, trimmed string) bool {
	if len(trimmed) == len(text) || len(text) > len(trimmed)+2 || trimmed == "" {
		return false
	}
	for _, c := range promptEnds {
		if strings.HasSuffix(trimmed, string(c)) {
			return true
		}
	}
	return false
}

func (t *terminal) wait(prompt string, y int) {
	t.waiting, t.prompt, t.line, t.lastPrompt = true, prompt, t.gone+y, prompt
	t.resolve(prompt)
}

// entered is called before the end of a line while a prompt waits: the line has the command. Without a prompt it is
// that of a line editor.
func (t *terminal) entered(at time.Duration) {
	if !t.waiting {
		t.editedRow(at)
		return
	}
	more := t.more
	t.waiting, t.editing, t.more = false, false, false
	if t.fullScreen() {
		return
	}
	by := foundByPrompt
	if t.marked {
		by = foundByMarks
	}
	n := len(t.commands)
	if more {
		if t.pasted(at, by); len(t.commands) == n { // it has left the screen
			t.found(t.first.since, t.first.text, by)
		}
	} else if text, ok := t.command(); ok {
		t.found(at, text, by)
	}
	t.fresh = len(t.commands) > n
}

// command is what stands behind the prompt that waits.
func (t *terminal) command() (string, bool) {
	text, ok := t.below(t.line)
	if !ok || !strings.HasPrefix(text, t.prompt) {
		_, y := t.screen.Cursor() // the screen was cleared, or the line drawn again
		if text, ok = t.below(t.gone + y); !ok || !strings.HasPrefix(text, t.prompt) {
			return "", false
		}
	}
	return text[len(t.prompt):], true
}

// mark takes a mark of the shell, with which p begins, and returns how long it is. The command begins where the
// cursor is at mark B.
func (t *terminal) mark(p []byte) int {
	if len(p) <= len(markPrefix) {
		return len(p)
	}
	switch p[len(markPrefix)] {
	case 'B':
		t.marked = true
		if text, _, y := t.atCursor(); !t.fullScreen() {
			t.wait(text, y)
		}
	case 'A', 'D':
		t.completed("")
		t.marked, t.waiting, t.editing = true, false, false
	}
	p = p[:min(len(p), maxMark)]
	for i := len(markPrefix); i < len(p); i++ {
		if p[i] == 0x07 || p[i] == '\\' && p[i-1] == 0x1b {
			return i + 1
		}
	}
	return len(markPrefix) + 1
}
