package recorder

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// abandoned makes a recording as a killed process leaves it: three packed parts and a rest. It
// returns the folder, the place and the bytes that were taken.
func abandoned(t *testing.T) (dir string, where place, taken []byte) {
	t.Helper()
	dir = t.TempDir()
	r, err := New(Config{Dir: dir, SigningKey: testKey(1), Node: "dead", Sync: time.Millisecond})
	must(t, err)
	w := create(t, r, Header{Session: "left", Channel: 2})
	for range 3 {
		for range 12 {
			chunk := []byte("what the person saw, \xff and more of it \xe2")
			must(t, w.Output(chunk))
			taken = append(taken, chunk...)
		}
		w.mu.Lock()
		w.closePart()
		w.mu.Unlock()
		must(t, w.pack())
	}
	must(t, w.Input([]byte("typed")))
	must(t, w.Output([]byte("the rest")))
	must(t, r.Close())
	return dir, w.place, append(taken, "the rest"...)
}

func TestRecover(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		damage  func(t *testing.T, cast, packed, index string)
		torn    int64
		damaged string // what Err says; then the damaged files are kept
		short   int    // bytes at the end that nothing has any more
	}{
		{name: "killed", damage: func(*testing.T, string, string, string) {}},
		{name: "torn event", torn: 9, damage: func(t *testing.T, cast, _, _ string) { appendTo(t, cast, `[0.5,"o",`) }},
		{name: "torn event that announces", torn: 11, damage: func(t *testing.T, cast, _, _ string) { appendTo(t, cast, `[0,"e",""]`+"\n") }},
		{name: "torn frame", damage: func(t *testing.T, _, packed, _ string) { appendTo(t, packed, "half a frame") }},
		{name: "torn line of the index", damage: func(t *testing.T, _, _, index string) { appendTo(t, index, `{"part":{"part":4,`) }},
		{name: "nothing packed", damage: func(t *testing.T, _, packed, index string) { must(t, errors.Join(os.Remove(packed), os.Remove(index))) }},
		{name: "index missing", damage: func(t *testing.T, _, _, index string) { must(t, os.Remove(index)) }},
		{name: "packed file missing", damaged: "part 1 is not there", damage: func(t *testing.T, _, packed, _ string) { must(t, os.Remove(packed)) }},
		{name: "packed file short", damaged: "ends 5 bytes early", damage: func(t *testing.T, _, packed, _ string) { cutEnd(t, packed, 5) }},
		{name: "packed file altered", damaged: "part 1 was altered", damage: func(t *testing.T, _, packed, _ string) { flip(t, packed, 50) }},
		{name: "index altered", damaged: "line of its index", damage: func(t *testing.T, _, _, index string) { flip(t, index, 200) }},
		{name: "asciicast without its rest", short: 8, damage: func(t *testing.T, cast, _, index string) { cutTo(t, cast, provedBytes(t, index)) }},
		{name: "asciicast shorter than the parts", short: 8, damage: func(t *testing.T, cast, _, _ string) { cutTo(t, cast, 1500) }},
		{name: "asciicast empty", short: 8, damage: func(t *testing.T, cast, _, _ string) { cutTo(t, cast, 0) }},
		{name: "asciicast altered where it is packed", damaged: "differs from its signed parts", damage: func(t *testing.T, cast, _, _ string) { flip(t, cast, 700) }},
		{name: "zeros at the end", torn: 4096, damaged: "not an event", damage: func(t *testing.T, cast, _, _ string) { appendTo(t, cast, strings.Repeat("\x00", 4095)+"\n") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir, where, taken := abandoned(t)
			cast := filepath.Join(dir, where.cast())
			tt.damage(t, cast, filepath.Join(dir, where.packed()), filepath.Join(dir, where.index()))
			r := newRecorder(t, func(c *Config) { c.Dir = dir; c.PartSize = 500 })
			all, err := r.Recover(t.Context(), nil)
			must(t, err)
			if len(all) != 1 || all[0].Session != "left" || all[0].Channel != 2 || all[0].Path != where.packed() {
				t.Fatalf("recovered %+v", all)
			}
			one := all[0]
			if got := errors.Is(one.Err, ErrDamaged); got != (tt.damaged != "") || got && !strings.Contains(one.Err.Error(), tt.damaged) {
				t.Errorf("error %v, want %q", one.Err, tt.damaged)
			}
			kept, err := filepath.Glob(filepath.Join(dir, where.base) + "*" + damagedSuffix)
			if err != nil || (len(kept) > 0) != (tt.damaged != "") {
				t.Errorf("kept %v, %v", kept, err)
			}
			checkRecovered(t, r, one, taken[:len(taken)-tt.short], tt.torn)
			if again, err := r.Recover(t.Context(), nil); err != nil || len(again) != 0 {
				t.Errorf("recovered again: %+v, %v", again, err)
			}
		})
	}
}

