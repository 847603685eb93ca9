package recorder

import (
	"bytes"
	"errors"
	"os"
	"testing"
)

// TestParts reads a recording part by part while it is open and when it is sealed: the parts are the
// asciicast, and each says when it begins.
func TestParts(t *testing.T) {
	t.Parallel()
	r := newRecorder(t, func(c *Config) { c.PartSize = 300 })
	w := create(t, r, Header{})
	for range 30 {
		must(t, w.Output([]byte("a line of output\r\n")))
	}
	must(t, w.pack())
	must(t, w.Output([]byte("the open end")))
	checkParts(t, r, w.Path(), readFile(t, fileOf(r, w.Path())), true)
	open, err := r.Parts(t.Context(), w.Path())
	must(t, err)
	last := open[len(open)-1]
	sum := closed(t, w)
	if plain, err := r.ReadPart(t.Context(), sum.Path, last); err != nil || !bytes.Contains(plain, []byte("the open end")) {
		t.Errorf("the open part, packed since then: %q, %v", plain, err)
	}
	packed := readFile(t, fileOf(r, sum.Path))
	var cast bytes.Buffer
	src, err := r.openPlain(w.place)
	must(t, err)
	defer src.Close()
	_, err = cast.ReadFrom(src)
	must(t, err)
	checkParts(t, r, sum.Path, cast.Bytes(), false)

	parts, err := r.Parts(t.Context(), sum.Path)
	must(t, err)
	packed[parts[1].record.PackedOffset+20] ^= 1
	overwrite(t, fileOf(r, sum.Path), packed)
	if _, err := r.ReadPart(t.Context(), sum.Path, parts[1]); !errors.Is(err, ErrDamaged) {
		t.Errorf("a damaged part: %v", err)
	}
	if _, err := r.ReadPart(t.Context(), sum.Path, parts[2]); err != nil {
		t.Errorf("the part behind it: %v", err)
	}
}

// checkParts compares the parts of a recording with its asciicast, and their times with its events.
func checkParts(t *testing.T, r *Recorder, path string, cast []byte, open bool) {
	t.Helper()
	parts, err := r.Parts(t.Context(), path)
	must(t, err)
	if len(parts) < 4 || (parts[len(parts)-1].Packed == 0) != open {
		t.Fatalf("parts: %+v", parts)
	}
	var all []byte
	at := parts[0].At
	for i, p := range parts {
		plain, err := r.ReadPart(t.Context(), path, p)
		must(t, err)
		if p.Number != i+1 || p.Offset != int64(len(all)) || p.Length != int64(len(plain)) || p.At != at {
			t.Errorf("part %d: %+v with %d bytes, expected at %d, %v", i+1, p, len(plain), len(all), at)
		}
		all, at = append(all, plain...), at+span(plain)
	}
	if !bytes.Equal(all, cast) {
		t.Errorf("the parts have %d bytes, other ones than the %d of the asciicast", len(all), len(cast))
	}
}

func overwrite(t *testing.T, name string, data []byte) {
	t.Helper()
	must(t, os.WriteFile(name, data, 0o600))
}
