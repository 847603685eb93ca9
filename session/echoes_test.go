package session

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// talk is what happens at a terminal: what is typed ("> …") and what is shown ("< …"), one write each.
func talk(steps ...string) (recorded []string) {
	e := newEchoes(func(p []byte) { recorded = append(recorded, string(p)) })
	at := time.Unix(0, 0)
	e.now = func() time.Time { return at }
	for _, s := range steps {
		switch what, rest := s[:2], s[2:]; what {
		case "> ":
			e.typed([]byte(rest))
		case "< ":
			e.shown([]byte(rest))
		case "w ":
			d, _ := time.ParseDuration(rest)
			at = at.Add(d)
		}
	}
	return recorded
}

func TestEchoes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		steps []string
		want  string // lines, joined by |
	}{
		"typed slowly":               {[]string{"< $ ", "> l", "< l", "> s", "< s", "> \r", "< \r\nfile\r\n$ "}, "ls\r"},
		"typed at once":              {[]string{"> ls\r", "< ls\r\nfile\r\n$ "}, "ls\r"},
		"in pieces":                  {[]string{"> ls\r", "< l", "< s", "< \r\n"}, "ls\r"},
		"two lines at once":          {[]string{"> a\rb\r", "< a\r\n", "< b\r\n"}, "a\r|b\r"},
		"characters of many bytes":   {[]string{"> é", "< é", "> €\r", "< €\r\n"}, "é€\r"},
		"corrected":                  {[]string{"> lx", "< lx", "> \x7f", "< \b \b", "> s", "< s", "> \r", "< \r\n"}, "lx\x7fs\r"},
		"in the middle":              {[]string{"> ac", "< ac", "> \x1b[D", "< \b", "> b", "< bc\b", "> \r", "< \r\n"}, "ac\x1b[Db\r"},
		"completed":                  {[]string{"> cd /va", "< cd /va", "> \t", "< r/", "> x", "< x", "> \r", "< \r\n"}, "cd /va\tx\r"},
		"a suggestion is drawn":      {[]string{"> l", "< l\x1b[90ms -la\x1b[39m\x1b[5D", "> s", "< s", "> \r", "< \r\n"}, "ls\r"},
		"pasted in brackets":         {[]string{"> \x1b[200~ls\x1b[201~", "< \x1b[7mls\x1b[27m", "> \r", "< \r\x1b[C\r\n"}, "\x1b[200~ls\x1b[201~\r"},
		"history":                    {[]string{"> \x1b[A", "< make test", "> \r", "< \r\n"}, "\x1b[A\r"},
		"interrupted":                {[]string{"> sleep 9\r", "< sleep 9\r\n", "> \x03", "< ^C\r\n"}, "sleep 9\r|\x03"},
		"a wide line":                {[]string{"< user@host:/var/lib$ ", "> ab", "< ab", "> c", "< c \r", "> d", "< d", "> \r", "< \r\n"}, "abcd\r"},
		"drawn anew":                 {[]string{"> ls", "< ls", "< \r\x1b[K$ ls", "> x", "< x", "> \r", "< \r\r\n"}, "lsx\r"},
		"interrupted with words":     {[]string{"> sleep", "< sleep", "> \x03", "< ^C\r\n"}, "sleep\x03"},
		"after a key it is redrawn":  {[]string{"> ab", "< ab", "> \x0c", "< \x1b[H\x1b[2J$ ab", "> c", "< c", "> \r", "< \r\n"}, "ab\x0cc\r"},
		"a password":                 {[]string{"< Password: ", "> secret\r", "< \r\n$ "}, ""},
		"a password slowly":          {[]string{"< Password: ", "> s", "> e", "> c", "> \r", "< \r\n$ "}, ""},
		"a password, then a command": {[]string{"> secret\r", "< \r\n$ ", "> ls\r", "< ls\r\n"}, "ls\r"},
		"two tries":                  {[]string{"> one\r", "< \r\nSorry, try again.\r\nPassword: ", "> two\r", "< \r\n"}, ""},
		"asterisks":                  {[]string{"> s", "< *", "> e", "< *", "> \r", "< \r\n"}, ""},
		"given up":                   {[]string{"> secr", "> \x03", "< ^C\r\n$ "}, ""},
		"an answer like it":          {[]string{"> p\r", "< permission denied\r\n"}, ""},
		"an answer like it, later":   {[]string{"> p\r", "< p", "< ermission denied\r\n"}, ""},
		"an answer after a line":     {[]string{"> A\r", "< \r\nAuthentication failure\r\n"}, ""},
		"a program prints":           {[]string{"> p", "< process 1 done\r\n", "> a", "< all is well\r\n", "> \r", "< \r\n"}, ""},
		"half of it":                 {[]string{"> ab", "< a", "> cd\r", "< \r\n"}, ""},
		"too late":                   {[]string{"> ab", "w 6s", "< ab", "> \r", "< \r\n"}, ""},
		"a full screen":              {[]string{"> i", "< \x1b[24;1H-- INSERT --\x1b[1;1H", "> x", "< x", "> \r", "< \r\n"}, ""},
		"something before it":        {[]string{"> ls", "< xls", "> \r", "< \r\n"}, ""},
		"Enter alone":                {[]string{"> \r", "< \r\n$ "}, "\r"},
		"very long":                  {[]string{"> " + strings.Repeat("x", 5000), "< " + strings.Repeat("x", 5000), "> \r", "< \r\n", "> ok\r", "< ok\r\n"}, "ok\r"},
		"in a title":                 {[]string{"> ab", "< \x1b]0;ab\x07", "> \r", "< \r\n"}, ""},
	} {
		if got := strings.Join(talk(c.steps...), "|"); got != c.want {
			t.Errorf("%s: recorded %q, want %q", name, got, c.want)
		}
	}
}

