package ledger

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Types of packets: draft-ietf-secsh-filexfer-02, section 3.
const (
	fxpInit, fxpVersion                                              = 1, 2
	fxpOpen, fxpClose, fxpRead, fxpWrite, fxpLstat, fxpFstat         = 3, 4, 5, 6, 7, 8
	fxpSetstat, fxpFsetstat, fxpOpendir, fxpReaddir, fxpRemove       = 9, 10, 11, 12, 13
	fxpMkdir, fxpRmdir, fxpRealpath, fxpStat, fxpRename, fxpReadlink = 14, 15, 16, 17, 18, 19
	fxpSymlink, fxpExtended                                          = 20, 200
	fxpStatus, fxpHandle, fxpData, fxpName, fxpAttrs, fxpExtReply    = 101, 102, 103, 104, 105, 201
)

// Flags of an open: section 6.3.
const flagWrite, flagAppend, flagCreate, flagTrunc = 2, 4, 8, 16

// Codes of a status: section 7.
const statusOK, statusEOF, statusDenied = 0, 1, 3

// Bounds. A server or client that goes beyond them is not followed any further.
const (
	maxPacket   = 16 << 20  // of a packet whose payload is only hashed
	maxWhole    = 256 << 10 // of one that is looked at as a whole; OpenSSH takes no longer ones at all
	maxHandle   = 256       // section 6.3
	maxOpen     = 4096      // files at once
	maxRequests = 65536     // without an answer
	maxHeld     = 16 << 20  // bytes of paths in them, and of those of open files
	maxFree     = 256       // requests that are kept to be used again
	maxAnswers  = 256 << 10 // bytes of our own answers that wait for the server to end its packet
)

// ownID is the id of our own request for the start folder.
const ownID = 0xfffffffe

// SFTP follows one SFTP channel. Client and Server may be called from two goroutines; what one side
// sends must be fed before the other side can have it.
type SFTP struct {
	book
	client, server side
	version        bool // the server has said which
	requests       map[uint32]*request
	waiting        int      // requests without an answer
	held           int      // bytes of their texts
	free           *request // to be used again
	spare          int      // how many
	files          map[string]*openFile
	names          int    // bytes of their paths
	home           string // what the server says of ".", "" while that is not known

	policy   Policy
	rule     string
	fatal    string // why the channel must end
	answers  []byte // of ours, until the server is between two packets
	own      bool   // our own request has no answer yet
	version3 []byte // the server's version, until then
	asked    bool   // our own request is on its way
}

// NewSFTP returns the parser of a channel that has just begun. With a Policy it refuses what that does not
// allow, in the name of rule.
func NewSFTP(p Policy, rule string) *SFTP {
	s := &SFTP{requests: map[uint32]*request{}, files: map[string]*openFile{}, policy: p, rule: rule}
	s.client.begin()
	s.server.begin()
	s.client.fromClient = true
	return s
}

// side is one direction of the stream, cut into packets.
type side struct {
	fromClient bool
	head       []byte // of the present packet, as far as it is looked at
	want       int    // bytes that head needs before the next look
	length     uint32 // that follows the first four bytes
	left       uint32 // bytes that follow head; they are the payload
	body       bool   // the payload is passing
	drop       bool   // … and does not go on
	sink       *flow  // … and is hashed
	content    uint32 // so much of it
	out        []byte // what goes on, under a policy
}

func (d *side) begin() {
	if cap(d.head) > 4096 {
		d.head = nil // a long one is rare
	}
	d.head, d.want, d.left, d.body, d.drop, d.sink = d.head[:0], 4, 0, false, false, nil
}

// request is one that has no answer yet.
type request struct {
	typ           byte
	ext           string
	file          *openFile
	handle        string // where file is not known: clients can guess a handle before they have it
	path, newPath string
	flags         uint32
	length        uint32
	detail        string
	began         time.Time
	seq           int
	next          *request // with the same id, later
}

