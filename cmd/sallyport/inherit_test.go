package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/internal/testenv"
)

// bare is an installation without people or targets: enough to answer at its doors.
type bare struct {
	t   *testing.T
	dir string
	exe string
}

// newBare makes one; config are further lines of its configuration.
func newBare(t *testing.T, ssh, web, config string) *bare {
	t.Helper()
	exe, err := os.Executable()
	noError(t, err)
	b := &bare{t: t, dir: filepath.Join(t.TempDir(), "data"), exe: exe}
	if out, errs, status := program(t, "init", "--dir", b.dir); status != 0 {
		t.Fatalf("init: %d %s%s", status, out, errs)
	}
	noError(t, os.WriteFile(b.config(), fmt.Appendf(nil, "node: n1\ndata: %s\ndatabase: sqlite\nssh: {listen: %q}\nweb: {listen: %q%s}\ndrain: 1s\n", b.dir, ssh, web, config), 0o600))
	return b
}

func (b *bare) config() string { return filepath.Join(b.dir, "sallyport.yaml") }

// start runs cmd, which leads to the server, until the test ends.
func (b *bare) start(cmd *exec.Cmd) (log *lockedBuffer, exited <-chan int) {
	b.t.Helper()
	log = &lockedBuffer{}
	done := make(chan int, 1)
	cmd.Env = append(append(os.Environ(), cmd.Env...), asProgram+"=1")
	cmd.Stdout, cmd.Stderr = log, log
	noError(b.t, cmd.Start())
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		done <- cmd.ProcessState.ExitCode()
		close(ended)
	}()
	b.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		if b.t.Failed() {
			b.t.Logf("the server's log:\n%s", log)
		}
	})
	return log, done
}

// withSockets runs the server with files passed as systemd does.
func (b *bare) withSockets(names string, files ...*os.File) *exec.Cmd {
	// LISTEN_PID has to be the server's own, which only the process that becomes it can say.
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, b.exe, "serve", "-c", b.config())
	cmd.Env = []string{fmt.Sprintf("LISTEN_FDS=%d", len(files)), "LISTEN_FDNAMES=" + names}
	cmd.ExtraFiles = files
	return cmd
}

// socket is a TCP socket that listens at a free port of address.
func socket(t *testing.T, address string) (*os.File, string) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	noError(t, err)
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	noError(t, err)
	t.Cleanup(func() { f.Close() })
	return f, l.Addr().String()
}

// banner waits for the SSH door to say who it is.
func banner(t *testing.T, addr string) {
	t.Helper()
	testenv.WaitFor(t, "the SSH door at "+addr, func() bool {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			return false
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		b := make([]byte, 7)
		_, err = io.ReadFull(c, b)
		return err == nil && string(b) == "SSH-2.0"
	})
}

// Sockets that systemd opened are taken in place of the configured ones, which stay free; a connection that came before
// the server ran is answered, and what runs under the server hears nothing of it.
func TestSocketActivation(t *testing.T) {
	t.Parallel()
	configured, configuredWeb := testenv.FreeAddr(t), testenv.FreeAddr(t)
	b := newBare(t, configured, configuredWeb, "")
	sshFile, ssh := socket(t, "127.0.0.1:0")
	webFile, web := socket(t, "127.0.0.1:0")
	early, err := net.Dial("tcp", ssh)
	noError(t, err)
	defer early.Close()
	cmd := b.withSockets("ssh:web", sshFile, webFile)
	log, exited := b.start(cmd)
	_ = early.SetDeadline(time.Now().Add(time.Minute))
	first := make([]byte, 7)
	if _, err := io.ReadFull(early, first); err != nil || string(first) != "SSH-2.0" {
		t.Errorf("a connection that waited for the server: %q %v", first, err)
	}
	testenv.WaitFor(t, "the pages", func() bool {
		r, err := http.Get("http://" + web + "/")
		if err == nil {
			r.Body.Close()
		}
		return err == nil
	})
	for _, addr := range []string{configured, configuredWeb} {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			t.Errorf("%s of the configuration is open too", addr)
		}
	}
	testenv.WaitFor(t, "the log to say where the server answers", func() bool { return strings.Contains(log.String(), ssh) && strings.Contains(log.String(), web) })
	noError(t, cmd.Process.Signal(syscall.SIGTERM))
	if status := <-exited; status != 0 {
		t.Errorf("exit status %d", status)
	}
	// The port was never closed: systemd starts the next one on it.
	if c, err := net.Dial("tcp", ssh); err != nil {
		t.Errorf("between two servers: %v", err)
	} else {
		c.Close()
	}
}

// The same by the program of systemd that does it.
func TestSystemdSocketActivate(t *testing.T) {
	t.Parallel()
	b := newBare(t, testenv.FreeAddr(t), "", "")
	addr := testenv.FreeAddr(t)
	cmd := exec.Command("systemd-socket-activate", "--listen="+addr, "--fdname=ssh", "--setenv="+asProgram, b.exe, "serve", "-c", b.config())
	b.start(cmd)
	banner(t, addr)
}

