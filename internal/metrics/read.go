package metrics

import (
	"context"
	"encoding/base64"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sallyport/internal/auditlog"
	"sallyport/recorder"
	"sallyport/session"
	"sallyport/store"
)

// Sources are what is read when somebody asks. They must not be modified after [Metrics.Read].
type Sources struct {
	Store           *store.Store
	Recorder        *recorder.Recorder
	Sessions        *session.Manager
	Audit           *auditlog.Log
	Chain           *auditlog.Chainer // nil: nobody chains here
	Unauthenticated func() int        // connections whose people have not proved who they are; nil: not known
	Reserve, Quota  int64             // settings, in bytes

	Certificates func() map[string]time.Time // when those that are served expire, by their use; nil: there are none
	Log          *slog.Logger                // nil: slog.Default()
	Now          func() time.Time            // nil: time.Now
}

// How long the database may take for a scrape, and for how long what it said is said again: several servers may
// ask, and none of them may make it count all day.
const (
	readTime = 5 * time.Second
	readAge  = 5 * time.Second
)

// Read adds what can be read from sources. It is called once.
func (m *Metrics) Read(s Sources) {
	if s.Now == nil {
		s.Now = time.Now
	}
	if s.Log == nil {
		s.Log = slog.Default()
	}
	m.registry.MustRegister(&reader{s: s})
}

// reader reads when Prometheus asks.
type reader struct {
	s Sources

	mu   sync.Mutex // guards the fields below; held while the database is asked
	last []prometheus.Metric
	read time.Time
}

// Describe says nothing: which metrics there are depends on what answers.
func (r *reader) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (r *reader) Collect(out chan<- prometheus.Metric) {
	for _, x := range append(r.node(), r.database()...) {
		out <- x
	}
}

// sample is the value of a metric now.
func sample(name string, value float64, labels ...string) prometheus.Metric {
	kind := prometheus.GaugeValue
	if find(name).kind == "counter" {
		kind = prometheus.CounterValue
	}
	return prometheus.MustNewConstMetric(desc(name), kind, value, labels...)
}