// openFile is one that the server has given a handle for.
type openFile struct {
	handle        string
	path          string
	flags         uint32
	folder        bool
	closing       bool
	began         time.Time
	seq           int
	told          bool // an entry for what is still open was given
	read, written flow
	acked         int64
	pending       int // writes without an answer
	eof           bool
	failed        string
	detail        []string
}

// Client is fed with what the client sends at a time, and returns what is to go on to the server: p itself
// unless there is a Policy. It is valid until the next call.
func (s *SFTP) Client(now time.Time, p []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.feed(&s.client, now, p)
}

// Server is the same for what the server sends.
func (s *SFTP) Server(now time.Time, p []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.feed(&s.server, now, p)
}

// Answers returns answers to requests that were refused, if the client can take them now: between two
// packets of the server. What Server returned before must be on its way. It is valid until the next call.
func (s *SFTP) Answers() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.answers) == 0 || !s.atBorder() {
		return nil
	}
	a := s.answers
	s.answers = nil
	return a
}

// Pending tells that there are answers that [SFTP.Answers] may return.
func (s *SFTP) Pending() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.answers) > 0
}

// Fatal says why the channel must end, "" if it need not: under a Policy, nothing passes that was not
// understood.
func (s *SFTP) Fatal() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fatal
}

// atBorder tells that the server is between two packets, as the client sees it.
func (s *SFTP) atBorder() bool { return s.version && !s.own && !s.server.body }

func (s *SFTP) feed(d *side, now time.Time, p []byte) []byte {
	all := p
	d.out = d.out[:0]
	for len(p) > 0 && s.stopped == "" {
		if d.body {
			n := min(int(d.left), len(p))
			if k := min(int(d.content), n); d.sink != nil && k > 0 {
				d.sink.pass(p[:k])
				d.content -= uint32(k)
			}
			if s.policy != nil && !d.drop {
				d.out = append(d.out, p[:n]...)
			}
			d.left -= uint32(n)
			if p = p[n:]; d.left == 0 {
				s.packetOver(d)
			}
			continue
		}
		n := min(d.want-len(d.head), len(p))
		d.head, p = append(d.head, p[:n]...), p[n:]
		if len(d.head) < d.want {
			break
		}
		if why := s.look(d, now); why != "" {
			s.misunderstand(now, why)
		}
	}
	switch {
	case s.policy == nil:
		return all
	case s.fatal != "":
		return nil
	}
	return d.out
}

// packetOver ends a packet, and lets our own answers follow one of the server.
func (s *SFTP) packetOver(d *side) {
	d.begin()
	if !d.fromClient && len(s.answers) > 0 && s.atBorder() {
		d.out = append(d.out, s.answers...)
		s.answers = nil
	}
}

func (s *SFTP) misunderstand(now time.Time, why string) {
	s.stop(now, why)
	if s.policy != nil {
		s.fatal = why
	}
}

// pass lets the head go on, and after it what is left of the packet.
func (s *SFTP) pass(d *side) {
	if s.policy != nil && !d.drop {
		d.out = append(d.out, d.head...)
	}
	d.left = 4 + d.length - uint32(len(d.head))
	if d.body = true; d.left == 0 {
		s.packetOver(d)
	}
}

// look decides what to do when head has all that was wanted. The result says what is wrong.
func (s *SFTP) look(d *side, now time.Time) string {
	switch len(d.head) {
	case 4:
		d.length = binary.BigEndian.Uint32(d.head)
		if d.length < 5 || d.length > maxPacket {
			return fmt.Sprintf("a packet of %d bytes", d.length)
		}
		d.want = 9
		return ""
	case 9:
		if d.fromClient {
			return s.lookClient(d, now)
		}
		return s.lookServer(d, now)
	}
	if d.fromClient && d.head[4] == fxpWrite {
		return s.lookWrite(d, now)
	}
	if !d.fromClient && d.head[4] == fxpData {
		return s.data(d)
	}
	return s.whole(d, now)
}

// collect asks for the whole packet.
func (s *SFTP) collect(d *side, now time.Time) string {
	if d.length > maxWhole {
		return fmt.Sprintf("a packet of type %d with %d bytes", d.head[4], d.length)
	}
	if d.want = 4 + int(d.length); d.want == len(d.head) {
		return s.whole(d, now)
	}
	return ""
}

