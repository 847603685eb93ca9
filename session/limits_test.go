package session

import (
	"fmt"
	"testing"
	"time"

	"sallyport/audit"
)

func TestWarnings(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		8 * time.Hour:            "5 minutes: 8h; 1 minute: 8h; ",
		90 * time.Minute:         "5 minutes: 1h30m; 1 minute: 1h30m; ",
		6 * time.Minute:          "5 minutes: 6m; 1 minute: 6m; ",
		5 * time.Minute:          "1 minute: 5m; ",
		time.Minute:              "30s: 1m; ",
		3 * time.Second:          "1.5s: 3s; ",
		25*time.Hour + 30*1e9:    "5 minutes: 25h0m30s; 1 minute: 25h0m30s; ",
		10*time.Hour + 10*60*1e9: "5 minutes: 10h10m; 1 minute: 10h10m; ",
	} {
		got := ""
		for _, left := range warnings(d) {
			got += fmt.Sprintf("%s: %s; ", inWords(left), audit.Short(d))
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", d, got, want)
		}
	}
}
