package radius_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	codec "layeh.com/radius"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/testenv"
	"sallyport/store"
)

// daemon starts a server that runs until the end of the test, and returns the file with what it prints.
func daemon(t *testing.T, dir string, run *exec.Cmd) (log string) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "log"))
	check(t, err)
	defer f.Close()
	run.Stdout, run.Stderr = f, f
	check(t, run.Start())
	t.Cleanup(func() {
		_ = run.Process.Kill()
		_ = run.Wait()
		if t.Failed() {
			text, _ := os.ReadFile(f.Name())
			t.Logf("%s: %s", run.Path, text)
		}
	})
	return f.Name()
}

const freeRADIUS = `prefix = /usr
logdir = %[1]s
run_dir = %[1]s
raddbdir = %[1]s
libdir = /usr/lib/freeradius
proxy_requests = yes
security {
	reject_delay = 0
	status_server = no
}
modules {
}
client gateway {
	ipaddr = 127.0.0.1
	secret = "%[2]s"
	require_message_authenticator = %[3]s
}
home_server bastion {
	type = auth
	ipaddr = 127.0.0.1
	port = %[4]s
	secret = "%[2]s"
	response_window = 20
	status_check = none
}
home_server_pool bastion {
	type = fail-over
	home_server = bastion
}
realm bastion {
	auth_pool = bastion
	nostrip
}
server default {
	listen {
		type = auth
		ipaddr = 127.0.0.1
		port = %[5]d
	}
	authorize {
		update control {
			&Proxy-To-Realm := "bastion"
		}
	}
}
`

// freeRADIUS starts FreeRADIUS, which sends all that it is asked on to the address to.
func startFreeRADIUS(t *testing.T, to, demands string) *node {
	t.Helper()
	dir, port := t.TempDir(), testenv.FreePort(t)
	_, toPort, err := net.SplitHostPort(to)
	check(t, err)
	check(t, os.WriteFile(filepath.Join(dir, "radiusd.conf"), fmt.Appendf(nil, freeRADIUS, dir, secret, demands, toPort, port), 0o600))
	log := daemon(t, dir, exec.Command("/usr/sbin/freeradius", "-f", "-l", "stdout", "-d", dir))
	testenv.WaitFor(t, "FreeRADIUS", func() bool {
		text, err := os.ReadFile(log)
		check(t, err)
		return bytes.Contains(text, []byte("Ready to process requests"))
	})
	return &node{addr: fmt.Sprintf("127.0.0.1:%d", port)}
}

// FreeRADIUS in between: what comes through it is judged as what comes straight, and it signs what it sends on, whether
// the gateway did or not.
func TestFreeRADIUS(t *testing.T) {
	t.Parallel()
	const ma = ",Message-Authenticator=0x00"
	t.Run("code", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "", func(c *store.RadiusClient) { c.LegacyMSCHAPv2 = true })
		alice := w.person("alice")
		front := startFreeRADIUS(t, w.nodes[0].addr, "yes")
		code := alice.code()
		p := front.peer(t)
		p.send(plain(access("alice", code))) // FreeRADIUS discards it
		if out := front.radclient(t, "auth", "User-Name=alice,User-Password="+code+ma); !strings.Contains(out, "Received Access-Accept") {
			t.Errorf("a right code: %s", out)
		}
		if b := p.receive(50 * time.Millisecond); b != nil {
			t.Errorf("what is not signed is answered by % x", b)
		}
		for what, attributes := range map[string]string{"used": "User-Name=alice,User-Password=" + code, "nobody": "User-Name=nobody,User-Password=000000"} {
			if out := front.radclient(t, "auth", attributes+ma); !strings.Contains(out, "Received Access-Reject") || !strings.Contains(out, `Reply-Message = "Permission denied."`) {
				t.Errorf("%s: %s", what, out)
			}
		}
		attributes, success := msCHAP2(t, "alice", alice.code())
		if out := front.radclient(t, "auth", attributes); !strings.Contains(out, "Received Access-Accept") || !strings.Contains(out, success) {
			t.Errorf("MS-CHAPv2: no %s in %s", success, out)
		}
		w.counted("proxy-state", 4)
		w.counted("message-authenticator", 4)
	})
	t.Run("challenge", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "", mode(store.RadiusChallenge))
		alice := w.person("alice")
		front := startFreeRADIUS(t, w.nodes[0].addr, "no")
		out := front.radclient(t, "auth", "User-Name=alice,User-Password=pw")
		_, state, found := strings.Cut(out, "State = ")
		if !found || !strings.Contains(out, "Received Access-Challenge") || !strings.Contains(out, `Reply-Message = "Code: "`) {
			t.Fatalf("the password: %s", out)
		}
		state, _, _ = strings.Cut(state, "\n")
		if out := front.radclient(t, "auth", "User-Name=alice,User-Password="+alice.code()+",State="+state); !strings.Contains(out, "Received Access-Accept") {
			t.Errorf("the code: %s", out)
		}
	})
}

