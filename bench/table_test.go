package main

import (
	"math"
	"strings"
	"testing"
)

func TestMedian(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{7}, 7},
		{[]float64{9, 1, 5}, 5},
		{[]float64{4, 1, 3, 2}, 2.5},
		{[]float64{5, 5, 100, 5, 0}, 5},
	} {
		if got := median(c.values); got != c.want {
			t.Errorf("median of %v: got %v, want %v", c.values, got, c.want)
		}
	}
	if got := median(nil); !math.IsNaN(got) {
		t.Errorf("median of nothing: got %v, want NaN", got)
	}
}

func TestPercentile(t *testing.T) {
	t.Parallel()
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(100 - i)
	}
	for _, c := range []struct {
		values []float64
		share  float64
		want   float64
	}{
		{hundred, 0.50, 50},
		{hundred, 0.99, 99},
		{hundred, 1, 100},
		{hundred, 0, 1},
		{[]float64{3}, 0.99, 3},
		{[]float64{3, 1}, 0.5, 1},
	} {
		if got := percentile(c.values, c.share); got != c.want {
			t.Errorf("percentile %v of %d values: got %v, want %v", c.share, len(c.values), got, c.want)
		}
	}
}

func TestRows(t *testing.T) {
	t.Parallel()
	var r results
	for _, v := range []float64{100, 300, 200} {
		r.add("bulk_down_cpu", relay, v)
		r.add("bulk_down_cpu", sallyport, 2*v)
		r.add("bulk_down_cpu", stock, 1.5*v)
		r.add("bulk_down_cpu", stockOff, 2*v)
		r.add("sftp_get_cpu", sallyport, 2*v)
		r.add("bulk_up_cpu", sallyport, 2*v)
		r.add(calibratorWord, plainForm, 4*v)
		r.add(calibratorWord, sha256Form, 3*v)
		r.add(calibratorWord, blake3Form, 3.2*v)
		r.add("commands_failed", sallyport, v)
	}
	r.add("echo_p50_added", relay, -3)
	r.add("echo_p50_added", sallyport, 4)
	rows := map[string]row{}
	for _, one := range r.rows() {
		rows[one.Metric] = one
	}
	for _, c := range []struct {
		what string
		got  *float64
		want string
	}{
		{"no proxy", rows["bulk_down_cpu"].Direct, "-"},
		{"median", rows["bulk_down_cpu"].Sallyport, "400.00"},
		{"ratio", rows["bulk_down_cpu"].Ratio, "2.00"},
		{"stock", rows["bulk_down_cpu"].Stock, "300.00"},
		{"its ratio", rows["bulk_down_cpu"].StockRatio, "1.50"},
		{"stock, without recording", rows["bulk_down_cpu"].StockOff, "400.00"},
		{"what recording costs there", rows["bulk_down_cpu"].StockOffRatio, "0.75"},
		{"no stock", rows["commands_failed"].Stock, "-"},
		{"share", rows["bulk_down_cpu"].CalibratorShare, "0.50"},
		{"share of the one that hashes for exec", rows["bulk_down_cpu"].HashShare, "0.62"},
		{"share of the one that hashes for sftp", rows["sftp_get_cpu"].HashShare, "0.67"},
		{"share where nothing is hashed", rows["bulk_up_cpu"].HashShare, "-"},
		{"sum", rows["commands_failed"].Sallyport, "600.00"},
		{"ratio of counts", rows["commands_failed"].Ratio, "-"},
		{"ratio to less than nothing", rows["echo_p50_added"].Ratio, "-"},
		{"share of what is not throughput", rows["echo_p50_added"].CalibratorShare, "-"},
		{"not measured", rows["sftp_put_cpu"].Sallyport, "-"},
	} {
		if got := number(c.got, 2); got != c.want {
			t.Errorf("%s: got %s, want %s", c.what, got, c.want)
		}
	}
}

func TestFormat(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	format(&out, [][]string{{"metric", "a"}, nil, {"latency, µs ↓", "7"}, {"rate", "1234"}})
	want := `
| metric        |    a |
|---------------|-----:|
| latency, µs ↓ |    7 |
| rate          | 1234 |
`
	if got := "\n" + out.String(); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

func TestPrint(t *testing.T) {
	t.Parallel()
	b := &bench{settings: settings{rounds: 5, size: 256 << 20, sessions: 200}}
	b.add("bulk_up_cpu", sallyport, 712.4)
	for i, form := range forms {
		b.add(calibratorWord, form, float64(1000-100*i))
	}
	b.note("a remark")
	r := report{Machine: "2 cores", Rows: b.rows(), Notes: append(b.explain(), b.notes...)}
	var out strings.Builder
	if err := r.print(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| exec, up, MB per CPU-second ↑ ", " 712 |", " 71 % |", "of calibrator with hash", "1000 (1000-1000) MB", "900 (900-900) with SHA-256", "800 (800-800) with BLAKE3", "256MiB", "200 sessions", "* a remark\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, out.String())
		}
	}
}
