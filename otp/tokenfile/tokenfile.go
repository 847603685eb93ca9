// Package tokenfile reads and writes lists of tokens in the formats in which vendors, apps and other
// servers hand them over. It has neither clock nor I/O of its own: a reader goes in, rows come out one
// by one, so that a list of any length needs little memory.
//
//	for row, err := range tokenfile.Read(r, tokenfile.Options{}) {
//		if err != nil { … }     // the file as a whole cannot be read further
//		if row.Err != nil { … } // this row is no token; the next ones may be
//	}
//
// No error repeats a secret.
package tokenfile

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"unicode/utf8"

	"sallyport/otp"
)

// Kinds of tokens.
const (
	TOTP = "totp"
	HOTP = "hotp"
)

// Row is one token of a list, or what is wrong with it.
type Row struct {
	Where  string // place in the file for people: "line 7", "key package 3"
	Err    error  // not nil: there is no token here; Where, Serial and User may still be known
	User   string // login it belongs to; "": nobody yet
	Serial string // of a hardware token; "": none
	Name   string // what the file calls it

	Kind     string // TOTP or HOTP
	Params   otp.Params
	Secret   otp.Secret
	Counter  int64    // HOTP: the next one
	Drift    int      // TOTP: steps that the token's clock is ahead (positive) or behind
	Recovery []string // recovery codes that belong to the same person
}

// Format is how a list is written.
type Format string

// Formats that [Read] knows. A CSV may begin with a byte order mark and end its lines either way.
const (
	Auto      Format = ""           // found out from the first lines
	CSV       Format = "csv"        // our own, with a header line; see [WriteCSV]
	Entra     Format = "entra"      // upn,serial number,secret key,time interval,manufacturer,model; base32
	OATH      Format = "oath"       // serial,key in hex,hotp|totp,digits,counter or interval
	Feitian   Format = "feitian"    // serial and key in hex, by comma, tab or space
	Yubico    Format = "yubico"     // log of the personalisation tool: OATH-HOTP,date,slot,…
	PSKC      Format = "pskc"       // RFC 6030
	Otpauth   Format = "otpauth"    // one otpauth URI a line
	Google    Format = "google"     // a ~/.google_authenticator file of one person
	UsersOATH Format = "users.oath" // of pam_oath: HOTP/T30/6 user - key in hex
)

// Formats lists what [Options.Format] may be, beside [Auto].
func Formats() []Format {
	return []Format{CSV, Entra, OATH, Feitian, Yubico, PSKC, Otpauth, Google, UsersOATH}
}

// Options of [Read]. The zero value finds the format out, and knows no key.
type Options struct {
	Format   Format
	User     string // of a list that names none, such as Google's
	Key      []byte // PSKC: the pre-shared key
	Password []byte // PSKC: what the key is derived from
}

// Bounds of what is read. A token is a few hundred bytes.
const (
	maxLine = 64 << 10
	maxPeek = 4 << 10
)

// ErrFormat is the error of a list whose format cannot be told.
var ErrFormat = errors.New("this is no list of tokens that is known here")

// Read gives the rows of a list in their order. An error with the zero Row is the last thing it gives.
func Read(r io.Reader, o Options) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		br := bufio.NewReaderSize(r, maxLine)
		if bom, _ := br.Peek(3); bytes.Equal(bom, []byte("\xef\xbb\xbf")) {
			_, _ = br.Discard(3)
		}
		format := o.Format
		if format == Auto {
			var err error
			if format, err = detect(br); err != nil {
				yield(Row{}, err)
				return
			}
		}
		read := map[Format]func(*bufio.Reader, Options, func(Row, error) bool){
			CSV: readCSV, Entra: readEntra, OATH: readOATH, Feitian: readFeitian, Yubico: readYubico,
			PSKC: readPSKC, Otpauth: readOtpauth, Google: readGoogle, UsersOATH: readUsersOATH,
		}[format]
		if read == nil {
			yield(Row{}, fmt.Errorf("format %q: %w", string(format), ErrFormat))
			return
		}
		read(br, o, func(row Row, err error) bool {
			if err != nil {
				return yield(Row{}, err)
			}
			if row.Err == nil {
				row.Err = row.check()
			}
			if row.Err != nil {
				row.Secret, row.Recovery = nil, nil
			}
			if row.User == "" {
				row.User = o.User
			}
			return yield(row, nil)
		})
	}
}

