package main

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// releaseProgram takes the pages of the program's own file out of this process, those that are never written.
// They stay in the system's cache, and each comes back when it is used again: what ran once, at the start or
// in a key exchange, need not be held for as long as the server runs.
func releaseProgram() {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if start, length, ok := programRange(lines.Text(), self); ok {
			_ = unix.Madvise(unsafe.Slice((*byte)(start), length), unix.MADV_DONTNEED)
		}
	}
}

// programRange reads a line of /proc/PID/maps (proc_pid_maps(5)); it is false for all but what is mapped from the
// file and can never be written.
func programRange(line, file string) (start unsafe.Pointer, length int, ok bool) {
	f := strings.Fields(line)
	if len(f) != 6 || f[5] != file || f[1] != "r-xp" && f[1] != "r--p" {
		return nil, 0, false
	}
	from, to, ok := strings.Cut(f[0], "-")
	a, err := strconv.ParseUint(from, 16, 64)
	b, err2 := strconv.ParseUint(to, 16, 64)
	if !ok || err != nil || err2 != nil || b <= a {
		return nil, 0, false
	}
	address := uintptr(a)
	return *(*unsafe.Pointer)(unsafe.Pointer(&address)), int(b - a), true // no memory of Go's: it never moves
}