// between alters packets on their way to a node. What back makes nothing of is lost.
func between(t *testing.T, to string, there, back func([]byte) []byte) (addr string) {
	t.Helper()
	front, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	check(t, err)
	behind, err := net.Dial("udp", to)
	check(t, err)
	var mu sync.Mutex
	var last net.Addr
	var work sync.WaitGroup
	work.Go(func() {
		b := make([]byte, 4096)
		for {
			n, from, err := front.ReadFrom(b)
			if err != nil {
				return
			}
			mu.Lock()
			last = from
			mu.Unlock()
			_, _ = behind.Write(there(slices.Clone(b[:n])))
		}
	})
	work.Go(func() {
		b := make([]byte, 4096)
		for {
			n, err := behind.Read(b)
			if err != nil {
				return
			}
			mu.Lock()
			to := last
			mu.Unlock()
			if out := back(slices.Clone(b[:n])); out != nil {
				_, _ = front.WriteTo(out, to)
			}
		}
	})
	t.Cleanup(func() { front.Close(); behind.Close(); work.Wait() })
	return front.LocalAddr().String()
}

// unsigned is a packet without its Message-Authenticator.
func unsigned(b []byte) []byte {
	out := slices.Clone(b[:20])
	for at := 20; at < len(b); at += int(b[at+1]) {
		if b[at] != 80 {
			out = append(out, b[at:at+int(b[at+1])]...)
		}
	}
	out[2], out[3] = byte(len(out)>>8), byte(len(out))
	return out
}

// BlastRADIUS (CVE-2024-3596) begins by taking Message-Authenticator out of what a proxy sends, and putting its own
// Proxy-State in. Such a request is not answered, not even for a client that need not sign.
func TestBlastRADIUS(t *testing.T) {
	t.Parallel()
	for _, how := range []string{store.AuthenticatorYes, store.AuthenticatorNo} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "", demands(how))
			alice := w.person("alice")
			passed := make(chan []byte, 100)
			middle := between(t, w.nodes[0].addr, func(b []byte) []byte { passed <- b; return unsigned(b) }, func(b []byte) []byte { return b })
			front := startFreeRADIUS(t, middle, "yes")
			code := alice.code()
			p := front.peer(t)
			p.send(signed(access("alice", code)))
			w.counted("proxy-state-discarded", 1)
			if b := p.receive(50 * time.Millisecond); b != nil {
				t.Errorf("answered by % x", b)
			}
			if b := <-passed; bytes.Equal(b, unsigned(b)) {
				t.Error("FreeRADIUS has not signed, so that this proves nothing")
			}
			if got := w.nodes[0].peer(t).ask(signed(access("alice", code))); got.Code != codec.CodeAccessAccept {
				t.Errorf("the code after that: %v", got.Code)
			}
		})
	}
}

// pam_radius in a real sshd: the person is asked for the password and then for the code, neither of which is shown.
func TestPAM(t *testing.T) {
	t.Parallel()
	me, err := user.Current()
	check(t, err)
	const shared = "without-blanks-for-pam-radius"
	// pam_radius 2.0 signs nothing.
	w := newWorld(t, "", mode(store.RadiusChallenge), demands(store.AuthenticatorNo))
	_, err = w.Store.RadiusClients.Change(t.Context(), "vpn", func(*store.RadiusClient) (store.SharedSecret, error) { return store.SharedSecret(shared), nil })
	check(t, err)
	_, version, err := w.rules()
	check(t, err)
	_, err = w.Store.Rules.Put(t.Context(), strings.Replace(rules, "[alice, bob]", `["*"]`, 1), "test", version)
	check(t, err)
	person := w.person(me.Username)

	login := pamSSHD(t, me.Username, w.nodes[0].addr+" "+shared+" 8")
	code := person.code()
	for _, x := range []struct {
		what, password, code string
		in                   bool
	}{
		{"a wrong code", "pw", "000000", false},
		{"both right", "pw", code, true},
		{"a used code", "pw", code, false},
		{"a wrong password", "wrong", person.code(), false},
	} {
		prompts, err := login(typed(x.password), typed(x.code))
		if (err == nil) != x.in {
			t.Errorf("%s: %v", x.what, err)
		}
		if want := []string{"Password: false", "Code: false"}; !slices.Equal(prompts, want) {
			t.Errorf("%s: asked %q, want %q", x.what, prompts, want)
		}
	}
}

