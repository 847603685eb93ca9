package metrics

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"sallyport/audit"
	"sallyport/identity"
	"sallyport/internal/auditlog"
	"sallyport/internal/seal"
	"sallyport/recorder"
	"sallyport/recorder/blob"
	"sallyport/session"
	"sallyport/store"
)

var update = flag.Bool("update", false, "write generated documents anew")

// docs/metrics.md holds what is counted. After a change: go test ./internal/metrics -update
func TestDocumented(t *testing.T) {
	t.Parallel()
	file := filepath.Join("..", "..", "docs", "metrics.md")
	text, err := os.ReadFile(file)
	noError(t, err)
	between := regexp.MustCompile(`(?s)(<!-- generated -->\n).*(<!-- end of generated -->)`)
	want := between.ReplaceAllString(string(text), "${1}"+strings.ReplaceAll(Table(), "$", "$$")+"${2}")
	if *update {
		noError(t, os.WriteFile(file, []byte(want), 0o644))
	} else if want != string(text) {
		t.Error("docs/metrics.md is not what the catalogue says; run: go test ./internal/metrics -update")
	}
	for _, r := range RADIUSResults {
		if !strings.Contains(want, "`"+r+"`") {
			t.Errorf("docs/metrics.md does not name the result %s of RADIUS", r)
		}
	}
}

// The examples for Prometheus speak of metrics and labels that there are, and of commands that there are.
func TestExamples(t *testing.T) {
	t.Parallel()
	dir := filepath.Join("..", "..", "packaging", "prometheus")
	var scrape struct {
		Configs []struct {
			Job    string `yaml:"job_name"`
			Scheme string `yaml:"scheme"`
			Every  string `yaml:"scrape_interval"`
			Static []any  `yaml:"static_configs"`
			Auth   struct{ Type, Credentials_File string }
		} `yaml:"scrape_configs"`
		Rules []string `yaml:"rule_files"`
	}
	read(t, filepath.Join(dir, "prometheus.yml"), &scrape)
	if len(scrape.Configs) != 1 || scrape.Configs[0].Job != "sallyport" || !slices.Equal(scrape.Rules, []string{"alerts.yml"}) {
		t.Errorf("prometheus.yml: %+v", scrape)
	}
	var alerts struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	read(t, filepath.Join(dir, "alerts.yml"), &alerts)
	name := regexp.MustCompile(`sallyport_[a-z_]+`)
	count := 0
	for _, g := range alerts.Groups {
		for _, r := range g.Rules {
			count++
			if r.Annotations["summary"] == "" || r.Annotations["description"] == "" || r.Labels["severity"] == "" {
				t.Errorf("%s does not say what to do, or how bad it is", r.Alert)
			}
			for _, n := range name.FindAllString(r.Expr, -1) {
				if !slices.ContainsFunc(catalogue, func(d def) bool { return d.name == strings.TrimSuffix(n, "_bucket") }) {
					t.Errorf("%s asks for %s, which is not in the catalogue", r.Alert, n)
				}
			}
		}
	}
	if count < 10 {
		t.Errorf("there are %d alerts", count)
	}
	var board struct {
		Panels []struct {
			ID      int
			Title   string
			Targets []struct{ Expr string }
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "grafana.json"))
	noError(t, err)
	noError(t, json.Unmarshal(text, &board))
	ids := map[int]bool{}
	for _, p := range board.Panels {
		if ids[p.ID] || p.Title == "" || len(p.Targets) == 0 {
			t.Errorf("panel %d %q of grafana.json shows nothing, or has the number of another", p.ID, p.Title)
		}
		ids[p.ID] = true
		for _, q := range p.Targets {
			for _, n := range name.FindAllString(q.Expr, -1) {
				if !slices.ContainsFunc(catalogue, func(d def) bool { return d.name == strings.TrimSuffix(n, "_bucket") }) {
					t.Errorf("panel %q asks for %s, which is not in the catalogue", p.Title, n)
				}
			}
		}
	}
	if len(ids) < 10 {
		t.Errorf("there are %d panels", len(ids))
	}
}

func read(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(file)
	noError(t, err)
	noError(t, yaml.Unmarshal(text, into))
}

