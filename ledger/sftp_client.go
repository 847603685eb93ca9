package ledger

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"
)

// What a client asks for: requests, and the data of writes.

func (s *SFTP) lookClient(d *side, now time.Time) string {
	typ, id := d.head[4], binary.BigEndian.Uint32(d.head[5:])
	if typ == fxpInit && !s.asked {
		return s.collect(d, now)
	}
	if !s.asked {
		return "a request before the beginning"
	}
	if s.policy != nil && (s.requests[id] != nil || id == ownID && s.own) {
		return "two requests with the same id"
	}
	switch {
	case typ == fxpWrite:
		if d.length < 9 {
			return "a write that is cut short"
		}
		d.want = 13
		return ""
	case typ >= fxpOpen && typ <= fxpSymlink || typ == fxpExtended:
		return s.collect(d, now)
	case s.policy != nil:
		return fmt.Sprintf("a packet of type %d from the client", typ)
	}
	// A server takes no notice of it, or says that it does not know it, and goes on; so do we.
	s.pass(d)
	return ""
}

// lookWrite goes through the head of a write: handle, offset, length.
func (s *SFTP) lookWrite(d *side, now time.Time) string {
	n := binary.BigEndian.Uint32(d.head[9:])
	if uint64(n)+21 > uint64(d.length) {
		return "a write that is cut short"
	}
	if n > maxHandle { // no server gives one out: it will say no
		if s.policy != nil {
			return fmt.Sprintf("a handle of %d bytes", n)
		}
		if why := s.await(d, s.newRequest(now, fxpWrite)); why != "" {
			return why
		}
		s.pass(d)
		return ""
	}
	full := 13 + int(n) + 12
	if len(d.head) < full {
		d.want = full
		return ""
	}
	rest := d.head[13+n:]
	offset, length := binary.BigEndian.Uint64(rest), binary.BigEndian.Uint32(rest[8:])
	after := 4 + int64(d.length) - int64(full) - int64(length) // what follows the data, which servers pass over
	if after < 0 || after > 0 && s.policy != nil {
		return "a write whose length does not fit its packet"
	}
	f := s.handle(string(d.head[13 : 13+n]))
	if s.policy != nil && (f == nil || f.folder || f.flags&flagWrite == 0) {
		s.refuse(d, now, "", "writing to a file that is not open for it", nil)
		return ""
	}
	r := s.newRequest(now, fxpWrite)
	if r.file, r.length = f, length; f == nil {
		r.handle = string(d.head[13 : 13+n])
	} else {
		f.pending++
		f.written.seek(offset)
		d.sink, d.content = &f.written, length
	}
	if why := s.await(d, r); why != "" {
		return why
	}
	s.pass(d)
	return ""
}

func (s *SFTP) newRequest(now time.Time, typ byte) *request {
	r := s.free
	if r == nil {
		r = &request{}
	} else {
		s.free = r.next
		s.spare--
		*r = request{}
	}
	r.typ, r.began = typ, now
	return r
}

// await notes that an answer to r has to come.
func (s *SFTP) await(d *side, r *request) string {
	s.waiting++
	s.held += r.size()
	if s.waiting > maxRequests || s.held > maxHeld {
		// No client does so but to hide what it does from here.
		s.fatal = fmt.Sprintf("%d requests without an answer, with %d bytes of names", s.waiting, s.held)
		return s.fatal
	}
	id := binary.BigEndian.Uint32(d.head[5:])
	if first := s.requests[id]; first != nil { // the server answers in some order; in theirs is the best guess
		for first.next != nil {
			first = first.next
		}
		first.next = r
		return ""
	}
	s.requests[id] = r
	return ""
}

func (r *request) size() int {
	return len(r.path) + len(r.newPath) + len(r.detail) + len(r.ext) + len(r.handle)
}

// answered takes the request of an id out of those that wait.
func (s *SFTP) answered(id uint32) *request {
	r := s.requests[id]
	if r == nil {
		return nil
	}
	s.waiting--
	s.held -= r.size()
	if r.next == nil {
		delete(s.requests, id)
	} else {
		s.requests[id] = r.next
		r.next = nil
	}
	return r
}

// recycle lets r be used again; nobody may hold it.
func (s *SFTP) recycle(r *request) {
	if r == nil || s.spare >= maxFree {
		return
	}
	*r = request{next: s.free}
	s.free = r
	s.spare++
}

// reader takes fields out of a packet. After the first that is not there all are empty, and bad is set.
type reader struct {
	p   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.p) {
		r.bad, r.p = true, nil
		return nil
	}
	b := r.p[:n]
	r.p = r.p[n:]
	return b
}

func (r *reader) uint32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (r *reader) text() string {
	n := r.uint32()
	if n > maxWhole {
		r.take(-1)
		return ""
	}
	return string(r.take(int(n)))
}

// clientPacket understands a request that is there as a whole.
func (s *SFTP) clientPacket(d *side, now time.Time) string {
	typ := d.head[4]
	in := reader{p: d.head[9:]}
	if typ == fxpInit {
		return s.begun(d)
	}
	r := s.newRequest(now, typ)
	what := s.parse(r, &in)
	if in.bad {
		return fmt.Sprintf("a request of type %d that is cut short", typ)
	}
	if s.policy != nil {
		if why := s.judge(r); why != "" {
			s.refuse(d, now, what, why, r)
			return ""
		}
	}
	if typ == fxpClose && r.file != nil {
		r.file.closing = true
	}
	if what != "" {
		r.seq = s.next()
	}
	if why := s.await(d, r); why != "" {
		return why
	}
	s.pass(d)
	return ""
}

