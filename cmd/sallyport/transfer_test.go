package main

import (
	"bytes"
	"database/sql"
	"encoding/base32"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/admin"
	"sallyport/internal/testenv"
	"sallyport/store/storetest"
)

// onBoth runs a test against a server with each database.
func onBoth(t *testing.T, test func(t *testing.T, o *operated)) {
	t.Parallel()
	for name, more := range map[string]func(*testing.T) string{
		"sqlite":   func(*testing.T) string { return "" },
		"postgres": func(t *testing.T) string { return fmt.Sprintf("database: %q\n", storetest.Postgres(t)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, startOperatedWith(t, "192.0.2.10", more(t)))
		})
	}
}

func (o *operated) passworded(login string) *testenv.OpenSSH {
	o.t.Helper()
	o.ok("user", "add", login, "--password-file", o.file("pass", "correct horse battery\n"))
	return &testenv.OpenSSH{Addr: o.node.ssh.Addr().String(), Login: login, Password: "correct horse battery"}
}

// codes of a secret in base32, of the time step that is so many after now.
func codeOf(t *testing.T, secret string, ahead int) func() string {
	return func() string { return testenv.Oathtool(t, secret, time.Now().Add(time.Duration(ahead)*30*time.Second)) }
}

const pskcScript = `
import sys
from pskc import PSKC
p = PSKC()
for serial, user in (('SN1', 'UID=alice,DC=example'), ('SN2', None)):
    p.add_key(serial=serial, id=serial, secret=sys.argv[2].encode(), time_interval=30, key_userid=user,
      algorithm='urn:ietf:params:xml:ns:keyprov:pskc:totp', response_length=6, response_encoding='DECIMAL')
p.encryption.setup_pbkdf2('qwerty', iterations=2000, algorithm='aes256-cbc')
p.write(sys.argv[1])
`

// A container that another program wrote is imported, with a password; the code that oathtool computes is
// accepted at the SSH door, and so is that of a token that a person takes from the stock.
func TestImportPSKCAndLogIn(t *testing.T) {
	onBoth(t, func(t *testing.T, o *operated) {
		alice := o.passworded("alice")
		bob := o.passworded("bob")
		raw := "12345678901234567890"
		secret := strings.TrimRight(base32.StdEncoding.EncodeToString([]byte(raw)), "=")
		path := filepath.Join(t.TempDir(), "tokens.pskcxml")
		if out, err := exec.Command("/usr/bin/python3", "-c", pskcScript, path, raw).CombinedOutput(); err != nil {
			t.Fatalf("python3-pskc: %v\n%s", err, out)
		}
		if text := o.fails(exitFailed, "token", "import", path, "--password-file", o.file("wrong", "nonsense\n")); !strings.Contains(text, "2 of 2 rows are refused") {
			t.Errorf("a wrong password: %q", text)
		}
		password := o.file("qwerty", "qwerty\n")
		dry := o.run("token", "import", path, "--password-file", password, "--dry-run")
		if dry.code != 0 || !strings.Contains(dry.out, "alice") || !strings.Contains(dry.out, "stock") || !strings.Contains(dry.err, "dry run") {
			t.Errorf("dry run: %+v", dry)
		}
		if n := len(object[[]admin.Token](o, "token", "list", "alice")) + len(object[[]admin.Token](o, "token", "list", "--unassigned")); n != 0 {
			t.Errorf("the dry run wrote %d tokens", n)
		}
		got := object[imported](o, "token", "import", path, "--password-file", password)
		if !got.Written || got.Added != 1 || got.Stock != 1 || len(got.Report) != 2 || got.Report[0].User != "alice" {
			t.Errorf("import %+v", got)
		}
		alice.Code = codeOf(t, secret, 0)
		if out, errs, status := alice.Output(t, "whoami"); status != 0 || !strings.Contains(out, "alice") {
			t.Fatalf("alice with the code of oathtool: %d, %q, %q", status, out, errs)
		}

		// bob takes the other one by its serial and two codes; he came in by a code of an operator.
		bypass := object[admin.IssuedBypassCode](o, "user", "bypass-code", "bob", "--reason", "first token")
		bob.Code = func() string { return bypass.Code }
		ssh := bob.SSH(t, "assign", "SN2")
		ssh.Stdin = strings.NewReader(codeOf(t, secret, -4)() + "\n" + codeOf(t, secret, -3)() + "\n")
		if out, err := ssh.CombinedOutput(); err != nil || !strings.Contains(string(out), "SN2 is yours") {
			t.Fatalf("assign: %v, %q", err, out)
		}
		bob.Code = codeOf(t, secret, -3)
		if _, _, status := bob.Output(t, "whoami"); status == 0 {
			t.Error("a code that proved the token was accepted again")
		}
		if n := len(object[[]admin.Token](o, "token", "list", "--unassigned")); n != 0 {
			t.Errorf("%d are still in stock", n)
		}
		if e := object[[]map[string]any](o, "audit", "list", "--query", "token.import"); len(e) != 1 {
			t.Errorf("%d events of the import", len(e))
		}
	})
}

