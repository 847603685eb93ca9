package audit

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Events stand in a hash chain. Its value before the first event is SHA-256 of chainLabel; each event makes it
// SHA-256(value before ‖ the event as JSON, as json.Marshal writes it). Nodes sign the value, with the number
// of events that led to it, as a [Checkpoint].
const chainLabel = "sallyport audit chain 1\n"

// Hash is a value of the chain: 32 bytes, 64 hexadecimal digits in JSON.
type Hash [sha256.Size]byte

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText implements encoding.TextMarshaler.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Hash) UnmarshalText(text []byte) error {
	if len(text) != 2*len(h) {
		return errors.New("not a SHA-256")
	}
	_, err := hex.Decode(h[:], text)
	return err
}

// ChainStart is the value of the chain before the first event.
func ChainStart() Hash { return sha256.Sum256([]byte(chainLabel)) }

// After returns the value of the chain after e.
func (e Event) After(before Hash) (Hash, error) {
	e.Time = e.Time.UTC()
	text, err := json.Marshal(e)
	if err != nil {
		return Hash{}, fmt.Errorf("encoding event %s: %w", e.ID, err)
	}
	return sha256.Sum256(append(before[:], text...)), nil
}

// Checkpoint is a signed value of the chain.
type Checkpoint struct {
	Position int64     `json:"position"` // how many events led to Head
	After    int64     `json:"after"`    // position of the checkpoint before, 0 for the first
	Head     Hash      `json:"head"`
	Time     time.Time `json:"time"` // UTC, milliseconds, at the node that signed
	Node     string    `json:"node"`
	Key      string    `json:"key"`           // id of the key
	Sig      []byte    `json:"sig,omitempty"` // Ed25519 over SignedText
}

// SignedText is what is signed: a label, so that no signature of another kind by the same key can be taken for
// this one, and the checkpoint without its signature as JSON.
func (c Checkpoint) SignedText() ([]byte, error) {
	c.Sig, c.Time = nil, c.Time.UTC()
	text, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encoding a checkpoint: %w", err)
	}
	return append([]byte(chainLabel), text...), nil
}

// Line is one line of an exported log: an event with its place in the chain, an event that has none yet
// (Position 0), or a checkpoint.
type Line struct {
	Position   int64       `json:"position,omitempty"` // from 1
	Link       *Hash       `json:"link,omitempty"`     // value of the chain after the event
	Event      *Event      `json:"event,omitempty"`
	Checkpoint *Checkpoint `json:"checkpoint,omitempty"`
}

// Encode returns the line as it stands in a file, with its newline.
func (l Line) Encode() ([]byte, error) {
	text, err := json.Marshal(l)
	if err != nil {
		return nil, fmt.Errorf("encoding a line of the audit log: %w", err)
	}
	return append(text, '\n'), nil
}

// ParseLine reads a line without its newline. What is not byte for byte what [Line.Encode] writes is refused, so
// that nothing in a file is outside the hashes.
func ParseLine(text []byte) (Line, error) {
	var l Line
	if json.Unmarshal(text, &l) != nil || (l.Event == nil) == (l.Checkpoint == nil) {
		return l, errors.New("it is not a line of an exported audit log")
	}
	again, err := l.Encode()
	if err != nil || !bytes.Equal(text, again[:len(again)-1]) {
		return l, errors.New("it was altered")
	}
	return l, nil
}

// Broken is the first thing wrong with a chain.
type Broken struct {
	Position int64  // where, 0 if it is no place in the chain
	Event    string // id of the event that does not fit, if it is one
	What     string
	Lost     bool // nothing is wrong but that heads which were kept elsewhere are not in it: a [Restore] may excuse it
}

func (b *Broken) Error() string {
	s := b.What
	if b.Event != "" {
		s = "event " + Escape(b.Event) + ": " + s
	}
	if b.Position > 0 {
		s = fmt.Sprintf("position %d: %s", b.Position, s)
	}
	return s
}

