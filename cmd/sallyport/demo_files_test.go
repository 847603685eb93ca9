package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// sftp runs the real client with a batch of commands.
func (r *runningTarget) sftp(t *testing.T, batch string) (output string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sftp", append(r.options(), "-b", "-", r.person.Name+"@127.0.0.1")...)
	cmd.Stdin = strings.NewReader(batch)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestTargetSFTP(t *testing.T) {
	t.Parallel()
	r := startTarget(t)
	dir := t.TempDir()
	data := make([]byte, 5<<20+17)
	if _, err := rand.Read(data); err != nil {
		t.Fatal(err)
	}
	local := filepath.Join(dir, "local")
	if err := os.WriteFile(local, data, 0o640); err != nil {
		t.Fatal(err)
	}
	out, err := r.sftp(t, fmt.Sprintf("pwd\nmkdir sub\nput -p %s sub/there\nrename sub/there sub/here\nls -l sub\nget sub/here %s/back\nchmod 600 sub/here\nrm sub/here\nrmdir sub\nput %[1]s kept\nls\n", local, dir))
	if err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	if !strings.Contains(out, "Remote working directory: /\n") {
		t.Errorf("the scratch folder is not the root:\n%s", out)
	}
	for _, file := range []string{filepath.Join(dir, "back"), filepath.Join(r.files, "kept")} {
		got, err := os.ReadFile(file)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes, %v; want the %d sent", file, len(got), err, len(data))
		}
	}
	if _, err := os.Stat(filepath.Join(r.files, "sub")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("folder sub is still there: %v", err)
	}
}

func TestTargetSFTPStaysInside(t *testing.T) {
	t.Parallel()
	r := startTarget(t)
	outside := filepath.Join(filepath.Dir(r.files), "outside")
	if err := os.WriteFile(outside, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"link": outside, "up": "../outside", "dir": filepath.Dir(outside)} {
		if err := os.Symlink(to, filepath.Join(r.files, name)); err != nil {
			t.Fatal(err)
		}
	}
	local := filepath.Join(t.TempDir(), "local")
	if err := os.WriteFile(local, []byte("overwritten"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{
		"get ../outside " + local + "x", "get /../../outside " + local + "x", "get " + outside + " " + local + "x",
		"get link " + local + "x", "get up " + local + "x", "get dir/outside " + local + "x",
		"put " + local + " ../../" + filepath.Base(filepath.Dir(outside)) + "/outside", "put " + local + " link", "put " + local + " up",
		"put " + local + " dir/outside", "chmod 777 up", "rename up ../elsewhere/x", "mkdir dir/new", "rm dir/outside",
		"ln -s /etc/passwd here",
	} {
		if out, err := r.sftp(t, command+"\n"); err == nil {
			t.Errorf("%q was obeyed:\n%s", command, out)
		}
	}
	if out, _ := r.sftp(t, "ls dir/\n"); strings.Contains(out, "outside") {
		t.Errorf("a folder outside was listed:\n%s", out)
	}
	info, err := os.Stat(outside)
	if err != nil || info.Size() != int64(len("secret")) || info.Mode().Perm() != 0o600 {
		t.Errorf("outside is now %v, %v", info, err)
	}
}