func (s *SFTP) whole(d *side, now time.Time) string {
	if d.fromClient {
		return s.clientPacket(d, now)
	}
	return s.serverPacket(d, now)
}

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

func (s *SFTP) lookServer(d *side, now time.Time) string {
	typ, id := d.head[4], binary.BigEndian.Uint32(d.head[5:])
	if typ == fxpVersion {
		if !s.asked || s.version && s.policy != nil {
			return "a version that nobody asked for"
		}
		if id != 3 {
			return fmt.Sprintf("version %d of the protocol", id)
		}
		return s.collect(d, now)
	}
	if typ < fxpStatus || typ > fxpAttrs && typ != fxpExtReply {
		return fmt.Sprintf("a packet of type %d from the server", typ)
	}
	r := s.requests[id]
	if own := s.own && id == ownID; r == nil && !own {
		if s.policy != nil {
			return "an answer to no request"
		}
		s.pass(d)
		return ""
	}
	switch typ {
	case fxpData:
		if d.length < 9 {
			return "data that is cut short"
		}
		d.want = 13
		return ""
	case fxpStatus, fxpHandle:
		return s.collect(d, now)
	case fxpName:
		if r == nil || r.typ == fxpRealpath {
			return s.collect(d, now)
		}
	}
	if r == nil {
		return "an answer of another kind"
	}
	s.recycle(s.answered(id))
	s.pass(d)
	return ""
}

// data is the content of a file on its way to the client.
func (s *SFTP) data(d *side) string {
	id, n := binary.BigEndian.Uint32(d.head[5:]), binary.BigEndian.Uint32(d.head[9:])
	r := s.requests[id]
	if r == nil || uint64(n)+9 > uint64(d.length) {
		return "data whose length does not fit its packet"
	}
	if f := s.late(r); r.typ == fxpRead && f != nil {
		f.read.seek(uint64(r.flags)<<32 | uint64(r.length))
		d.sink, d.content = &f.read, n
	}
	s.recycle(s.answered(id))
	s.pass(d)
	return ""
}

// serverPacket understands an answer that is there as a whole.
func (s *SFTP) serverPacket(d *side, now time.Time) string {
	typ, id := d.head[4], binary.BigEndian.Uint32(d.head[5:])
	in := reader{p: d.head[9:]}
	if typ == fxpVersion {
		s.version = true
		if s.own {
			s.version3 = append([]byte(nil), d.head...)
			d.drop = true
		}
		s.pass(d)
		return ""
	}
	r := s.requests[id]
	if r == nil { // our own
		return s.homeKnown(d, typ, &in)
	}
	r = s.answered(id)
	switch typ {
	case fxpHandle:
		handle := in.text()
		if in.bad || len(handle) > maxHandle {
			return "a handle that is cut short"
		}
		if why := s.opened(r, handle, now); why != "" {
			return why
		}
	case fxpName:
		if count := in.uint32(); count == 1 {
			name := in.text()
			s.learnHome(r, name)
		}
	case fxpStatus:
		code := in.uint32()
		message := in.text()
		s.status(r, code, message, now)
	}
	s.recycle(r)
	s.pass(d)
	return ""
}

// homeKnown takes the answer to our own request, which the client never sees, and then lets the client begin.
func (s *SFTP) homeKnown(d *side, typ byte, in *reader) string {
	if typ == fxpName && in.uint32() == 1 {
		if name := in.text(); strings.HasPrefix(name, "/") && !in.bad {
			s.home, _ = absolute(name, "")
		}
	}
	s.own, d.drop = false, true
	d.out = append(d.out, s.version3...)
	s.version3 = nil
	s.pass(d)
	return ""
}

// learnHome takes the start folder from an answer to a request that the client made.
func (s *SFTP) learnHome(r *request, name string) {
	if s.policy == nil && s.home == "" && r.typ == fxpRealpath && (r.path == "." || r.path == "") && strings.HasPrefix(name, "/") {
		s.home, _ = absolute(name, "")
	}
}

