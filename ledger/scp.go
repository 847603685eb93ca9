package ledger

import (
	"strconv"
	"strings"
	"time"
)

// maxLine bounds a control line of scp; OpenSSH reads at most 2048 bytes.
const maxLine = 8 << 10

// SCP follows the protocol that scp spoke before OpenSSH 9 and speaks with -O: the sending side announces each
// file with a line C, its mode, size and name, sends the content and a NUL; folders are D and E, times T. The
// receiving side answers each of them with a NUL, or with 1 or 2 and a line that says what is wrong.
type SCP struct {
	book
	fromClient bool   // the client sends the files
	path       string // in the command
	folder     bool   // it has to be one

	folders []string // entered by D
	line    []byte
	message bool  // the line is one that stands in the place of the NUL
	left    int64 // of the content
	content bool  // it passes, or the NUL after it is awaited
	file    *scpFile

	reply   []byte // a message of the receiving side
	inReply bool
	first   bool // the receiving side's first answer, to nothing, is awaited
	queue   []awaited
}

// awaited is what the receiving side has not answered yet: the announcement of a file, later its content,
// the entering of a folder, or something else.
type awaited struct {
	file   *scpFile
	folder bool
}

// scpFile is one that is announced or passing.
type scpFile struct {
	Entry
	flow   flow
	size   int64
	wanted bool // the announcement was answered: the next answer is the last
	told   bool // by Open
}

// NewSCP returns the parser of `scp -t PATH` (the client sends) or `scp -f PATH`, as c says.
func NewSCP(c Command) *SCP {
	return &SCP{fromClient: c.FromClient, path: c.Paths[0], folder: c.Folder, first: true}
}

// Client is fed with what the client sends, and returns it.
func (s *SCP) Client(now time.Time, p []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.feed(now, p, s.fromClient)
	return p
}

// Server is the same for the target.
func (s *SCP) Server(now time.Time, p []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.feed(now, p, !s.fromClient)
	return p
}

func (s *SCP) feed(now time.Time, p []byte, sends bool) {
	for len(p) > 0 && s.stopped == "" {
		if sends {
			p = s.sent(now, p)
		} else {
			p = s.answer(now, p)
		}
	}
}

// sent takes some of what the sending side says.
func (s *SCP) sent(now time.Time, p []byte) []byte {
	if s.content && !s.message {
		return s.payload(now, p)
	}
	for i, c := range p {
		if c == '\n' {
			s.line = append(s.line, p[:i]...)
			line := string(s.line)
			s.line, s.message = s.line[:0], false
			s.control(now, line)
			return p[i+1:]
		}
	}
	if s.line = append(s.line, p...); len(s.line) > maxLine {
		s.stop(now, "a line that does not end")
	}
	return nil
}

// payload takes some of a file's content and the NUL after it, or a message in its place.
func (s *SCP) payload(now time.Time, p []byte) []byte {
	f := s.file
	if s.left > 0 {
		n := int(min(s.left, int64(len(p))))
		f.flow.pass(p[:n])
		s.left -= int64(n)
		return p[n:]
	}
	switch p[0] {
	case 0:
		s.queue = append(s.queue, awaited{file: f})
		s.file, s.content = nil, false
	case 1, 2:
		s.line, s.message = append(s.line[:0], 1), true
	default:
		s.stop(now, "no end of a file's content")
	}
	return p[1:]
}

// control is one line of the sending side.
func (s *SCP) control(now time.Time, line string) {
	if line == "" {
		s.stop(now, "an empty line")
		return
	}
	switch rest := line[1:]; line[0] {
	case 1, 2:
		s.complains(now, rest)
	case 'T':
		s.queue = append(s.queue, awaited{})
	case 'E':
		s.folders = s.folders[:max(len(s.folders)-1, 0)]
		s.queue = append(s.queue, awaited{})
	case 'C', 'D':
		mode, rest, _ := strings.Cut(rest, " ")
		size, name, ok := strings.Cut(rest, " ")
		n, err := strconv.ParseInt(size, 10, 64)
		if _, bad := strconv.ParseUint(mode, 8, 32); !ok || err != nil || bad != nil || n < 0 || name == "" {
			s.stop(now, "a line that announces nothing")
			return
		}
		if line[0] == 'D' {
			s.folders = append(s.folders, name)
			if len(s.folders) > 1000 {
				s.stop(now, "folders in more than 1000 folders")
			}
			s.queue = append(s.queue, awaited{folder: true})
			return
		}
		s.announce(now, name, n)
	default:
		s.stop(now, "a line that begins with "+strconv.QuoteRune(rune(line[0])))
	}
}

// complains is a message of the sending side: about a file that it could not read, now or at all.
func (s *SCP) complains(now time.Time, text string) {
	if f := s.file; f != nil {
		s.file, s.content = nil, false
		s.finish(f, now, ResultFailed, text)
		s.queue = append(s.queue, awaited{}) // the answer to it
		return
	}
	s.add(Entry{Started: now, Ended: now, Op: s.op(), Path: s.path, Result: ResultFailed, Detail: cut(strings.TrimSpace(text), maxDetail)})
}

func (s *SCP) op() string {
	if s.fromClient {
		return OpWrite
	}
	return OpRead
}

