// Command patchssh makes the copy of Go's SSH library that `make build` builds with: the module
// golang.org/x/crypto of go.mod, out of the module cache, with the edits of edits.go.
//
//	go run ./hack/patchssh        # from the root of the repository
//	go build -modfile=build/go.mod ./cmd/sallyport
//
// It writes build/xcrypto, and build/go.mod and build/go.sum, which are those of the repository and
// replace the module by the copy. Everything in build/ is made anew each time. A build without it is
// correct, only slower.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// module is what is copied.
const module = "golang.org/x/crypto"

func main() {
	out := flag.String("out", "build", "folder to write to, inside the repository")
	flag.Parse()
	if err := run(".", *out); err != nil {
		fmt.Fprintln(os.Stderr, "patchssh:", err)
		os.Exit(1)
	}
}

// run makes the folder out for the repository at root.
func run(root, out string) error {
	src, err := download(root)
	if err != nil {
		return err
	}
	dst := filepath.Join(root, out, "xcrypto")
	fresh := dst + ".new"
	if err := errors.Join(os.RemoveAll(fresh), os.MkdirAll(filepath.Dir(dst), 0o755)); err != nil {
		return fmt.Errorf("making room for the copy: %w", err)
	}
	if err := copyTree(fresh, src); err != nil {
		return fmt.Errorf("copying %s: %w", src, err)
	}
	if err := patch(fresh, edits); err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(dst), os.Rename(fresh, dst)); err != nil {
		return fmt.Errorf("putting the copy in place: %w", err)
	}
	return modFiles(root, filepath.ToSlash(out))
}

// download returns the folder of the module in the module cache, checked against go.sum.
func download(root string) (string, error) {
	cmd := exec.Command("go", "mod", "download", "-json", module)
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	answer, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("asking go for %s: %w: %s%s", module, err, answer, &stderr)
	}
	var m struct{ Dir string }
	if err := json.Unmarshal(answer, &m); err != nil || m.Dir == "" {
		return "", fmt.Errorf("asking go for %s: it says %q", module, answer)
	}
	return m.Dir, nil
}

// copyTree copies a folder. The files of the module cache are read-only, the copies are not.
func copyTree(dst, src string) error {
	return filepath.WalkDir(src, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src, name)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(dst, rel), 0o755)
		}
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dst, rel), content, 0o644)
	})
}

// patch applies the edits to the copy of the module at root, and adds our files.
func patch(root string, edits []edit) error {
	for _, e := range edits {
		name := filepath.Join(root, "ssh", e.file)
		content, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("edit %q: %w", e.name, err)
		}
		if n := bytes.Count(content, []byte(e.old)); n != 1 {
			return fmt.Errorf("edit %q: its text stands %d times in ssh/%s, not once: "+
				"look at what changed in %s and adapt hack/patchssh/edits.go", e.name, n, e.file, module)
		}
		content = bytes.Replace(content, []byte(e.old), []byte(e.new), 1)
		if err := os.WriteFile(name, content, 0o644); err != nil {
			return fmt.Errorf("edit %q: %w", e.name, err)
		}
	}
	files, err := added.ReadDir("added")
	if err != nil {
		return fmt.Errorf("listing what is added: %w", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(file.Name(), ".txt")
		content, err := added.ReadFile("added/" + file.Name())
		if err != nil {
			return fmt.Errorf("adding ssh/%s: %w", name, err)
		}
		f, err := os.OpenFile(filepath.Join(root, "ssh", name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return fmt.Errorf("adding ssh/%s: %w", name, err)
		}
		_, err = f.Write(content)
		if err = errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("adding ssh/%s: %w", name, err)
		}
	}
	return nil
}

// modFiles writes go.mod and go.sum for -modfile. Paths in a replace line count from the root of the
// repository, wherever the file is.
func modFiles(root, out string) error {
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		return fmt.Errorf("reading go.mod: %w", err)
	}
	sum, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		return fmt.Errorf("reading go.sum: %w", err)
	}
	mod = fmt.Appendf(mod, "\n// Made by hack/patchssh.\nreplace %s => ./%s/xcrypto\n", module, out)
	for name, content := range map[string][]byte{"go.mod": mod, "go.sum": sum} {
		if err := os.WriteFile(filepath.Join(root, out, name), content, 0o644); err != nil {
			return fmt.Errorf("writing %s/%s: %w", out, name, err)
		}
	}
	return nil
}
