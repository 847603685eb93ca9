package bastion

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"golang.org/x/text/width"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/store"
)

// choice is one line of the menu: a target and an account there.
type choice struct {
	login    Login
	target   string // as shown: escaped, like all that follows
	account  string
	labels   string
	used     time.Time // when the person last opened it; zero: not lately
	haystack string    // what the filter looks at
}

// choices puts what the person may open a shell on in order: last used first, then by name.
func choices(user string, reach []auth.Decision, sessions []store.Session) []choice {
	used := map[[2]string]time.Time{}
	for _, s := range sessions { // newest first
		key := [2]string{s.Target, s.Account}
		if _, ok := used[key]; !ok {
			used[key] = s.Started
		}
	}
	var list []choice
	for _, d := range reach {
		if !slices.Contains(d.Channels, "shell") {
			continue
		}
		c := choice{
			login:  Login{User: user, Account: d.Account, Target: d.Target.Name},
			target: audit.Escape(d.Target.Name), account: audit.Escape(d.Account), labels: audit.Escape(labels(d.Target.Labels)),
			used: used[[2]string{d.Target.Name, d.Account}],
		}
		c.haystack = strings.ToLower(c.account + "@" + c.target + " " + c.labels)
		list = append(list, c)
	}
	slices.SortStableFunc(list, func(a, b choice) int { return b.used.Compare(a.used) })
	return list
}

// labels gives "env=prod role=web" in the order of the names.
func labels(m map[string]string) string {
	list := make([]string, 0, len(m))
	for k, v := range m {
		list = append(list, k+"="+v)
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

// picker is the list of the menu: what it holds, what is typed, what is seen. It has neither I/O nor clock.
type picker struct {
	user       string
	cols, rows int
	colour     bool
	now        time.Time

	all     []choice
	shown   []choice // that match the filter
	filter  []rune
	cursor  int    // in shown
	top     int    // first line of shown that is seen
	message string // why the last wish was not granted, or how it ended
	pasting bool   // what comes was pasted, and none of it is a wish
}

// maxFilter bounds what can be typed into the filter.
const maxFilter = 64

func (p *picker) fill(list []choice) {
	p.all = list
	p.match()
}

// names are those of all lines, in their order.
func (p *picker) names() []Login {
	list := make([]Login, len(p.all))
	for i, c := range p.all {
		list[i] = c.login
	}
	return list
}

// match finds the lines that hold every word of the filter.
func (p *picker) match() {
	words := strings.Fields(strings.ToLower(string(p.filter)))
	p.shown = p.shown[:0]
	for _, c := range p.all {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(c.haystack, w) }) {
			p.shown = append(p.shown, c)
		}
	}
	p.cursor = max(0, min(p.cursor, len(p.shown)-1))
}

func (p *picker) setFilter(f []rune) {
	p.filter, p.cursor, p.top, p.message = f, 0, 0, ""
	p.match()
}

// wish is what a key asks of the menu beyond the list.
type wish int

const (
	wishNothing wish = iota
	wishOpen
	wishReload
	wishLeave
)

// key treats one key.
func (p *picker) key(k key) wish {
	switch {
	case k.name == keyPaste:
		p.pasting = true
	case p.pasting && k.name == keyEnter: // a line of several, or the end of one: it is looked for, and opens nothing
		k = key{char: ' '}
	case p.pasting && k.char == 0 && k.name != keyInterrupt:
		p.pasting = k.name != keyPasteEnd && k.name != keyEscape
		return wishNothing
	}
	switch {
	case k.char != 0:
		if len(p.filter) < maxFilter {
			p.setFilter(append(p.filter, k.char))
		}
		return wishNothing
	case k.name == keyEnter && len(p.shown) > 0:
		return wishOpen
	case k.name == keyInterrupt, k.name == keyEOF && len(p.filter) == 0:
		return wishLeave
	case k.name == keyReload:
		p.message = ""
		return wishReload
	case k.name == keyEscape, k.name == keyKill:
		p.setFilter(nil)
	case k.name == keyBackspace && len(p.filter) > 0:
		p.setFilter(p.filter[:len(p.filter)-1])
	case k.name == keyWord:
		p.setFilter([]rune(strings.TrimRight(strings.TrimRightFunc(string(p.filter), func(r rune) bool { return !unicode.IsSpace(r) }), " ")))
	default:
		p.move(k.name)
	}
	return wishNothing
}

func (p *picker) move(k keyName) {
	page := max(1, p.listRows()-1)
	if p.small() {
		p.message = "" // it stands where the list does
	}
	switch k {
	case keyUp:
		p.cursor--
	case keyDown:
		p.cursor++
	case keyPageUp:
		p.cursor -= page
	case keyPageDown:
		p.cursor += page
	case keyHome:
		p.cursor = 0
	case keyEnd:
		p.cursor = len(p.shown) - 1
	}
	p.cursor = max(0, min(p.cursor, len(p.shown)-1))
}

