package tokenfile

import (
	"bytes"
	"fmt"
	"io"
	"iter"
	"runtime"
	"strings"
	"testing"

	"sallyport/otp"
)

const (
	hexKey    = "3132333435363738393031323334353637383930" // "12345678901234567890", RFC 4226, appendix D
	base32Key = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"         // the same
	hexKey32  = hexKey + "313233343536373839303132"        // RFC 6238, appendix B
	secret    = "12345678901234567890"
)

func collect(t *testing.T, text string, o Options) ([]Row, error) {
	t.Helper()
	var rows []Row
	for row, err := range Read(strings.NewReader(text), o) {
		if err != nil {
			return rows, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// Each format, found out by itself and by name, gives the same token.
func TestFormats(t *testing.T) {
	p := otp.DefaultParams()
	p60 := otp.Params{Algorithm: otp.SHA1, Digits: 8, Period: 60}
	p256 := otp.Params{Algorithm: otp.SHA256, Digits: 6, Period: 30}
	for _, c := range []struct {
		name   string
		format Format
		text   string
		want   Row
	}{
		{"entra", Entra, "upn,serial number,secret key,time interval,manufacturer,model\r\nalice@example.org,2308,\"" + base32Key + "\",60,Token2,c202\r\n",
			Row{User: "alice@example.org", Serial: "2308", Name: "Token2 c202", Kind: TOTP, Params: otp.Params{Algorithm: otp.SHA1, Digits: 6, Period: 60}}},
		{"oath totp", OATH, "# comment\nSN1, " + hexKey + ", totp, 8, 60\n", Row{Serial: "SN1", Kind: TOTP, Params: p60}},
		{"oath hotp", OATH, "SN1," + hexKey + ",hotp,6,17\n", Row{Serial: "SN1", Kind: HOTP, Params: p, Counter: 17}},
		{"oath version 2", OATH, "# version: 2\nalice,resolver,realm,SN1," + hexKey + ",totp,6,30\n", Row{User: "alice", Serial: "SN1", Kind: TOTP, Params: p}},
		{"feitian comma", Feitian, "2600123456," + hexKey + "\n", Row{Serial: "2600123456", Kind: TOTP, Params: p}},
		{"feitian space", Feitian, "2600123456   " + strings.ToUpper(hexKey) + "\n", Row{Serial: "2600123456", Kind: TOTP, Params: p}},
		{"yubico traditional", Yubico, "OATH-HOTP,11/12/13 1:23 PM,1,ubhe00012345," + hexKey + ",,,0,0,0,8,0\n", Row{Serial: "ubhe00012345", Kind: HOTP, Params: p}},
		{"otpauth", Otpauth, "otpauth://totp/ACME%20Co:alice@example.org?secret=" + base32Key + "&issuer=ACME%20Co&algorithm=SHA1&digits=8&period=60\n",
			Row{User: "alice@example.org", Name: "ACME Co:alice@example.org", Kind: TOTP, Params: p60}},
		{"otpauth hotp", Otpauth, "otpauth://hotp/alice?secret=" + strings.ToLower(base32Key) + "&counter=5", Row{User: "alice", Name: "alice", Kind: HOTP, Params: p, Counter: 5}},
		{"google", Google, base32Key + "\n\" RATE_LIMIT 3 30\n\" DISALLOW_REUSE\n\" TOTP_AUTH\n12345678\n87654321\n",
			Row{Name: "google-authenticator", Kind: TOTP, Params: p, Recovery: []string{"12345678", "87654321"}}},
		{"google hotp", Google, base32Key + "\n\" HOTP_COUNTER 12\n", Row{Name: "google-authenticator", Kind: HOTP, Params: p, Counter: 12}},
		{"users.oath", UsersOATH, "HOTP/T60/8 alice - " + hexKey + "\n", Row{User: "alice", Kind: TOTP, Params: p60}},
		{"users.oath hotp", UsersOATH, "HOTP\talice\t-\t" + hexKey + "\t7\t755224\t2026-01-01T00:00:00L\n", Row{User: "alice", Kind: HOTP, Params: p, Counter: 7}},
		{"own", CSV, "user,serial,type,name,algorithm,digits,period,counter,drift,secret\n'=alice,S,totp,phone,sha1,8,60,,-3," + base32Key + "\n",
			Row{User: "=alice", Serial: "S", Name: "phone", Kind: TOTP, Params: p60, Drift: -3}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, o := range []Options{{}, {Format: c.format}} {
				rows, err := collect(t, "\xef\xbb\xbf"+c.text, o)
				if err != nil || len(rows) != 1 || rows[0].Err != nil {
					t.Fatalf("format %q: %v, %+v", o.Format, err, rows)
				}
				got := rows[0]
				if string(got.Secret) != secret {
					t.Errorf("format %q: another secret", o.Format)
				}
				got.Secret, got.Where = nil, ""
				if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", c.want) {
					t.Errorf("format %q:\n got %+v\nwant %+v", o.Format, got, c.want)
				}
			}
		})
	}
	rows, err := collect(t, "S,"+hexKey32+"\n", Options{})
	if err != nil || len(rows) != 1 || rows[0].Params != p256 {
		t.Errorf("a key of 32 bytes is for SHA-256: %v %+v", err, rows)
	}
	if code := rows[0].Params; code.Validate() != nil {
		t.Error(code.Validate())
	}
}

// A row that is no token is told with its place and hinders no other.
func TestBadRows(t *testing.T) {
	text := "SN1," + hexKey + ",totp,6,30\nSN2,xyz,totp\nSN3," + hexKey + ",ocra\nSN4,3132,totp\nSN5," + hexKey + ",totp,7\n\x01SN6," + hexKey + ",totp\nSN7," + hexKey + ",hotp,6,-1\nSN8," + hexKey + ",totp\n"
	rows, err := collect(t, text, Options{})
	if err != nil || len(rows) != 8 {
		t.Fatal(err, len(rows))
	}
	for i, r := range rows {
		if good := i == 0 || i == 7; good != (r.Err == nil) || r.Where != fmt.Sprintf("line %d", i+1) {
			t.Errorf("row %d: %s: %v", i, r.Where, r.Err)
		}
		if r.Err != nil && r.Secret != nil {
			t.Errorf("row %d: a secret with an error", i)
		}
	}
}

// What is wrong with a file is told once, and no error repeats a secret.
func TestBadFiles(t *testing.T) {
	for name, text := range map[string]string{
		"empty":              "",
		"something else":     "hello world\nthis is no list\n",
		"entra without head": "alice,1,2,3\n",
		"long line":          "SN1," + strings.Repeat("a", 2*maxLine),
		"quote":              "SN1," + hexKey + ",totp\n\"SN2," + hexKey + "\n",
		"binary":             string(bytes.Repeat([]byte{0, 1, 2, 3}, 1000)),
		"xml of others":      "<html><body/></html>",
		"xml cut off":        `<KeyContainer Version="1.0" xmlns="` + pskcNS + `"><KeyPackage>`,
		"column twice":       "user,serial,type,name,secret,secret\n",
	} {
		if _, err := collect(t, text, Options{}); err == nil {
			t.Errorf("%s: no error", name)
		} else if strings.Contains(err.Error(), hexKey) {
			t.Errorf("%s: the error tells a secret: %v", name, err)
		}
	}
	for _, line := range []string{"otpauth://totp/a?secret=%zz" + base32Key, "otpauth://totp/a:b\x7f?secret=" + base32Key, "otpauth://totp/a?secret=" + base32Key + "1"} {
		rows, err := collect(t, line+"\n", Options{})
		if err != nil || len(rows) != 1 || rows[0].Err == nil || strings.Contains(rows[0].Err.Error(), base32Key[:8]) {
			t.Errorf("%q: %v %+v", line, err, rows)
		}
	}
}

func rowsOf(rows ...Row) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		for _, r := range rows {
			if !yield(r, nil) {
				return
			}
		}
	}
}

