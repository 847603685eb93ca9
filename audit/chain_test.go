package audit

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

func testKey(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

// exported makes a log of n events with a checkpoint after every few, as a store exports it.
func exported(t testing.TB, n, every, waiting int, user string) []byte {
	t.Helper()
	key := testKey(1)
	var file []byte
	add := func(l Line) {
		text, err := l.Encode()
		if err != nil {
			t.Fatal(err)
		}
		file = append(file, text...)
	}
	head, after := ChainStart(), int64(0)
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	for i := 1; i <= n+waiting; i++ {
		e := Event{ID: fmt.Sprintf("%s-%04d", user, i), Time: at.Add(time.Duration(i) * time.Second), Type: LoginAccepted, Result: OK, User: user, Detail: map[string]string{"client": "<x>", "n": fmt.Sprint(i)}}
		if i > n {
			add(Line{Event: &e})
			continue
		}
		var err error
		if head, err = e.After(head); err != nil {
			t.Fatal(err)
		}
		link := head
		add(Line{Position: int64(i), Link: &link, Event: &e})
		if i%every == 0 || i == n {
			c := Checkpoint{Position: int64(i), After: after, Head: head, Time: e.Time, Node: "n1", Key: "one"}
			text, err := c.SignedText()
			if err != nil {
				t.Fatal(err)
			}
			c.Sig = ed25519.Sign(key, text)
			add(Line{Checkpoint: &c})
			after = c.Position
		}
	}
	return file
}

func checkOne(_, id string, _ time.Time, text, sig []byte) error {
	if id != "one" || !ed25519.Verify(testKey(1).Public().(ed25519.PublicKey), text, sig) {
		return errors.New("a false signature")
	}
	return nil
}

func prove(file []byte, heads map[int64][]Kept) (Proof, error) {
	c := Chain{Check: checkOne, Heads: heads}
	if len(file) > 0 && file[len(file)-1] != '\n' {
		return Proof{}, errors.New("half a line")
	}
	for line := range bytes.Lines(file) {
		l, err := ParseLine(bytes.TrimSuffix(line, []byte("\n")))
		if err == nil {
			err = c.Add(l)
		}
		if err != nil {
			return Proof{}, err
		}
	}
	return c.End()
}

func lines(file []byte) [][]byte { return slices.Collect(bytes.Lines(file)) }

// TestChainFindsWhatWasDone: whatever is done to the events of a log, the first place where it is wrong is told.
func TestChainFindsWhatWasDone(t *testing.T) {
	t.Parallel()
	file := exported(t, 20, 5, 2, "alice")
	all := lines(file) // events 1-5, checkpoint, 6-10, checkpoint, …
	proof, err := prove(file, nil)
	if err != nil || proof.First != 1 || proof.Last != 20 || proof.Unchained != 2 || proof.Node != "n1" {
		t.Fatalf("what nobody altered: %+v, %v", proof, err)
	}
	other := lines(exported(t, 20, 5, 0, "mallory"))
	swapped := func(i, j int) [][]byte {
		l := slices.Clone(all)
		l[i], l[j] = l[j], l[i]
		return l
	}
	for name, c := range map[string]struct {
		lines [][]byte
		want  string
	}{
		"altered":                     {slices.Replace(slices.Clone(all), 2, 3, bytes.Replace(all[2], []byte("alice\""), []byte("malic\""), 1)), "position 3: event"},
		"removed":                     {slices.Delete(slices.Clone(all), 2, 3), "position 3: the event is missing"},
		"three removed":               {slices.Delete(slices.Clone(all), 1, 4), "position 2: the events up to position 4 are missing"},
		"inserted":                    {slices.Insert(slices.Clone(all), 3, all[2]), "position 3: event alice-0003: it does not follow"},
		"one of another log":          {slices.Replace(slices.Clone(all), 2, 3, other[2]), "position 3: event mallory-0003: it was altered"},
		"reordered":                   {swapped(2, 3), "position 3: the event is missing"},
		"a batch removed":             {slices.Delete(slices.Clone(all), 6, 12), "position 6: "},
		"the last checkpoint removed": {slices.Delete(slices.Clone(all), 23, 24), "position 16: no signature follows"},
		"a checkpoint removed":        {slices.Delete(slices.Clone(all), 11, 12), "position 6: a checkpoint is missing"},
		"a checkpoint repeated":       {slices.Insert(slices.Clone(all), 11, all[11]), "position 11: a checkpoint is missing or repeated"},
		"an event behind the others":  {append(slices.Clone(all), all[20]), "position 18"},
	} {
		if _, err := prove(slices.Concat(c.lines...), nil); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestChainLinksMadeAnew: who can write all rows but has no key is found by the signed heads.
func TestChainLinksMadeAnew(t *testing.T) {
	t.Parallel()
	var file []byte
	head := ChainStart()
	for _, text := range lines(exported(t, 20, 5, 0, "alice")) {
		l, err := ParseLine(bytes.TrimSuffix(text, []byte("\n")))
		if err != nil {
			t.Fatal(err)
		}
		if l.Event != nil {
			if l.Position == 8 {
				l.Event.User = "nobody"
			}
			if head, err = l.Event.After(head); err != nil {
				t.Fatal(err)
			}
			link := head
			l.Link = &link
		}
		text, _ = l.Encode()
		file = append(file, text...)
	}
	if _, err := prove(file, nil); err == nil || !strings.HasPrefix(err.Error(), "position 6: one of the events up to position 10") {
		t.Errorf("got %v", err)
	}
}

// TestChainRemembersItsHead: a log whose end was cut off together with its checkpoint is right in itself; who
// knows an earlier head finds it.
func TestChainRemembersItsHead(t *testing.T) {
	t.Parallel()
	file := exported(t, 20, 5, 0, "alice")
	whole, err := prove(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	heads := map[int64][]Kept{whole.Last: {{Head: whole.Head}}}
	if _, err := prove(file, heads); err != nil {
		t.Errorf("whole: %v", err)
	}
	if _, err := prove(slices.Concat(lines(file)[:12]...), heads); err == nil || !strings.Contains(err.Error(), "had more before") {
		t.Errorf("cut: %v", err)
	}
	if _, err := prove(exported(t, 20, 5, 0, "mallory"), heads); err == nil || !strings.Contains(err.Error(), "another value") {
		t.Errorf("another: %v", err)
	}
	// A log that begins later is anchored at a checkpoint.
	late, err := prove(slices.Concat(lines(file)[11:]...), nil)
	if err != nil || late.First != 11 || late.Last != 20 || late.Head != whole.Head {
		t.Errorf("late: %+v, %v", late, err)
	}
	if _, err := prove(nil, nil); err != nil {
		t.Errorf("empty: %v", err)
	}
}

// TestChainDoubtful: what a key signed after it was compromised is told, and hides nothing else that is wrong.
func TestChainDoubtful(t *testing.T) {
	t.Parallel()
	file := exported(t, 20, 5, 0, "alice")
	from := time.Date(2026, 11, 23, 10, 0, 8, 0, time.UTC) // the second checkpoint is of 10:00:10
	until := from.Add(5 * time.Second)
	prove := func(lines [][]byte) error {
		c := Chain{Check: func(node, id string, at time.Time, text, sig []byte) error {
			if err := checkOne(node, id, at, text, sig); err != nil || at.Before(from) || !at.Before(until) {
				return err
			}
			return fmt.Errorf("%w: key one", ErrDoubtful)
		}}
		for _, line := range lines {
			l, err := ParseLine(bytes.TrimSuffix(line, []byte("\n")))
			if err == nil {
				err = c.Add(l)
			}
			if err != nil {
				return err
			}
		}
		_, err := c.End()
		return err
	}
	all := lines(file)
	if err := prove(all); err == nil || !strings.HasPrefix(err.Error(), "position 6: events up to position 10 were first signed with a key that was compromised") {
		t.Errorf("whole: %v", err)
	}
	if err := prove(slices.Delete(slices.Clone(all), 20, 21)); err == nil || !strings.HasPrefix(err.Error(), "position 18: the event is missing") {
		t.Errorf("something else is wrong: %v", err)
	}
	if err := prove(all[17:]); err != nil {
		t.Errorf("from a good checkpoint on: %v", err)
	}
	if err := prove(all[11:]); err == nil {
		t.Error("a doubtful checkpoint anchors a log")
	}
}

// TestChainMutations changes an exported log in 10 000 random ways: every one is found. (That the end is
// not cut off together with its checkpoint is known from a head that was told earlier.)
func TestChainMutations(t *testing.T) {
	t.Parallel()
	good, other := exported(t, 15, 4, 0, "alice"), exported(t, 15, 4, 0, "bob")
	proof, err := prove(good, nil)
	if err != nil {
		t.Fatal(err)
	}
	heads := map[int64][]Kept{proof.Last: {{Head: proof.Head}}}
	all, others := lines(good), lines(other)
	src := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		bad, what := slices.Clone(good), ""
		i, j := src.IntN(len(all)), src.IntN(len(all))
		switch src.IntN(7) {
		case 0, 1:
			at, bit := src.IntN(len(bad)), src.IntN(8)
			bad[at] ^= 1 << bit
			what = fmt.Sprintf("bit %d of byte %d turned", bit, at)
		case 2:
			bad, what = slices.Concat(slices.Delete(slices.Clone(all), i, i+1)...), fmt.Sprintf("line %d removed", i)
		case 3:
			bad, what = slices.Concat(slices.Insert(slices.Clone(all), j, all[i])...), fmt.Sprintf("line %d repeated at %d", i, j)
		case 4:
			l := slices.Clone(all)
			l[i], l[j] = l[j], l[i]
			bad, what = slices.Concat(l...), fmt.Sprintf("lines %d and %d swapped", i, j)
		case 5:
			bad, what = slices.Concat(slices.Replace(slices.Clone(all), i, i+1, others[j])...), fmt.Sprintf("line %d replaced by %d of another log", i, j)
		case 6:
			at := src.IntN(len(bad))
			bad, what = bad[:at], fmt.Sprintf("cut at %d", at)
		}
		if bytes.Equal(bad, good) {
			continue
		}
		if p, err := prove(bad, heads); err == nil {
			t.Errorf("not found: %s: %+v", what, p)
		}
	}
}

// TestHeadsOf: only heads that a key proves count.
func TestHeadsOf(t *testing.T) {
	t.Parallel()
	head := func(position int64, word string, key byte) Checkpoint {
		c := Checkpoint{Position: position, Head: ChainStart(), Node: "n1", Key: "one"}
		copy(c.Head[:], word)
		text, err := c.SignedText()
		if err != nil {
			t.Fatal(err)
		}
		c.Sig = ed25519.Sign(testKey(key), text)
		return c
	}
	got := HeadsOf([]Checkpoint{head(5, "a", 1), head(5, "a", 1), head(7, "b", 1), head(7, "forged", 2), head(9, "forged", 2), head(0, "c", 1)}, checkOne)
	if len(got) != 2 || !slices.Equal(got[5], []Kept{{Head: head(5, "a", 1).Head}}) || !slices.Equal(got[7], []Kept{{Head: head(7, "b", 1).Head}}) {
		t.Errorf("%v", got)
	}
	if got := HeadsOf([]Checkpoint{head(5, "a", 1)}, nil); len(got) != 0 {
		t.Errorf("without keys: %v", got)
	}
}
