package ledger

import (
	"encoding/binary"
	"fmt"
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

	looks map[string]bool // refused looks that have a line
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
	empty         bool // the client had the target cut it to nothing, and wrote nothing since
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