// Styles; empty where there is no colour.
const (
	styleTitle    = "\x1b[1m"
	styleFaint    = "\x1b[2m"
	styleSelected = "\x1b[7m"
	styleMessage  = "\x1b[33m"
	styleNone     = "\x1b[0m"
)

func (p *picker) styled(style, text string) string {
	if !p.colour || text == "" {
		return text
	}
	return style + text + styleNone
}

// width is how much of a line is used: in the last column some terminals would wrap.
func (p *picker) width() int { return max(leastCols, min(p.cols, 500)) - 1 }

func (p *picker) height() int { return max(leastRows, min(p.rows, 200)) }

// roomy tells whether there is space for empty lines.
func (p *picker) roomy() bool { return p.height() >= 14 }

// notes are the lines below the list.
func (p *picker) notes() []string {
	if p.message == "" {
		return nil
	}
	lines := wrap(p.message, p.width()-1)
	return lines[:min(len(lines), max(1, p.height()-5))]
}

// listRows is how many lines the list has.
func (p *picker) listRows() int {
	n := p.height() - 3 - len(p.notes())
	if p.roomy() {
		n -= 2
	}
	return max(1, n)
}

// Below this size a window has room for a choice alone.
const leastCols, leastRows = 20, 5

func (p *picker) small() bool { return p.cols < leastCols || p.rows < leastRows }

// smallScreen draws what a small window has room for: what Enter opens, and above it what is typed, in a second line, and
// below it others, or the message. Nothing of it is wrapped or scrolls.
func (p *picker) smallScreen() string {
	room, rows := min(p.cols-1, leastCols), min(p.rows, leastRows)
	if p.cols >= leastCols {
		room = p.width()
	}
	list := p.shown
	if rows > 1 {
		rows--
	}
	notes := []string{p.message}
	if p.message == "" && len(list) == 0 {
		notes = []string{"nothing matches"}
		if len(p.all) == 0 {
			notes = []string{"no target"}
		}
	}
	var lines []string
	if notes[0] == "" {
		first := max(0, min(p.cursor, len(list)-rows))
		for i := first; i < min(len(list), first+rows); i++ {
			mark := "  "
			if i == p.cursor {
				mark = "> "
			}
			lines = append(lines, mark+list[i].account+"@"+list[i].target)
		}
	} else {
		lines = wrap(notes[0], max(1, room))
		lines = lines[:min(len(lines), rows)]
	}
	column := 1
	if p.rows > 1 {
		typed := []rune("/" + string(p.filter))
		for len(typed) > 1 && textWidth(string(typed)) > room-1 { // its end is seen
			typed = typed[1:]
		}
		lines, column = append([]string{string(typed)}, lines...), 1+textWidth(string(typed))
	}
	for i, l := range lines {
		if lines[i] = ""; room > 0 {
			lines[i] = cut(l, room)
		}
	}
	return "\x1b[?25l\x1b[H" + strings.Join(lines, "\x1b[K\r\n") + "\x1b[K\x1b[J" + fmt.Sprintf("\x1b[1;%dH\x1b[?25h", max(1, min(column, p.cols)))
}

// screen draws everything, from the upper left corner.
func (p *picker) screen() string {
	if p.small() {
		return p.smallScreen()
	}
	lines := []string{p.title(), p.prompt()}
	if p.roomy() {
		lines = append(lines, "")
	}
	lines = append(lines, p.list()...)
	if p.roomy() {
		lines = append(lines, "")
	}
	for _, n := range p.notes() {
		lines = append(lines, p.styled(styleMessage, " "+n))
	}
	lines = append(lines, p.styled(styleFaint, " "+p.help()))
	column := 1 + textWidth(cut(" Filter: "+string(p.filter), p.width()))
	// The cursor stands where the next letter goes.
	return "\x1b[?25l\x1b[H" + strings.Join(lines, "\x1b[K\r\n") + "\x1b[K\x1b[J" + fmt.Sprintf("\x1b[2;%dH\x1b[?25h", column)
}

func (p *picker) title() string {
	left := " Sallyport  " + audit.Escape(p.user)
	right := fmt.Sprintf("%d of %d", min(p.cursor+1, len(p.shown)), len(p.shown))
	if len(p.filter) > 0 && p.width() >= 40-1 {
		right += fmt.Sprintf(" (%d in all)", len(p.all))
	}
	left = cut(left, p.width()-textWidth(right)-2)
	return p.styled(styleTitle, left) + strings.Repeat(" ", max(1, p.width()-textWidth(left)-textWidth(right)-1)) + p.styled(styleFaint, right)
}

func (p *picker) prompt() string { return cut(" Filter: "+string(p.filter), p.width()) }

func (p *picker) help() string {
	for _, text := range []string{
		"Enter opens   type to filter   Esc clears   Ctrl-R reloads   Ctrl-C leaves",
		"Enter opens  Esc clears  Ctrl-C leaves",
	} {
		if textWidth(text) < p.width() {
			return text
		}
	}
	return "Ctrl-C leaves"
}