// pamSSHD starts a real sshd that asks servers, each with secret and timeout, by pam_radius, and returns how a person logs in
// there. pam_wrapper has sshd read another folder than /etc/pam.d.
func pamSSHD(t *testing.T, login string, servers ...string) func(answers ...func() string) (prompts []string, err error) {
	t.Helper()
	dir := t.TempDir()
	services, addr := filepath.Join(dir, "pam.d"), testenv.FreeAddr(t)
	check(t, os.Mkdir(services, 0o700))
	service := fmt.Sprintf("auth required pam_radius_auth.so conf=%s/radius client_id=sshd prompt=Password prompt_attribute\naccount required pam_permit.so\nsession required pam_permit.so\n", dir)
	_, port, _ := net.SplitHostPort(addr)
	config := fmt.Sprintf(`Port %s
ListenAddress 127.0.0.1
HostKey %s/host
PidFile none
StrictModes no
UsePAM yes
PubkeyAuthentication no
PasswordAuthentication no
KbdInteractiveAuthentication yes
PermitRootLogin yes
SetEnv HOME=%s
`, port, dir, dir)
	for name, text := range map[string]string{
		"pam.d/sshd": service, "pam.d/other": service, "radius": strings.Join(servers, "\n") + "\n", "config": config,
	} {
		check(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	testenv.Run(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", filepath.Join(dir, "host"))
	if os.Geteuid() == 0 {
		check(t, os.MkdirAll("/run/sshd", 0o755))
	}
	wrapper, err := filepath.Glob("/usr/lib/*/libpam_wrapper.so")
	check(t, err)
	if len(wrapper) != 1 {
		t.Fatalf("pam_wrapper is needed: apt-get install libpam-wrapper (found %q)", wrapper)
	}
	t.Cleanup(func() { // sshd ends without clearing away what pam_wrapper has made
		left, _ := filepath.Glob("/tmp/pam.*/sshd")
		for _, file := range left {
			if text, err := os.ReadFile(file); err == nil && string(text) == service {
				_ = os.RemoveAll(filepath.Dir(file))
			}
		}
	})
	sshd := exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", filepath.Join(dir, "config"))
	sshd.Env = append(os.Environ(), "LD_PRELOAD="+wrapper[0], "PAM_WRAPPER=1", "PAM_WRAPPER_SERVICE_DIR="+services)
	daemon(t, dir, sshd)
	testenv.WaitFor(t, "sshd", func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})

	return func(answers ...func() string) (prompts []string, err error) {
		client, err := ssh.Dial("tcp", addr, &ssh.ClientConfig{
			User: login, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: 20 * time.Second,
			Auth: []ssh.AuthMethod{ssh.KeyboardInteractive(func(_, _ string, questions []string, shown []bool) ([]string, error) {
				var out []string
				for i, q := range questions {
					if len(answers) == 0 {
						return nil, fmt.Errorf("one question too many: %q", q)
					}
					prompts = append(prompts, fmt.Sprintf("%s%v", q, shown[i]))
					out, answers = append(out, answers[0]()), answers[1:]
				}
				return out, nil
			})},
		})
		if err != nil {
			return prompts, err
		}
		defer client.Close()
		session, err := client.NewSession()
		if err != nil {
			return prompts, err
		}
		out, err := session.Output("echo in")
		if string(out) != "in\n" {
			err = fmt.Errorf("the command printed %q, %w", out, err)
		}
		return prompts, err
	}
}

// typed is an answer that is known before.
func typed(s string) func() string { return func() string { return s } }
