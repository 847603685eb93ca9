package main

import (
	"bytes"
	"go/format"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// original is a copy of the files that are edited, as the module has them.
func original(t *testing.T) string {
	t.Helper()
	src, err := download(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	dst := t.TempDir()
	if err := copyTree(filepath.Join(dst, "ssh"), filepath.Join(src, "ssh")); err != nil {
		t.Fatal(err)
	}
	return dst
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// TestPatch applies the edits to the module that go.mod pins.
func TestPatch(t *testing.T) {
	t.Parallel()
	dir := original(t)
	if err := patch(dir, edits); err != nil {
		t.Fatal(err)
	}
	files := []string{"bulk.go", "bulk_test.go", "half.go", "half_test.go"}
	for _, e := range edits {
		files = append(files, e.file)
	}
	for _, name := range files {
		got := read(t, filepath.Join(dir, "ssh", name))
		if want, err := format.Source(got); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not formatted: %v", name, err)
		}
	}
	for _, e := range edits {
		if e.name == "" || e.old == e.new {
			t.Errorf("edit %q does nothing", e.name)
		}
	}
	if err := patch(dir, edits); err == nil {
		t.Error("the edits were applied twice")
	}
}

// TestStaleEditStops: when the module changes under an edit, the build stops and names it.
func TestStaleEditStops(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(content, old string) string
		want   string
	}{
		{"gone", func(content, old string) string { return strings.Replace(content, old, "", 1) }, "0 times"},
		{"one blank more", func(content, old string) string { return strings.Replace(content, old, " "+old[1:], 1) }, "0 times"},
		{"twice", func(content, old string) string { return content + old }, "2 times"},
	} {
		for _, e := range []edit{edits[0], edits[len(edits)-1]} {
			t.Run(tt.name+" "+e.file, func(t *testing.T) {
				t.Parallel()
				dir := original(t)
				name := filepath.Join(dir, "ssh", e.file)
				changed := tt.change(string(read(t, name)), e.old)
				if err := os.WriteFile(name, []byte(changed), 0o644); err != nil {
					t.Fatal(err)
				}
				err := patch(dir, []edit{e})
				if err == nil || !strings.Contains(err.Error(), e.name) || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("the error is %v", err)
				}
				if got := read(t, name); string(got) != changed {
					t.Error("the file was changed all the same")
				}
			})
		}
	}
	if err := patch(original(t), slices.Concat(edits, []edit{{name: "of nothing", file: "nothing.go", old: "x"}})); err == nil || !strings.Contains(err.Error(), "of nothing") {
		t.Errorf("an edit of a file that does not exist: %v", err)
	}
}

// TestModFiles: the second go.mod differs in one line.
func TestModFiles(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for name, content := range map[string]string{"go.mod": "module x\n", "go.sum": "sums\n"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(root, "out"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := modFiles(root, "out"); err != nil {
		t.Fatal(err)
	}
	if got, want := string(read(t, filepath.Join(root, "out", "go.mod"))), "module x\n\n// Made by hack/patchssh.\nreplace golang.org/x/crypto => ./out/xcrypto\n"; got != want {
		t.Errorf("got %q want %q", got, want)
	}
	if got := string(read(t, filepath.Join(root, "out", "go.sum"))); got != "sums\n" {
		t.Errorf("go.sum is %q", got)
	}
}
