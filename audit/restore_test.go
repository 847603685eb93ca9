package audit

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"strings"
	"testing"
	"time"
)

// history is a log of these events with a checkpoint behind each, and the checkpoints.
func history(t *testing.T, events ...Event) (file []byte, heads []Checkpoint) {
	t.Helper()
	add := func(l Line) {
		text, err := l.Encode()
		if err != nil {
			t.Fatal(err)
		}
		file = append(file, text...)
	}
	head := ChainStart()
	for i, e := range events {
		var err error
		if head, err = e.After(head); err != nil {
			t.Fatal(err)
		}
		link := head
		add(Line{Position: int64(i + 1), Link: &link, Event: &e})
		c := Checkpoint{Position: int64(i + 1), After: int64(i), Head: head, Time: e.Time, Node: "n1", Key: "one"}
		text, err := c.SignedText()
		if err != nil {
			t.Fatal(err)
		}
		c.Sig = ed25519.Sign(testKey(1), text)
		add(Line{Checkpoint: &c})
		heads = append(heads, c)
	}
	return file, heads
}

// logins are n events, from second on.
func logins(user string, from, n int) (list []Event) {
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	for i := range n {
		list = append(list, Event{ID: fmt.Sprintf("%s-%04d", user, from+i), Time: at.Add(time.Duration(from+i) * time.Second), Type: LoginAccepted, Result: OK, User: user})
	}
	return list
}

// After a database came from a backup the proof failed for ever, or until somebody took the evidence away. A statement that a node
// has signed excuses what was lost by that, and is told with each proof. Whoever can write to the database can make none,
// and a true one that is put there again excuses nothing that was lost later.
func TestRestores(t *testing.T) {
	t.Parallel()
	before := logins("alice", 0, 8)
	_, kept := history(t, before...)
	heads := HeadsOf(kept, checkOne)
	restored := append(logins("alice", 0, 5), logins("bob", 100, 2)...)
	file, _ := history(t, restored...)
	_, err := prove(file, heads)
	if broken, ok := err.(*Broken); !ok || !broken.Lost || broken.Position != 6 {
		t.Fatalf("before anybody has said anything: %v", err)
	}
	c := Chain{Check: checkOne, Heads: heads}
	for line := range bytes.Lines(file) {
		l, err := ParseLine(bytes.TrimSuffix(line, []byte("\n")))
		if err != nil || c.Add(l) != nil {
			t.Fatal(err)
		}
	}
	loss, ok := c.Loss()
	if !ok || loss.After != 5 || loss.Lost != 8 || loss.Head != kept[7].Head || !loss.Until.Equal(kept[7].Time) {
		t.Fatalf("lost: %+v", loss)
	}
	loss.Node, loss.Key, loss.Actor, loss.Reason = "n1", "one", "ada", "disk \"a\"\nwas burnt"
	loss.Time = restored[6].Time.Add(time.Minute)
	sign := func(r Restore, key byte) Event {
		r.Sig = ed25519.Sign(testKey(key), r.SignedText())
		e := r.Event()
		e.ID, e.Time = "restored", r.Time.Add(time.Millisecond) // events get their time when they are written
		return e
	}
	genuine := sign(loss, 1)
	if got, ok := RestoreOf(genuine); !ok || string(got.SignedText()) != string(loss.SignedText()) {
		t.Errorf("the statement became %+v", got)
	}
	with := func(e Event) []byte { file, _ := history(t, append(restored, e)...); return file }
	proof, err := prove(with(genuine), heads)
	if err != nil || len(proof.Restores) != 1 || proof.Restores[0].Reason != loss.Reason || proof.Restores[0].Actor != "ada" {
		t.Errorf("answered for: %+v, %v", proof, err)
	}
	if _, err := prove(with(genuine), map[int64][]Kept{7: {{Head: kept[6].Head}}}); err != nil {
		t.Errorf("a head that somebody noted: %v", err)
	}
	for name, change := range map[string]func(*Event){
		"signed by somebody else": func(e *Event) { *e = sign(loss, 2) },
		"more":                    func(e *Event) { e.Detail["after"] = "3" },
		"later":                   func(e *Event) { e.Detail["until"] = "2027-01-01T00:00:00Z" },
		"another reason":          func(e *Event) { e.Reason = "nothing" },
		"another person":          func(e *Event) { e.Actor = "mallory" },
		"not signed":              func(e *Event) { delete(e.Detail, "sig") },
	} {
		e := sign(loss, 1)
		change(&e)
		if _, err := prove(with(e), heads); err == nil {
			t.Errorf("%s: proved", name)
		}
	}
	// The end of the log is cut off once more, with the old statement in it.
	later, more := history(t, append(append(restored, genuine), logins("carol", 1000, 3)...)...)
	both := HeadsOf(append(kept, more...), checkOne)
	if _, err := prove(later, both); err != nil {
		t.Errorf("what came after: %v", err)
	}
	if _, err := prove(with(genuine), both); err == nil || !strings.Contains(err.Error(), "had more before") {
		t.Errorf("cut off again: %v", err)
	}
}
