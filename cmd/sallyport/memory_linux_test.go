package main

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

func TestProgramRange(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]int{
		"00400000-011ff000 r-xp 00000000 fe:00 42                          /srv/sallyport": 0x011ff000 - 0x400000,
		"011ff000-01ee7000 r--p 00dff000 fe:00 42                          /srv/sallyport": 0x01ee7000 - 0x011ff000,
		"01ee7000-01f99000 rw-p 01ae7000 fe:00 42                          /srv/sallyport": 0,
		"7f1d00b50000-7f1d00f00000 r--p 00000000 00:00 0":                                  0,
		"7f1d00b50000-7f1d00f00000 r--p 00000000 fe:00 7                   /srv/other":     0,
		"junk": 0, "": 0,
		"x-y r--p 0 0 0 /srv/sallyport": 0, "2000-1000 r--p 0 0 0 /srv/sallyport": 0, "1000 r--p 0 0 0 /srv/sallyport": 0,
	} {
		if _, n, ok := programRange(line, "/srv/sallyport"); n != want || ok != (want != 0) {
			t.Errorf("%q: %d, %t", line, n, ok)
		}
	}
}

// The program goes on with its pages taken away, and needs fewer of them.
func TestReleaseProgram(t *testing.T) {
	before := programResident(t)
	releaseProgram()
	after := programResident(t)
	t.Logf("%d kB of the program before, %d after", before, after)
	if after >= before {
		t.Fatalf("%d kB of the program are resident, %d before", after, before)
	}
}

// programResident is how much of this program's file is in this process, in kB.
func programResident(t *testing.T) (kB int) {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	ours := false
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		switch {
		case len(f) >= 2 && strings.Contains(f[0], "-") && !strings.HasSuffix(f[0], ":"):
			ours = len(f) == 6 && f[5] == self && strings.HasPrefix(f[1], "r-")
		case ours && len(f) == 3 && f[0] == "Rss:":
			n, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			kB += n
		}
	}
	return kB
}
