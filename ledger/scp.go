package ledger

import (
	"bytes"
	"strconv"
	"strings"
	"time"
)

// maxLine is where a line ends that does not end by itself: OpenSSH's scp takes what follows for the next one.
const maxLine = 2047

// maxAhead bounds what the sending side may send before the other has said whether it wants the file; scp itself
// sends nothing.
const maxAhead = 1 << 20

// maxEarly bounds the answers that come before what they answer.
const maxEarly = 1000

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
	asking  int     // how many of these are announcements: what they are followed by depends on the answer
	ahead   []byte  // what was sent since, which is looked at then
	early   []early // answers that came before what they answer
	fatal   string
}

// awaited is what the receiving side has not answered yet: the announcement of a file, later its content,
// the entering of a folder, or something else.
type awaited struct {
	file     *scpFile
	folder   bool
	announce bool
}

// early is an answer, or as many good ones in a row.
type early struct {
	complaint string
	times     int
}

// scpFile is one that is announced or passing.
type scpFile struct {
	Entry
	flow flow
	size int64
	told bool // by Open
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
	if sends && s.asking > 0 {
		if s.ahead = append(s.ahead, p...); len(s.ahead) > maxAhead {
			s.fatal = "files are sent that nobody has asked for"
			s.stop(now, s.fatal)
		}
		return
	}
	for len(p) > 0 && s.stopped == "" {
		switch {
		case !sends:
			p = s.answer(now, p)
			s.goOn(now)
		case s.asking > 0:
			s.ahead = append(s.ahead, p...)
			return
		default:
			p = s.sent(now, p)
		}
	}
}

// goOn looks at what was sent ahead of an answer that is there now.
func (s *SCP) goOn(now time.Time) {
	p := s.ahead
	for len(p) > 0 && s.asking == 0 && s.stopped == "" {
		p = s.sent(now, p)
	}
	if s.ahead = p; len(p) == 0 {
		s.ahead = nil
	}
}

// sent takes some of what the sending side says.
func (s *SCP) sent(now time.Time, p []byte) []byte {
	if s.content && !s.message {
		return s.payload(now, p)
	}
	room := maxLine - len(s.line)
	if s.message {
		room++ // its first byte is not of the line
	}
	n, over := lineEnd(p, room)
	s.line = append(s.line, p[:n]...)
	if over {
		line := strings.TrimSuffix(string(s.line), "\n")
		s.line, s.message = s.line[:0], false
		s.control(now, line)
	}
	return p[n:]
}

// lineEnd tells how much of p belongs to a line that has room for so many bytes, and whether it ends there.
func lineEnd(p []byte, room int) (n int, over bool) {
	p = p[:min(len(p), room)]
	if i := bytes.IndexByte(p, '\n'); i >= 0 {
		return i + 1, true
	}
	return len(p), len(p) == room
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
		s.file, s.content = nil, false
		s.await(now, awaited{file: f})
	case 1, 2:
		s.line, s.message = append(s.line[:0], 1), true
	default: // scp takes it for the beginning of a message
		s.line, s.message = append(s.line[:0], 1, p[0]), true
	}
	return p[1:]
}

// await notes what the receiving side has to answer, unless it has done so.
func (s *SCP) await(now time.Time, w awaited) {
	s.queue = append(s.queue, w)
	if w.announce {
		s.asking++
	}
	if len(s.queue) > maxRequests {
		s.fatal = "more is sent than is ever answered"
		s.stop(now, s.fatal)
	}
	if len(s.early) == 0 {
		return
	}
	e := &s.early[0]
	complaint := e.complaint
	if e.times--; e.times == 0 {
		s.early = s.early[1:]
	}
	s.answered(now, complaint)
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
		s.await(now, awaited{})
	case 'E':
		s.folders = s.folders[:max(len(s.folders)-1, 0)]
		s.await(now, awaited{})
	case 'C', 'D':
		mode, rest, _ := strings.Cut(rest, " ")
		size, name, ok := strings.Cut(rest, " ")
		if size == "" {
			size = "0" // as scp reads it
		}
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
			s.await(now, awaited{folder: true, announce: true})
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
		s.await(now, awaited{}) // the answer to it
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
	s.await(now, awaited{file: f, announce: true})
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
		most := maxLine // as the target's scp reads it
		if s.fromClient {
			most = maxAhead // as it writes it: names may be long
		}
		n, over := lineEnd(p, most-len(s.reply))
		if s.reply = append(s.reply, p[:n]...); over {
			s.inReply = false
			text := cut(strings.TrimSuffix(string(s.reply), "\n"), maxDetail)
			if text == "" {
				text = "an error without words"
			}
			s.answered(now, text)
		}
		return p[n:]
	}
	switch p[0] {
	case 0:
		s.answered(now, "")
	case 1, 2:
		s.reply, s.inReply = s.reply[:0], true
	default: // scp takes it for the beginning of a message
		s.reply, s.inReply = append(s.reply[:0], p[0]), true
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
		s.answeredEarly(now, complaint)
		return
	}
	next := s.queue[0]
	s.queue = s.queue[1:]
	if next.announce {
		s.asking--
	}
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
	case !next.announce:
		s.finish(f, now, ResultOK, "")
	}
}

// answeredEarly keeps an answer until there is something that it answers.
func (s *SCP) answeredEarly(now time.Time, complaint string) {
	if n := len(s.early); n > 0 && complaint == "" && s.early[n-1].complaint == "" {
		s.early[n-1].times++
		return
	}
	if s.early = append(s.early, early{complaint, 1}); len(s.early) > maxEarly {
		s.fatal = "answers to nothing"
		s.stop(now, s.fatal)
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
		if f := w.file; f != nil && !w.announce {
			s.finish(f, now, ResultUnknown, "the receiving side had not answered")
		}
	}
	s.file, s.queue = nil, nil
}

// Answers and Fatal are for channels with a [Policy]; this one changes nothing.
func (s *SCP) Answers() []byte { return nil }

// Pending is always false.
func (s *SCP) Pending() bool { return false }

// Fatal says why the channel must end, "" if it need not.
func (s *SCP) Fatal() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fatal
}
