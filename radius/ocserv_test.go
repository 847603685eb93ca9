package radius_test

import (
	"crypto/tls"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/internal/testenv"
	"sallyport/store"
)

const ocserv = `auth = "radius[config=%[1]s/radius.conf]"
listen-host = 127.0.0.1
tcp-port = %[2]s
socket-file = %[1]s/socket
server-cert = %[3]s
server-key = %[4]s
isolate-workers = false
max-clients = 16
max-same-clients = 2
max-ban-score = 0
device = vpns
ipv4-network = 192.0.2.0
ipv4-netmask = 255.255.255.0
use-occtl = false
log-level = 2
`

// startOcserv starts an SSL VPN server that asks the door at the address to, and returns its address. It is asked for
// cookies only, and never comes to open a tunnel, for which it would need a device.
func startOcserv(t *testing.T, to string, server pair) string {
	t.Helper()
	dir, addr := t.TempDir(), testenv.FreeAddr(t)
	host, port, err := net.SplitHostPort(addr)
	check(t, err)
	for name, text := range map[string]string{
		"ocserv.conf": fmt.Sprintf(ocserv, dir, port, server.cert, server.key),
		"radius.conf": fmt.Sprintf("authserver %[1]s\nacctserver %[1]s\nservers %[2]s/servers\ndictionary /etc/radcli/dictionary\ndefault_realm\n"+
			"radius_timeout 10\nradius_retries 1\nbindaddr *\n", to, dir),
		"servers": host + " " + ocservSecret + "\n",
	} {
		check(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	run := exec.Command("/usr/sbin/ocserv", "-f", "-d", "2", "-c", filepath.Join(dir, "ocserv.conf"))
	if os.Geteuid() != 0 { // which it demands; here nothing needs more than the name
		run = exec.Command("unshare", append([]string{"--user", "--map-root-user"}, run.Args...)...)
	}
	daemon(t, dir, run)
	testenv.WaitFor(t, "ocserv", func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return addr
}

const ocservSecret = "0123456789abcdef"

// anyConnect is a person with a VPN client: what openconnect does until it has a cookie.
type anyConnect struct {
	t    *testing.T
	addr string
	http *http.Client
}

// dialogue is what the VPN server says.
type dialogue struct {
	Auth struct {
		ID      string `xml:"id,attr"`
		Message string `xml:"message"`
		Error   string `xml:"error"`
		Inputs  []struct {
			Name string `xml:"name,attr"`
			Type string `xml:"type,attr"`
		} `xml:"form>input"`
	} `xml:"auth"`
}

func newAnyConnect(t *testing.T, addr string) *anyConnect {
	jar, err := cookiejar.New(nil)
	check(t, err)
	return &anyConnect{t, addr, &http.Client{
		Jar: jar, Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
	}}
}

// say sends a field of a form, the first time nothing, and returns the answer.
func (c *anyConnect) say(field, value string) dialogue {
	c.t.Helper()
	path, body := "/auth", fmt.Sprintf(`<config-auth client="vpn" type="auth-reply"><auth><%[1]s>%[2]s</%[1]s></auth></config-auth>`, field, value)
	if field == "" {
		path, body = "/", `<config-auth client="vpn" type="init"><version who="vpn">v9</version></config-auth>`
	}
	request, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, "https://"+c.addr+path, strings.NewReader(xml.Header+body))
	check(c.t, err)
	request.Header.Set("User-Agent", "Open AnyConnect VPN Agent v9")
	request.Header.Set("X-Aggregate-Auth", "1")
	request.Header.Set("X-Transcend-Version", "1")
	answer, err := c.http.Do(request)
	check(c.t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	check(c.t, err)
	var d dialogue
	if answer.StatusCode == http.StatusUnauthorized { // the end, after wrong answers
		d.Auth.ID = "refused"
		return d
	}
	if err := xml.Unmarshal(text, &d); err != nil {
		c.t.Fatalf("%s: %v\n%s", answer.Status, err, text)
	}
	return d
}

// login goes as far as the code, and returns what is said to that.
func (c *anyConnect) login(login, password, code string) dialogue {
	c.t.Helper()
	c.say("", "")
	c.say("username", login)
	asked := c.say("password", password)
	if strings.TrimSpace(asked.Auth.Message) != "Code:" || len(asked.Auth.Inputs) != 1 || asked.Auth.Inputs[0].Type != "password" {
		c.t.Fatalf("after the password: %+v", asked)
	}
	return c.say(asked.Auth.Inputs[0].Name, code)
}

// A real SSL VPN: the person is asked for the password, and then for the code, as the challenge of the door says.
func TestOcserv(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", mode(store.RadiusChallenge), demands(store.AuthenticatorNo), func(c *store.RadiusClient) {
		c.AssertsSource = true
	})
	_, err := w.Store.RadiusClients.Change(t.Context(), "vpn", func(*store.RadiusClient) (store.SharedSecret, error) {
		return store.SharedSecret(ocservSecret), nil // it knows no blanks
	})
	check(t, err)
	alice := w.person("alice")
	addr := startOcserv(t, w.nodes[0].addr, newPair(t, "vpn"))
	code := ""
	for range 12 {
		code = alice.code()
		if d := newAnyConnect(t, addr).login("alice", "pw", code); d.Auth.ID != "success" {
			t.Errorf("password and code: %+v", d)
		}
	}
	for what, answers := range map[string][2]string{
		"a used code":      {"pw", code},
		"a wrong password": {"wrong", alice.code()},
		"a wrong code":     {"pw", "000000"},
	} {
		if d := newAnyConnect(t, addr).login("alice", answers[0], answers[1]); d.Auth.ID == "success" {
			t.Errorf("%s is let in", what)
		}
	}
	events, err := w.Store.Audit.List(t.Context(), store.AuditFilter{Type: audit.LoginAccepted})
	check(t, err)
	if len(events) != 12 || events[0].User != "alice" || events[0].Source != "127.0.0.1" || events[0].Target != "vpn" {
		t.Errorf("events %+v", events)
	}
}