// opened notes a file that the server has opened. The result says why the channel must end.
func (s *SFTP) opened(r *request, handle string, now time.Time) string {
	if r.typ != fxpOpen && r.typ != fxpOpendir {
		return ""
	}
	f := &openFile{handle: handle, path: r.path, flags: r.flags, folder: r.typ == fxpOpendir, began: r.began, seq: r.seq}
	if f.folder && s.policy == nil {
		return "" // a listing leaves no entry, so there is nothing to remember
	}
	if len(s.files) >= maxOpen {
		if !f.folder {
			s.add(Entry{Seq: r.seq, Started: r.began, Ended: now, Op: f.op(), Path: f.path, Result: ResultUnknown,
				Detail: fmt.Sprintf("opened, and not followed any further: more than %d files are open", maxOpen)})
		}
		return ""
	}
	if before := s.files[handle]; before != nil { // the server has closed it without being asked
		s.drop(before, now, ResultUnknown)
	}
	s.files[handle] = f
	if s.names += len(f.path); s.names > maxHeld {
		s.fatal = fmt.Sprintf("%d open files with %d bytes of names", len(s.files), s.names)
	}
	return s.fatal
}

// drop ends the entry of a file.
func (s *SFTP) drop(f *openFile, now time.Time, result string) {
	if s.files[f.handle] == f {
		delete(s.files, f.handle)
		s.names -= len(f.path)
	}
	if !f.folder {
		s.add(f.entry(now, result))
	}
}

// late is the file of a request, also of one that was sent before the file was open: servers answer in their
// order, so that its handle is known by now.
func (s *SFTP) late(r *request) *openFile {
	if r.file == nil && r.handle != "" {
		return s.files[r.handle]
	}
	return r.file
}

// status is how most requests end.
func (s *SFTP) status(r *request, code uint32, message string, now time.Time) {
	f := s.late(r)
	switch {
	case r.typ == fxpWrite && f != nil && r.file == nil: // its content has passed unseen
		if code == statusOK {
			f.acked += int64(r.length)
			f.written.began = true
			f.written.spoil()
		}
	case r.typ == fxpClose:
		if f != nil {
			if code != statusOK {
				f.fail("closing", code, message)
			}
			s.drop(f, now, ResultOK)
		}
	case r.typ == fxpRead && f != nil && code == statusEOF:
		// The end is where reading has come to, unless it was looked for elsewhere.
		f.eof = true
		if !f.read.began {
			f.read.seek(uint64(r.flags)<<32 | uint64(r.length))
		}
	case r.typ == fxpWrite && f != nil:
		f.pending--
		if code == statusOK {
			f.acked += int64(r.length)
		} else {
			f.fail("writing", code, message)
			f.written.spoil()
		}
	case r.typ == fxpFsetstat && f != nil && code == statusOK:
		f.detail = append(f.detail[:min(len(f.detail), 3)], r.detail)
		if size, ok := strings.CutPrefix(r.detail, "size "); ok && f.written.began {
			if size, _, _ = strings.Cut(size, ","); size != uitoa(f.written.next) {
				f.written.spoil()
			}
		}
	case r.ext == "copy-data" && f != nil && code == statusOK:
		f.written.began = true
		f.written.spoil()
		f.detail = append(f.detail[:min(len(f.detail), 3)], "copied on the target from "+r.detail)
	case f != nil && code != statusOK && r.typ == fxpRead:
		f.fail("reading", code, message)
	case f != nil && code != statusOK && r.typ == fxpFsetstat:
		f.fail("setting attributes", code, message)
	case f != nil && code != statusOK && r.ext != "":
		f.fail(r.ext, code, message)
	case r.seq > 0:
		s.add(s.entry(r, code, message, now))
	}
}

// entry is the one of a request that stands for itself.
func (s *SFTP) entry(r *request, code uint32, message string, now time.Time) Entry {
	e := Entry{Seq: r.seq, Started: r.began, Ended: now, Op: opOf(r), Path: r.path, NewPath: r.newPath, Result: ResultOK, Detail: r.detail}
	if code != statusOK {
		e.Result = ResultFailed
		e.note(statusText(code, message))
	}
	return e
}

