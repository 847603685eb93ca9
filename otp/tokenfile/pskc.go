package tokenfile

import (
	"bufio"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"

	"sallyport/otp"
)

const (
	pskcNS   = "urn:ietf:params:xml:ns:keyprov:pskc"
	pskcHOTP = pskcNS + ":hotp"
	pskcTOTP = pskcNS + ":totp"
)

// keyPackage is a KeyPackage element (RFC 6030, section 4.2).
type keyPackage struct {
	Device struct {
		Manufacturer string `xml:"Manufacturer"`
		Serial       string `xml:"SerialNo"`
		Model        string `xml:"Model"`
		User         string `xml:"UserId"`
	} `xml:"DeviceInfo"`
	Key keyPackageKey `xml:"Key"`
}

// keyPackageKey is its Key element.
type keyPackageKey struct {
	ID         string `xml:"Id,attr"`
	Algorithm  string `xml:"Algorithm,attr"`
	Issuer     string `xml:"Issuer"`
	Name       string `xml:"FriendlyName"`
	User       string `xml:"UserId"`
	Parameters struct {
		Suite    string `xml:"Suite"`
		Response struct {
			Length   string `xml:"Length,attr"`
			Encoding string `xml:"Encoding,attr"`
		} `xml:"ResponseFormat"`
	} `xml:"AlgorithmParameters"`
	Data struct {
		Secret   pskcValue `xml:"Secret"`
		Counter  pskcValue `xml:"Counter"`
		Interval pskcValue `xml:"TimeInterval"`
		Drift    pskcValue `xml:"TimeDrift"`
	} `xml:"Data"`
}

// pskcValue is a value that may be encrypted (RFC 6030, section 4.2, "Data").
type pskcValue struct {
	Plain     *string        `xml:"PlainValue"`
	Encrypted *encryptedData `xml:"EncryptedValue"`
	MAC       string         `xml:"ValueMAC"`
}

// encryptedData is an xenc:EncryptedData.
type encryptedData struct {
	Method struct {
		Algorithm string `xml:"Algorithm,attr"`
	} `xml:"EncryptionMethod"`
	Cipher string `xml:"CipherData>CipherValue"`
}

// readPSKC reads a key container (RFC 6030), one key package after the other. Encrypted values need a
// pre-shared key or a password, and must have the right ValueMAC.
func readPSKC(br *bufio.Reader, o Options, yield func(Row, error) bool) {
	limited := &allowance{r: br, left: maxRecord}
	d := xml.NewDecoder(limited)
	d.CharsetReader = func(charset string, _ io.Reader) (io.Reader, error) {
		return nil, fmt.Errorf("the list is written in %s, not in UTF-8", shorten(charset))
	}
	keys, inside := pskcKeys{options: o}, false
	for n := 0; ; {
		t, err := d.Token()
		switch {
		case errors.Is(err, io.EOF) && !inside:
			yield(Row{}, errors.New("reading the list: there is no KeyContainer in it"))
			return
		case errors.Is(err, io.EOF):
			return
		case err != nil:
			yield(Row{}, fmt.Errorf("reading the list: %w", err))
			return
		}
		e, ok := t.(xml.StartElement)
		if !ok {
			continue
		}
		limited.left = maxRecord
		switch {
		case !inside && e.Name.Local == "KeyContainer" && e.Name.Space == pskcNS:
			inside = true
		case !inside:
			yield(Row{}, fmt.Errorf("reading the list: its root is %s, not a KeyContainer of %s", shorten(e.Name.Local), pskcNS))
			return
		case e.Name.Local == "EncryptionKey":
			err = d.DecodeElement(&keys.encryption, &e)
		case e.Name.Local == "MACMethod":
			keys.mac = &macMethod{}
			err = d.DecodeElement(keys.mac, &e)
		case e.Name.Local == "KeyPackage":
			var p keyPackage
			if err = d.DecodeElement(&p, &e); err == nil {
				n++
				row := Row{Where: "key package " + strconv.Itoa(n)}
				row.Err = row.pskc(p, &keys)
				if !yield(row, nil) {
					return
				}
			}
		default:
			err = d.Skip()
		}
		if err != nil {
			yield(Row{}, fmt.Errorf("reading the list: %w", err))
			return
		}
	}
}

func (r *Row) pskc(p keyPackage, keys *pskcKeys) (err error) {
	k := p.Key
	r.Serial, r.User = strings.TrimSpace(p.Device.Serial), strings.TrimSpace(k.User)
	if r.Serial == "" {
		r.Serial = strings.TrimSpace(k.ID)
	}
	if r.User == "" {
		r.User = strings.TrimSpace(p.Device.User)
	}
	r.User = commonName(r.User)
	r.Name = strings.TrimSpace(k.Name)
	if r.Name == "" {
		r.Name = strings.TrimSpace(p.Device.Manufacturer + " " + p.Device.Model)
	}
	switch strings.ToLower(k.Algorithm) {
	case pskcHOTP:
		r.Kind = HOTP
	case pskcTOTP:
		r.Kind = TOTP
	default:
		return fmt.Errorf("algorithm %q is neither HOTP nor TOTP", shorten(k.Algorithm))
	}
	plain, err := keys.open("secret", k.Data.Secret)
	if err != nil {
		return err
	}
	r.Secret = plain
	if r.Params, err = k.params(r.Secret); err != nil {
		return err
	}
	return r.pskcNumbers(p, keys)
}

