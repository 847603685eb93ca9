package bastion_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/audit"
	"sallyport/internal/testenv"
	"sallyport/store"
)

// files waits until the newest session has ended and returns its ledger.
func (s *system) files() []store.Transfer {
	s.t.Helper()
	list, err := s.Store.Transfers.List(context.Background(), store.TransferFilter{SessionID: s.session().ID, Limit: 10000})
	check(s.t, err)
	return list
}

// wantFiles compares the newest session's ledger with lines "op path result", " -> new path" in it where there is one.
func (s *system) wantFiles(want ...string) []store.Transfer {
	s.t.Helper()
	list := s.files()
	var got []string
	for _, f := range list {
		line := f.Op + " " + f.Path
		if f.NewPath != "" {
			line += " -> " + f.NewPath
		}
		got = append(got, line+" "+f.Result)
		if f.Ended.Before(f.Started) || f.Started.IsZero() {
			s.t.Errorf("%s: from %v to %v", line, f.Started, f.Ended)
		}
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		s.t.Fatalf("ledger:\n%s\nwant:\n%s\n%+v", strings.Join(got, "\n"), strings.Join(want, "\n"), list)
	}
	return list
}

// isFile compares a line with the file that it tells of.
func (s *system) isFile(f store.Transfer, path string) {
	s.t.Helper()
	p, err := os.ReadFile(path)
	check(s.t, err)
	sum := sha256.Sum256(p[f.First:])
	if f.Bytes != int64(len(p))-f.First || f.SHA256 != hex.EncodeToString(sum[:]) || !f.InOrder {
		s.t.Errorf("%s of %s: %d bytes from %d, SHA-256 %s, in order %v; the file has %d bytes and %x (%s)",
			f.Op, f.Path, f.Bytes, f.First, f.SHA256, f.InOrder, len(p), sum, f.Detail)
	}
}

// Each way to transfer a file leaves one line of it, with the bytes and the SHA-256 of the file.
func TestFiles(t *testing.T) {
	onBoth(t, func(t *testing.T, o options) {
		s := newSystem(t, o)
		dir := t.TempDir()
		src, up, down, part := dir+"/src", dir+"/up", dir+"/down", dir+"/part"
		write(t, src, 3<<20)
		p, err := os.ReadFile(src)
		check(t, err)
		check(t, os.WriteFile(part, p[:1<<20], 0o600))
		check(t, os.WriteFile(dir+"/empty", nil, 0o600))

		succeed(t, s.ssh().SFTP(t, strings.Join([]string{
			"put " + src + " " + up, "get " + up + " " + down, "reget " + src + " " + part, "put " + dir + "/empty " + dir + "/empty2",
			"rename " + up + " " + up + "2", "mkdir " + dir + "/d", "rmdir " + dir + "/d", "ln -s " + up + "2 " + dir + "/l", "ln " + up + "2 " + dir + "/h",
			"chmod 640 " + up + "2", "rm " + up + "2", "-get " + dir + "/none", "ls " + dir}, "\n")+"\n"))
		list := s.wantFiles("write "+up+" ok", "read "+up+" ok", "read "+src+" ok", "write "+dir+"/empty2 ok", "rename "+up+" -> "+up+"2 ok",
			"mkdir "+dir+"/d ok", "rmdir "+dir+"/d ok", "symlink "+up+"2 -> "+dir+"/l ok", "link "+up+"2 -> "+dir+"/h ok", "setstat "+up+"2 ok", "remove "+up+"2 ok")
		s.isFile(list[0], src)
		s.isFile(list[1], src)
		s.isFile(list[2], src)
		s.isFile(list[3], dir+"/empty")
		if list[2].First != 1<<20 || list[9].Detail != "mode 0640" {
			t.Errorf("got %+v and %+v", list[2], list[9])
		}
		same(t, src, part)
		if c := s.session().Channels[0]; c.FilesRead != 2 || c.FilesWritten != 2 {
			t.Errorf("channel: %+v", c)
		}
		s.wantFilesEvent(map[string]string{"files-read": "2", "files-written": "2", "files-changed": "7", "files-bytes-read": "5242880", "files-bytes-written": "3145728"})

		if o.postgres {
			return // what follows asks nothing of the database that was not asked above
		}
		for _, flags := range [][]string{{"-q"}, {"-q", "-O"}, {"-q", "-p", "-O"}} {
			succeed(t, s.ssh().SCP(t, append(flags, src, "REMOTE:"+up)...))
			s.isFile(s.wantFiles("write " + up + " ok")[0], src)
			succeed(t, s.ssh().SCP(t, append(flags, "REMOTE:"+up, down)...))
			s.isFile(s.wantFiles("read " + up + " ok")[0], src)
		}
		check(t, os.MkdirAll(dir+"/tree/sub", 0o700))
		check(t, os.WriteFile(dir+"/tree/sub/a b", []byte("x"), 0o600))
		succeed(t, s.ssh().SCP(t, "-q", "-r", "-O", dir+"/tree", "REMOTE:"+dir+"/d2/"))
		f := s.wantFiles("write " + dir + "/d2/tree/sub/a b ok")[0]
		if s.isFile(f, dir+"/tree/sub/a b"); f.Detail != "without tree/ in it, if the path was no folder before" {
			t.Errorf("got %+v", f)
		}
		succeed(t, s.ssh().SCP(t, "-q", "-r", "-O", "REMOTE:"+dir+"/tree", dir+"/back"))
		s.isFile(s.wantFiles("read " + dir + "/tree/sub/a b ok")[0], dir+"/tree/sub/a b")

		succeed(t, s.ssh().Rsync(t, "-a", src, "REMOTE:"+dir+"/rsynced"))
		if f := s.wantFiles("write " + dir + "/rsynced ok")[0]; f.Bytes < 3<<20 || f.SHA256 != "" || !strings.Contains(f.Detail, "rsync") {
			t.Errorf("rsync: %+v", f)
		}
	})
}

