package tokenfile

import (
	"bytes"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/otp"
)

// python runs a script with Debian's python3-pskc, which reads and writes key containers too.
func python(t *testing.T, script string, args ...string) string {
	t.Helper()
	out, err := exec.Command("/usr/bin/python3", append([]string{"-c", script}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("python3-pskc: %v\n%s", err, out)
	}
	return string(out)
}

const write = `
import sys
from pskc import PSKC
kind, path, key = sys.argv[1:4]
p = PSKC()
for i in range(3):
    p.add_key(serial='SN%d' % i, manufacturer='oath.TEST', id='id%d' % i, secret=b'12345678901234567890', counter=7, time_interval=30,
      algorithm='urn:ietf:params:xml:ns:keyprov:pskc:' + ('hotp' if i == 1 else 'totp'), response_length=6 if i else 8,
      response_encoding='DECIMAL', key_userid='UID=alice,DC=example', algorithm_suite='HMAC-SHA256' if i == 2 else None)
if kind == 'psk':
    p.encryption.setup_preshared_key(key=bytes.fromhex(key), key_name='Pre-shared-key', algorithm='aes%d-cbc' % (len(key) * 4))
elif kind == 'password':
    p.encryption.setup_pbkdf2(key, iterations=2000, algorithm='aes256-cbc')
p.write(path)
`

// Containers that another implementation wrote are read: plain, with a pre-shared key, with a password.
func TestPSKCOfOthers(t *testing.T) {
	key := "31323334353637383930313233343536"
	raw, _ := hex.DecodeString(key)
	long, _ := hex.DecodeString(key + key)
	for _, c := range []struct {
		kind, key string
		o         Options
	}{
		{"plain", "", Options{}},
		{"psk", key, Options{Key: raw}},
		{"psk", key + key, Options{Key: long}},
		{"password", "qwerty", Options{Password: []byte("qwerty")}},
	} {
		t.Run(c.kind+c.key, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "tokens.pskcxml")
			python(t, write, c.kind, path, c.key)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			rows, err := collect(t, string(data), c.o)
			if err != nil || len(rows) != 3 {
				t.Fatalf("%v, %d rows\n%s", err, len(rows), data)
			}
			for i, r := range rows {
				want := Row{User: "alice", Kind: TOTP, Params: otp.DefaultParams()}
				switch i {
				case 0:
					want.Params.Digits = 8
				case 1:
					want.Kind, want.Counter = HOTP, 7
				case 2:
					want.Params.Algorithm = otp.SHA256
				}
				if r.Err != nil || r.User != want.User || r.Kind != want.Kind || r.Params != want.Params || r.Counter != want.Counter || string(r.Secret) != secret {
					t.Errorf("row %d: %+v", i, r)
				}
			}
			if c.kind == "plain" {
				return
			}
			// Wrong key, no key, no MAC, an altered byte: no row is a token.
			wrong := c.o
			if wrong.Key != nil {
				wrong.Key = append([]byte{wrong.Key[0] ^ 1}, wrong.Key[1:]...)
			} else {
				wrong.Password = []byte("qwertz")
			}
			text := string(data)
			i := strings.LastIndex(text, "CipherValue>") - 20
			for len(strings.Trim(text[i:i+1], "ABCDEFabcdef")) > 0 {
				i--
			}
			altered := text[:i] + "g" + text[i+1:]
			begin, end := strings.Index(text, "<pskc:MACMethod"), strings.Index(text, "</pskc:MACMethod>")
			if begin < 0 || end < 0 {
				t.Fatalf("no MACMethod in\n%s", text)
			}
			for name, try := range map[string]struct {
				text string
				o    Options
				bad  int
			}{
				"wrong key": {text, wrong, 3}, "no key": {text, Options{}, 3}, "altered": {altered, c.o, 1},
				"no MAC method": {text[:begin] + text[end+len("</pskc:MACMethod>"):], c.o, 3},
			} {
				rows, err := collect(t, try.text, try.o)
				bad := 0
				for _, r := range rows {
					if r.Err != nil {
						bad++
					}
				}
				if err != nil || bad < try.bad {
					t.Errorf("%s: %v, %d of %d rows refused", name, err, bad, len(rows))
				}
			}
		})
	}
}

// Another implementation reads what we write.
func TestPSKCForOthers(t *testing.T) {
	var b bytes.Buffer
	err := WritePSKC(&b, rowsOf(
		Row{User: "alice", Serial: "SN1", Name: "phone & more", Kind: TOTP, Params: otp.Params{Algorithm: otp.SHA256, Digits: 8, Period: 60}, Secret: otp.Secret(secret)},
		Row{User: "bob", Serial: "SN2", Kind: HOTP, Params: otp.DefaultParams(), Secret: otp.Secret(secret), Counter: 9}))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "tokens.pskcxml")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	got := python(t, `
import sys
from pskc import PSKC
for k in PSKC(sys.argv[1]).keys:
    print(k.serial, k.key_userid, k.algorithm.split(':')[-1], k.algorithm_suite, k.response_length, k.counter, k.time_interval, k.secret.decode())
`, path)
	want := "SN1 alice totp HMAC-SHA256 8 None 60 " + secret + "\nSN2 bob hotp HMAC-SHA1 6 9 None " + secret + "\n"
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// A file cannot ask for work without end.
func TestIterations(t *testing.T) {
	text := `<KeyContainer Version="1.0" xmlns="` + pskcNS + `" xmlns:xenc="http://www.w3.org/2001/04/xmlenc#"><EncryptionKey><DerivedKey><KeyDerivationMethod Algorithm="x#pbkdf2"><PBKDF2-params><Salt><Specified>AAAA</Specified></Salt><IterationCount>2000000000</IterationCount><KeyLength>16</KeyLength></PBKDF2-params></KeyDerivationMethod></DerivedKey></EncryptionKey><KeyPackage><Key Id="1" Algorithm="` + pskcTOTP + `"><Data><Secret><EncryptedValue><xenc:EncryptionMethod Algorithm="x#aes128-cbc"/><xenc:CipherData><xenc:CipherValue>AAAA</xenc:CipherValue></xenc:CipherData></EncryptedValue></Secret></Data></Key></KeyPackage></KeyContainer>`
	rows, err := collect(t, text, Options{Password: []byte("x")})
	if err != nil || len(rows) != 1 || rows[0].Err == nil || !strings.Contains(rows[0].Err.Error(), "iterations") {
		t.Errorf("%v %+v", err, rows)
	}
}