// params reads what says how codes are computed.
func (k keyPackageKey) params(secret otp.Secret) (otp.Params, error) {
	p := otp.DefaultParams()
	suite := strings.TrimPrefix(strings.ReplaceAll(strings.ToUpper(strings.TrimSpace(k.Parameters.Suite)), "-", ""), "HMAC")
	switch suite {
	case "":
	case "SHA1", "SHA256", "SHA512":
		p.Algorithm = otp.Algorithm(suite)
	default:
		return p, fmt.Errorf("suite %q is not one of HMAC-SHA1, HMAC-SHA256, HMAC-SHA512", shorten(k.Parameters.Suite))
	}
	if e := strings.ToUpper(k.Parameters.Response.Encoding); e != "" && e != "DECIMAL" {
		return p, fmt.Errorf("codes are %s, not DECIMAL", shorten(e))
	}
	if l := k.Parameters.Response.Length; l != "" {
		n, err := number("length of codes", l)
		if err != nil {
			return p, err
		}
		p.Digits = int(min(n, 100))
	}
	return p, nil
}

// pskcNumbers reads counter, interval and drift.
func (r *Row) pskcNumbers(p keyPackage, keys *pskcKeys) error {
	read := func(what string, v pskcValue, into func(int64)) error {
		if v.Plain == nil && v.Encrypted == nil {
			return nil
		}
		n, err := keys.number(what, v)
		if err == nil {
			into(n)
		}
		return err
	}
	interval := int64(r.Params.Period)
	var drift int64
	err := errors.Join(
		read("counter", p.Key.Data.Counter, func(n int64) { r.Counter = n }),
		read("interval", p.Key.Data.Interval, func(n int64) { interval = n }),
		read("drift", p.Key.Data.Drift, func(n int64) { drift = n }))
	if err != nil {
		return err
	}
	if r.Kind == TOTP {
		r.Params.Period, r.Counter, r.Drift = int(min(interval, 1<<20)), 0, int(max(-1000, min(drift, 1000)))
	}
	return nil
}

// commonName takes the login out of a distinguished name, which is what a UserId may be.
func commonName(user string) string {
	for _, part := range strings.Split(user, ",") {
		name, value, ok := strings.Cut(part, "=")
		if ok && (strings.EqualFold(strings.TrimSpace(name), "uid") || strings.EqualFold(strings.TrimSpace(name), "cn")) {
			return strings.TrimSpace(value)
		}
	}
	return user
}

// WritePSKC writes tokens as a key container with plain values: it must only go where it is encrypted at
// once.
func WritePSKC(w io.Writer, rows iter.Seq2[Row, error]) error {
	fail := func(err error) error { return fmt.Errorf("writing tokens: %w", err) }
	if _, err := io.WriteString(w, xml.Header+`<KeyContainer Version="1.0" xmlns="`+pskcNS+`">`+"\n"); err != nil {
		return fail(err)
	}
	e := xml.NewEncoder(w)
	for r, err := range rows {
		if err != nil {
			return err
		}
		if err := e.Encode(pskcOut(r)); err != nil {
			return fail(err)
		}
		if _, err := io.WriteString(w, "\n"); err != nil {
			return fail(err)
		}
	}
	if _, err := io.WriteString(w, "</KeyContainer>\n"); err != nil {
		return fail(err)
	}
	return nil
}

type plainValue struct {
	Value string `xml:"PlainValue"`
}

// packageOut is a KeyPackage as we write it.
type packageOut struct {
	XMLName xml.Name `xml:"KeyPackage"`
	Serial  string   `xml:"DeviceInfo>SerialNo,omitempty"`
	Key     struct {
		ID         string `xml:"Id,attr"`
		Algorithm  string `xml:"Algorithm,attr"`
		Parameters struct {
			Suite    string `xml:"Suite"`
			Response struct {
				Length   int    `xml:"Length,attr"`
				Encoding string `xml:"Encoding,attr"`
			} `xml:"ResponseFormat"`
		} `xml:"AlgorithmParameters"`
		Name string `xml:"FriendlyName,omitempty"`
		Data struct {
			Secret   plainValue  `xml:"Secret"`
			Counter  *plainValue `xml:"Counter,omitempty"`
			Interval *plainValue `xml:"TimeInterval,omitempty"`
			Drift    *plainValue `xml:"TimeDrift,omitempty"`
		} `xml:"Data"`
		User string `xml:"UserId,omitempty"`
	} `xml:"Key"`
}

func pskcOut(r Row) packageOut {
	p := packageOut{Serial: r.Serial}
	k := &p.Key
	k.ID, k.Algorithm, k.Name, k.User = r.Serial, pskcTOTP, r.Name, r.User
	k.Parameters.Suite = "HMAC-" + string(r.Params.Algorithm)
	k.Parameters.Response.Length, k.Parameters.Response.Encoding = r.Params.Digits, "DECIMAL"
	k.Data.Secret.Value = base64.StdEncoding.EncodeToString(r.Secret)
	if r.Kind == HOTP {
		k.Algorithm = pskcHOTP
		k.Data.Counter = &plainValue{strconv.FormatInt(r.Counter, 10)}
		return p
	}
	k.Data.Interval = &plainValue{strconv.Itoa(r.Params.Period)}
	if r.Drift != 0 {
		k.Data.Drift = &plainValue{strconv.Itoa(r.Drift)}
	}
	return p
}