// What is exported comes back on another server, and its codes work there; what travels is opened by the
// program age and holds no secret in clear.
func TestExportRoundTrip(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"csv", "pskc", "otpauth"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			from, to := startOperated(t), startOperated(t)
			from.passworded("alice")
			from.passworded("lost")
			made := object[admin.IssuedToken](from, "token", "add", "alice", "--name", "=phone", "--serial", "S 1", "--algorithm", "SHA256")
			from.ok("token", "add", "lost", "--name", "gone")
			from.ok("token", "lost", "lost", "gone")
			from.ok("token", "import", from.file("stock", "serial,type,secret\nBOX1,totp,"+made.Secret+"\n"), "--format", "csv")

			key := filepath.Join(t.TempDir(), "key")
			testenv.Run(t, "age-keygen", "-o", key)
			recipient := strings.TrimSpace(testenv.Run(t, "age-keygen", "-y", key))
			from.fails(exitUsage, "token", "export")
			from.fails(exitUsage, "token", "export", "--recipient", recipient)
			from.fails(exitUsage, "token", "export", "--recipient", "age1nonsense", "--yes")
			sealed := from.ok("token", "export", "--recipient", recipient, "--yes", "--format", format)
			if !strings.HasPrefix(sealed, "age-encryption.org/v1") || strings.Contains(sealed, made.Secret) {
				t.Fatalf("not a file of age: %.60q", sealed)
			}
			plain := testenv.Run(t, "age", "-d", "-i", key, from.file("tokens.age", sealed))
			if strings.Contains(plain, "gone") || !strings.Contains(plain, "BOX1") {
				t.Errorf("the lost token travels, or the stock does not: %s", plain)
			}
			if e := object[[]admin.AuditEvent](from, "audit", "list", "--query", recipient); len(e) != 1 {
				t.Errorf("%d events name the recipient", len(e))
			}

			alice := to.passworded("alice")
			if got := to.ok("-o", "json", "token", "import", to.file("tokens", plain)); !strings.Contains(got, `"written": true`) {
				t.Fatalf("import: %s", got)
			}
			alice.Code = func() string {
				return strings.TrimSpace(testenv.Run(t, "oathtool", "--totp=sha256", "--base32", made.Secret))
			}
			if out, errs, status := alice.Output(t, "whoami"); status != 0 {
				t.Fatalf("alice on the other server: %d, %q, %q", status, out, errs)
			}
			list := from.ok("token", "export", "--no-secrets")
			if strings.Contains(list, made.Secret) || !strings.Contains(list, "'=phone") || !strings.Contains(list, "lost,") || !strings.Contains(list, "BOX1") {
				t.Errorf("list without secrets:\n%s", list)
			}
		})
	}
}