// What is written is read as it was; names that a spreadsheet would compute stand behind an apostrophe.
func TestRoundTrip(t *testing.T) {
	rows := []Row{
		{User: "alice", Serial: "S1", Name: "phone", Kind: TOTP, Params: otp.Params{Algorithm: otp.SHA512, Digits: 8, Period: 60}, Secret: otp.Secret(secret), Drift: -2},
		{User: "=cmd|' /C calc'!A0", Serial: "+1", Name: "@x, \"y\"", Kind: HOTP, Params: otp.DefaultParams(), Secret: otp.Secret(secret), Counter: 42},
		{User: "'quoted", Serial: "''", Kind: TOTP, Params: otp.DefaultParams(), Secret: otp.Secret(secret)},
	}
	for name, write := range map[string]func(io.Writer) error{
		"csv":  func(w io.Writer) error { return WriteCSV(w, rowsOf(rows...), true) },
		"pskc": func(w io.Writer) error { return WritePSKC(w, rowsOf(rows...)) },
	} {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			t.Fatal(err)
		}
		if name == "csv" {
			for _, cell := range []string{",=", "\n=", "\n+", ",+", ",@", "\n@"} {
				if strings.Contains(b.String(), cell) {
					t.Errorf("a cell that a spreadsheet computes: %s", b.String())
				}
			}
		}
		got, err := collect(t, b.String(), Options{})
		if err != nil || len(got) != len(rows) {
			t.Fatalf("%s: %v, %d rows\n%s", name, err, len(got), b.String())
		}
		for i := range got {
			got[i].Where = ""
			if g, w := fmt.Sprintf("%+v %x", got[i], []byte(got[i].Secret)), fmt.Sprintf("%+v %x", rows[i], []byte(rows[i].Secret)); g != w {
				t.Errorf("%s:\n got %s\nwant %s", name, g, w)
			}
		}
	}
	var b bytes.Buffer
	if err := WriteCSV(&b, rowsOf(rows...), false); err != nil || strings.Contains(b.String(), "secret") || strings.Contains(b.String(), base32Key) {
		t.Errorf("secrets where none were asked for: %v %s", err, b.String())
	}
}