func opOf(r *request) string {
	switch r.typ {
	case fxpOpen:
		if r.flags&(flagWrite|flagCreate|flagTrunc|flagAppend) != 0 {
			return OpWrite
		}
		return OpRead
	case fxpSetstat, fxpFsetstat:
		return OpSetstat
	case fxpRemove:
		return OpRemove
	case fxpMkdir:
		return OpMkdir
	case fxpRmdir:
		return OpRmdir
	case fxpRename:
		return OpRename
	case fxpSymlink:
		return OpSymlink
	case fxpOpendir:
		return OpList
	}
	switch r.ext {
	case "posix-rename@openssh.com":
		return OpRename
	case "hardlink@openssh.com":
		return OpLink
	case "lsetstat@openssh.com":
		return OpSetstat
	}
	return OpNote
}

func statusText(code uint32, message string) string {
	names := [...]string{"ok", "end of file", "no such file", "permission denied", "failure", "bad message", "no connection", "connection lost", "not supported"}
	text := "status " + uitoa(uint64(code))
	if int(code) < len(names) {
		text = names[code]
	}
	if message = cut(message, 200); message != "" && !strings.EqualFold(message, text) {
		text += ": " + message
	}
	return text
}

func (f *openFile) op() string {
	if f.written.began || f.flags&(flagWrite|flagCreate|flagTrunc|flagAppend) != 0 && !f.read.began {
		return OpWrite
	}
	return OpRead
}

func (f *openFile) fail(doing string, code uint32, message string) {
	if f.failed == "" {
		f.failed = doing + ": " + statusText(code, message)
	}
}

// entry says what is known of a file now.
func (f *openFile) entry(now time.Time, result string) Entry {
	e := Entry{Seq: f.seq, Started: f.began, Ended: now, Op: f.op(), Path: f.path, Result: result}
	if e.Op == OpWrite {
		f.written.fill(&e)
		e.Bytes = f.acked
		if f.pending > 0 {
			e.SHA256 = ""
			e.note("the target had not confirmed all of it")
		}
		if !f.written.began && f.flags&flagTrunc != 0 && result == ResultOK {
			e.SHA256, e.InOrder = emptySHA256, true
		}
		if f.read.began {
			e.note(uitoa(uint64(f.read.bytes)) + " bytes were read, too")
		}
	} else {
		f.read.fill(&e)
		if f.read.began && !f.eof && !f.read.disorder {
			e.note("not read to its end")
		}
	}
	for _, d := range f.detail {
		e.note(d)
	}
	if f.failed != "" {
		e.note(f.failed)
		if e.Result == ResultOK {
			e.Result = ResultFailed
		}
	}
	return e
}

// Open returns an entry for each file that has been open since before then and was not returned yet:
// so that it is known of should the end of it never be told.
func (s *SFTP) Open(before time.Time) []Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Entry
	for _, f := range bySeq(s.files) {
		if !f.told && !f.folder && f.began.Before(before) {
			f.told = true
			list = append(list, Entry{Seq: f.seq, Started: f.began, Op: f.op(), Path: f.path, Result: ResultOpen})
		}
	}
	return list
}

// End tells that the channel is over: what is still open was aborted.
func (s *SFTP) End(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	result := ResultAborted
	if s.stopped != "" {
		result = ResultUnknown
	}
	for _, f := range bySeq(s.files) {
		s.drop(f, now, result)
	}
	for id := range s.requests {
		for r := s.answered(id); r != nil; r = s.answered(id) {
			if r.seq > 0 {
				s.add(Entry{Seq: r.seq, Started: r.began, Ended: now, Op: opOf(r), Path: r.path, NewPath: r.newPath, Result: result,
					Detail: "the target had not answered"})
			}
		}
	}
}

func bySeq(files map[string]*openFile) []*openFile {
	return slices.SortedFunc(maps.Values(files), func(a, b *openFile) int { return a.seq - b.seq })
}
