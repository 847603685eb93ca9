package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// results are all samples by metric and peer, with what is to be said about them.
type results struct {
	samples map[string]map[string][]float64
	notes   []string
	failed  error
}

func (r *results) add(metric, peer string, value float64) {
	if r.samples == nil {
		r.samples = map[string]map[string][]float64{}
	}
	if r.samples[metric] == nil {
		r.samples[metric] = map[string][]float64{}
	}
	r.samples[metric][peer] = append(r.samples[metric][peer], value)
}

func (r *results) note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

// line says how a metric is shown.
type line struct {
	metric   string
	title    string
	decimals int
	share    bool   // of the calibrator
	hash     string // form of the calibrator that hashes as this is hashed for the ledger; "": it is not
	sum      bool   // of all rounds instead of the median
	plain    bool   // no ratio
}

var lines = []line{
	{metric: "bulk_down_cpu", title: "exec, down, MB per CPU-second ↑", share: true, hash: blake3Form},
	{metric: "bulk_up_cpu", title: "exec, up, MB per CPU-second ↑", share: true},
	{metric: "print_cpu", title: "terminal that prints, MB per CPU-second ↑"},
	{metric: "sftp_get_cpu", title: "sftp get, MB per CPU-second ↑", share: true, hash: sha256Form},
	{metric: "sftp_put_cpu", title: "sftp put, MB per CPU-second ↑", share: true, hash: sha256Form},
	{metric: "bulk_down_wall", title: "exec, down, MB per second ↑"},
	{metric: "bulk_up_wall", title: "exec, up, MB per second ↑"},
	{metric: "print_wall", title: "terminal that prints, MB per second ↑"},
	{metric: "sftp_get_wall", title: "sftp get, MB per second ↑"},
	{metric: "sftp_put_wall", title: "sftp put, MB per second ↑"},
	{metric: "login_cpu", title: "login, CPU ms ↓", decimals: 1},
	{metric: "logins_cpu", title: fmt.Sprintf("login, %d at once, CPU ms ↓", loginsAtOnce), decimals: 1},
	{metric: "login_wall", title: "login with `true`, ms ↓", decimals: 1},
	{metric: "echo_p50", title: "echo of a key, p50, ms ↓", decimals: 3},
	{metric: "echo_p99", title: "echo of a key, p99, ms ↓", decimals: 3},
	{metric: "echo_p50_added", title: "echo, added p50, µs ↓"},
	{metric: "echo_p99_added", title: "echo, added p99, µs ↓"},
	{metric: "idle_session", title: "memory of an idle session, kB ↓"},
	{metric: "idle_base", title: "memory without sessions, MB ↓", decimals: 1},
	{metric: "commands_rate", title: "`true`, 32 at once, per second ↑", decimals: 1},
	{metric: "commands_run", title: "`true`, times run", sum: true, plain: true},
	{metric: "commands_failed", title: "`true`, failed ↓", sum: true, plain: true},
}

// row is a line with its figures; nil stands for what there is not.
type row struct {
	Metric          string               `json:"metric"`
	Title           string               `json:"title"`
	Direct          *float64             `json:"direct"`
	Relay           *float64             `json:"relay"`
	StockOff        *float64             `json:"stock_off"` // that below, without recording
	Stock           *float64             `json:"stock"`     // Sallyport with the library as it is published
	Off             *float64             `json:"off"`       // Sallyport without recording
	Sallyport       *float64             `json:"sallyport"`
	StockRatio      *float64             `json:"stock_ratio"`      // that to relay
	Ratio           *float64             `json:"ratio"`            // Sallyport to relay
	StockOffRatio   *float64             `json:"stock_off_ratio"`  // stock to itself without recording
	OffRatio        *float64             `json:"off_ratio"`        // Sallyport to itself without recording
	CalibratorShare *float64             `json:"calibrator_share"` // Sallyport to calibrator
	HashShare       *float64             `json:"hash_share"`       // Sallyport to calibrator with the hash of the ledger
	Samples         map[string][]float64 `json:"samples"`          // by peer, in order of rounds

	decimals int
}

// report is what is printed and written.
type report struct {
	At         time.Time      `json:"at"`
	Machine    string         `json:"machine"`
	Settings   map[string]any `json:"settings"`
	Calibrator float64        `json:"calibrator_mb_per_cpu_second"`
	WithSHA256 float64        `json:"calibrator_with_sha256_mb_per_cpu_second"`
	WithBLAKE3 float64        `json:"calibrator_with_blake3_mb_per_cpu_second"`
	Rows       []row          `json:"rows"`
	RADIUS     []radiusRow    `json:"radius,omitempty"`
	Notes      []string       `json:"notes"`
}