func TestImportRefusesRows(t *testing.T) {
	onBoth(t, func(t *testing.T, o *operated) {
		o.passworded("alice")
		o.ok("token", "add", "alice", "--serial", "TAKEN")
		const s = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
		file := o.file("list", "user,serial,type,secret\n"+
			"alice,A1,totp,"+s+"\nalice,A1,totp,"+s+"\nalice,TAKEN,totp,"+s+"\nnobody,A2,totp,"+s+"\n,,totp,"+s+"\nalice,A3,totp,short\n"+
			"\"al\x00ice\",A4,totp,"+s+"\nalice,\"A\x1b[31m5\",totp,"+s+"\nalice,'=cmd|x,totp,"+s+"\nalice,\""+strings.Repeat("9", 5000)+"\",totp,"+s+"\n")
		r := o.run("token", "import", file)
		if r.code != exitFailed || !strings.Contains(r.err, "8 of 10 rows are refused") || strings.ContainsAny(r.out, "\x1b\x00") || strings.Contains(r.out+r.err, s) {
			t.Errorf("import: %d, %s\n%s", r.code, r.out, r.err)
		}
		if n := len(object[[]admin.Token](o, "token", "list", "alice")); n != 1 {
			t.Errorf("%d tokens after a refused import", n)
		}
		if r := o.run("token", "import", file, "--skip-bad"); r.code != 0 || !strings.Contains(r.err, "2 added, 8 refused") {
			t.Errorf("with --skip-bad: %+v", r)
		}
		if list := o.ok("token", "export", "--no-secrets"); !strings.Contains(list, ",'=cmd|x,") {
			t.Errorf("a formula is not escaped:\n%s", list)
		}
		o.fails(exitFailed, "token", "import", o.file("long", "user,serial,type,secret\nalice,\""+strings.Repeat("x", 1<<20)+"\",totp,"+s+"\n"))
		o.fails(exitFailed, "token", "import", o.file("bomb", `<?xml version="1.0"?><!DOCTYPE b [<!ENTITY a "`+strings.Repeat("a", 1000)+`"><!ENTITY b "`+strings.Repeat("&a;", 1000)+
			`">]><KeyContainer Version="1.0" xmlns="urn:ietf:params:xml:ns:keyprov:pskc"><KeyPackage><Key Id="&b;"/></KeyPackage></KeyContainer>`))
		o.fails(exitFailed, "token", "import", o.file("nothing", "user,serial,type,secret\n"))
		o.fails(exitUsage, "token", "import", file, "--format", "gif")
		o.fails(exitUsage, "token", "import", file, "--unassigned", "--create-users")
		o.fails(exitUsage, "token", "list")

		google := o.file("google", s+"\n\" RATE_LIMIT 3 30\n\" TOTP_AUTH\n12345678\n23456789\n")
		if r := o.run("token", "import", google, "--user", "alice"); r.code != 0 || !strings.Contains(r.out, "2 recovery codes are not taken over") {
			t.Errorf("a file of google-authenticator: %+v", r)
		}
		if r := o.run("token", "import", o.file("new", "user,serial,type,secret\nnew@example.org,N1,totp,"+s+"\nnew@example.org,N2,totp,"+s+"\n"), "--create-users", "--map-users", "upn"); r.code != 0 || !strings.Contains(r.err, "1 user made") {
			t.Errorf("--create-users: %+v", r)
		}
		if u := object[admin.User](o, "user", "show", "new"); u.Tokens != 2 || u.HasPassword {
			t.Errorf("the new user: %+v", u)
		}
		if r := o.run("token", "import", o.file("box", "user,serial,type,secret\nalice,B1,totp,"+s+"\n"), "--unassigned"); r.code != 0 {
			t.Errorf("--unassigned: %+v", r)
		}
		o.fails(exitUsage, "token", "assign", "alice")
		if r := o.feed("123456\n123457\n", "token", "assign", "alice", "--serial", "B1"); r.code != exitUsage {
			t.Errorf("assign by wrong codes: %+v", r)
		}
		o.fails(exitFailed, "token", "assign", "alice", "--serial", "B2", "--no-codes")
		if r := o.feed(codeOf(t, s, 0)()+"\n"+codeOf(t, s, 1)()+"\n", "token", "assign", "alice", "--serial", "B1"); r.code != 0 {
			t.Errorf("assign: %+v", r)
		}
		o.fails(exitFailed, "token", "discard", "B1")
	})
}

// An auditor changes nothing and gets no secrets; the refusal comes before the file.
func TestTransferNeedsAdministrator(t *testing.T) {
	t.Parallel()
	o := startOperated(t)
	eyes := o.file("eyes", o.ok("api-token", "add", "eyes"))
	at := []string{"--server", "http://" + o.node.web.Addr().String(), "--token-file", eyes}
	large := o.file("large", strings.Repeat("user,serial,type,secret\n", 1<<20))
	for _, args := range [][]string{
		{"token", "import", large}, {"user", "import", large}, {"token", "assign", "x", "--serial", "y", "--no-codes"},
		{"token", "discard", "y"}, {"token", "export", "--yes", "--recipient", "age1ygqzl6yu8rz2lk5zpmm8jx3sh4pqtnjqg3xxh7ul3gmqtvvgtq7srv2ytn"},
	} {
		if r := command("", append(at, args...)...); r.code != exitFailed || !strings.Contains(r.err, "auditor") || r.out != "" {
			t.Errorf("%v: %+v", args, r)
		}
	}
	for _, args := range [][]string{{"user", "export"}, {"token", "export", "--no-secrets"}, {"token", "list", "--unassigned"}} {
		if r := command("", append(at, args...)...); r.code != 0 {
			t.Errorf("%v: %+v", args, r)
		}
	}
	// By the web, too, a list may be larger than a form.
	boss := o.file("boss", o.ok("api-token", "add", "boss", "--role", "admin"))
	var list strings.Builder
	list.WriteString("user,serial,type,secret\n")
	for i := range 40_000 {
		fmt.Fprintf(&list, ",S%07d,totp,GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\n", i)
	}
	if r := command("", "--server", at[1], "--token-file", boss, "token", "import", o.file("list", list.String())); r.code != 0 || !strings.Contains(r.err, "40000 kept") {
		t.Errorf("an upload of %d bytes: %+v", list.Len(), r)
	}
}