// wantFilesEvent looks at what the newest events of ends say of files.
func (s *system) wantFilesEvent(want map[string]string) {
	s.t.Helper()
	for _, kind := range []string{audit.ChannelEnded, audit.SessionEnded} {
		list, err := s.Store.Audit.List(context.Background(), store.AuditFilter{Type: kind, Limit: 1})
		check(s.t, err)
		for key, value := range want {
			if got := list[0].Detail[key]; got != value {
				s.t.Errorf("%s of %s: %q, want %q", key, kind, got, value)
			}
		}
	}
}

// What is under way is known, and what was broken off is told as that.
func TestFilesAborted(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	src := filepath.Join(t.TempDir(), "src")
	write(t, src, 64<<20)
	cmd := s.ssh().SCP(t, "-q", "-l", "40000", "REMOTE:"+src, src+".down")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // with the ssh that scp starts
	check(t, cmd.Start())
	var open []store.Transfer
	testenv.WaitFor(t, "the line of an open file", func() bool {
		list, err := s.Store.Sessions.List(t.Context(), store.SessionFilter{Limit: 1})
		check(t, err)
		if len(list) == 1 {
			open, err = s.Store.Transfers.List(t.Context(), store.TransferFilter{SessionID: list[0].ID})
			check(t, err)
		}
		return len(open) == 1
	})
	if f := open[0]; f.Result != "open" || f.Op != "read" || f.Path != src || !f.Ended.IsZero() {
		t.Errorf("got %+v", f)
	}
	check(t, syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL))
	_ = cmd.Wait()
	f := s.wantFiles("read " + src + " aborted")[0]
	p, err := os.ReadFile(src)
	check(t, err)
	if f.Bytes == 0 || f.Bytes >= 64<<20 {
		t.Fatalf("got %+v", f)
	}
	if sum := sha256.Sum256(p[:f.Bytes]); f.SHA256 != hex.EncodeToString(sum[:]) {
		t.Errorf("SHA-256 of the %d bytes: %+v", f.Bytes, f)
	}
}