// list gives exactly listRows lines.
func (p *picker) list() []string {
	rows := p.listRows()
	lines := make([]string, 0, rows)
	switch {
	case len(p.all) == 0:
		user := audit.Escape(p.user)
		lines = p.words("No target is open to you from here. Ask an operator, who can see why with: sallyport explain --user " + user + " --target NAME")
	case len(p.shown) == 0:
		lines = p.words("No target matches \"" + string(p.filter) + "\". Esc clears the filter.")
	default:
		p.top = max(0, min(p.top, p.cursor, len(p.shown)-rows))
		p.top = max(p.top, p.cursor-rows+1)
		last := min(len(p.shown), p.top+rows)
		columns := p.columns(p.shown[p.top:last])
		for i := p.top; i < last; i++ {
			lines = append(lines, p.line(p.shown[i], columns, i == p.cursor))
		}
	}
	lines = lines[:min(len(lines), rows)]
	return append(lines, make([]string, rows-len(lines))...)
}

func (p *picker) words(text string) []string {
	lines := wrap(text, p.width()-2)
	for i := range lines {
		lines[i] = "  " + lines[i]
	}
	return lines
}

// columns are the widths of target, account and time of last use. A target whose name is longer than most are has
// what it needs of its own line, up to longest, so that it does not take the labels from all others.
type columns struct{ target, longest, account, used int }

func (p *picker) columns(list []choice) (c columns) {
	for _, x := range list {
		c.account = max(c.account, textWidth(x.account))
		c.used = max(c.used, textWidth(ago(p.now, x.used)))
	}
	if p.width() < 60 {
		c.used = 0
	}
	room := p.width() - 4 - c.tail()
	c.account = min(c.account, room/3)
	c.longest = room - c.account
	for _, x := range list {
		if w := textWidth(x.target); w <= c.longest/2 {
			c.target = max(c.target, w)
		}
	}
	return c
}

// tail is the width of the time of last use with the space around it.
func (c columns) tail() int {
	if c.used == 0 {
		return 0
	}
	return c.used + 3
}

func (p *picker) line(x choice, c columns, selected bool) string {
	mark := "  "
	if selected {
		mark = "> "
	}
	target := max(c.target, min(textWidth(x.target), c.longest))
	name := mark + pad(x.target, target) + "  " + pad(x.account, c.account)
	room := p.width() - textWidth(name) - c.tail() - 2
	tail := ""
	if c.used > 0 {
		tail = "  " + strings.Repeat(" ", max(0, c.used-textWidth(ago(p.now, x.used)))) + ago(p.now, x.used) + " "
	}
	rest := strings.Repeat(" ", max(0, room+2)) // so that the tail stands at the end
	if room >= 4 {
		rest = "  " + pad(x.labels, room)
	}
	if selected {
		return p.styled(styleSelected, name+rest+tail)
	}
	return name + p.styled(styleFaint, rest+tail)
}

// ago tells in few letters how long ago t was.
func ago(now, t time.Time) string {
	d := now.Sub(t)
	switch {
	case t.IsZero():
		return ""
	case d < time.Minute:
		return "just now"
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", d/time.Hour)
	case d < 60*24*time.Hour:
		return fmt.Sprintf("%d days ago", d/(24*time.Hour))
	}
	return t.UTC().Format("2006-01-02")
}

// runeWidth is how many columns a terminal gives r.
func runeWidth(r rune) int {
	switch k := width.LookupRune(r).Kind(); {
	case unicode.In(r, unicode.Mn, unicode.Me):
		return 0
	case k == width.EastAsianWide, k == width.EastAsianFullwidth:
		return 2
	}
	return 1
}

func textWidth(s string) int {
	n := 0
	for _, r := range s {
		n += runeWidth(r)
	}
	return n
}

// cut shortens s to n columns; "~" at its end says so.
func cut(s string, n int) string {
	if textWidth(s) <= n {
		return s
	}
	used := 0
	for i, r := range s {
		if used+runeWidth(r) > n-1 {
			return s[:i] + "~"
		}
		used += runeWidth(r)
	}
	return s
}

// pad cuts or fills s to n columns.
func pad(s string, n int) string {
	s = cut(s, n)
	return s + strings.Repeat(" ", max(0, n-textWidth(s)))
}

// wrap breaks text into lines of at most n columns, between words where it can.
func wrap(text string, n int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		for textWidth(word) > n { // a name longer than a line
			piece := strings.TrimSuffix(cut(word, n), "~")
			if piece == "" {
				break
			}
			if line != "" {
				lines, line = append(lines, line), ""
			}
			lines, word = append(lines, piece), word[len(piece):]
		}
		switch {
		case line == "":
			line = word
		case textWidth(line)+1+textWidth(word) <= n:
			line += " " + word
		default:
			lines, line = append(lines, line), word
		}
	}
	return append(lines, line)
}