// Every metric of the catalogue is there with its type, text and labels, and no other is; the names are as Prometheus
// wants them.
func TestCatalogue(t *testing.T) {
	t.Parallel()
	m, s := node(t)
	families, err := m.registry.Gather()
	noError(t, err)
	found := map[string]bool{}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "sallyport_") {
			continue
		}
		found[f.GetName()] = true
		d := find(f.GetName())
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		want := slices.Sorted(slices.Values(d.labelNames()))
		if strings.ToLower(f.GetType().String()) != d.kind || f.GetHelp() != d.help || !slices.Equal(labels, want) {
			t.Errorf("%s is a %s with the labels %q: %s", f.GetName(), f.GetType(), labels, f.GetHelp())
		}
	}
	for _, d := range catalogue {
		if !found[d.name] && d.name != "sallyport_audit_events_total" { // there was none yet
			t.Errorf("%s is not there", d.name)
		}
	}
	m.Event(audit.Event{Type: audit.NodeStarted, Result: audit.OK})
	if problems, err := testutil.GatherAndLint(m.registry); err != nil || len(problems) > 0 {
		t.Errorf("the linter of Prometheus: %v %v", problems, err)
	}
	body := scrape(t, m)
	for _, line := range []string{
		"sallyport_recordings_reserve_bytes 512", "sallyport_recordings_quota_bytes 4096", "sallyport_recordings_accepting 1", "sallyport_database_up 1",
		"sallyport_sessions_open 0", `sallyport_audit_events_total{result="ok",type="node.started"} 1`, `sallyport_outbox_messages{state="failed"} 0`,
		`sallyport_connections_unauthenticated 7`, `sallyport_build_info{goversion=`, "go_goroutines ", "sallyport_signing_key_added_timestamp_seconds 1.7",
		"sallyport_nodes_live 0", "sallyport_host_keys_waiting 0", `sallyport_tls_certificate_expires_timestamp_seconds{use="web"} 2e+09`,
		`sallyport_ca_key_timestamp_seconds{ca="hosts",state="active"} 1.7`, `sallyport_ca_key_timestamp_seconds{ca="hosts",state="next"} 1.7`, `sallyport_ca_key_timestamp_seconds{ca="targets",state="active"} 1.7`,
	} {
		if !strings.Contains(body, "\n"+line) {
			t.Errorf("there is no line %q in:\n%s", line, body)
		}
	}

	// Without its database a node still tells of itself.
	noError(t, s.Store.Close())
	s.Now = func() time.Time { return time.Now().Add(time.Minute) }
	r := &reader{s: s}
	if list := r.database(); len(list) != 1 {
		t.Errorf("without a database %d metrics are read from it", len(list))
	}
	if got := len(r.node()); got < 14 {
		t.Errorf("without a database the node tells %d metrics of itself", got)
	}
}

// What is read from the database is read once for many who ask at the same time.
func TestReadOnce(t *testing.T) {
	t.Parallel()
	_, s := node(t)
	now := time.Now()
	s.Now = func() time.Time { return now }
	r := &reader{s: s}
	first := r.database()
	if len(first) < 14 {
		t.Fatalf("%d metrics", len(first))
	}
	noError(t, s.Store.Close())
	if again := r.database(); len(again) != len(first) {
		t.Errorf("the database was asked again at once: %d metrics", len(again))
	}
	now = now.Add(readAge)
	if again := r.database(); len(again) != 1 {
		t.Errorf("the database was not asked again after %s: %d metrics", readAge, len(again))
	}
}

// Events are counted by what they are, and nothing that a stranger makes up adds a series.
func TestStrangers(t *testing.T) {
	t.Parallel()
	m := New("n1", "test")
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	log := auditlog.New(auditlog.Config{Sink: nowhere{}, Logger: quiet, Seen: m.Event})
	emit := func(e audit.Event) {
		t.Helper()
		noError(t, log.Emit(t.Context(), e))
	}
	emit(audit.Event{Type: audit.LoginAccepted, Result: audit.OK, Door: audit.DoorSSH, User: "alice"})
	emit(audit.Event{Type: audit.LoginRefused, Result: audit.Error, Door: audit.DoorRADIUS})
	emit(audit.Event{Type: audit.LockoutSet, Result: audit.OK})
	emit(audit.Event{Type: audit.CodeSent, Result: audit.Refused, Detail: map[string]string{"by": "sms"}})
	emit(audit.Event{Type: audit.RecordFailed, Result: audit.Error})
	emit(audit.Event{Type: audit.RecordFailed, Result: audit.OK, Detail: map[string]string{"lost": "4096"}})
	emit(audit.Event{Type: audit.SessionStarted, Result: audit.OK})
	m.RADIUS("accept")
	m.RADIUS("drift")
	m.Refused()
	m.Certificate()
	before := strings.Count(scrape(t, m), "\nsallyport_")
	for i := range 500 {
		made := fmt.Sprintf("m%d", i)
		emit(audit.Event{Type: audit.LoginRefused, Result: audit.Refused, Door: audit.DoorSSH, User: made, Target: made, Source: made, Reason: made})
		emit(audit.Event{Type: audit.LoginRefused, Result: audit.Refused, Door: made})
		emit(audit.Event{Type: audit.CodeSent, Result: audit.Result(made), Detail: map[string]string{"by": made}})
		emit(audit.Event{Type: "no\"type" + made, Result: audit.OK})
		m.RADIUS(made)
	}
	body := scrape(t, m)
	if after := strings.Count(body, "\nsallyport_"); after > before+10 {
		t.Errorf("there were %d lines and now are %d", before, after)
	}
	for i := range 2 * maxTypes {
		emit(audit.Event{Type: "made.up-" + strings.Repeat("x", i), Result: audit.OK})
	}
	if n := strings.Count(scrape(t, m), "\nsallyport_audit_events_total{"); n > maxTypes+10 {
		t.Errorf("there are %d series of types", n)
	}
	for _, line := range []string{
		`sallyport_logins_total{door="ssh",verdict="accepted"} 1`, `sallyport_logins_total{door="ssh",verdict="refused"} 500`,
		`sallyport_logins_total{door="other",verdict="refused"} 500`, `sallyport_logins_total{door="radius",verdict="error"} 1`, `sallyport_logins_total{door="web",verdict="accepted"} 0`,
		"sallyport_lockouts_total 1", `sallyport_sent_codes_total{by="sms",result="refused"} 1`, "sallyport_recordings_faults_total 1",
		"sallyport_recordings_lost_bytes_total 4096", "sallyport_sessions_started_total 1", `sallyport_radius_requests_total{result="accept"} 1`,
		"sallyport_connections_refused_total 1", "sallyport_target_certificates_total 1",
	} {
		if !strings.Contains(body, "\n"+line+"\n") {
			t.Errorf("there is no line %q", line)
		}
	}
}