func (b *bench) report(now time.Time) report {
	r := report{
		At: now.UTC().Truncate(time.Second), Machine: machine(),
		Settings: map[string]any{
			"rounds": b.rounds, "size": int64(b.size), "sessions": b.sessions, "commands": b.commands, "keys": b.keys, "logins": b.logins, "requests": b.requests,
			"cipher": gcm, "seconds": math.Round(now.Sub(b.begun).Seconds()),
		},
		Calibrator: median(b.samples[calibratorWord][plainForm]),
		WithSHA256: median(b.samples[calibratorWord][sha256Form]),
		WithBLAKE3: median(b.samples[calibratorWord][blake3Form]),
		Rows:       b.rows(),
		RADIUS:     b.radiusRows(),
	}
	r.Notes = append(b.explain(), b.notes...)
	return r
}

func (r *results) rows() []row {
	calibrators := r.samples[calibratorWord]
	var rows []row
	for _, l := range lines {
		s := r.samples[l.metric]
		if s == nil {
			continue
		}
		one := row{
			Metric: l.metric, Title: l.title, Samples: s, decimals: l.decimals,
			Direct: value(s[direct], l.sum), Relay: value(s[relay], l.sum), StockOff: value(s[stockOff], l.sum), Stock: value(s[stock], l.sum), Off: value(s[off], l.sum), Sallyport: value(s[sallyport], l.sum),
		}
		if !l.plain {
			one.StockRatio = ratio(one.Stock, one.Relay)
			one.Ratio = ratio(one.Sallyport, one.Relay)
			one.StockOffRatio = ratio(one.Stock, one.StockOff)
			one.OffRatio = ratio(one.Sallyport, one.Off)
		}
		if l.share {
			one.CalibratorShare = ratio(one.Sallyport, value(calibrators[plainForm], false))
		}
		if l.hash != "" {
			one.HashShare = ratio(one.Sallyport, value(calibrators[l.hash], false))
		}
		rows = append(rows, one)
	}
	return rows
}

// value is the median of all rounds, or their sum, or nil if there were none.
func value(samples []float64, sum bool) *float64 {
	if len(samples) == 0 {
		return nil
	}
	v := median(samples)
	if sum {
		v = 0
		for _, s := range samples {
			v += s
		}
	}
	return &v
}

// ratio is nil where it would say nothing.
func ratio(a, b *float64) *float64 {
	if a == nil || b == nil || *b <= 0 {
		return nil
	}
	r := *a / *b
	return &r
}

// explain says what the figures are.
func (b *bench) explain() []string {
	c := b.samples[calibratorWord]
	notes := []string{
		fmt.Sprintf("Medians of %d rounds, peers in turn; ↑ more is better, ↓ less is better. MB = 10^6 bytes, kB = 10^3. All on loopback of one machine: client, proxy and target share its cores, so compare CPU of the proxy, and by ratio.", b.rounds),
		"direct: ssh to sshd. relay: a second sshd with ForceCommand ssh to the target, without recording. sallyport: rules, audit and recording on, the index for the search off.",
		"CPU is of the proxy alone, all its processes, until it is at rest again after the sessions. Between client, proxy and target: " + gcm + ".",
		fmt.Sprintf("Transfers are of %s, random bytes up and by sftp and zeros down; length (exec) and SHA-256 (sftp) verified.", b.size.String()),
		"login: connect, log in, run true, leave. At sallyport with public key, a fresh one-time code and audit, each another person's; at the relay and direct with public key only. One after another, and then some at once, as in the morning.",
		fmt.Sprintf("terminal that prints: lines on a raw terminal, an %dth of a transfer, all of which sallyport keeps. off: the same sallyport by a rule with recording: off, and so without a ledger of files.", printShare),
		"echo: one key at a time through cat on a raw terminal, which sallyport records.",
		fmt.Sprintf("memory: proportional set size of all processes of the proxy, measured once, with %d sessions on a terminal, each on its own connection, %s after the last login.", b.sessions, b.cool),
		"true: 32 at once, on 8 connections that are replaced after 24 commands, at sallyport by a rule for a trusted source (key, no code); a 25th as many at the relay.",
		"All but logins go to sallyport with public key by that rule, which needs no code from here.",
	}
	if b.stock != nil {
		notes = append(notes, "stock: sallyport of a plain `go build`, with Go's SSH library as it is published; stock off: the same by the rule of off. Only transfers are measured there.")
	}
	if len(b.samples["radius_cpu"]) > 0 {
		notes = append(notes, fmt.Sprintf("RADIUS: PAP with Message-Authenticator from %d sockets, each waiting for its answer. freeradius compares a password with a file in memory and writes nothing; sallyport evaluates a fresh time-based code (RFC 6238, in a window of %d steps on each side, so that people have enough of them), uses it up in its database, decides by the rules and writes events, all of it on the disk before it answers. CPU is of the RADIUS server alone, SQLite included; what PostgreSQL uses besides is in the second row.", radiusWorkers, radiusWindow))
	}
	if len(c) > 0 {
		notes = append(notes, "calibrator: "+spread(c[plainForm])+" MB per CPU-second for reading packets of 32 KiB from a socket, opening and sealing them with AES-128-GCM and writing them to another. "+
			"With hash, that is as much as a ledger needs besides: "+spread(c[sha256Form])+" with SHA-256 of the payload (for sftp), "+spread(c[blake3Form])+" with BLAKE3 (for exec, down, of which sallyport hashes the first 16 MiB by SHA-256).")
	}
	return notes
}