// Chain proves a log line by line, in the order of an export. The zero value refuses every signature.
type Chain struct {
	// Check tells whether sig is the signature over text by the key of that id, which is the node's, made at the
	// given time. Its error wraps ErrDoubtful if it is, and somebody else had the key by then.
	Check func(node, key string, at time.Time, text, sig []byte) error

	// Heads are values that the chain must have had at some position, as an earlier proof told them. Those that a Restore in
	// the log excuses are left out.
	Heads map[int64][]Kept

	first     int64 // position after which the log begins
	position  int64
	head      Hash
	begun     bool
	proved    int64 // position of the last checkpoint that proves something
	point     int64 // … of the last one
	doubtFrom int64 // first event that a doubtful checkpoint was the first to sign; 0: none
	doubtTo   int64
	last      Checkpoint
	unchained int
	reached   map[int64]bool // positions of Heads that the log has
	missed    []miss         // heads that it has not
	restores  []Restore      // that are signed
}

// miss is a head that the log has another value for.
type miss struct {
	position int64
	kept     Kept
}

// Add proves the next line. The error is a [*Broken].
func (c *Chain) Add(l Line) error {
	switch {
	case l.Checkpoint != nil:
		return c.checkpoint(*l.Checkpoint)
	case l.Event == nil:
		return &Broken{What: "a line is neither an event nor a checkpoint"}
	case l.Position == 0:
		c.unchained++
		return nil
	}
	return c.event(l)
}

func (c *Chain) begin() {
	if !c.begun {
		c.begun, c.head = true, ChainStart()
	}
}

func (c *Chain) event(l Line) error {
	c.begin()
	id := l.Event.ID
	switch next := c.position + 1; {
	case c.unchained > 0:
		return &Broken{Position: l.Position, Event: id, What: "it stands behind events that are not chained yet"}
	case l.Position == next+1:
		return &Broken{Position: next, What: "the event is missing"}
	case l.Position > next:
		return &Broken{Position: next, What: fmt.Sprintf("the events up to position %d are missing", l.Position-1)}
	case l.Position < next:
		return &Broken{Position: l.Position, Event: id, What: "it does not follow the one before: repeated, inserted or out of order"}
	}
	head, err := l.Event.After(c.head)
	if err != nil {
		return &Broken{Position: l.Position, Event: id, What: err.Error()}
	}
	if l.Link == nil || *l.Link != head {
		return &Broken{Position: l.Position, Event: id, What: "it was altered, or put in the place of another"}
	}
	c.position, c.head = l.Position, head
	if r, ok := RestoreOf(*l.Event); ok && c.Check != nil && c.Check(r.Node, r.Key, r.Time, r.SignedText(), r.Sig) == nil {
		c.restores = append(c.restores, r)
	}
	c.expected()
	return nil
}

// expected compares the chain with what was known of it. What differs is judged at the end: a statement may follow.
func (c *Chain) expected() {
	kept, known := c.Heads[c.position]
	if !known {
		return
	}
	if c.reached == nil {
		c.reached = map[int64]bool{}
	}
	c.reached[c.position] = true
	for _, k := range kept {
		if k.Head != c.head {
			c.missed = append(c.missed, miss{c.position, k})
		}
	}
}

// judge gives the heads that the log does not have, lowest position first, after those that a Restore in it excuses were
// left out; and what it says, of whichever excused any.
func (c *Chain) judge() (missed []miss, restores []Restore) {
	all := slices.Clone(c.missed)
	for position, kept := range c.Heads {
		if !c.reached[position] {
			for _, k := range kept {
				all = append(all, miss{position, k})
			}
		}
	}
	used := map[int]bool{}
	for _, m := range all {
		i := slices.IndexFunc(c.restores, func(r Restore) bool { return r.Excuses(m.position, m.kept) })
		if i < 0 {
			missed = append(missed, m)
			continue
		}
		used[i] = true
	}
	for i, r := range c.restores {
		if used[i] {
			restores = append(restores, r)
		}
	}
	slices.SortFunc(missed, func(a, b miss) int { return cmp.Compare(a.position, b.position) })
	return missed, restores
}

// Loss is what the log has lost, as far as heads that were kept elsewhere tell: a statement that only wants a reason, a time and
// a signature. It is false if nothing was lost. Call it after the last line.
func (c *Chain) Loss() (Restore, bool) {
	missed, _ := c.judge()
	if len(missed) == 0 {
		return Restore{}, false
	}
	r := Restore{}
	for _, m := range missed {
		if m.position >= r.Lost {
			r.Lost, r.Head = m.position, m.kept.Head
		}
		if m.kept.Time.After(r.Until) {
			r.Until = m.kept.Time
		}
	}
	for position := range c.reached {
		if position < missed[0].position {
			r.After = max(r.After, position)
		}
	}
	return r, true
}