// TestEchoesOfPasswords: whatever is typed where nothing comes back is never recorded, however it and the rest
// is cut into writes, and whatever else is shown meanwhile that does not hold it.
func TestEchoesOfPasswords(t *testing.T) {
	t.Parallel()
	src := rand.New(rand.NewPCG(5, 6))
	for round := range 20_000 {
		secret := fmt.Sprintf("S%dx!", round)
		var steps []string
		cut := func(kind, text string) {
			for len(text) > 0 {
				n := 1 + src.IntN(len(text))
				steps = append(steps, kind+text[:n])
				text = text[n:]
			}
		}
		noise := []string{"a log line\r\n", "Sorry\r\n", "S", "\x1b[2K", "\r\n", "x! ", "*", "\b \b", ""}
		for range src.IntN(4) {
			cut("> ", "ls\r")
			cut("< ", "ls\r\n$ ")
		}
		cut("< ", "Password: ")
		for _, piece := range strings.SplitAfter(secret, "x") {
			cut("> ", piece)
			if n := noise[src.IntN(len(noise))]; src.IntN(3) == 0 && !strings.Contains(n, secret) {
				cut("< ", n)
			}
		}
		cut("> ", "\r")
		cut("< ", noise[src.IntN(len(noise))])
		cut("< ", "\r\n$ ")
		cut("> ", "date\r")
		cut("< ", "date\r\n")
		for _, got := range talk(steps...) {
			if strings.Contains(got, secret) {
				t.Fatalf("recorded %q of %q", got, steps)
			}
		}
	}
}