// print writes the table and its notes as Markdown.
func (r report) print(w io.Writer) error {
	table := [][]string{{"metric", direct, relay, stockOff, stock, off, sallyport, "stock/relay", "sallyport/relay", "stock/stock off", "sallyport/off", "of calibrator", "of calibrator with hash"}, nil}
	for _, one := range r.Rows {
		table = append(table, []string{
			one.Title, number(one.Direct, one.decimals), number(one.Relay, one.decimals), number(one.StockOff, one.decimals), number(one.Stock, one.decimals), number(one.Off, one.decimals), number(one.Sallyport, one.decimals),
			number(one.StockRatio, 2), number(one.Ratio, 2), number(one.StockOffRatio, 2), number(one.OffRatio, 2), percent(one.CalibratorShare), percent(one.HashShare),
		})
	}
	var out strings.Builder
	fmt.Fprintf(&out, "%s, %s\n\n", r.At.Format(time.DateOnly), r.Machine)
	if len(r.Rows) > 0 {
		format(&out, table)
		out.WriteString("\n")
	}
	if radius := radiusTable(r.RADIUS); radius != nil {
		format(&out, radius)
		out.WriteString("\n")
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&out, "* %s\n", n)
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// format writes rows of equal length with aligned columns, text to the left and numbers to the right. A
// nil row is the line below the head.
func format(out *strings.Builder, table [][]string) {
	widths := make([]int, len(table[0]))
	for _, cells := range table {
		for i, c := range cells {
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	for _, cells := range table {
		out.WriteByte('|')
		for i, width := range widths {
			switch {
			case cells == nil && i == 0:
				out.WriteString(strings.Repeat("-", width+2))
			case cells == nil:
				out.WriteString(strings.Repeat("-", width+1) + ":")
			default:
				pad := strings.Repeat(" ", width-utf8.RuneCountInString(cells[i]))
				if i == 0 {
					out.WriteString(" " + cells[i] + pad + " ")
				} else {
					out.WriteString(" " + pad + cells[i] + " ")
				}
			}
			out.WriteByte('|')
		}
		out.WriteByte('\n')
	}
}

func number(v *float64, decimals int) string {
	if v == nil {
		return "-"
	}
	return strconv.FormatFloat(*v, 'f', decimals, 64)
}

func percent(v *float64) string {
	if v == nil {
		return "-"
	}
	return strconv.FormatFloat(*v*100, 'f', 0, 64) + " %"
}

// writeJSON writes the same figures, and each round's, to file.
func (r report) writeJSON(file string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = os.WriteFile(file, append(text, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("writing figures: %w", err)
	}
	return nil
}

// machine says in a few words what this was measured on.
func machine() string {
	words := fmt.Sprintf("%d cores", runtime.NumCPU())
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for l := range strings.Lines(string(text)) {
			if name, ok := strings.CutPrefix(l, "model name"); ok {
				words += " (" + strings.TrimLeft(strings.TrimSpace(name), ": \t") + ")"
				break
			}
		}
	}
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		words += ", Linux " + strings.TrimSpace(string(text))
	}
	if text, err := exec.Command("ssh", "-V").CombinedOutput(); err == nil {
		openssh, _, _ := strings.Cut(strings.TrimSpace(string(text)), ",")
		words += ", " + openssh
	}
	return words + ", " + runtime.Version()
}

// median is the middle of the values, or the mean of the two in the middle.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

// spread is the median of samples, and from where to where they go.
func spread(samples []float64) string {
	return fmt.Sprintf("%.0f (%.0f-%.0f)", median(samples), slices.Min(samples), slices.Max(samples))
}

// percentile is the least value that is not below the given share of all (nearest rank).
func percentile(values []float64, share float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	rank := int(math.Ceil(share * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}
