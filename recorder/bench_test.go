package recorder

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func benchmarkOutput(b *testing.B, chunk []byte) {
	r := newRecorder(b, func(c *Config) { c.Sync = 100 * time.Millisecond })
	w := create(b, r, Header{})
	b.SetBytes(int64(len(chunk)))
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		if err := w.Output(chunk); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	closed(b, w)
}

// BenchmarkOutput is the cost of recording a line of a shell. The goal is 3 µs.
func BenchmarkOutput(b *testing.B) {
	benchmarkOutput(b, []byte(strings.Repeat("drwxr-xr-x  2 alice staff   4096 Nov 23 01:02 \x1b[01;34mprojects\x1b[0m\r\n", 3)[:200]))
}

// BenchmarkOutputBulk is the cost of a program that prints without end.
func BenchmarkOutputBulk(b *testing.B) {
	benchmarkOutput(b, []byte(strings.Repeat("drwxr-xr-x  2 alice staff   4096 Nov 23 01:02 \x1b[01;34mprojects\x1b[0m\r\n", 500)[:32<<10]))
}

// BenchmarkOutputBinary is the cost of bytes that are not text.
func BenchmarkOutputBinary(b *testing.B) {
	benchmarkOutput(b, bytes.Repeat([]byte{0, 0xff, 0x80, 'a', 0x1b, 0xc3, 0x28, 7}, 4<<10))
}

// BenchmarkShort is the cost of a recording of one line, alone and side by side, sealing included.
func BenchmarkShort(b *testing.B) {
	r := newRecorder(b, func(c *Config) { c.Sync = 100 * time.Millisecond })
	var n atomic.Int64
	one := func() {
		w := create(b, r, Header{Session: fmt.Sprintf("s%d", n.Add(1)), Kind: "exec", Command: "true"})
		must(b, w.Output([]byte("one line\n")))
		must(b, w.ExitStatus(0))
		closed(b, w)
	}
	b.Run("alone", func(b *testing.B) {
		for b.Loop() {
			one()
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.SetParallelism(16)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				one()
			}
		})
	})
}

// BenchmarkAppendText is the cost of escaping alone.
func BenchmarkAppendText(b *testing.B) {
	for _, bb := range []struct{ name, text string }{
		{"listing", strings.Repeat("drwxr-xr-x  2 alice staff   4096 Nov 23 01:02 \x1b[01;34mprojects\x1b[0m\r\n", 500)},
		{"cyrillic", strings.Repeat("съешь ещё этих мягких французских булок, да выпей чаю\r\n", 300)},
	} {
		b.Run(bb.name, func(b *testing.B) {
			dst := make([]byte, 0, 4*len(bb.text))
			b.SetBytes(int64(len(bb.text)))
			for b.Loop() {
				dst = appendText(dst[:0], []byte(bb.text))
			}
		})
	}
}

// BenchmarkThousandTerminals is what recording costs a node on which a thousand people type five keys a second: cores,
// and how long a key waits for it. The goals are half a core, and 50 µs at p99. One operation is one second of that.
func BenchmarkThousandTerminals(b *testing.B) {
	const terminals, keys = 1000, 5
	r := newRecorder(b, func(c *Config) { c.Sync = defaultSync })
	open := make([]*Recording, terminals)
	for i := range open {
		open[i] = create(b, r, Header{Session: fmt.Sprintf("s%d", i), Term: "xterm"})
	}
	var waits []time.Duration
	begun := time.Now()
	before := processTime(b)
	b.ResetTimer()
	for i := 0; i < b.N*terminals*keys; i++ {
		time.Sleep(time.Until(begun.Add(time.Duration(i) * time.Second / (terminals * keys))))
		at := time.Now()
		if err := open[i%terminals].Output([]byte{"abcdefghij"[i%10]}); err != nil {
			b.Fatal(err)
		}
		waits = append(waits, time.Since(at))
	}
	b.StopTimer()
	b.ReportMetric((processTime(b)-before).Seconds()/time.Since(begun).Seconds(), "cores")
	slices.Sort(waits)
	b.ReportMetric(float64(waits[len(waits)/2].Nanoseconds())/1e3, "µs-p50")
	b.ReportMetric(float64(waits[len(waits)*99/100].Nanoseconds())/1e3, "µs-p99")
	for _, w := range open {
		closed(b, w)
	}
}

// processTime is the CPU time that this process has used.
func processTime(tb testing.TB) time.Duration {
	var u unix.Rusage
	must(tb, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