// Garbage as SFTP passes byte for byte, both ways; the ledger says that it gave up.
func TestFilesGarbage(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	program := filepath.Join(t.TempDir(), "sftp-server")
	check(t, os.WriteFile(program, []byte("#!/bin/sh\nexec cat\n"), 0o700))
	garbage := make([]byte, 2<<20)
	rand.Read(garbage)
	garbage[0] = 0xff // no length of a packet
	client, err := s.dial("alice@web1", answers(alicePassword, s.code("alice"), nil))
	check(t, err)
	ch, err := client.NewSession()
	check(t, err)
	ch.Stdin = bytes.NewReader(garbage)
	out, err := ch.Output(program)
	check(t, err)
	if !bytes.Equal(out, garbage) {
		t.Errorf("%d bytes came back of %d", len(out), len(garbage))
	}
	client.Close()
	if f := s.wantFiles("note  unknown")[0]; !strings.Contains(f.Detail, "not understood from here on") {
		t.Errorf("got %+v", f)
	}
}

// sshd takes a command that ends in a NUL and runs it without. Such an scp was one for the rules and none for their
// paths, so that it read and wrote whatever the account could.
func TestFilesPolicyHoldsStrangeCommands(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir+"/secret", 1<<10)
	s := newSystem(t, options{rules: strings.Replace(trustHere, "code: none", `code: none, sftp: {read: ["`+dir+`/pub/**"]}`, 1)})
	_, key := s.person("mia")
	c, err := s.dial("mia@web1", ssh.PublicKeys(key))
	check(t, err)
	defer c.Close()
	for _, command := range []string{"scp -f " + dir + "/secret\x00", "scp -f\v" + dir + "/secret", "scp -f\u00a0" + dir + "/secret"} {
		ch, err := c.NewSession()
		check(t, err)
		ch.Stdin = strings.NewReader("\x00\x00\x00")
		out, err := ch.Output(command)
		if err == nil || bytes.Contains(out, []byte("C0")) {
			t.Errorf("%q: %v, %.100q", command, err, out)
		}
	}
}

const heldRules = `version: 1
rules:
  - name: files
    users: ["*"]
    targets: ["*"]
    channels: [exec, sftp, scp]
    sftp: {read: ["%[1]s/pub/**"], write: ["%[1]s/in/{user}/**"]}
`

