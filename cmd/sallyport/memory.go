package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// collectAt is after how many percent of growth the collector runs when live bytes are in use. With Go's SSH library as
// it is published each byte that is relayed makes a byte of garbage. With the one of `make build` garbage comes from logins
// alone, and what lives of a session should not be strewn over much of it; while few live, that costs nothing.
func collectAt(live uint64) int {
	const most, least, room = 400, 50, 8 << 20
	if !pooledPackets() {
		return most
	}
	return int(min(max(least, 100*room/max(live, 1)), most))
}

// memoryWatch gives memory back to the system when a busy time is over: the collector runs late, and nothing
// makes it run once nobody allocates, so that the garbage of handshakes and of
// password hashing would stay for as long as the sessions do.
type memoryWatch struct {
	seen     uint64 // bytes allocated until the last look
	returned uint64 // … until memory was given back
	percent  int    // after which the collector runs; 0: as at the start
}

// Between two looks a quiet server allocates fewer than quietBytes; for fewer than worthBytes since the
// last time a collection is not worth its CPU.
const (
	quietBytes = 1 << 20
	worthBytes = 6 << 20
)

// look is called every few seconds.
func (w *memoryWatch) look() {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	if percent := collectAt(sample[1].Value.Uint64()); w.percent != percent && os.Getenv("GOGC") == "" {
		w.percent = percent
		debug.SetGCPercent(percent)
	}
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