// check tells whether a row is a token that can be used.
func (r Row) check() error {
	if r.Kind != TOTP && r.Kind != HOTP {
		return fmt.Errorf("%q is neither totp nor hotp", shorten(r.Kind))
	}
	if err := r.Secret.Check(); err != nil {
		return err
	}
	if r.Counter < 0 {
		return errors.New("the counter is negative")
	}
	for what, s := range map[string]string{"user": r.User, "serial": r.Serial, "name": r.Name} {
		if !utf8.ValidString(s) || len(s) > 256 || strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f }) {
			return fmt.Errorf("the %s is longer than 256 bytes or has characters that cannot be seen", what)
		}
	}
	return r.Params.Validate()
}

// detect finds the format out from the beginning of the list.
func detect(br *bufio.Reader) (Format, error) {
	head, _ := br.Peek(maxPeek)
	text := strings.TrimLeft(string(head), " \t\r\n")
	if strings.HasPrefix(text, "<") {
		return PSKC, nil
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		lower := strings.ToLower(line)
		switch {
		case line == "":
			continue
		case strings.HasPrefix(lower, "otpauth://"):
			return Otpauth, nil
		case strings.HasPrefix(lower, "#"):
			if strings.HasPrefix(strings.ReplaceAll(lower, " ", ""), "#version:") {
				return OATH, nil
			}
			continue
		case strings.HasPrefix(lower, "upn,"):
			return Entra, nil
		case isHeader(lower):
			return CSV, nil
		case strings.HasPrefix(lower, "oath-hotp,"):
			return Yubico, nil
		case strings.HasPrefix(lower, "hotp ") || strings.HasPrefix(lower, "hotp/") || strings.HasPrefix(lower, "hotp\t"):
			return UsersOATH, nil
		}
		if f := detectFields(line, text); f != Auto {
			return f, nil
		}
		break
	}
	return Auto, fmt.Errorf("%w; name its format, one of %v", ErrFormat, Formats())
}

// isHeader tells whether a line is the first one of our own CSV.
func isHeader(line string) bool {
	names := strings.Split(line, ",")
	for i, n := range names {
		names[i] = strings.TrimSpace(n)
	}
	_, err := header(names)
	return err == nil
}

// detectFields tells apart the formats without a header by the fields of their first line.
func detectFields(line, text string) Format {
	fields := strings.FieldsFunc(line, func(r rune) bool { return r == ',' || r == ';' || r == '\t' || r == ' ' })
	switch {
	case len(fields) == 1 && strings.Contains(text, "\n\" "):
		return Google
	case len(fields) == 2 && isHex(fields[1]):
		return Feitian
	case len(fields) >= 3 && strings.ContainsRune(line, ',') && isHex(fields[1]):
		return OATH
	}
	return Auto
}

func isHex(s string) bool {
	return len(s) >= 32 && len(s)%2 == 0 && strings.Trim(s, "0123456789abcdefABCDEF") == ""
}

// shorten keeps something foreign on a short line.
func shorten(s string) string {
	if len(s) > 40 {
		return strings.ToValidUTF8(s[:40], "") + "..."
	}
	return s
}

// maxRecord bounds one record of a CSV file or one element of a container, in bytes: the parsers would
// keep any length in memory.
const maxRecord = 256 << 10

// allowance reads until left bytes were read.
type allowance struct {
	r    io.Reader
	left int
}

// Read implements io.Reader.
func (a *allowance) Read(p []byte) (int, error) {
	if a.left <= 0 {
		return 0, fmt.Errorf("a record is longer than %d bytes", maxRecord)
	}
	n, err := a.r.Read(p[:min(len(p), a.left)])
	a.left -= n
	return n, err
}