// A rule with paths is held by every way to transfer files, in the words of each.
func TestFilesPolicy(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, d := range []string{"pub", "in/alice", "in/bob", "secret"} {
		check(t, os.MkdirAll(filepath.Join(dir, d), 0o700))
	}
	s := newSystem(t, options{rules: fmt.Sprintf(heldRules, dir)})
	src := dir + "/pub/src"
	write(t, src, 1<<20)
	write(t, dir+"/secret/key", 1<<20)
	out, errs, status := testenv.Finish(t, s.ssh().SFTP(t, strings.Join([]string{
		"put " + src + " " + dir + "/in/alice/f", "get " + src + " " + dir + "/down", "cd " + dir + "/pub", "get src " + dir + "/down2", "ls",
		"-get " + dir + "/secret/key " + dir + "/stolen", "-put " + src + " " + dir + "/in/bob/f", "-put " + src + " " + dir + "/pub/g",
		"-rm " + src, "-rename " + dir + "/in/alice/f " + dir + "/secret/f", "-mkdir " + dir + "/pub/d", "-ln -s " + dir + "/secret/key " + dir + "/in/alice/l",
		"-chmod 777 " + src, "-ls " + dir + "/secret", "-cd " + dir + "/secret", "rename " + dir + "/in/alice/f " + dir + "/in/alice/g",
		"get src " + dir + "/down3"}, "\n")+"\n"))
	if status != 0 {
		t.Fatalf("status %d: %s%s", status, out, errs)
	}
	for _, f := range []string{"/down", "/down2", "/down3", "/in/alice/g"} {
		same(t, src, dir+f)
	}
	for _, f := range []string{"/stolen", "/in/bob/f", "/pub/g", "/secret/f", "/pub/d", "/in/alice/l"} {
		if _, err := os.Lstat(dir + f); err == nil {
			t.Errorf("%s is there", f)
		}
	}
	if n := strings.Count(out+errs, "ermission denied"); n < 8 {
		t.Errorf("Permission denied is read %d times:\n%s%s", n, out, errs)
	}
	list := s.files()
	refused := 0
	for _, f := range list {
		if f.Result == "refused" {
			refused++
			if !strings.Contains(f.Detail, "rule files does not allow") {
				t.Errorf("got %+v", f)
			}
		}
	}
	if refused < 6 || list[0].Op != "write" || list[0].Result != "ok" {
		t.Errorf("%d refused: %+v", refused, list)
	}
	s.isFile(list[0], src)

	for name, c := range map[string]struct {
		cmd  *exec.Cmd
		want string // of what the person reads; "" passes
	}{
		"scp up":             {s.ssh().SCP(t, src, "REMOTE:"+dir+"/in/alice/scp"), ""},
		"scp down":           {s.ssh().SCP(t, "REMOTE:"+src, dir+"/scp-down"), ""},
		"scp up elsewhere":   {s.ssh().SCP(t, src, "REMOTE:"+dir+"/in/bob/scp"), "ermission denied"},
		"scp down elsewhere": {s.ssh().SCP(t, "REMOTE:"+dir+"/secret/key", dir+"/stolen"), dir + "/secret/key: No such file"}, // it looks first
		"scp -O up":          {s.ssh().SCP(t, "-O", src, "REMOTE:"+dir+"/in/alice/old"), ""},
		"scp -O down":        {s.ssh().SCP(t, "-O", "REMOTE:"+src, dir+"/old-down"), ""},
		"scp -O -r down":     {s.ssh().SCP(t, "-O", "-r", "REMOTE:"+dir+"/pub", dir+"/tree"), ""},
		"scp -O up out":      {s.ssh().SCP(t, "-O", src, "REMOTE:"+dir+"/in/bob/old"), "scp: Permission denied: rule files does not allow writing to all of"},
		"scp -O down out":    {s.ssh().SCP(t, "-O", "REMOTE:"+dir+"/secret/key", dir+"/stolen"), "scp: Permission denied: rule files does not allow reading " + dir + "/secret/key"},
		"scp -O dots":        {s.ssh().SCP(t, "-O", "REMOTE:"+dir+"/pub/../secret/key", dir+"/stolen"), "scp: rule files holds files to paths"},
		"scp -O glob":        {s.ssh().SCP(t, "-O", "REMOTE:"+dir+"/*/key", dir+"/stolen"), "scp: rule files holds files to paths"},
		"scp -O relative":    {s.ssh().SCP(t, "-O", "REMOTE:key", dir+"/stolen"), "scp: rule files holds files to paths"},
		"rsync":              {s.ssh().Rsync(t, src, "REMOTE:"+dir+"/in/alice/rsync"), "rsync cannot be held to the paths of rule files"},
		"sftp-server by exec": {s.ssh().Command(t, "sh", "-c", "sftp -q -o BatchMode=no -b - -s /usr/lib/openssh/sftp-server "+strings.TrimPrefix(strings.ReplaceAll(s.ssh().Program(), " -p ", " -P "), "ssh ")+
			" alice@web1@127.0.0.1 <<E\nget "+dir+"/secret/key "+dir+"/stolen\nE\n"), "secret/key\" not found"},
	} {
		out, errs, status := testenv.Finish(t, c.cmd)
		if (status == 0) != (c.want == "") || !strings.Contains(out+errs, c.want) {
			t.Errorf("%s: status %d: %s%s", name, status, out, errs)
		}
	}
	for _, f := range []string{"/in/alice/scp", "/scp-down", "/in/alice/old", "/old-down"} {
		same(t, src, dir+f)
	}
	if _, err := os.Stat(dir + "/stolen"); err == nil {
		t.Error("a file came that the rule does not allow")
	}
	if _, err := os.Stat(dir + "/tree/src"); err != nil {
		t.Error(err)
	}
	if s.events(audit.ChannelRefused) == nil {
		t.Error("refusals leave no event")
	}
}

// Where other paths come to hold, a channel ends that was opened under those of before.
func TestFilesPolicyChanges(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rules := fmt.Sprintf(heldRules, dir)
	s := newSystem(t, options{rules: rules})
	client, err := s.dial("alice@web1", answers(alicePassword, s.code("alice"), nil))
	check(t, err)
	defer client.Close()
	ch, err := client.NewSession()
	check(t, err)
	check(t, ch.RequestSubsystem("sftp"))
	_, err = s.Store.Rules.Put(t.Context(), strings.ReplaceAll(rules, "/pub/", "/public/"), "test", 1)
	check(t, err)
	if row := s.session(); !strings.Contains(row.Reason, "paths") {
		t.Errorf("the session ended: %s", row.Reason)
	}
}

