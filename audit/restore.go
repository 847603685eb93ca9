package audit

import (
	"encoding/base64"
	"strconv"
	"strings"
	"time"
)

// Restore is the statement of an operator that the database was brought back from a backup, and that what it had lost by that
// is known. A node signs it: whoever can only write to the database cannot make one, to hide that they cut off its end.
// It excuses the heads behind After that were signed up to Until, and nothing else.
type Restore struct {
	After  int64     // position up to which the log still is what it was
	Lost   int64     // last position that was lost
	Until  time.Time // when the last lost head was signed
	Head   Hash      // … that head
	Node   string    // that signed the statement
	Key    string
	Sig    []byte
	Time   time.Time // when it was made
	Actor  string
	Reason string
}

// restoreLabel begins what is signed, so that no signature stands for anything else.
const restoreLabel = "sallyport audit restore 1\n"

// SignedText is what the signature is over.
func (r Restore) SignedText() []byte {
	fields := []string{strconv.FormatInt(r.After, 10), strconv.FormatInt(r.Lost, 10), r.Until.UTC().Format(time.RFC3339Nano), r.Head.String(),
		r.Node, r.Time.UTC().Format(time.RFC3339Nano), r.Actor, r.Reason}
	for i, f := range fields {
		fields[i] = strconv.Quote(f)
	}
	return []byte(restoreLabel + strings.Join(fields, "\n"))
}

// Event is the event that has the statement.
func (r Restore) Event() Event {
	return Event{Type: Restored, Result: OK, Actor: r.Actor, Reason: r.Reason, Detail: map[string]string{
		"after": strconv.FormatInt(r.After, 10), "lost": strconv.FormatInt(r.Lost, 10), "until": r.Until.UTC().Format(time.RFC3339Nano), "head": r.Head.String(),
		"signer": r.Node, "signed": r.Time.UTC().Format(time.RFC3339Nano), "key": r.Key, "sig": base64.StdEncoding.EncodeToString(r.Sig),
	}}
}

// RestoreOf reads the statement of an event. The signature is not looked at.
func RestoreOf(e Event) (Restore, bool) {
	if e.Type != Restored {
		return Restore{}, false
	}
	d := e.Detail
	r := Restore{Node: d["signer"], Key: d["key"], Actor: e.Actor, Reason: e.Reason}
	var errs [6]error
	r.After, errs[0] = strconv.ParseInt(d["after"], 10, 64)
	r.Lost, errs[1] = strconv.ParseInt(d["lost"], 10, 64)
	r.Until, errs[2] = time.Parse(time.RFC3339Nano, d["until"])
	errs[3] = r.Head.UnmarshalText([]byte(d["head"]))
	r.Sig, errs[4] = base64.StdEncoding.DecodeString(d["sig"])
	r.Time, errs[5] = time.Parse(time.RFC3339Nano, d["signed"])
	for _, err := range errs {
		if err != nil {
			return Restore{}, false
		}
	}
	return r, true
}

// Excuses tells whether the statement is about a head that the log does not have.
func (r Restore) Excuses(position int64, k Kept) bool {
	if k.Time.IsZero() { // somebody noted it, and nobody knows when
		return position > r.After && position <= r.Lost
	}
	return position > r.After && !k.Time.After(r.Until)
}

// Kept is a value that the chain had at some position, as it was kept elsewhere.
type Kept struct {
	Head Hash
	Time time.Time // when it was signed; zero: not known
}
