package metrics

import (
	"fmt"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// def is one metric. The labels of all of them are taken from lists in this program: nothing that a stranger
// types, and no name of a person, a target or an address, can make them more.
type def struct {
	name   string
	kind   string // "counter", "gauge" or "histogram"
	labels string // separated by commas
	all    bool   // from the database: the same at every node
	help   string
}

// catalogue is every metric of ours. docs/metrics.md is made from it.
var catalogue = []def{
	{"sallyport_build_info", "gauge", "node,version,goversion", false, "Always 1; its labels say what runs."},
	{"sallyport_database_up", "gauge", "", false, "1 if the database answered this scrape; if it is 0, what is read from it is left out."},

	{"sallyport_logins_total", "counter", "door,verdict", false, "Conversations that came to a verdict: accepted, refused, or error where it could not be decided."},
	{"sallyport_lockouts_total", "counter", "", false, "Locks that were set after failures."},
	{"sallyport_lockouts", "gauge", "", true, "Locks in force."},
	{"sallyport_sent_codes_total", "counter", "by,result", false, "One-time codes put into the outbox (ok), or not because of a limit or a missing address (refused) or a fault (error)."},
	{"sallyport_outbox_messages", "gauge", "state", true, "Messages: waiting, retried (of those that wait: after a failed try), or given up in the last week."},
	{"sallyport_directory_request_seconds", "histogram", "operation", false, "How long the directory took to answer, lookup or bind."},
	{"sallyport_directory_errors_total", "counter", "operation", false, "Requests that the directory did not answer in time or at all. A wrong password is none."},
	{"sallyport_radius_requests_total", "counter", "result", false, "Datagrams at the RADIUS door by what came of them. See docs/radius.md for those that were discarded."},

	{"sallyport_nodes_live", "gauge", "", true, "Nodes that have said within 40 s that they live."},
	{"sallyport_tls_certificate_expires_timestamp_seconds", "gauge", "use", false, "When the certificate that is served expires: web, radsec. Only where there is one."},
	{"sallyport_ca_key_timestamp_seconds", "gauge", "ca,state", true, "When a key of the CA for targets or for hosts was made; of the active one for hosts: when it began to vouch. next and old: a change of keys that is not finished."},
	{"sallyport_target_certificates_total", "counter", "", false, "Certificates that were made to log in to targets."},
	{"sallyport_host_keys_waiting", "gauge", "", true, "Host keys of targets that were refused and wait for an operator."},

	{"sallyport_connections_unauthenticated", "gauge", "", false, "SSH connections whose people have not proved who they are."},
	{"sallyport_connections_refused_total", "counter", "", false, "SSH connections that the guard turned away."},
	{"sallyport_sessions_open", "gauge", "", false, "Sessions open at this node."},
	{"sallyport_sessions_paused", "gauge", "", false, "Of these, sessions that stand still because no moderator watches."},
	{"sallyport_approvals_waiting", "gauge", "", true, "Sessions that wait for somebody's approval before they start."},
	{"sallyport_sessions_started_total", "counter", "", false, "Sessions that were begun."},

	{"sallyport_recordings_open", "gauge", "", false, "Recordings that are being written."},
	{"sallyport_recordings_accepting", "gauge", "", false, "1 if new recordings are begun; 0 below the reserve or above the quota: sessions that must be recorded are refused."},
	{"sallyport_recordings_free_bytes", "gauge", "", false, "Room in the folder of recordings."},
	{"sallyport_recordings_reserve_bytes", "gauge", "", false, "The setting recordings.reserve; 0: none."},
	{"sallyport_recordings_quota_bytes", "gauge", "", false, "The setting recordings.quota; 0: none."},
	{"sallyport_recordings_kept", "gauge", "", true, "Recordings that are kept, open ones too."},
	{"sallyport_recordings_kept_bytes", "gauge", "", true, "Bytes of sealed recordings that are kept; what recordings.quota bounds."},
	{"sallyport_recordings_on_nodes", "gauge", "", true, "Sealed recordings that are on the disk of a node."},
	{"sallyport_recordings_tail_pending", "gauge", "", true, "Recordings of lost nodes of which the end is missing."},
	{"sallyport_recordings_held_sessions", "gauge", "", true, "Sessions with a legal hold."},
	{"sallyport_recordings_sealed_total", "counter", "", false, "Recordings that were completed and signed."},
	{"sallyport_recordings_faults_total", "counter", "", false, "Times that a recording could not be written: a gap began, or its session was ended."},
	{"sallyport_recordings_lost_bytes_total", "counter", "", false, "Bytes that were shown and are missing in gaps."},
	{"sallyport_recordings_upload_waiting", "gauge", "", false, "Recordings of which something is not in the bucket yet. Only with a bucket, like those that follow."},
	{"sallyport_recordings_upload_waiting_bytes", "gauge", "", false, "Bytes of these."},
	{"sallyport_recordings_upload_oldest_seconds", "gauge", "", false, "For how long the oldest of them has waited; 0: none waits."},
	{"sallyport_recordings_upload_failures_total", "counter", "", false, "Requests to the bucket that failed."},
	{"sallyport_recordings_uploaded_total", "counter", "", false, "Recordings that were brought to the bucket and proved there."},

	{"sallyport_audit_events_total", "counter", "type,result", false, "Audit events of this node. The types are in docs/audit.md."},
	{"sallyport_audit_events_waiting", "gauge", "", false, "Events that the database has not taken yet."},
	{"sallyport_audit_chain_head", "gauge", "", true, "Place of the last event that is chained. It never falls."},
	{"sallyport_audit_unchained_events", "gauge", "", true, "Events that have no place in the chain yet."},
	{"sallyport_audit_unchained_oldest_seconds", "gauge", "", true, "Age of the oldest of them; 0: there are none."},
	{"sallyport_audit_chain_broken", "gauge", "", false, "1 if this node has seen that the chain does not hold, or cannot add to it; the log says why."},
	{"sallyport_signing_key_added_timestamp_seconds", "gauge", "", false, "When the key with which this node signs was made known, for its age."},
}

// labelNames are the labels of d.
func (d def) labelNames() []string {
	if d.labels == "" {
		return nil
	}
	return strings.Split(d.labels, ",")
}

// find returns the metric of a name; names are constants of this package.
func find(name string) def {
	for _, d := range catalogue {
		if d.name == name {
			return d
		}
	}
	panic("metrics: " + name + " is not in the catalogue")
}

// desc describes a metric that is read when asked for.
func desc(name string) *prometheus.Desc {
	d := find(name)
	return prometheus.NewDesc(d.name, d.help, d.labelNames(), nil)
}

// Table is the catalogue as a table of Markdown, for docs/metrics.md.
func Table() string {
	var b strings.Builder
	b.WriteString("| metric | type | labels | of | |\n|---|---|---|---|---|\n")
	for _, d := range catalogue {
		of, labels := "this node", "`"+strings.Join(d.labelNames(), "` `")+"`"
		if d.all {
			of = "all nodes"
		}
		if d.labels == "" {
			labels = ""
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", d.name, d.kind, labels, of, d.help)
	}
	return b.String()
}