func (c *Chain) checkpoint(p Checkpoint) error {
	text, err := p.SignedText()
	if err == nil && c.Check == nil {
		err = errors.New("there are no keys to check signatures with")
	}
	doubtful := false
	if err == nil {
		err = c.Check(p.Node, p.Key, p.Time, text, p.Sig)
		doubtful = errors.Is(err, ErrDoubtful)
	}
	if err != nil && !(doubtful && c.begun) {
		return &Broken{Position: p.Position, What: "the checkpoint proves nothing: " + err.Error()}
	}
	if !c.begun && p.Position > 0 { // the log begins later than the chain
		c.begun, c.first, c.position, c.head = true, p.Position, p.Position, p.Head
		c.proved, c.point, c.last = p.Position, p.Position, p
		c.expected()
		return nil
	}
	c.begin()
	switch {
	case p.Position != c.position:
		return &Broken{Position: min(p.Position, c.position+1), What: fmt.Sprintf("a checkpoint of position %d stands behind event %d: events or checkpoints are missing or out of order", p.Position, c.position)}
	case p.After != c.point || p.Position == c.point:
		return &Broken{Position: c.point + 1, What: "a checkpoint is missing or repeated"}
	case p.Head != c.head:
		return &Broken{Position: c.point + 1, What: fmt.Sprintf("one of the events up to position %d was altered, removed or inserted, and the links made anew: the signed value is another", p.Position)}
	}
	if doubtful {
		if c.doubtFrom == 0 {
			c.doubtFrom = c.point + 1
		}
		c.doubtTo = p.Position
		c.point = p.Position
		return nil
	}
	c.proved, c.point, c.last = p.Position, p.Position, p
	return nil
}

// ErrDoubtful is the cause when a signature is right and was made with a key that somebody else had by then. What
// follows is looked at all the same: a later signature covers all that stands before it.
var ErrDoubtful = errors.New("the key was compromised by then")

// Proof is what was proved of a log.
type Proof struct {
	First, Last int64 // positions of the events that are proved; First > Last if there are none
	Head        Hash  // value of the chain after Last
	At          time.Time
	Node, Key   string // who signed that last
	Unchained   int    // events so new that they have no place in the chain yet

	Restores []Restore // losses that somebody has answered for: without these statements the log would not be proved
}

// End tells what was proved. The error is a [*Broken].
func (c *Chain) End() (Proof, error) {
	c.begin()
	p := Proof{First: c.first + 1, Last: c.proved, Head: c.last.Head, At: c.last.Time, Node: c.last.Node, Key: c.last.Key, Unchained: c.unchained}
	if c.position > c.point {
		return p, &Broken{Position: c.point + 1, What: "no signature follows: the end of the log was cut off"}
	}
	if c.doubtFrom > 0 {
		return p, &Broken{Position: c.doubtFrom, What: fmt.Sprintf("events up to position %d were first signed with a key that was compromised by then, so that nothing proves what they said at that time; nothing else is wrong", c.doubtTo)}
	}
	var missed []miss
	missed, p.Restores = c.judge()
	switch {
	case len(missed) == 0:
		return p, nil
	case c.reached[missed[0].position]:
		at := missed[0].position
		if len(c.Heads[at]) > 1 {
			return p, &Broken{Position: at, What: "two values of the chain were signed for this position: the log was cut off or changed, and went on otherwise", Lost: true}
		}
		return p, &Broken{Position: missed[0].position, What: "the chain has another value here than it had before", Lost: true}
	}
	return p, &Broken{Position: c.position, What: "the log ends here, or begins later, and had more before: it does not reach a position that was proved earlier", Lost: true}
}

// HeadsOf makes of checkpoints that were kept elsewhere what [Chain.Heads] wants. Those that the key does not prove are
// left out: anybody can have put them there.
func HeadsOf(kept []Checkpoint, check func(node, key string, at time.Time, text, sig []byte) error) map[int64][]Kept {
	heads := map[int64][]Kept{}
	for _, c := range kept {
		text, err := c.SignedText()
		if err != nil || check == nil || check(c.Node, c.Key, c.Time, text, c.Sig) != nil || c.Position < 1 {
			continue
		}
		if k := (Kept{c.Head, c.Time}); !slices.Contains(heads[c.Position], k) {
			heads[c.Position] = append(heads[c.Position], k)
		}
	}
	return heads
}
