package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// sshd is an OpenSSH server on loopback with its files in one folder.
type sshd struct {
	addr   string
	host   key
	dir    string
	server *process
}

// startSSHD starts a server that knows the keys of authorized_keys lines in keys. extra are lines of
// sshd_config.
func startSSHD(ctx context.Context, dir string, keys []string, extra ...string) (*sshd, error) {
	program, err := exec.LookPath("sshd")
	if err != nil {
		program = "/usr/sbin/sshd" // not in everybody's PATH
	}
	if os.Geteuid() == 0 {
		// sshd's empty folder for privilege separation; its package makes it at boot.
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(os.Mkdir(dir, 0o700), os.Mkdir(filepath.Join(dir, "home"), 0o700)); err != nil {
		return nil, err
	}
	s := &sshd{dir: dir}
	if s.host, err = newKey(filepath.Join(dir, "host")); err != nil {
		return nil, err
	}
	if err := s.authorize(keys...); err != nil {
		return nil, err
	}
	// A free port may be taken between asking for it and using it.
	for range 3 {
		if err = s.start(ctx, program, extra); err == nil {
			return s, nil
		}
	}
	return nil, err
}

// authorize replaces the keys that the server knows.
func (s *sshd) authorize(keys ...string) error {
	return os.WriteFile(filepath.Join(s.dir, "authorized_keys"), []byte(strings.Join(keys, "\n")+"\n"), 0o600)
}

func (s *sshd) start(ctx context.Context, program string, extra []string) error {
	addr, err := freeAddr()
	if err != nil {
		return err
	}
	_, port, _ := net.SplitHostPort(addr)
	config, log := filepath.Join(s.dir, "config"), filepath.Join(s.dir, "log")
	text := fmt.Sprintf(`Port %s
ListenAddress 127.0.0.1
HostKey %s
AuthorizedKeysFile %s/authorized_keys
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
PermitUserRC no
PrintMotd no
PrintLastLog no
MaxStartups 1000
MaxSessions 10
# What the shell of whoever runs this does at its start is not to be measured.
SetEnv HOME=%s/home
%s
`, port, s.host.file, s.dir, s.dir, strings.Join(extra, "\n"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	server, err := start(exec.Command(program, "-D", "-f", config, "-E", log))
	if err != nil {
		return fmt.Errorf("%w; is openssh-server installed?", err)
	}
	err = poll("sshd to answer", 20*time.Second, func() (bool, error) {
		select {
		case <-server.exited:
			text, _ := os.ReadFile(log)
			return false, fmt.Errorf("sshd ended at once: %s", text)
		default:
			return answers(addr), ctx.Err()
		}
	})
	if err != nil {
		server.stop(0)
		return err
	}
	s.addr, s.server = addr, server
	return nil
}

func answers(addr string) bool {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return false
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	hello := make([]byte, 4)
	n, _ := conn.Read(hello)
	return string(hello[:n]) == "SSH-"
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("finding a free port: %w", err)
	}
	return l.Addr().String(), l.Close()
}

func (s *sshd) stop() {
	if s != nil {
		s.server.stop(5 * time.Second)
	}
}

// relayScript is what the relay runs for everybody: ssh to the target with the same command, as bastions
// made of processes do. A subsystem arrives as its command.
const relayScript = `#!/bin/sh
kind=
[ -t 0 ] && kind=-tt
command=$SSH_ORIGINAL_COMMAND
[ "$command" = internal-sftp ] && kind=-s command=sftp
exec ssh -F none -i %[1]s/key -p %[2]s -l %[3]s -c %[4]s $kind -o BatchMode=yes -o IdentitiesOnly=yes -o IdentityAgent=none \
	-o LogLevel=ERROR -o UserKnownHostsFile=%[1]s/known_hosts -o GlobalKnownHostsFile=/dev/null -o StrictHostKeyChecking=yes \
	127.0.0.1 ${command:+"$command"}
`

// startRelay starts the relay before target, which the key it returns must be authorized at.
func startRelay(ctx context.Context, dir string, client key, target *sshd, account string) (*sshd, key, error) {
	files := filepath.Join(filepath.Dir(dir), "relay-files")
	if err := os.Mkdir(files, 0o700); err != nil {
		return nil, key{}, err
	}
	own, err := newKey(filepath.Join(files, "key"))
	if err != nil {
		return nil, key{}, err
	}
	_, port, _ := net.SplitHostPort(target.addr)
	script := filepath.Join(files, "relay")
	err = errors.Join(
		os.WriteFile(script, fmt.Appendf(nil, relayScript, files, port, account, gcm), 0o700),
		os.WriteFile(filepath.Join(files, "known_hosts"), fmt.Appendf(nil, "[127.0.0.1]:%s %s\n", port, target.host.line()), 0o600))
	if err != nil {
		return nil, key{}, err
	}
	s, err := startSSHD(ctx, dir, []string{client.line()}, "Subsystem sftp internal-sftp", "ForceCommand "+script)
	return s, own, err
}
