package main

import (
	"crypto/hmac"
	"crypto/md5"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2869"
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
	for i := range radiusPeople {
		fmt.Fprintf(&users, "%s Cleartext-Password := \"%06d\"\n", radiusLogin(i), i)
	}
	f, err := startFreeRADIUS(t.Context(), filepath.Join(t.TempDir(), "f"), users.String())
	if err != nil {
		t.Fatal(err)
	}
	defer f.stop()
	p := &radiusPeer{peer{name: freeradius, addr: f.addr}, 2 * radiusPeople, func(person int) string { return fmt.Sprintf("%06d", person) }}
	if err := p.ask(t.Context()); err != nil {
		t.Error(err)
	}
	p.password = func(int) string { return "999999" }
	if err := p.ask(t.Context()); err == nil || !strings.Contains(err.Error(), "Access-Reject") {
		t.Errorf("with a wrong password: %v", err)
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
	}
	var out strings.Builder
	format(&out, radiusTable(r.radiusRows()))
	want := `
| RADIUS                           | freeradius | sallyport | sallyport/freeradius |
|----------------------------------|-----------:|----------:|---------------------:|
| Access-Requests per CPU-second ↑ |       2000 |       200 |                0.100 |
`
	if got := "\n" + out.String(); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}