// TestEchoesOfKeysThatBeginSequences: Alt-_ (in a shell: the last word of the line before), Alt-P, Alt-] and others
// send what is also the beginning of a control string, and Alt-[ that of a control sequence. Whatever is typed after
// them is no part of a sequence that shows nothing: with such a key a password was recorded, together with the line
// that followed. Keys that programs have sent as sequences (kitty's, Windows' own) are characters too.
func TestEchoesOfKeysThatBeginSequences(t *testing.T) {
	t.Parallel()
	after := []string{"< \r\n$ ", "> \x1b[A", "< date", "> \r", "< \r\n"}
	for name, steps := range map[string][]string{
		"Alt-_ before a command":       {"> \x1b_", "< x", "> \r", "< \r\nPassword: ", "> hunter2", "> \r"},
		"Alt-P before a command":       {"> \x1bP", "> su\r", "< su\r\nPassword: ", "> hunter2\r"},
		"Alt-] where it is typed":      {"< Password: ", "> \x1b]hunter2\r"},
		"Alt-^, then another sequence": {"< Password: ", "> \x1b^hunter2\x1b[D\r"},
		"Alt-[ and digits":             {"< PIN: ", "> \x1b[472911\r"},
		"Alt-. and digits":             {"< PIN: ", "> \x1b.4729", "> \r"},
		"Alt and a space":              {"< PIN: ", "> \x1b ", "> \r", "> hunter2\r"},
		"keys as kitty sends them":     {"< Password: ", "> \x1b[104u\x1b[117;1u\r"},
		"keys as Windows sends them":   {"< Password: ", "> \x1b[72;35;104;1;0;1_\x1b[72;35;104;0;0;1_\r"},
		"keys as xterm can send them":  {"< Password: ", "> \x1b[27;2;72~\r"},
	} {
		for _, got := range talk(append(steps, after...)...) {
			for _, secret := range []string{"hunter", "4729", "104", "117", "72"} {
				if strings.Contains(got, secret) {
					t.Errorf("%s: recorded %q", name, got)
				}
			}
		}
	}
	// What terminals and keys of old send is no reason to forget a line.
	if got := strings.Join(talk("> ab\x1b[1;5D\x1bOC\x1b[3~", "< ab", "> \r", "< \r\n"), "|"); got != "ab\x1b[1;5D\x1bOC\x1b[3~\r" {
		t.Errorf("recorded %q of a line with arrow keys", got)
	}
}

// Fields that show each character for a moment before it becomes a star, that show one at a time, or whose stars are what
// is typed, passed for ones that show what is typed: it had been on the screen. Passwords must never be kept as input, so
// that what was shown has to stay where it is until the line is over.
func TestEchoesForAMoment(t *testing.T) {
	t.Parallel()
	for name, steps := range map[string][]string{
		"a star after a while":           {"> s", "< s", "w 1s", "< \b*", "> e", "< e", "w 1s", "< \b*", "> \r", "< \r\n"},
		"a star, only at the end":        {"> s", "< s", "> e", "< e", "> \r", "< \b\b**\r\n"},
		"a star with the next":           {"> s", "< s", "> e", "< \b*e", "> \r", "< \b*\r\n"},
		"a star for the last":            {"> s", "< s", "> \r", "< \b*\r\n"},
		"erased after a while":           {"> s", "< s", "< \b \b", "> e", "< e", "< \b \b", "> \r", "< \r\n"},
		"erased by a sequence":           {"> s", "< s", "> e", "< \b\x1b[Ke", "> \r", "< \b\x1b[K\r\n"},
		"one place for all":              {"> s", "< s", "> e", "< \be", "> c", "< \bc", "> \r", "< \r\n"},
		"one place, by number":           {"> s", "< \x1b[5Gs", "> e", "< \x1b[5Ge", "> \r", "< \r\n"},
		"one place, from the beginning":  {"> s", "< \rs", "> e", "< \re", "> \r", "< \r\n"},
		"one row, drawn anew with stars": {"> s", "< PIN: s", "> e", "< \rPIN: *e", "> \r", "< \rPIN: **\r\n"},
		"the row is erased":              {"> s", "< s", "> e", "< e", "> \r", "< \r\x1b[2K\r\n"},
		"the row above":                  {"> s", "< s", "> e", "< e", "> \r", "< \x1b[A\x1b[2K\r\n"},
		"characters taken out":           {"> s", "< s", "> e", "< e", "> \r", "< \b\b\x1b[2P\r\n"},
		"another screen":                 {"> s", "< s", "> e", "< e", "> \r", "< \x1b[?1049l\r\n"},
		"saved and restored":             {"< \x1b7", "> s", "< s", "> e", "< \x1b8e", "> \r", "< \x1b8*\r\n"},
		"many bytes":                     {"> é", "< é", "< \b*", "> e", "< e", "> \r", "< \b*\r\n"},
		"stars that are stars":           {"> *", "< *", "> *", "< *", "> \r", "< \r\n"},
		"dots that are dots":             {"> ••", "< ••", "> \r", "< \r\n"},
	} {
		if got := talk(append(steps, "> ls\r", "< ls\r\n")...); len(got) != 1 || got[0] != "ls\r" {
			t.Errorf("%s: recorded %q", name, got)
		}
	}
}