// Whoever hangs up half-way leaves nothing, and of parallel imports of one list one wins.
func TestImportHalfWayAndInParallel(t *testing.T) {
	onBoth(t, func(t *testing.T, o *operated) {
		var list strings.Builder
		list.WriteString("user,serial,type,secret\n")
		for i := range 2000 {
			fmt.Fprintf(&list, ",S%07d,totp,GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\n", i)
		}
		c, err := net.Dial("unix", string(o.cfg.Socket))
		noError(t, err)
		_, err = fmt.Fprintf(c, "POST /api/v1/imports/tokens HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 10000000\r\n\r\n"+
			"--b\r\nContent-Disposition: form-data; name=\"skip_bad\"\r\n\r\ntrue\r\n--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x\"\r\n\r\n%s", list.String())
		noError(t, err)
		// It has begun …
		testenv.WaitFor(t, "the import to begin", func() bool { return o.rows("stock_tokens") > 0 })
		noError(t, c.Close()) // … and ends here
		testenv.WaitFor(t, "nothing to be left", func() bool { return o.rows("stock_tokens")+o.rows("imports") == 0 })
		if n := len(object[[]admin.Token](o, "token", "list", "--unassigned")); n != 0 {
			t.Errorf("%d tokens of half an import", n)
		}

		file := o.file("list", list.String())
		var wg sync.WaitGroup
		results := make([]ran, 4)
		for i := range results {
			wg.Go(func() { results[i] = o.run("token", "import", file) })
		}
		wg.Wait()
		won := 0
		for _, r := range results {
			if r.code == 0 {
				won++
			} else if r.code != exitFailed {
				t.Errorf("%+v", r)
			}
		}
		if n := len(object[[]admin.Token](o, "token", "list", "--unassigned")); won != 1 || n != 2000 {
			t.Errorf("%d imports won, %d tokens", won, n)
		}
	})
}

// A long list needs little memory. IMPORT_ROWS=100000 is what the documentation speaks of.
func TestImportNeedsLittleMemory(t *testing.T) {
	o := startOperated(t)
	rows := importRows(t)
	reading, writing := io.Pipe()
	go func() {
		defer writing.Close()
		fmt.Fprint(writing, "user,serial,type,secret\n")
		for i := range rows {
			fmt.Fprintf(writing, ",S%07d,totp,GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\n", i)
		}
	}()
	stop, peak := make(chan struct{}), make(chan uint64)
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	before := m.HeapAlloc
	go func() {
		var most uint64
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				peak <- most
				return
			case <-tick.C:
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				most = max(most, m.HeapAlloc)
			}
		}
	}()
	began := time.Now()
	client := overSocket(string(o.cfg.Socket))
	resp, err := client.upload(t.Context(), "/imports/tokens", nil, reading)
	noError(t, err)
	defer resp.Body.Close()
	var last bytes.Buffer
	_, err = io.Copy(&tail{&last, 300}, resp.Body)
	noError(t, err)
	took := time.Since(began)
	close(stop)
	grown := int64(<-peak) - int64(before)
	t.Logf("%d rows in %v, heap grew by %d MiB at most", rows, took, grown>>20)
	if !strings.Contains(last.String(), `"written":true`) {
		t.Errorf("the summary: %s", last.String())
	}
	if limit := int64(64<<20 + rows*200); grown > limit {
		t.Errorf("the heap grew by %d bytes, more than %d", grown, limit)
	}
}

