package bastion_test

import (
	"bytes"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/recorder"
)

// inputOf is what a recording has as typed.
func (s *system) inputOf(path string) (input string, output string) {
	s.t.Helper()
	r, err := s.Recorder.Open(path)
	check(s.t, err)
	defer r.Close()
	var in, out strings.Builder
	for {
		e, err := r.Next()
		if err == io.EOF {
			return in.String(), out.String()
		}
		check(s.t, err)
		switch e.Code {
		case recorder.CodeInput:
			in.Write(e.Data)
		case recorder.CodeOutput:
			out.Write(e.Data)
		}
	}
}

// typedScreen is what a terminal shows, from the place on to which expect has come.
type typedScreen struct {
	t  *testing.T
	mu sync.Mutex // guards the fields below
	b  []byte
}

func (m *typedScreen) Write(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.b = append(m.b, p...)
	return len(p), nil
}

// expect waits until text is shown, and goes past it.
func (m *typedScreen) expect(text string) {
	m.t.Helper()
	var rest []byte
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		m.mu.Lock()
		i := bytes.Index(m.b, []byte(text))
		if i >= 0 {
			m.b = m.b[i+len(text):]
		}
		rest = bytes.Clone(m.b)
		m.mu.Unlock()
		if i >= 0 {
			return
		}
	}
	m.t.Fatalf("waiting for %q; after the last one there is %q", text, rest)
}

const inputRules = "version: 1\nrules:\n  - {name: all, users: ['*'], targets: ['*'], record-input: true}\n"

// A person works in a real shell on a real host (R11): what the terminal shows as typed is recorded as input, and
// nothing that was typed where it does not: at read -s, at the prompt of a program that asks for a password, with
// stty -echo, inside of another terminal, and in a full-screen editor.
func TestInput(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{rules: inputRules})
	c, err := s.dial("alice@web1", answers(alicePassword, s.code("alice"), nil))
	check(t, err)
	defer c.Close()
	sess, err := c.NewSession()
	check(t, err)
	in, err := sess.StdinPipe()
	check(t, err)
	out, err := sess.StdoutPipe()
	check(t, err)
	check(t, sess.RequestPty("xterm", 24, 80, nil))
	check(t, sess.Start("LC_ALL=C.UTF-8 PS1='ready> ' exec bash --norc --noprofile -i"))
	m := &typedScreen{t: t}
	go func() { _, _ = io.Copy(m, out) }()
	slowly := func(text string) { // as fingers do: each key has its echo before the next
		for _, key := range text {
			_, err := io.WriteString(in, string(key))
			check(t, err)
			m.expect(string(key))
		}
	}
	atOnce := func(text string) {
		_, err := io.WriteString(in, text)
		check(t, err)
	}
	m.expect("ready> ")
	slowly("echo typed-slowly")
	atOnce("\r")
	m.expect("ready> ")
	atOnce("echo typed at once é\r")
	m.expect("at once é") // as it is typed
	m.expect("at once é\r\n")
	m.expect("ready> ")

	atOnce("read -s -p 'Secret: ' x\r")
	m.expect("Secret: ")
	for _, key := range "hunter-one" {
		atOnce(string(key))
	}
	atOnce("\r")
	m.expect("ready> ")

	atOnce("python3 -c 'import getpass; getpass.getpass(\"[sudo] pass\" + \"word: \")'\r")
	m.expect("[sudo] password: ")
	atOnce("hunter-two\r")
	m.expect("ready> ")

	atOnce("stty -echo; echo o''ff; cat > /dev/null; stty echo\r")
	m.expect("off\r\n")
	atOnce("hunter-three\n\x04")
	m.expect("ready> ")

	atOnce("script -qc 'bash --norc --noprofile -c \"read -s -p Inner:\\  y; read -p Open:\\  z\"' /dev/null\r")
	m.expect("Inner: ")
	atOnce("hunter-four\r")
	m.expect("Open: ")
	slowly("inner-open")
	atOnce("\r")
	m.expect("ready> ")

	atOnce("vim -u NONE -N\r")
	m.expect("\x1b[1;1H")
	atOnce("ihunter-five\x1b")
	atOnce(":q!\r")
	m.expect("ready> ")
	slowly("echo end")
	atOnce("\r")
	m.expect("ready> ")
	atOnce("exit\r")
	_ = sess.Wait()
	c.Close()

	x := s.session()
	input, _ := s.inputOf(x.Channels[0].Recording)
	for _, want := range []string{"echo typed-slowly\r", "echo typed at once é\r", "read -s -p 'Secret: ' x\r", "inner-open\r", "echo end\r", "exit\r"} {
		if !strings.Contains(input, want) {
			t.Errorf("not recorded: %q; the input is %q", want, input)
		}
	}
	if strings.Contains(input, "hunter") {
		t.Errorf("what was typed without echo is recorded: %q", input)
	}
	report, err := s.Recorder.Verify(x.Channels[0].Recording)
	if err != nil || report.Summary.Input != int64(len(input)) {
		t.Errorf("the end says %d bytes of input, there are %d; %v", report.Summary.Input, len(input), err)
	}
}

// Without the rule's word nothing that is typed is recorded as input, and never without a terminal.
func TestInputIsOff(t *testing.T) {
	t.Parallel()
	for name, rules := range map[string]string{"the rule says nothing": "", "there is no terminal": inputRules} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSystem(t, options{rules: rules})
			c, err := s.dial("alice@web1", answers(alicePassword, s.code("alice"), nil))
			check(t, err)
			defer c.Close()
			sess, err := c.NewSession()
			check(t, err)
			if rules == "" {
				check(t, sess.RequestPty("xterm", 24, 80, nil))
			}
			sess.Stdin = strings.NewReader("some words\n")
			got, err := sess.Output("head -n 1")
			if err != nil || !strings.Contains(string(got), "some words") {
				t.Fatalf("%q, %v", got, err)
			}
			c.Close()
			if input, _ := s.inputOf(s.session().Channels[0].Recording); input != "" {
				t.Errorf("recorded as typed: %q", input)
			}
		})
	}
}