// A client that sends what nobody understands gets no further where a rule holds it to paths.
func TestFilesPolicyGarbage(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{rules: fmt.Sprintf(heldRules, "/nowhere")})
	client, err := s.dial("alice@web1", answers(alicePassword, s.code("alice"), nil))
	check(t, err)
	defer client.Close()
	ch, reqs, err := client.OpenChannel("session", nil)
	check(t, err)
	go ssh.DiscardRequests(reqs)
	ok, err := ch.SendRequest("subsystem", true, ssh.Marshal(struct{ Name string }{"sftp"}))
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	_, err = ch.Write([]byte("\x00\x00\x00\x05\x01\x00\x00\x00\x03GET / HTTP/1.0\r\n\r\n"))
	check(t, err)
	said := make(chan string)
	go func() {
		p, _ := io.ReadAll(ch.Stderr())
		said <- string(p)
	}()
	_, _ = io.ReadAll(ch)
	if got := <-said; !strings.Contains(got, "the transfer of files was ended") {
		t.Errorf("the person reads %q", got)
	}
}

// Where a recording is required and the database does not take the ledger, the session ends; else it goes on.
func TestFilesUnwritten(t *testing.T) {
	t.Parallel()
	for mode, required := range map[string]bool{"required": true, "best-effort": false} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := newSystem(t, options{rules: "version: 1\nrules:\n  - {name: files, users: ['*'], targets: ['*'], recording: " + mode + "}\n"})
			db, err := sql.Open("sqlite", "file:"+strings.TrimPrefix(s.dsn, "sqlite:")+"?_pragma=busy_timeout(60000)")
			check(t, err)
			defer db.Close()
			_, err = db.ExecContext(t.Context(), "ALTER TABLE transfers RENAME TO away")
			check(t, err)
			src := filepath.Join(t.TempDir(), "src")
			write(t, src, 1<<20)
			batch := strings.Repeat("get "+src+" "+src+".down\n", 3) + "!n=0; until test -e " + src + ".go || test $n = 2000; do sleep 0.05; n=$((n+1)); done\nget " + src + " " + src + ".late\n"
			cmd := s.ssh().SFTP(t, batch)
			go func() {
				for deadline := time.Now().Add(time.Minute); len(s.events(audit.RecordFailed)) == 0 && time.Now().Before(deadline); {
					time.Sleep(20 * time.Millisecond)
				}
				if required {
					s.session()
				}
				_ = os.WriteFile(src+".go", nil, 0o600)
			}()
			out, errs, status := testenv.Finish(t, cmd)
			if (status != 0) != required {
				t.Errorf("status %d: %s%s", status, out, errs)
			}
			if _, err := os.Stat(src + ".late"); (err != nil) != required {
				t.Errorf("the late file: %v", err)
			}
			row := s.session()
			if strings.Contains(row.Reason, "its transfers of files could not be noted") != required {
				t.Errorf("the session ended: %s", row.Reason)
			}
			if got := s.events(audit.RecordFailed); len(got) == 0 || !strings.Contains(got[0], "the ledger of files") {
				t.Errorf("events: %q", got)
			}
		})
	}
}

// Small files in a row are many lines and few transactions, and none is lost.
func TestFilesMany(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	dir := t.TempDir()
	check(t, os.Mkdir(dir+"/src", 0o700))
	for i := range 700 {
		check(t, os.WriteFile(fmt.Sprintf("%s/src/%d", dir, i), []byte(fmt.Sprint(i)), 0o600))
	}
	began := time.Now()
	succeed(t, s.ssh().SCP(t, "-q", "-r", dir+"/src", "REMOTE:"+dir+"/dst"))
	list := s.files()
	n := 0
	for _, f := range list {
		if f.Op == "write" {
			n++
			s.isFile(f, strings.Replace(f.Path, "/dst/", "/src/", 1))
		}
	}
	if n != 700 || list[0].Op != "mkdir" {
		t.Errorf("%d of 700 files in %v, first %+v", n, time.Since(began), list[0])
	}
}

