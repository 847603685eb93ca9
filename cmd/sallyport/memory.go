package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// memoryWatch gives memory back to the system when a busy time is over: the collector runs late
// (GOGC 400), and nothing makes it run once nobody allocates, so that the garbage of handshakes and of
// password hashing would stay for as long as the sessions do.
type memoryWatch struct {
	seen     uint64 // bytes allocated until the last look
	returned uint64 // … until memory was given back
}

// Between two looks a quiet server allocates fewer than quietBytes; for fewer than worthBytes since the
// last time a collection is not worth its CPU.
const (
	quietBytes = 1 << 20
	worthBytes = 6 << 20
)

// look is called every few seconds.
func (w *memoryWatch) look() {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	if w.due(sample[0].Value.Uint64()) {
		runtime.GC() // each collection halves the stacks that have once been deep
		debug.FreeOSMemory()
		releaseProgram()
	}
}

// due takes how many bytes were allocated since the program began.
func (w *memoryWatch) due(allocated uint64) bool {
	quiet := allocated-w.seen < quietBytes
	w.seen = allocated
	if !quiet || allocated-w.returned < worthBytes {
		return false
	}
	w.returned = allocated
	return true
}