// tail keeps the last bytes of what is written.
type tail struct {
	b *bytes.Buffer
	n int
}

func (t *tail) Write(p []byte) (int, error) {
	t.b.Write(p)
	if over := t.b.Len() - t.n; over > 0 {
		t.b.Next(over)
	}
	return len(p), nil
}

func TestUserImportAndExport(t *testing.T) {
	onBoth(t, func(t *testing.T, o *operated) {
		o.ok("user", "add", "old", "--name", "Old", "--group", "ops", "--no-password")
		file := o.file("users.csv", "\xef\xbb\xbfGroups,login,name,email,phone\r\nops; dba,New1,\"'=Formula\",new1@example.org,+49 151 12345678\r\n,new2,Two,,\r\n")
		dry := o.run("user", "import", file, "--dry-run")
		if dry.code != 0 || strings.Count(dry.out, "add") != 2 || !strings.Contains(dry.err, "dry run") || len(object[[]admin.User](o, "user", "list")) != 1 {
			t.Errorf("dry run: %+v", dry)
		}
		if r := o.run("user", "import", file); r.code != 0 || !strings.Contains(r.err, "2 added") {
			t.Errorf("import: %+v", r)
		}
		u := object[admin.User](o, "user", "show", "new1")
		if u.Name != "=Formula" || u.Email != "new1@example.org" || strings.Join(u.Groups, ",") != "dba,ops" || u.HasPassword || u.Source != "local" || u.Phone != "+4915112345678" {
			t.Errorf("user %+v", u)
		}
		list := o.ok("user", "export")
		if !strings.HasPrefix(list, "login,name,email,phone,groups,source,locked,tokens\n") || !strings.Contains(list, "new1,'=Formula,new1@example.org,'+4915112345678,dba;ops,local,false,0\n") {
			t.Errorf("export:\n%s", list)
		}
		// What was exported is what is there.
		if r := o.feed(list, "user", "import", "-"); r.code != 0 || !strings.Contains(r.err, "3 as they are") {
			t.Errorf("the export comes back: %+v", r)
		}
		change := o.file("change", "login,name\nold,Older\n")
		if text := o.fails(exitFailed, "user", "import", change); !strings.Contains(text, "1 of 1") {
			t.Errorf("a change without --update: %q", text)
		}
		o.ok("user", "import", change, "--update")
		if u := object[admin.User](o, "user", "show", "old"); u.Name != "Older" || strings.Join(u.Groups, ",") != "ops" {
			t.Errorf("changed %+v", u)
		}
		o.ok("robot", "add", "deploy", "--key-file", o.file("robot.pub", testHostKey+"\n"), "--from", "192.0.2.0/24", "--target", "web1", "--account", "root", "--command", "true", "--expires", "30d")
		bad := o.run("user", "import", o.file("bad", "login,email,groups\nx1,,\nx1,,\nx2,nonsense,\nx3,,\x1b\ndeploy,,\nx/y,,\nx4\n"))
		if bad.code != exitFailed || !strings.Contains(bad.err, "6 of 7 rows") || strings.Contains(bad.out, "\x1b") || !strings.Contains(bad.out, "robot") {
			t.Errorf("bad rows: %d, %s%s", bad.code, bad.out, bad.err)
		}
		for _, text := range []string{"", "name\nx\n", "login,password\nx,y\n", "login,login\nx,y\n", "login\n", "login\n\"x\n"} {
			o.fails(exitFailed, "user", "import", o.file("odd", text))
		}
		if n := len(object[[]admin.User](o, "user", "list")); n != 3 {
			t.Errorf("%d users", n)
		}
	})
}

// importRows is how long a long list is here.
func importRows(t *testing.T) int {
	t.Helper()
	if n, err := strconv.Atoi(os.Getenv("IMPORT_ROWS")); err == nil {
		return n
	}
	return 20_000
}

// rows counts the rows of a table below package store.
func (o *operated) rows(table string) int {
	o.t.Helper()
	driver, dsn := "postgres", string(o.cfg.Database)
	if file, ok := strings.CutPrefix(dsn, "sqlite:"); ok {
		driver, dsn = "sqlite", "file:"+file+"?_pragma=busy_timeout(60000)"
	}
	db, err := sql.Open(driver, dsn)
	noError(o.t, err)
	defer db.Close()
	var n int
	noError(o.t, db.QueryRow("SELECT COUNT(*) FROM "+table).Scan(&n))
	return n
}