// begun is the client's first packet. Under a policy our own question for the start folder follows it.
func (s *SFTP) begun(d *side) string {
	s.asked = true
	s.pass(d)
	if s.policy != nil {
		s.own = true
		d.out = packet(d.out, fxpRealpath, ownID, ".")
	}
	return ""
}

// packet appends a packet with an id and texts.
func packet(to []byte, typ byte, id uint32, texts ...string) []byte {
	n := 5
	for _, t := range texts {
		n += 4 + len(t)
	}
	to = binary.BigEndian.AppendUint32(to, uint32(n))
	to = binary.BigEndian.AppendUint32(append(to, typ), id)
	for _, t := range texts {
		to = append(binary.BigEndian.AppendUint32(to, uint32(len(t))), t...)
	}
	return to
}

// parse fills in r, and says what entry there will be of it: "" for none of its own.
func (s *SFTP) parse(r *request, in *reader) (op string) {
	one := func(op string) string {
		r.path = s.absolute(in.text())
		return op
	}
	two := func(op string) string {
		r.path, r.newPath = s.absolute(in.text()), s.absolute(in.text())
		return op
	}
	handle := func() {
		h := in.text()
		if r.file = s.handle(h); r.file == nil && len(h) <= maxHandle {
			r.handle = h
		}
	}
	switch r.typ {
	case fxpOpen:
		r.path = s.absolute(in.text())
		if r.flags = in.uint32(); r.flags&(flagWrite|flagCreate|flagTrunc|flagAppend) != 0 {
			return OpWrite
		}
		return OpRead
	case fxpClose, fxpFstat, fxpReaddir:
		handle()
	case fxpRead:
		handle()
		// Where the answer is told from: kept in place of flags and length, which a read does not need.
		offset := in.uint64()
		r.length, r.flags = uint32(offset), uint32(offset>>32)
		in.uint32()
	case fxpSetstat:
		one("")
		r.detail = attributes(in)
		return OpSetstat
	case fxpFsetstat:
		handle()
		r.detail = attributes(in)
	case fxpRemove:
		return one(OpRemove)
	case fxpMkdir:
		return one(OpMkdir)
	case fxpRmdir:
		return one(OpRmdir)
	case fxpRename:
		return two(OpRename)
	case fxpSymlink:
		// OpenSSH has what the link points to first, against the draft: PROTOCOL, section 4.1.
		r.path, r.newPath = in.text(), s.absolute(in.text())
		return OpSymlink
	case fxpOpendir, fxpLstat, fxpStat, fxpRealpath, fxpReadlink:
		text := in.text()
		if r.path = s.absolute(text); r.typ == fxpRealpath { // what dots lead to is the question
			r.path, _ = absolute(text, s.home)
		}
	case fxpExtended:
		return s.parseExtended(r, in)
	}
	return ""
}

// parseExtended understands the extensions of OpenSSH (PROTOCOL, section 4).
func (s *SFTP) parseExtended(r *request, in *reader) (op string) {
	r.ext = in.text()
	switch r.ext {
	case "posix-rename@openssh.com":
		r.path, r.newPath = s.absolute(in.text()), s.absolute(in.text())
		return OpRename
	case "hardlink@openssh.com":
		r.path, r.newPath = s.absolute(in.text()), s.absolute(in.text())
		return OpLink
	case "lsetstat@openssh.com":
		r.path = s.absolute(in.text())
		r.detail = attributes(in)
		return OpSetstat
	case "fsync@openssh.com", "fstatvfs@openssh.com":
		r.file = s.handle(in.text())
	case "statvfs@openssh.com", "expand-path@openssh.com":
		r.path = s.absolute(in.text())
	case "copy-data":
		from := s.handle(in.text())
		in.uint64()
		in.uint64()
		if to := s.handle(in.text()); from != nil {
			r.file, r.detail = to, strings.Clone(cut(from.path, maxDetail))
		}
	}
	return ""
}

// absolute is p as the ledger shows it. Under a policy it stays as it is where only the target can tell what
// its dots lead to, and is refused for them.
func (s *SFTP) absolute(p string) string {
	clean, exact := absolute(p, s.home)
	if !exact && s.policy != nil {
		return p
	}
	return clean
}

// handle finds an open file, but none that is being closed: its handle may be given anew before what the client
// has sent after the close is looked at.
func (s *SFTP) handle(h string) *openFile {
	if f := s.files[h]; f != nil && !f.closing {
		return f
	}
	return nil
}

// attributes says in words what a request sets: section 5.
func attributes(in *reader) string {
	flags := in.uint32()
	var said []string
	if flags&1 != 0 {
		said = append(said, "size "+uitoa(in.uint64()))
	}
	if flags&2 != 0 {
		said = append(said, fmt.Sprintf("owner %d:%d", in.uint32(), in.uint32()))
	}
	if flags&4 != 0 {
		said = append(said, fmt.Sprintf("mode %04o", in.uint32()&0o7777))
	}
	if flags&8 != 0 {
		in.uint32()
		said = append(said, "modified "+time.Unix(int64(in.uint32()), 0).UTC().Format(time.RFC3339))
	}
	return strings.Join(said, ", ")
}