// 100 000 rows go through without being held.
func TestStream(t *testing.T) {
	for _, head := range []string{"", `<KeyContainer Version="1.0" xmlns="` + pskcNS + `">`} {
		pr, pw := io.Pipe()
		const rows = 100_000
		go func() {
			fmt.Fprint(pw, head)
			for i := range rows {
				if head == "" {
					fmt.Fprintf(pw, "SN%d,%s,totp,6,30\n", i, hexKey)
				} else {
					fmt.Fprintf(pw, `<KeyPackage><DeviceInfo><SerialNo>SN%d</SerialNo></DeviceInfo><Key Id="1" Algorithm="%s"><Data><Secret><PlainValue>MTIzNDU2Nzg5MDEyMzQ1Njc4OTA=</PlainValue></Secret></Data></Key></KeyPackage>`, i, pskcTOTP)
				}
			}
			if head != "" {
				fmt.Fprint(pw, "</KeyContainer>")
			}
			pw.Close()
		}()
		n := 0
		var m runtime.MemStats
		for row, err := range Read(pr, Options{}) {
			if err != nil || row.Err != nil {
				t.Fatal(err, row.Err)
			}
			if n++; n == rows/2 {
				runtime.GC()
				runtime.ReadMemStats(&m)
			}
		}
		if n != rows || m.HeapAlloc > 32<<20 {
			t.Errorf("%d rows, %d bytes in use half-way", n, m.HeapAlloc)
		}
	}
}

// An element of any length would be held in memory by the parser.
func TestHugeElement(t *testing.T) {
	endless := io.MultiReader(strings.NewReader(`<KeyContainer Version="1.0" xmlns="`+pskcNS+`"><KeyPackage><Key><Issuer>`), io.LimitReader(zeros{}, 1<<30))
	for _, err := range Read(endless, Options{}) {
		if err == nil || !strings.Contains(err.Error(), "longer than") {
			t.Errorf("error %v", err)
		}
		return
	}
	t.Error("no error")
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '0'
	}
	return len(p), nil
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("SN1,"+hexKey+",totp,6,30\n"), "")
	f.Add([]byte("otpauth://totp/a:b?secret="+base32Key), "")
	f.Add([]byte(base32Key+"\n\" TOTP_AUTH\n12345678\n"), "google")
	f.Add([]byte(`<KeyContainer Version="1.0" xmlns="`+pskcNS+`"><KeyPackage><Key Id="1" Algorithm="`+pskcHOTP+`"><Data><Secret><PlainValue>MTIzNDU2Nzg5MDEyMzQ1Njc4OTA=</PlainValue></Secret><Counter><PlainValue>0</PlainValue></Counter></Data></Key></KeyPackage></KeyContainer>`), "pskc")
	f.Fuzz(func(t *testing.T, data []byte, format string) {
		for row, err := range Read(bytes.NewReader(data), Options{Format: Format(format), Key: make([]byte, 16)}) {
			if err != nil {
				return
			}
			if row.Err == nil && (row.Secret.Check() != nil || row.Params.Validate() != nil || row.Counter < 0) {
				t.Fatalf("a row that is no token: %+v", row)
			}
		}
	})
}
