package recorder

import (
	"bytes"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"
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