func yes(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// node reads what this process knows by itself.
func (r *reader) node() []prometheus.Metric {
	s := r.s
	open, paused := s.Sessions.Count()
	list := []prometheus.Metric{
		sample("sallyport_sessions_open", float64(open)),
		sample("sallyport_sessions_paused", float64(paused)),
		sample("sallyport_recordings_open", float64(s.Recorder.Writing())),
		sample("sallyport_recordings_accepting", yes(s.Recorder.Accepting() == nil)),
		sample("sallyport_recordings_reserve_bytes", float64(s.Reserve)),
		sample("sallyport_recordings_quota_bytes", float64(s.Quota)),
		sample("sallyport_audit_events_waiting", float64(s.Audit.Pending())),
		sample("sallyport_audit_chain_broken", yes(s.Chain != nil && s.Chain.Problem() != "")),
	}
	if free, err := s.Recorder.Free(); err == nil { // else it is missing, and not accepting
		list = append(list, sample("sallyport_recordings_free_bytes", float64(free)))
	}
	if s.Unauthenticated != nil {
		list = append(list, sample("sallyport_connections_unauthenticated", float64(s.Unauthenticated())))
	}
	if s.Certificates != nil {
		for use, expires := range s.Certificates() {
			list = append(list, sample("sallyport_tls_certificate_expires_timestamp_seconds", float64(expires.Unix()), use))
		}
	}
	sh, bucket := s.Recorder.Shipping()
	if !bucket {
		return list
	}
	oldest := 0.0
	if !sh.Oldest.IsZero() {
		oldest = max(0, s.Now().Sub(sh.Oldest).Seconds())
	}
	return append(list,
		sample("sallyport_recordings_upload_waiting", float64(sh.Recordings)),
		sample("sallyport_recordings_upload_waiting_bytes", float64(sh.Bytes)),
		sample("sallyport_recordings_upload_oldest_seconds", oldest),
		sample("sallyport_recordings_upload_failures_total", float64(sh.Failures)),
		sample("sallyport_recordings_uploaded_total", float64(sh.Stored)))
}

// database reads what all nodes share. What the database does not say is left out, and that it does not is said.
func (r *reader) database() []prometheus.Metric {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.s.Now()
	if age := now.Sub(r.read); r.last != nil && age >= 0 && age < readAge {
		return r.last
	}
	ctx, cancel := context.WithTimeout(context.Background(), readTime)
	defer cancel()
	list, err := r.shared(ctx, now)
	if err != nil {
		r.s.Log.Warn("reading metrics from the database", "error", err)
		list = nil
	}
	r.last, r.read = append(list, sample("sallyport_database_up", yes(err == nil))), now
	return r.last
}

func (r *reader) shared(ctx context.Context, now time.Time) ([]prometheus.Metric, error) {
	st := r.s.Store
	usage, err := st.Recordings.Usage(ctx)
	if err != nil {
		return nil, err
	}
	chain, err := st.Audit.ChainState(ctx)
	if err != nil {
		return nil, err
	}
	locks, err := st.Attempts.Locks(ctx)
	if err != nil {
		return nil, err
	}
	outbox, err := st.Outbox.Counts(ctx)
	if err != nil {
		return nil, err
	}
	approvals, err := st.Approvals.Waiting(ctx)
	if err != nil {
		return nil, err
	}
	unchained := 0.0
	if chain.Unchained > 0 {
		unchained = max(0, now.Sub(chain.Oldest).Seconds())
	}
	list := []prometheus.Metric{
		sample("sallyport_recordings_kept", float64(usage.Kept)),
		sample("sallyport_recordings_kept_bytes", float64(usage.Packed)),
		sample("sallyport_recordings_on_nodes", float64(usage.AtNodes)),
		sample("sallyport_recordings_tail_pending", float64(usage.Pending)),
		sample("sallyport_recordings_held_sessions", float64(usage.Held)),
		sample("sallyport_audit_chain_head", float64(chain.Last.Position)),
		sample("sallyport_audit_unchained_events", float64(chain.Unchained)),
		sample("sallyport_audit_unchained_oldest_seconds", unchained),
		sample("sallyport_lockouts", float64(len(locks))),
		sample("sallyport_outbox_messages", float64(outbox.Waiting), "waiting"),
		sample("sallyport_outbox_messages", float64(outbox.Retried), "retried"),
		sample("sallyport_outbox_messages", float64(outbox.Failed), "failed"),
		sample("sallyport_approvals_waiting", float64(approvals)),
	}
	more, err := fleet(ctx, st)
	if err != nil {
		return nil, err
	}
	list = append(list, more...)
	keys, err := st.SigningKeys.List(ctx)
	if err != nil {
		return nil, err
	}
	public := base64.StdEncoding.EncodeToString(r.s.Recorder.PublicKey())
	for _, k := range keys {
		if k.Public == public {
			list = append(list, sample("sallyport_signing_key_added_timestamp_seconds", float64(k.Added.Unix())))
		}
	}
	return list, nil
}

// fleet reads what is about nodes, targets and the keys by which the bastion is known. All of these tables are short.
func fleet(ctx context.Context, st *store.Store) ([]prometheus.Metric, error) {
	nodes, err := st.Sessions.LiveNodes(ctx, store.LostAfter)
	if err != nil {
		return nil, err
	}
	waiting, err := st.HostKeys.Waiting(ctx)
	if err != nil {
		return nil, err
	}
	list := []prometheus.Metric{
		sample("sallyport_nodes_live", float64(nodes)),
		sample("sallyport_host_keys_waiting", float64(waiting)),
	}
	made := func(ca, state string, when time.Time) {
		if !when.IsZero() {
			list = append(list, sample("sallyport_ca_key_timestamp_seconds", float64(when.Unix()), ca, state))
		}
	}
	targets, err := st.CAKeys.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, k := range targets {
		made("targets", k.State, k.Created)
	}
	active, next, err := st.HostAuthority.Since(ctx)
	if err != nil {
		return nil, err
	}
	made("hosts", store.CAActive, active)
	made("hosts", store.CANext, next)
	return list, nil
}
