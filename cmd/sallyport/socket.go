package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// errRunning means that another server answers on the socket.
var errRunning = errors.New("a server is already running")

// viaFolder calls do with a name for a socket that fits into the 107 bytes the kernel has for it: a long
// path goes by way of its open folder. The name is good until the call returns.
func viaFolder(path string, do func(name string) error) error {
	const longest = 107
	if len(path) <= longest {
		return do(path)
	}
	dir, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: filepath.Dir(path), Err: err}
	}
	defer unix.Close(dir)
	return do(fmt.Sprintf("/proc/self/fd/%d/%s", dir, filepath.Base(path)))
}

// dialSocket connects to the Unix socket at path, however long the path is.
func dialSocket(ctx context.Context, path string) (conn net.Conn, err error) {
	err = viaFolder(path, func(name string) (err error) {
		var d net.Dialer
		conn, err = d.DialContext(ctx, "unix", name)
		return err
	})
	return conn, err
}

// socketListener is the Unix socket of the operator's commands.
type socketListener struct {
	net.Listener
	path string
	lock *os.File // held as long as this process serves the socket

	close sync.Once
	err   error
}

// listenSocket listens on a Unix socket that only the owner of this process may use. A socket that a dead
// process left is replaced; where a server answers, the error is errRunning.
func listenSocket(ctx context.Context, path string) (*socketListener, error) {
	lock, err := lockFile(path + ".lock")
	if err != nil {
		return nil, err
	}
	l, err := bindSocket(ctx, path)
	if err != nil {
		return nil, errors.Join(err, unlock(lock))
	}
	return &socketListener{Listener: l, path: path, lock: lock}, nil
}

// lockFile takes the lock that tells a running server from what a dead one left.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errRunning
		}
		return nil, errors.Join(fmt.Errorf("%w (lock %s)", err, path), f.Close())
	}
	return f, nil
}

// unlock gives the lock back. To close the file is not enough: a child that is just being started has it too, until
// it runs its own program.
func unlock(f *os.File) error { return errors.Join(unix.Flock(int(f.Fd()), unix.LOCK_UN), f.Close()) }

func bindSocket(ctx context.Context, path string) (net.Listener, error) {
	if err := removeStale(ctx, path); err != nil {
		return nil, err
	}
	var l net.Listener
	err := viaFolder(path, func(name string) (err error) {
		var lc net.ListenConfig
		l, err = lc.Listen(ctx, "unix", name)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listening on socket %s: %w", path, err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // its name may have gone by way of a folder
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("closing socket to others: %w", err), l.Close())
	}
	return l, nil
}

// removeStale removes a socket that nobody answers on.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("looking at socket: %w", err)
	case info.Mode().Type() != os.ModeSocket:
		return fmt.Errorf("%s exists and is no socket; remove it, or name another in socket:", path)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if conn, err := dialSocket(ctx, path); err == nil {
		return errors.Join(fmt.Errorf("%w (socket %s answers)", errRunning, path), conn.Close())
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("removing the socket of a dead server: %w", err)
	}
	return nil
}

// Accept returns connections of the owner and of root. The mode of the file says the same; this holds
// where a folder or a mask would not.
func (l *socketListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if uid, err := peerUser(conn); err == nil && (uid == 0 || uid == os.Geteuid()) {
			return conn, nil
		}
		_ = conn.Close() // a stranger
	}
}

// Close stops listening, removes the socket and gives up the lock. The lock's file stays: removing it
// could take the lock from under a process that opened it meanwhile.
func (l *socketListener) Close() error {
	l.close.Do(func() {
		l.err = errors.Join(os.Remove(l.path), l.Listener.Close(), unlock(l.lock))
	})
	return l.err
}

// peerUser finds out which user has the other end of a Unix socket.
func peerUser(conn net.Conn) (int, error) {
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var failed error
	err = raw.Control(func(fd uintptr) { cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(err, failed); err != nil {
		return 0, err
	}
	return int(cred.Uid), nil
}