func checkRecovered(t *testing.T, r *Recorder, one Recovered, taken []byte, torn int64) {
	t.Helper()
	events := events(t, r, one.Path)
	if got := dataOf(events, "o"); !bytes.Equal(got, taken) {
		t.Errorf("recorded %d bytes of %d", len(got), len(taken))
	}
	last := events[len(events)-1]
	if last.Code != CodeMark || !strings.Contains(last.Text, "node-1") || last.At != one.Summary.Duration {
		t.Errorf("the last event is %+v", last)
	}
	if one.Torn != torn || one.Summary.Kept != int64(len(taken)) || one.Summary.Counted != one.Summary.Kept || one.Summary.SHA256 == "" {
		t.Errorf("torn %d, %+v", one.Torn, one.Summary)
	}
	report, err := r.Verify(one.Path)
	if err != nil || !report.Complete() || !report.Recovered || report.Root != one.Summary.Root {
		t.Errorf("verify: %+v, %v", report, err)
	}
}

func appendTo(t *testing.T, name, s string) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	_, err = f.WriteString(s)
	must(t, errors.Join(err, f.Close()))
}

func cutTo(t *testing.T, name string, size int64) {
	t.Helper()
	must(t, os.Truncate(name, size))
}

func cutEnd(t *testing.T, name string, n int) {
	t.Helper()
	cutTo(t, name, int64(len(readFile(t, name))-n))
}

func flip(t *testing.T, name string, at int) {
	t.Helper()
	b := readFile(t, name)
	b[at] ^= 1
	must(t, os.WriteFile(name, b, 0o600))
}

// provedBytes is where the last part of an index ends.
func provedBytes(t *testing.T, index string) (end int64) {
	t.Helper()
	for line := range bytes.Lines(readFile(t, index)) {
		var e indexEntry
		must(t, json.Unmarshal(line, &e))
		if e.Part != nil {
			end = e.Part.Offset + e.Part.Length
		}
	}
	return end
}

// TestRecoverAltered: the parts are the signed ones, the rest is that of the file.
func TestRecoverAltered(t *testing.T) {
	t.Parallel()
	dir, where, _ := abandoned(t)
	cast := filepath.Join(dir, where.cast())
	before := readFile(t, cast)
	altered := bytes.Replace(before, []byte("person saw"), []byte("forger did"), 1)
	must(t, os.WriteFile(cast, altered, 0o600))
	r := newRecorder(t, func(c *Config) { c.Dir = dir })
	all, err := r.Recover(t.Context(), nil)
	if err != nil || len(all) != 1 || !errors.Is(all[0].Err, ErrDamaged) {
		t.Fatalf("recovered %+v, %v", all, err)
	}
	var export bytes.Buffer
	must(t, r.Export(&export, where.cast(), Asciicast3))
	if !bytes.HasPrefix(export.Bytes(), before) {
		t.Error("the signed parts were not put back")
	}
	if kept := readFile(t, cast+damagedSuffix); !bytes.Equal(kept, altered) {
		t.Error("what was altered is not kept")
	}
}

// TestRecoverSealed: the process died after the end was written and before the asciicast was removed.
func TestRecoverSealed(t *testing.T) {
	t.Parallel()
	for _, altered := range []bool{false, true} {
		r := newRecorder(t, nil)
		w := create(t, r, Header{})
		must(t, w.Output([]byte("seen")))
		cast := readFile(t, fileOf(r, w.Path()))
		sum := closed(t, w)
		if altered {
			cast = append(cast, "[0,\"o\",\"more\"]\n"...)
		}
		must(t, os.WriteFile(fileOf(r, w.Path()), cast, 0o600))
		all, err := r.Recover(t.Context(), nil)
		if err != nil || len(all) != 1 || all[0].Summary != sum || errors.Is(all[0].Err, ErrDamaged) != altered {
			t.Errorf("altered %v: recovered %+v, %v, want %+v", altered, all, err, sum)
		}
		if report, err := r.Verify(sum.Path); err != nil || !report.Complete() || report.Recovered {
			t.Errorf("altered %v: verify: %+v, %v", altered, report, err)
		}
		if _, err := os.Stat(fileOf(r, w.Path())); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("altered %v: the asciicast is still there: %v", altered, err)
		}
	}
}

func TestRecoverLeavesAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := newRecorder(t, func(c *Config) { c.Dir = dir })
	open := create(t, r, Header{Session: "open"})
	other, err := New(Config{Dir: dir, SigningKey: testKey(1)})
	must(t, err)
	create(t, other, Header{Session: "elsewhere"})
	must(t, other.Close())
	foreign := filepath.Join(dir, "2026", "notes.cast")
	must(t, errors.Join(os.MkdirAll(filepath.Dir(foreign), 0o700), os.WriteFile(foreign, []byte("not ours"), 0o600)))

	var asked []string
	all, err := r.Recover(t.Context(), func(session string) bool { asked = append(asked, session); return session == "elsewhere" })
	if err != nil || len(all) != 0 || !slices.Equal(asked, []string{"elsewhere"}) {
		t.Errorf("recovered %+v, %v; asked %v", all, err, asked)
	}
	must(t, open.Output([]byte("goes on")))
	closed(t, open)
	if all, err = r.Recover(t.Context(), nil); err != nil || len(all) != 1 || all[0].Session != "elsewhere" {
		t.Errorf("recovered %+v, %v", all, err)
	}
	if got := readFile(t, foreign); string(got) != "not ours" {
		t.Errorf("the foreign file is now %q", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Recover(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestRecoverNothing: Create had not returned when the process died.
func TestRecoverNothing(t *testing.T) {
	t.Parallel()
	r := newRecorder(t, nil)
	for n, content := range []string{"", `{"version":3,"te`} {
		where, err := newPlace("x", n, time.Now())
		must(t, err)
		must(t, errors.Join(os.MkdirAll(fileOf(r, where.dir()), 0o700), os.WriteFile(fileOf(r, where.cast()), []byte(content), 0o600)))
		if all, err := r.Recover(t.Context(), nil); err != nil || len(all) != 0 {
			t.Errorf("recovered %+v, %v", all, err)
		}
		if _, err := os.Stat(fileOf(r, where.cast())); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the empty file is still there: %v", err)
		}
	}
	// A header that says something else is not removed.
	where, err := newPlace("y", 0, time.Now())
	must(t, err)
	header, err := headerLine(Header{Session: "z"}, "")
	must(t, err)
	must(t, errors.Join(os.MkdirAll(fileOf(r, where.dir()), 0o700), os.WriteFile(fileOf(r, where.cast()), header, 0o600)))
	all, err := r.Recover(t.Context(), nil)
	if err != nil || len(all) != 1 || !errors.Is(all[0].Err, ErrDamaged) {
		t.Errorf("recovered %+v, %v", all, err)
	}
	if got := readFile(t, fileOf(r, where.cast())); !bytes.Equal(got, header) {
		t.Errorf("the file is now %q", got)
	}
}

// TestRecoverCounts: the summary is taken from the events.
func TestRecoverCounts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	dead, err := New(Config{Dir: dir, SigningKey: testKey(1)})
	must(t, err)
	w := create(t, dead, Header{Session: "limited", Limit: 5})
	must(t, w.Output([]byte("0123456789")))
	gap := create(t, dead, Header{Session: "gap"})
	must(t, gap.Output([]byte("ab")))
	must(t, gap.Gap(7, "disk full"))
	must(t, gap.Stderr([]byte("c")))
	must(t, gap.Input([]byte("in")))
	must(t, dead.Close())
	r := newRecorder(t, func(c *Config) { c.Dir = dir })
	all, err := r.Recover(t.Context(), nil)
	must(t, err)
	for _, one := range all {
		must(t, one.Err)
		got := one.Summary
		got.Path, got.Root, got.Duration, got.Bytes, got.Packed, got.Parts = "", "", 0, 0, 0, 0
		kept := sha256.Sum256([]byte("01234"))
		want := Summary{Kept: 5, Counted: 5, Truncated: true, SHA256: hex.EncodeToString(kept[:])}
		if one.Session == "gap" {
			want = Summary{Kept: 3, Counted: 10, Lost: 7, Input: 2}
		}
		if got != want {
			t.Errorf("%s: got %+v want %+v", one.Session, got, want)
		}
	}
	if len(all) != 2 {
		t.Errorf("recovered %+v", all)
	}
}
