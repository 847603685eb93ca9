package main

import (
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"sallyport/admin"
	"sallyport/internal/testenv"
)

// An operator lets Prometheus in with a key for metrics alone, and sees there what happened (B18).
func TestMetrics(t *testing.T) {
	t.Parallel()
	o := startOperatedWith(t, "192.0.2.10", "radius: {listen: \"127.0.0.1:0\"}\nrecordings: {reserve: 1KiB, quota: 2GiB}\nguard: {per-source: 1}\n")
	ask := func(status int, args ...string) string {
		t.Helper()
		got, head, body := curl(t, append(args, o.site()+"/metrics")...)
		if got != status {
			t.Errorf("curl %q: status %d, want %d: %s", args, got, status, body)
		}
		if status == http.StatusOK && !strings.Contains(head, "Cache-Control: no-store") {
			t.Errorf("an answer that may be stored: %s", head)
		}
		return body
	}
	bearer := func(key string) string { return "Authorization: Bearer " + key }
	key := o.key("prometheus", "--scope", "metrics")
	validate := o.key("shop", "--scope", "validate")

	for _, body := range []string{ask(401), ask(401, "-H", bearer("sk_wrong")), ask(403, "-H", bearer(validate))} {
		if strings.Contains(body, "sallyport_") || !strings.Contains(body, `"hint"`) {
			t.Errorf("a refusal: %s", body)
		}
	}
	first := ask(200, "-H", bearer(key))
	for _, line := range []string{
		"sallyport_recordings_quota_bytes 2.147483648e+09", "sallyport_recordings_reserve_bytes 1024", "sallyport_recordings_accepting 1",
		`sallyport_logins_total{door="api",verdict="refused"} 1`, // the wrong key
		`sallyport_radius_requests_total{result="reject"} 0`, "sallyport_database_up 1", "go_goroutines ", "process_start_time_seconds ",
		"sallyport_nodes_live 1", "sallyport_host_keys_waiting 0", "sallyport_target_certificates_total 0", `sallyport_ca_key_timestamp_seconds{ca="hosts",state="active"} `,
		`sallyport_build_info{goversion="go1`, `sallyport_audit_events_total{result="ok",type="node.started"} 1`,
	} {
		if !strings.Contains(first, "\n"+line) {
			t.Errorf("there is no line %q in\n%s", line, first)
		}
	}
	if status, _, body := curl(t, "-H", bearer(key), o.site()+"/api/v1/users"); status != 403 {
		t.Errorf("the key for metrics opens the list of users: %d %s", status, body)
	}
	auditor := strings.TrimSpace(o.ok("api-token", "add", "eyes", "--role", "auditor"))
	ask(200, "-H", bearer(auditor))
	if status, _, body := curl(t, "--unix-socket", string(o.cfg.Socket), "http://localhost/metrics"); status != 200 || !strings.Contains(body, "\nsallyport_sessions_open 0") {
		t.Errorf("the socket: %d %s", status, body)
	}

	// A stranger at the RADIUS door, and a login of somebody whose name nobody reads here.
	o.ok("radius", "client", "add", "vpn", "--mode", "code", "--network", "127.0.0.1", "--secret-file", o.file("secret", "sixteen-letters!"))
	if out := o.radclient("sixteen-letters!", "User-Name=mallory-of-the-labels,User-Password=x"); !strings.Contains(out, "Access-Reject") {
		t.Errorf("radclient: %s", out)
	}
	after := ask(200, "-H", bearer(key))
	for _, line := range []string{`sallyport_radius_requests_total{result="reject"} 1`, `sallyport_logins_total{door="radius",verdict="refused"} 1`} {
		if !strings.Contains(after, "\n"+line) {
			t.Errorf("there is no line %q in\n%s", line, after)
		}
	}
	if strings.Contains(after, "mallory") || strings.Contains(after, "127.0.0.1") {
		t.Error("metrics name a person or an address")
	}
	// One connection has the place of its source, four wait for it, others are turned away.
	testenv.WaitFor(t, "connections that are counted", func() bool {
		c, err := net.Dial("tcp", o.node.ssh.Addr().String())
		noError(t, err)
		t.Cleanup(func() { c.Close() })
		body := ask(200, "-H", bearer(auditor))
		refused, held := regexp.MustCompile(`\nsallyport_connections_refused_total [1-9]`), regexp.MustCompile(`\nsallyport_connections_unauthenticated [1-5]\n`)
		return refused.MatchString(body) && held.MatchString(body)
	})
	for _, k := range object[[]admin.APIKey](o, "api-key", "list") {
		if k.Name == "prometheus" && k.LastUsed == nil {
			t.Error("the list does not tell that the key was used")
		}
		o.ok("api-key", "revoke", k.ID)
	}
	ask(401, "-H", bearer(key))
}

// A Prometheus that the configuration lists needs no key.
func TestMetricsFrom(t *testing.T) {
	t.Parallel()
	listed := startOperatedWith(t, "192.0.2.10", "web: {listen: \"127.0.0.1:0\", metrics-from: [127.0.0.0/8]}\n")
	if status, _, body := curl(t, listed.site()+"/metrics"); status != 200 || !strings.Contains(body, "\nsallyport_database_up 1") {
		t.Errorf("a listed source: %d %s", status, body)
	}
	for _, path := range []string{"/api/v1/users", "/users"} {
		if status, _, _ := curl(t, listed.site()+path); status == 200 {
			t.Errorf("the list opens %s", path)
		}
	}
}

// When the certificates that are served expire is told, and how many were made to log in to targets.
func TestMetricsOfCertificates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert"), filepath.Join(dir, "key")
	testenv.Run(t, "openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-keyout", key, "-out", cert, "-subj", "/CN=bastion", "-days", "2")
	pair := "certificate: " + cert + ", key: " + key
	o := startOperatedWith(t, "127.0.0.1", "web: {listen: \"127.0.0.1:0\", "+pair+"}\nradius: {listen: \"127.0.0.1:0\", radsec: {listen: \"127.0.0.1:0\", "+pair+"}}\n")
	ca := o.file("ca.pub", o.run("ca", "show").out)
	sshd := testenv.StartSSHD(t, "TrustedUserCAKeys "+ca)
	o.ok("target", "add", "web1", "--address", sshd.Addr, "--account", sshd.Account, "--host-key", sshd.HostKey, "--credential", "certificate")
	o.ok("target", "check", "web1")
	status, _, body := curl(t, "--unix-socket", string(o.cfg.Socket), "http://localhost/metrics")
	if status != 200 || !regexp.MustCompile(`\nsallyport_target_certificates_total [1-9]`).MatchString(body) {
		t.Errorf("certificates for targets: %d %s", status, body)
	}
	for _, use := range []string{"web", "radsec"} {
		m := regexp.MustCompile(`\nsallyport_tls_certificate_expires_timestamp_seconds\{use="` + use + `"\} ([0-9.e+]+)\n`).FindStringSubmatch(body)
		if m == nil {
			t.Errorf("nothing is told of the certificate of %s", use)
			continue
		}
		at, err := strconv.ParseFloat(m[1], 64)
		noError(t, err)
		if left := time.Until(time.Unix(int64(at), 0)); left < 47*time.Hour || left > 48*time.Hour+time.Minute {
			t.Errorf("the certificate of %s expires in %v", use, left)
		}
	}
}
