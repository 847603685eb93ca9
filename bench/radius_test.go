package main

import (
	"crypto/hmac"
	"crypto/md5"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	_ "github.com/lib/pq"
	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2869"

	"sallyport/otp"
)

// What is sent is what RFC 2865 and RFC 3579 want.
func TestAccessRequest(t *testing.T) {
	t.Parallel()
	b, err := accessRequest("r1", "123456", 7)
	if err != nil {
		t.Fatal(err)
	}
	p, err := codec.Parse(b, []byte(radiusSecret))
	if err != nil {
		t.Fatal(err)
	}
	sent := slices.Clone(rfc2869.MessageAuthenticator_Get(p))
	clear(b[len(b)-md5.Size:])
	h := hmac.New(md5.New, []byte(radiusSecret))
	h.Write(b)
	if p.Identifier != 7 || rfc2865.UserName_GetString(p) != "r1" || rfc2865.UserPassword_GetString(p) != "123456" || !hmac.Equal(sent, h.Sum(nil)) {
		t.Errorf("%+v", p)
	}
}

// FreeRADIUS with the file of the bench accepts its people, and nobody with another password.
func TestFreeRADIUS(t *testing.T) {
	t.Parallel()
	var users strings.Builder
	const people = 3 * radiusWorkers
	for i := range people {
		fmt.Fprintf(&users, "%s Cleartext-Password := \"%06d\"\n", radiusLogin(i), i)
	}
	f, err := startFreeRADIUS(t.Context(), filepath.Join(t.TempDir(), "f"), users.String())
	if err != nil {
		t.Fatal(err)
	}
	defer f.stop()
	p := &radiusPeer{
		peer: peer{name: freeradius, addr: f.addr}, people: people, times: 2 * people,
		password: func(person int) string { return fmt.Sprintf("%06d", person) },
	}
	if err := p.ask(t.Context()); err != nil {
		t.Error(err)
	}
	p.password = func(int) string { return "999999" }
	if err := p.ask(t.Context()); err == nil || !strings.Contains(err.Error(), "Access-Reject") {
		t.Errorf("with a wrong password: %v", err)
	}
}

// Each person has a code for each time that they are asked for in all rounds, none twice, all of which a server with
// that window accepts.
func TestRadiusCodes(t *testing.T) {
	t.Parallel()
	const rounds, requests = 3, 480
	people := radiusPeople(rounds, requests)
	if people%radiusWorkers != 0 || people*radiusCodes < rounds*requests {
		t.Fatalf("%d people for %d requests", people, rounds*requests)
	}
	p, params := &person{secret: otp.NewSecret()}, otp.DefaultParams()
	now, last := time.Unix(1_800_000_029, 0), int64(0)
	for i := range radiusCodes {
		if i == radiusCodes/2 {
			now = now.Add(time.Second) // into the next step
		}
		code := p.next(now)
		found := params.Match(p.secret, code, params.StepAt(now), last, otp.Window{Behind: radiusWindow, Ahead: radiusWindow})
		if !found.OK {
			t.Fatalf("code %d: %+v", i+1, found)
		}
		last = found.Step
	}
}

// PostgreSQL starts, takes connections, its CPU time can be read, and nothing is left of it.
func TestStartPostgres(t *testing.T) {
	t.Parallel()
	p, err := startPostgres(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	db, err := sql.Open("postgres", p.dsn())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var durable string
	if err := db.QueryRowContext(t.Context(), "SELECT current_setting('fsync') || current_setting('synchronous_commit')").Scan(&durable); err != nil || durable != "onon" {
		t.Errorf("%q, %v", durable, err)
	}
	if _, running, err := (&proxy{p.server}).load(); err != nil || running == 0 {
		t.Errorf("%d processes, %v", running, err)
	}
	p.stop()
	if _, err := os.Stat(p.dir); !os.IsNotExist(err) {
		t.Errorf("its files: %v", err)
	}
}

func TestRadiusRows(t *testing.T) {
	t.Parallel()
	var r results
	if got := radiusTable(r.radiusRows()); got != nil {
		t.Errorf("nothing was measured: %v", got)
	}
	for _, v := range []float64{100, 300, 200} {
		r.add("radius_cpu", freeradius, 10*v)
		r.add("radius_cpu", sallyport, v)
		r.add("radius_cpu", postgres, v/2)
		r.add("radius_both", postgres, v/4)
	}
	var out strings.Builder
	format(&out, radiusTable(r.radiusRows()))
	want := `
| RADIUS                                        | freeradius | SQLite | PostgreSQL | SQLite/freeradius | PostgreSQL/freeradius |
|-----------------------------------------------|-----------:|-------:|-----------:|------------------:|----------------------:|
| Access-Requests per CPU-second ↑              |       2000 |    200 |        100 |             0.100 |                 0.050 |
| … the CPU of the database's server included ↑ |          - |      - |         50 |                 - |                 0.025 |
`
	if got := "\n" + out.String(); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}