// A directory is timed, and only what it does not answer is an error.
func TestDirectory(t *testing.T) {
	t.Parallel()
	m := New("n1", "test")
	d := m.Directory(people{})
	if _, err := d.Lookup(t.Context(), "alice"); err != nil {
		t.Errorf("lookup: %v", err)
	}
	if err := d.Bind(t.Context(), identity.Person{}, "wrong"); !errors.Is(err, identity.ErrPassword) {
		t.Errorf("bind: %v", err)
	}
	if _, err := d.Lookup(t.Context(), "away"); !errors.Is(err, identity.ErrUnavailable) {
		t.Errorf("lookup: %v", err)
	}
	body := scrape(t, m)
	for _, line := range []string{
		`sallyport_directory_request_seconds_count{operation="lookup"} 2`, `sallyport_directory_request_seconds_count{operation="bind"} 1`,
		`sallyport_directory_errors_total{operation="lookup"} 1`, `sallyport_directory_errors_total{operation="bind"} 0`,
	} {
		if !strings.Contains(body, "\n"+line+"\n") {
			t.Errorf("there is no line %q", line)
		}
	}
}

type people struct{}

func (people) Lookup(_ context.Context, login string) (identity.Person, error) {
	if login == "away" {
		return identity.Person{}, fmt.Errorf("looking up: %w", identity.ErrUnavailable)
	}
	return identity.Person{}, nil
}

func (people) Bind(context.Context, identity.Person, identity.Password) error {
	return identity.ErrPassword
}

type nowhere struct{}

func (nowhere) Append(context.Context, audit.Event) error { return nil }

// node is what a node with a bucket has.
func node(t *testing.T) (*Metrics, Sources) {
	t.Helper()
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	ring, err := seal.NewRing()
	noError(t, err)
	st, err := store.Open(t.Context(), store.Config{DSN: "sqlite::memory:", Ring: ring})
	noError(t, err)
	t.Cleanup(func() { st.Close() })
	public, key, err := ed25519.GenerateKey(nil)
	noError(t, err)
	noError(t, st.SigningKeys.Publish(t.Context(), base64.StdEncoding.EncodeToString(public), "n1"))
	bucket, err := blob.NewS3(blob.S3Config{Endpoint: "http://127.0.0.1:1", Bucket: "b", AccessKey: "a", SecretKey: "s", Region: "x"})
	noError(t, err)
	rec, err := recorder.New(recorder.Config{Dir: t.TempDir(), SigningKey: key, Node: "n1", Reserve: 512, Store: bucket})
	noError(t, err)
	t.Cleanup(func() { rec.Close() })
	noError(t, st.CAKeys.Begin(t.Context(), "ssh-ed25519 AAAA", []byte("secret")))
	noError(t, st.HostAuthority.Begin(t.Context(), func() ([]byte, error) { return []byte("key"), nil }, func() ([]byte, error) { return make([]byte, store.HostSecretSize), nil }))
	noError(t, st.HostAuthority.Rotate(t.Context(), []byte("next")))
	m := New("n1", "test")
	log := auditlog.New(auditlog.Config{Sink: st.Audit, Logger: quiet, Seen: m.Event})
	s := Sources{
		Store: st, Recorder: rec, Sessions: session.NewManager(session.Config{Store: st, Recorder: rec, Audit: log, Node: "n1", Log: quiet}), Audit: log,
		Certificates:    func() map[string]time.Time { return map[string]time.Time{"web": time.Unix(2_000_000_000, 0)} },
		Unauthenticated: func() int { return 7 }, Reserve: 512, Quota: 4096, Log: quiet, Now: time.Now,
	}
	m.Read(s)
	return m, s
}

func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK || !bytes.HasPrefix([]byte(w.Header().Get("Content-Type")), []byte("text/plain")) {
		t.Fatalf("status %d, %s", w.Code, w.Header())
	}
	return w.Body.String()
}

func noError(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
