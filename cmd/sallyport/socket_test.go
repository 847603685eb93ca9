package main

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSocket(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a-rather-long-name/", 12)
	for name, dir := range map[string]string{"short path": "", "path longer than the kernel takes": long} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder := filepath.Join(t.TempDir(), dir)
			if err := os.MkdirAll(folder, 0o700); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(folder, "s.sock")
			l, err := listenSocket(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			if info, err := os.Stat(path); err != nil || info.Mode() != os.ModeSocket|0o600 {
				t.Errorf("socket: %v, %v", info.Mode(), err)
			}
			echoed(t, l, path)
			if _, err := listenSocket(t.Context(), path); !errors.Is(err, errRunning) {
				t.Errorf("a second listener: %v, want errRunning", err)
			}
			echoed(t, l, path) // the second one left it alone
			if err := l.Close(); err != nil {
				t.Error(err)
			}
			if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the socket is still there: %v", err)
			}
			again, err := listenSocket(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			if err := again.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// echoed sends a byte through the socket.
func echoed(t *testing.T, l net.Listener, path string) {
	t.Helper()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = conn.Write([]byte{'x'})
		conn.Close()
	}()
	conn, err := dialSocket(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Error(err)
	}
}

func TestSocketOfDeadServerIsReplaced(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s.sock")
	dead, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := listenSocket(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	echoed(t, l, path)
}

func TestSocketLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listenSocket(t.Context(), file); err == nil {
		t.Error("a file was taken for a socket")
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "kept" {
		t.Errorf("the file is %q, %v", text, err)
	}
	foreign := filepath.Join(dir, "foreign")
	other, err := net.Listen("unix", foreign) // somebody who knows nothing of our lock
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := listenSocket(context.Background(), foreign); !errors.Is(err, errRunning) {
		t.Errorf("a socket somebody answers on: %v, want errRunning", err)
	}
}