func (s *SCP) announce(now time.Time, name string, size int64) {
	path, note := s.where(name)
	f := &scpFile{Entry: Entry{Seq: s.next(), Started: now, Op: s.op(), Path: path, Detail: note}, size: size}
	f.flow.seek(0)
	s.file, s.left, s.content = f, size, true
	s.queue = append(s.queue, awaited{file: f})
}

// where says which file of the target a name stands for. Where the path of the command may be a folder
// or the file itself, the note says so.
func (s *SCP) where(name string) (path, note string) {
	base := s.path[strings.LastIndexByte(s.path, '/')+1:]
	if s.fromClient {
		if len(s.folders) > 0 {
			if !s.folder {
				note = "without " + cut(s.folders[0], 255) + "/ in it, if the path was no folder before"
			}
			return under(s.path, strings.Join(append(s.folders[:len(s.folders):len(s.folders)], name), "/")), note
		}
		if s.folder || base == "" || base == "." || base == ".." {
			return under(s.path, name), ""
		}
		if base != name {
			return s.path, "sent as " + cut(name, 255) + "; of that name in it, if the path is a folder"
		}
		return s.path, ""
	}
	folder := strings.TrimSuffix(s.path, base)
	if len(s.folders) > 0 {
		if strings.TrimRight(s.path, "/") == "" || base == "." || base == "" {
			folder = s.path
			return under(folder, strings.Join(append(s.folders[1:len(s.folders):len(s.folders)], name), "/")), ""
		}
		return under(folder, strings.Join(append(s.folders[:len(s.folders):len(s.folders)], name), "/")), ""
	}
	return under(folder, name), ""
}

// answer takes some of what the receiving side says.
func (s *SCP) answer(now time.Time, p []byte) []byte {
	if s.inReply {
		for i, c := range p {
			if c == '\n' {
				s.reply = append(s.reply, p[:i]...)
				s.inReply = false
				s.answered(now, cut(string(s.reply), maxDetail))
				return p[i+1:]
			}
		}
		if s.reply = append(s.reply, p...); len(s.reply) > maxLine {
			s.stop(now, "an answer that does not end")
		}
		return nil
	}
	switch p[0] {
	case 0:
		s.answered(now, "")
	case 1, 2:
		s.reply, s.inReply = s.reply[:0], true
	default:
		s.stop(now, "an answer that begins with "+strconv.QuoteRune(rune(p[0])))
	}
	return p[1:]
}

// answered is one answer of the receiving side; complaint is "" if all is well.
func (s *SCP) answered(now time.Time, complaint string) {
	if s.first {
		s.first = false
		if complaint != "" {
			s.add(Entry{Started: now, Ended: now, Op: s.op(), Path: s.path, Result: ResultFailed, Detail: complaint})
		}
		return
	}
	if len(s.queue) == 0 {
		if complaint != "" { // of a file whose content is still passing
			if s.file != nil && s.file.flow.bytes > 0 {
				s.file.note(complaint)
			}
			return
		}
		s.stop(now, "an answer to nothing")
		return
	}
	next := s.queue[0]
	s.queue = s.queue[1:]
	switch f := next.file; {
	case f == nil && complaint == "":
	case f == nil:
		if next.folder { // it could not be made, and is not entered
			s.folders = s.folders[:max(len(s.folders)-1, 0)]
		}
		s.add(Entry{Started: now, Ended: now, Op: s.op(), Path: s.path, Result: ResultFailed, Detail: complaint})
	case complaint != "":
		if s.file == f { // announced, and not wanted: no content follows
			s.file, s.content = nil, false
		}
		s.finish(f, now, ResultFailed, complaint)
	case f.wanted:
		s.finish(f, now, ResultOK, "")
	default:
		f.wanted = true
	}
}

func (s *SCP) finish(f *scpFile, now time.Time, result, note string) {
	e := f.Entry
	e.Ended, e.Result = now, result
	before := e.Detail
	e.Detail = ""
	f.flow.fill(&e)
	if f.flow.bytes < f.size {
		e.note(uitoa(uint64(f.size)) + " bytes were announced")
		if f.flow.bytes == 0 {
			e.SHA256 = ""
		}
	}
	for _, n := range []string{before, strings.TrimSpace(note)} {
		if n != "" {
			e.note(n)
		}
	}
	s.add(e)
}

// Open is as [SFTP.Open].
func (s *SCP) Open(before time.Time) []Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.file; f != nil && !f.told && f.Started.Before(before) {
		f.told = true
		e := f.Entry
		e.Result = ResultOpen
		return []Entry{e}
	}
	return nil
}

// End is as [SFTP.End].
func (s *SCP) End(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	result := ResultAborted
	if s.stopped != "" {
		result = ResultUnknown
	}
	if f := s.file; f != nil {
		s.finish(f, now, result, "")
	}
	for _, w := range s.queue {
		if f := w.file; f != nil && f != s.file && f.wanted {
			s.finish(f, now, ResultUnknown, "the receiving side had not answered")
		}
	}
	s.file, s.queue = nil, nil
}

// Answers and Fatal are for channels with a [Policy]; this one changes nothing.
func (s *SCP) Answers() []byte { return nil }

// Pending is always false.
func (s *SCP) Pending() bool { return false }

// Fatal is always "".
func (s *SCP) Fatal() string { return "" }
