package main

import (
	"testing"

	"sallyport/admin"
)

// The list of events once told that somebody had a forward or was refused a request, and not where to or which.
func TestAuditRow(t *testing.T) {
	t.Parallel()
	for want, e := range map[string]admin.AuditEvent{
		"3 local-forward db1:5432 (rule dev)":                  {Type: "channel.started", Rule: "dev", Detail: map[string]string{"channel": "3", "kind": "local-forward", "destination": "db1:5432"}},
		"remote-forward *:8080 (rule dev)":                     {Type: "access.decided", Rule: "dev", Detail: map[string]string{"channel": "remote-forward", "to": "*:8080", "rules-version": "7"}},
		"1 signal request is not allowed":                      {Type: "channel.refused", Reason: "request is not allowed", Detail: map[string]string{"channel": "1", "request": "signal"}},
		"direct-tcpip 127.0.0.1:22 is no way through (rule x)": {Type: "channel.refused", Rule: "x", Reason: "127.0.0.1:22 is no way through", Detail: map[string]string{"channel-type": "direct-tcpip"}},
	} {
		if row := auditRow(e); row[len(row)-1] != want {
			t.Errorf("got %q, want %q", row[len(row)-1], want)
		}
	}
}