// sftpPacket puts a packet together: numbers of 32 and 64 bits, and texts.
func sftpPacket(typ byte, parts ...any) []byte {
	b := []byte{typ}
	for _, p := range parts {
		switch p := p.(type) {
		case int:
			b = binary.BigEndian.AppendUint32(b, uint32(p))
		case int64:
			b = binary.BigEndian.AppendUint64(b, uint64(p))
		case string:
			b = append(binary.BigEndian.AppendUint32(b, uint32(len(p))), p...)
		}
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
}

// What a real server puts up with does not blind the ledger: packets of unknown kinds, a second beginning,
// bytes behind a request, handles that are guessed, files that are sent before the one before was refused.
func TestFilesHidden(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	dir := t.TempDir()
	check(t, os.WriteFile(dir+"/src", []byte("secret"), 0o600))
	open := func() (*ssh.Client, ssh.Channel) {
		client, err := s.dial("alice@web1", answers(alicePassword, s.code("alice"), nil))
		check(t, err)
		ch, reqs, err := client.OpenChannel("session", nil)
		check(t, err)
		go ssh.DiscardRequests(reqs)
		return client, ch
	}
	ask := func(ch ssh.Channel, kind, what string) {
		if ok, err := ch.SendRequest(kind, true, ssh.Marshal(struct{ Text string }{what})); err != nil || !ok {
			t.Fatal(ok, err)
		}
	}

	client, ch := open()
	ask(ch, "subsystem", "sftp")
	handle := "\x00\x00\x00\x00" // the first that OpenSSH's server gives
	var all []byte
	for _, p := range [][]byte{
		sftpPacket(1, 3), sftpPacket(6, 2, strings.Repeat("h", 300), int64(0), "abc"),
		sftpPacket(3, 3, dir+"/src", 1, 0), sftpPacket(5, 4, handle, int64(0), 100), sftpPacket(5, 5, handle, int64(6), 100), sftpPacket(4, 6, handle, "behind"),
		sftpPacket(3, 7, dir+"/dst", 2|8|16, 0), sftpPacket(6, 8, handle, int64(0), "abc", "behind"), sftpPacket(4, 9, handle),
		sftpPacket(13, 10, dir+"/src"),
	} {
		all = append(all, p...)
	}
	// The server waits for more after what it does not know.
	_, err := ch.Write(append(sftpPacket(1, 3), sftpPacket(99, 1, "x")...))
	check(t, err)
	_, err = ch.Read(make([]byte, 4096))
	check(t, err)
	_, err = ch.Write(all)
	check(t, err)
	var got []byte
	for last := []byte{101, 0, 0, 0, 10}; !bytes.Contains(got, last); { // sftp-server answers nothing after the end of its input
		b := make([]byte, 4096)
		n, err := ch.Read(b)
		if got = append(got, b[:n]...); err != nil {
			t.Fatalf("%v after %q", err, got)
		}
	}
	check(t, ch.Close())
	client.Close()
	list := s.wantFiles("read "+dir+"/src ok", "write "+dir+"/dst ok", "remove "+dir+"/src ok")
	if sum := sha256.Sum256([]byte("secret")); list[0].Bytes != 6 || list[0].SHA256 != hex.EncodeToString(sum[:]) || list[1].Bytes != 3 {
		t.Errorf("got %+v", list)
	}

	client, ch = open()
	ask(ch, "exec", "scp -t "+dir+"/")
	long := strings.Repeat("n", 300)
	_, err = ch.Write([]byte("C0644 5 " + long + "\nC0644 3 real\nabc\x00C0644 5 " + strings.Repeat("n", 2047-8) + "C0644 3 more\ndef\x00"))
	check(t, err)
	check(t, ch.CloseWrite())
	_, err = io.ReadAll(ch)
	check(t, err)
	client.Close()
	list = s.wantFiles("write "+dir+"/"+long+" failed", "write "+dir+"/real ok", "write "+dir+"/"+strings.Repeat("n", 2047-8)+" failed", "write "+dir+"/more ok")
	s.isFile(list[1], dir+"/real")
	s.isFile(list[3], dir+"/more")
}
