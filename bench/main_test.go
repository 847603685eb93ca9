package main

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/otp"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args   []string
		rounds int
		size   size
		ok     bool
	}{
		"defaults":           {nil, 5, 256 << 20, true},
		"quick":              {[]string{"-quick"}, 3, 96 << 20, true},
		"quick with a size":  {[]string{"-quick", "-size", "1GiB"}, 3, 1 << 30, true},
		"size in bytes":      {[]string{"-size", "1048576"}, 5, 1 << 20, true},
		"no size":            {[]string{"-size", "big"}, 0, 0, false},
		"negative":           {[]string{"-size", "-1MiB"}, 0, 0, false},
		"too large":          {[]string{"-size", "99999999GiB"}, 0, 0, false},
		"too small":          {[]string{"-size", "1KiB"}, 0, 0, false},
		"no rounds":          {[]string{"-rounds", "0"}, 0, 0, false},
		"parts":              {[]string{"-only", "exec,sftp"}, 5, 256 << 20, true},
		"no such part":       {[]string{"-only", "exec,speed"}, 0, 0, false},
		"something left":     {[]string{"fast"}, 0, 0, false},
		"no such flag there": {[]string{"-fast"}, 0, 0, false},
	} {
		s, err := parse(c.args, io.Discard)
		if (err == nil) != c.ok || err == nil && (s.rounds != c.rounds || s.size != c.size) {
			t.Errorf("%s: got %d rounds of %s, %v", name, s.rounds, s.size.String(), err)
		}
	}
}

func TestSizeRoundTrip(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"256MiB", "3GiB", "1500B", "12KiB"} {
		var s size
		if err := s.Set(text); err != nil || s.String() != text {
			t.Errorf("%s: got %s, %v", text, s.String(), err)
		}
	}
}

// No code is used twice, and each is one that the server accepts at that time.
func TestTake(t *testing.T) {
	t.Parallel()
	p := &person{secret: otp.NewSecret()}
	params, now := otp.DefaultParams(), time.Unix(1_800_000_010, 0)
	last := int64(0)
	for i, want := range []time.Duration{0, 0, 20 * time.Second} {
		code, wait := p.take(now)
		if wait != want {
			t.Fatalf("code %d: wait %s, want %s", i+1, wait, want)
		}
		if wait > 0 {
			now = now.Add(wait)
			code, wait = p.take(now)
		}
		found := params.Match(p.secret, code, params.StepAt(now), last, otp.DefaultWindow())
		if wait != 0 || !found.OK {
			t.Fatalf("code %d: %q after %s is not accepted: %+v", i+1, code, wait, found)
		}
		last = found.Step
	}
}

func TestReadyAddr(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "log")
	for _, c := range []struct{ line, want string }{
		{`{"msg":"starting","ssh":"no"}`, ""},
		{"not JSON", ""},
		{`{"level":"INFO","msg":"ready","ssh":"127.0.0.1:4711"}`, "127.0.0.1:4711"},
	} {
		f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(f, c.line+"\n"); err != nil {
			t.Fatal(err)
		}
		f.Close()
		if got, err := readyAddr(log); err != nil || got != c.want {
			t.Errorf("after %s: got %q, %v, want %q", c.line, got, err, c.want)
		}
	}
}

func TestReplaceOnce(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, []byte("a: []\nb: []\nb: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, missing := range []string{"b: []", "c: []"} {
		if err := replaceOnce(file, "a: []", "a: [1]", missing, "x"); err == nil {
			t.Errorf("replaced %q, which is not there once", missing)
		}
	}
	if err := replaceOnce(file, "a: []", "a: [1]"); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(file); string(got) != "a: [1]\nb: []\nb: []\n" {
		t.Errorf("got %q", got)
	}
}

// The calibrator passes on each packet that it can open, and stops at one that it cannot.
func TestCalibrator(t *testing.T) {
	t.Parallel()
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
	const packets = 100
	source, sink := listen(), listen()
	sent, arrived := make(chan error, 1), make(chan error, 1)
	for _, form := range forms {
		go func() { sent <- feed(source, packets) }()
		go func() { arrived <- drain(sink, packets*packetLen) }()
		for i, err := range []error{calibrator(form, source.Addr().String(), sink.Addr().String()), <-sent, <-arrived} {
			if err != nil {
				t.Errorf("%s, part %d: %v", form, i, err)
			}
		}
	}
	go func() {
		if conn, err := source.Accept(); err == nil {
			_, _ = conn.Write(make([]byte, packetLen))
			conn.Close()
		}
	}()
	if err := calibrator(plainForm, source.Addr().String(), sink.Addr().String()); err == nil {
		t.Error("a packet that does not open was passed on")
	}
	if err := calibrator("md5", source.Addr().String(), sink.Addr().String()); err == nil || !strings.Contains(err.Error(), "md5") {
		t.Errorf("a form that does not exist: %v", err)
	}
}
