// Package metrics tells Prometheus how a node does: numbers that are counted as things happen, and numbers
// that are read when somebody asks.
package metrics

import (
	"context"
	"errors"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"sallyport/audit"
	"sallyport/identity"
)

// Metrics are those of one node. They are safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	handler  http.Handler

	logins    *prometheus.CounterVec
	lockouts  prometheus.Counter
	sent      *prometheus.CounterVec
	directory *prometheus.HistogramVec
	away      *prometheus.CounterVec
	radius    *prometheus.CounterVec
	refused   prometheus.Counter
	started   prometheus.Counter
	certs     prometheus.Counter
	sealed    prometheus.Counter
	faults    prometheus.Counter
	lost      prometheus.Counter
	events    *prometheus.CounterVec

	mu    sync.Mutex      // guards the field below
	types map[string]bool // of events that were counted
}

// Values of labels.
var (
	doors      = []string{audit.DoorSSH, audit.DoorWeb, audit.DoorAPI, audit.DoorRADIUS}
	verdicts   = []string{"accepted", "refused", "error"}
	senders    = []string{"mail", "sms"}
	results    = []string{string(audit.OK), string(audit.Refused), string(audit.Error)}
	operations = []string{"lookup", "bind"}

	// RADIUSResults are what can come of a datagram; what else the door counts is about its clients.
	RADIUSResults = []string{
		"accept", "reject", "challenge", "status", "accounting", "retransmit", "message-authenticator-missing", "message-authenticator-wrong",
		"proxy-state-discarded", "secret-suspect", "malformed", "busy", "failed", "unavailable", "unknown-client",
	}
)

// maxTypes bounds how many types of audit events are told apart. There are fewer; a fault must not fill Prometheus.
const maxTypes = 150

// New returns the Metrics of a node. Nothing is read yet: see [Metrics.Read].
func New(node, version string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), types: map[string]bool{}}
	m.logins = m.counters("sallyport_logins_total", doors, verdicts)
	m.lockouts = m.counter("sallyport_lockouts_total")
	m.sent = m.counters("sallyport_sent_codes_total", senders, results)
	m.away = m.counters("sallyport_directory_errors_total", operations)
	m.radius = m.counters("sallyport_radius_requests_total", RADIUSResults)
	m.refused = m.counter("sallyport_connections_refused_total")
	m.started = m.counter("sallyport_sessions_started_total")
	m.certs = m.counter("sallyport_target_certificates_total")
	m.sealed = m.counter("sallyport_recordings_sealed_total")
	m.faults = m.counter("sallyport_recordings_faults_total")
	m.lost = m.counter("sallyport_recordings_lost_bytes_total")
	m.events = m.counters("sallyport_audit_events_total")
	d := find("sallyport_directory_request_seconds")
	m.directory = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: d.name, Help: d.help, Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
	}, d.labelNames())
	for _, op := range operations {
		m.directory.WithLabelValues(op)
	}
	d = find("sallyport_build_info")
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: d.name, Help: d.help}, d.labelNames())
	build.WithLabelValues(node, version, runtime.Version()).Set(1)
	m.registry.MustRegister(m.directory, build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.handler = promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 8})
	return m
}

func (m *Metrics) counter(name string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: find(name).help})
	m.registry.MustRegister(c)
	return c
}

// counters begin at 0 for all their labels, so that the first of anything is seen as an increase.
func (m *Metrics) counters(name string, values ...[]string) *prometheus.CounterVec {
	d := find(name)
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: d.help}, d.labelNames())
	m.registry.MustRegister(c)
	begin(c, nil, values)
	return c
}

func begin(c *prometheus.CounterVec, first []string, rest [][]string) {
	switch {
	case len(rest) > 0:
		for _, v := range rest[0] {
			begin(c, append(slices.Clone(first), v), rest[1:])
		}
	case len(first) > 0:
		c.WithLabelValues(first...)
	}
}

// ServeHTTP answers a scrape. Who may ask is the caller's business.
func (m *Metrics) ServeHTTP(w http.ResponseWriter, r *http.Request) { m.handler.ServeHTTP(w, r) }

// Event counts an audit event.
func (m *Metrics) Event(e audit.Event) {
	m.events.WithLabelValues(m.typeOf(e.Type), oneOf(string(e.Result), results)).Inc()
	switch e.Type {
	case audit.LoginAccepted:
		m.login(e.Door, "accepted")
	case audit.LoginRefused:
		verdict := "refused"
		if e.Result == audit.Error {
			verdict = "error"
		}
		m.login(e.Door, verdict)
	case audit.LockoutSet:
		m.lockouts.Inc()
	case audit.CodeSent:
		m.sent.WithLabelValues(oneOf(e.Detail["by"], senders), oneOf(string(e.Result), results)).Inc()
	case audit.SessionStarted:
		m.started.Inc()
	case audit.RecordFailed:
		if e.Result == audit.Error {
			m.faults.Inc()
		}
		if n, err := strconv.ParseUint(e.Detail["lost"], 10, 63); err == nil {
			m.lost.Add(float64(n))
		}
	}
}

func (m *Metrics) login(door, verdict string) {
	m.logins.WithLabelValues(oneOf(door, doors), verdict).Inc()
}

// oneOf keeps labels to a list.
func oneOf(v string, list []string) string {
	if slices.Contains(list, v) {
		return v
	}
	return "other"
}

// typeOf keeps the types of events few and plain.
func (m *Metrics) typeOf(t string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.types[t]:
	case len(m.types) >= maxTypes || t == "" || strings.Trim(t, "abcdefghijklmnopqrstuvwxyz.-") != "":
		return "other"
	default:
		m.types[t] = true
	}
	return t
}

// RADIUS counts what the RADIUS door has counted.
func (m *Metrics) RADIUS(kind string) {
	if slices.Contains(RADIUSResults, kind) {
		m.radius.WithLabelValues(kind).Inc()
	}
}

// Refused counts a connection that was turned away.
func (m *Metrics) Refused() { m.refused.Inc() }

// Certificate counts a certificate that was made to log in to a target.
func (m *Metrics) Certificate() { m.certs.Inc() }

// Sealed counts a recording that was completed.
func (m *Metrics) Sealed() { m.sealed.Inc() }

// directory is what is asked of one; auth.Directory is the same.
type directory interface {
	Lookup(ctx context.Context, login string) (identity.Person, error)
	Bind(ctx context.Context, p identity.Person, password identity.Password) error
}

// Directory is a directory whose answers are timed.
type Directory struct {
	d directory
	m *Metrics
}

// Directory times the answers of d.
func (m *Metrics) Directory(d directory) *Directory { return &Directory{d, m} }

// Lookup asks for an entry.
func (d *Directory) Lookup(ctx context.Context, login string) (identity.Person, error) {
	begun := time.Now()
	p, err := d.d.Lookup(ctx, login)
	d.m.asked("lookup", begun, err)
	return p, err
}

// Bind proves a password.
func (d *Directory) Bind(ctx context.Context, p identity.Person, password identity.Password) error {
	begun := time.Now()
	err := d.d.Bind(ctx, p, password)
	d.m.asked("bind", begun, err)
	return err
}

func (m *Metrics) asked(operation string, begun time.Time, err error) {
	m.directory.WithLabelValues(operation).Observe(time.Since(begun).Seconds())
	if errors.Is(err, identity.ErrUnavailable) {
		m.away.WithLabelValues(operation).Inc()
	}
}
