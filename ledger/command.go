package ledger

import (
	"path"
	"strings"
	"time"
)

// Programs whose command lines are known.
const (
	ProgramSFTP  = "sftp-server"
	ProgramSCP   = "scp"
	ProgramRsync = "rsync"
)

// Command is what a command line tells about a transfer.
type Command struct {
	Program    string
	FromClient bool     // the client sends the files
	Recursive  bool     // whole folders may pass
	Folder     bool     // the path has to be a folder
	Paths      []string // on the target
	Options    string   // of rsync, as they are written
	Exact      bool     // the shell on the target takes Paths as they are
}

// ParseCommand understands the command line by which a client starts the far end of a transfer. It is false
// for all others, also for one that does something else besides.
func ParseCommand(line string) (Command, bool) {
	words, exact, ok := split(line)
	if !ok || len(words) == 0 {
		return Command{}, false
	}
	c := Command{Program: path.Base(words[0]), Exact: exact}
	switch c.Program {
	case ProgramSFTP:
		return c, true
	case ProgramSCP:
		return c, c.scp(words[1:])
	case ProgramRsync:
		return c, c.rsync(words[1:])
	}
	return Command{}, false
}

func (c *Command) scp(words []string) bool {
	ways := 0
	for i, w := range words {
		letters, isFlag := strings.CutPrefix(w, "-")
		switch {
		case w == "--":
		case i == len(words)-1:
			c.Paths = []string{w}
		case !isFlag || letters == "" || strings.Trim(letters, "vrpdqtf") != "":
			return false
		default:
			ways += strings.Count(letters, "t") + strings.Count(letters, "f")
			c.FromClient = c.FromClient || strings.Contains(letters, "t")
			c.Recursive = c.Recursive || strings.Contains(letters, "r")
			c.Folder = c.Folder || strings.Contains(letters, "d")
		}
	}
	return ways == 1 && len(c.Paths) == 1
}

// rsync understands `rsync --server [--sender] OPTION… . PATH…`.
func (c *Command) rsync(words []string) bool {
	if len(words) == 0 || words[0] != "--server" {
		return false
	}
	c.FromClient, c.Recursive = true, true
	var options []string
	for i, w := range words[1:] {
		switch {
		case w == "--sender":
			c.FromClient = false
		case strings.HasPrefix(w, "-"):
			options = append(options, w)
		default:
			if c.Paths = words[i+1:]; w == "." {
				c.Paths = words[i+2:]
			}
			c.Options = strings.Join(options, " ")
			return true
		}
	}
	c.Options = strings.Join(options, " ")
	return true
}

// split cuts a command line into words as a shell does. It is not ok where more than one simple command
// runs, and not exact where the shell would put something else in the place of a word.
func split(line string) (words []string, exact, ok bool) {
	var word strings.Builder
	begun := false
	exact = true
	end := func() {
		if begun {
			words = append(words, word.String())
		}
		word.Reset()
		begun = false
	}
	for i := 0; i < len(line); i++ {
		switch c := line[i]; c {
		case ' ', '\t':
			end()
			continue
		case ';', '&', '|', '<', '>', '\n', '\r', '`', '(', ')', 0:
			return nil, false, false
		case '\'':
			n := strings.IndexByte(line[i+1:], '\'')
			if n < 0 {
				return nil, false, false
			}
			word.WriteString(line[i+1 : i+1+n])
			i += n + 1
		case '"':
			n := strings.IndexAny(line[i+1:], "\"$`\\")
			if n < 0 || line[i+1+n] != '"' {
				return nil, false, false
			}
			word.WriteString(line[i+1 : i+1+n])
			i += n + 1
		case '\\':
			if i++; i == len(line) {
				return nil, false, false
			}
			word.WriteByte(line[i])
		case '$':
			return nil, false, false
		case '*', '?', '[', ']', '{', '}', '~', '!', '#', '^':
			exact = false
			word.WriteByte(c)
		default:
			word.WriteByte(c)
		}
		begun = true
	}
	end()
	return words, exact, true
}

// Rsync makes one entry of a channel on which rsync runs: its protocol is its own, often compressed, and
// changes with every version.
type Rsync struct {
	book
	c           Command
	began       time.Time
	in, out     int64
	exit        *int
	told, ended bool
}

// NewRsync returns the counter of a channel on which c runs.
func NewRsync(c Command, now time.Time) *Rsync { return &Rsync{book: book{seq: 1}, c: c, began: now} }

// Client is fed with what the client sends, and returns it.
func (r *Rsync) Client(_ time.Time, p []byte) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.in += int64(len(p))
	return p
}

// Server is the same for the target.
func (r *Rsync) Server(_ time.Time, p []byte) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.out += int64(len(p))
	return p
}

// Exited tells the exit status of the program.
func (r *Rsync) Exited(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.exit = &status
}

func (r *Rsync) entry() Entry {
	e := Entry{Seq: 1, Started: r.began, Op: OpRead, Bytes: r.out, Path: strings.Join(r.c.Paths, " "), Result: ResultOpen}
	if r.c.FromClient {
		e.Op, e.Bytes = OpWrite, r.in
	}
	e.Detail = "rsync: all of its files together, bytes as they were sent"
	if r.c.Options != "" {
		e.note("options " + r.c.Options)
	}
	return e
}

// Open is as [SFTP.Open].
func (r *Rsync) Open(before time.Time) []Entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.told || !r.began.Before(before) {
		return nil
	}
	r.told = true
	e := r.entry()
	e.Bytes = 0
	return []Entry{e}
}

// End is as [SFTP.End].
func (r *Rsync) End(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return
	}
	r.ended = true
	e := r.entry()
	e.Ended, e.Result = now, ResultAborted
	if r.exit != nil {
		if e.Result = ResultOK; *r.exit != 0 {
			e.Result = ResultFailed
			e.note("exit status " + uitoa(uint64(uint32(*r.exit))))
		}
	}
	r.add(e)
}

// Answers and Fatal are for channels with a [Policy]; this one changes nothing.
func (r *Rsync) Answers() []byte { return nil }

// Pending is always false.
func (r *Rsync) Pending() bool { return false }

// Fatal is always "".
func (r *Rsync) Fatal() string { return "" }