// What systemd passes by mistake ends the server with exit status 2 and what to do, above all a socket that would carry
// passwords in the clear.
func TestSocketsRefused(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		names, at string
		make      func(t *testing.T) *os.File
		want      string
	}{
		"unnamed":     {"sallyport.socket", "", nil, "FileDescriptorName=ssh, web, radius, radius-accounting or radsec"},
		"without":     {"", "", nil, "FileDescriptorName=ssh, web, radius,"},
		"web outside": {"web", "0.0.0.0:0", nil, "would carry passwords in the clear"},
		"twice":       {"ssh:ssh", "", nil, "two sockets"},
		"connection": {"ssh", "", func(t *testing.T) *os.File {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			noError(t, err)
			defer l.Close()
			c, err := net.Dial("tcp", l.Addr().String())
			noError(t, err)
			defer c.Close()
			f, err := c.(*net.TCPConn).File()
			noError(t, err)
			return f
		}, "Accept=no"},
		"unix": {"ssh", "", func(t *testing.T) *os.File {
			l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
			noError(t, err)
			t.Cleanup(func() { l.Close() })
			f, err := l.(*net.UnixListener).File()
			noError(t, err)
			return f
		}, "no TCP port"},
		"file": {"ssh", "", func(t *testing.T) *os.File {
			f, err := os.Open(os.DevNull)
			noError(t, err)
			return f
		}, "does not listen"},
		"radius by TCP":     {"radius", "", nil, "ListenDatagram="},
		"radius twice":      {"radius:radius", "", packets, "two sockets"},
		"accounting alone":  {"radius-accounting", "", packets, "set radius.listen too"},
		"ssh by UDP":        {"ssh", "", packets, "does not listen"},
		"unbound":           {"radius", "", unbound, "no UDP port"},
		"unix packets":      {"radius", "", unixPackets, "no UDP port"},
		"radsec in clear":   {"radsec", "", nil, "radius.radsec.certificate"},
		"radius and a file": {"radius", "", devNull, "not for datagrams"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBare(t, testenv.FreeAddr(t), "127.0.0.1:0", "")
			var files []*os.File
			for range strings.Count(x.names, ":") + 1 {
				if x.make != nil {
					files = append(files, x.make(t))
					continue
				}
				at := x.at
				if at == "" {
					at = "127.0.0.1:0"
				}
				f, _ := socket(t, at)
				files = append(files, f)
			}
			log, exited := b.start(b.withSockets(x.names, files...))
			if status := <-exited; status != exitUsage || !strings.Contains(log.String(), x.want) {
				t.Errorf("exit status %d, want 2 and %q:\n%s", status, x.want, log)
			}
		})
	}
}

// A user without privileges opens a port below 1024 with the one capability that the unit gives, and does not without it.
func TestLowPortWithoutRoot(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Fatal("this test becomes another user and needs root")
	}
	if first, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start"); err != nil || strings.TrimSpace(string(first)) == "0" {
		t.Fatalf("every user may open every port here, so that nothing would be shown: run it where net.ipv4.ip_unprivileged_port_start is 1024 (%s, %v)", first, err)
	}
	addr := lowPort(t)
	b := newBare(t, addr, "", "")
	// The way to the test's own program is closed to others.
	copied := filepath.Join(filepath.Dir(b.dir), "sallyport")
	text, err := os.ReadFile(b.exe)
	noError(t, err)
	noError(t, os.WriteFile(copied, text, 0o755))
	for dir := filepath.Dir(b.dir); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		noError(t, os.Chmod(dir, 0o755))
	}
	testenv.Run(t, "chown", "-R", "65534:65534", b.dir)
	as := func(capabilities ...string) *exec.Cmd {
		args := append([]string{"--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"}, capabilities...)
		return exec.Command("setpriv", append(args, copied, "serve", "-c", b.config())...)
	}
	log, exited := b.start(as("--inh-caps=-all", "--bounding-set=-all"))
	if status := <-exited; status != exitFailed || !strings.Contains(log.String(), "permission denied") || !strings.Contains(log.String(), "CAP_NET_BIND_SERVICE") {
		t.Errorf("without the capability: exit status %d\n%s", status, log)
	}
	only := "-all,+net_bind_service"
	cmd := as("--inh-caps="+only, "--ambient-caps="+only, "--bounding-set="+only)
	b.start(cmd)
	banner(t, addr)
	status, err := os.ReadFile("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/status")
	noError(t, err)
	if !bytes.Contains(status, []byte("Uid:\t65534")) || !bytes.Contains(status, []byte("CapEff:\t0000000000000400")) {
		t.Errorf("the server is more than it should be:\n%s", status)
	}
}

// lowPort is an address with a free port that needs the capability.
func lowPort(t *testing.T) string {
	t.Helper()
	for port := 1023; port > 600; port-- {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		if l, err := net.Listen("tcp", addr); err == nil {
			l.Close()
			return addr
		}
	}
	t.Fatal("no port below 1024 is free")
	return ""
}
