package tokenfile

import (
	"bufio"
	"encoding/base64"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/url"
	"strconv"
	"strings"

	"sallyport/otp"
)

// eachLine gives the lines of a list that are not empty and no comments, with their numbers.
func eachLine(br *bufio.Reader, yield func(n int, line string) bool) error {
	s := bufio.NewScanner(br)
	s.Buffer(nil, maxLine)
	for n := 1; s.Scan(); n++ {
		line := strings.TrimSpace(s.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if !yield(n, line) {
			return nil
		}
	}
	if errors.Is(s.Err(), bufio.ErrTooLong) {
		return fmt.Errorf("reading the list: a line is longer than %d bytes", maxLine)
	}
	return s.Err()
}

// where names a line.
func where(n int) string { return "line " + strconv.Itoa(n) }

// eachRecord gives the records of a CSV file.
func eachRecord(br *bufio.Reader, yield func(where string, fields []string, err error) bool) {
	limited := &allowance{r: br, left: maxRecord}
	c := csv.NewReader(limited)
	c.Comment, c.FieldsPerRecord, c.ReuseRecord, c.TrimLeadingSpace = '#', -1, true, true
	for {
		limited.left = maxRecord
		fields, err := c.Read()
		switch {
		case errors.Is(err, io.EOF):
			return
		case err != nil:
			yield("", nil, fmt.Errorf("reading the list: %w", err))
			return
		}
		line, _ := c.FieldPos(0)
		for i := range fields {
			fields[i] = strings.TrimSpace(fields[i])
		}
		if !yield(where(line), fields, nil) {
			return
		}
	}
}

// params are the usual ones with the hash that a key of this length is for, where nothing else says so.
func params(secret otp.Secret) otp.Params {
	p := otp.DefaultParams()
	switch len(secret) {
	case 32:
		p.Algorithm = otp.SHA256
	case 64:
		p.Algorithm = otp.SHA512
	}
	return p
}

func hexSecret(s string) (otp.Secret, error) {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		return nil, errors.New("the key is not in hexadecimal")
	}
	return b, nil
}

// number reads a whole number that stands in a file.
func number(what, s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("the %s %q is not a whole number", what, shorten(s))
	}
	return n, nil
}

// readEntra reads the CSV that Microsoft Entra takes and several vendors deliver. Its header is
// mandatory; the secret is base32.
func readEntra(br *bufio.Reader, _ Options, yield func(Row, error) bool) {
	header := true
	eachRecord(br, func(where string, f []string, err error) bool {
		if err != nil {
			return yield(Row{}, err)
		}
		if header {
			header = false
			if len(f) < 4 || !strings.EqualFold(f[0], "upn") {
				yield(Row{}, errors.New("reading the list: the first line must be: upn,serial number,secret key,time interval,manufacturer,model"))
				return false
			}
			return true
		}
		row := Row{Where: where, Kind: TOTP}
		if len(f) < 4 {
			row.Err = fmt.Errorf("%d columns where four are needed", len(f))
			return yield(row, nil)
		}
		row.User, row.Serial = f[0], f[1]
		if len(f) >= 6 {
			row.Name = strings.TrimSpace(f[4] + " " + f[5])
		}
		if row.Secret, row.Err = otp.ParseSecret(f[2]); row.Err == nil {
			row.Params = otp.DefaultParams()
			row.Params.Period, row.Err = period(f[3])
		}
		return yield(row, nil)
	})
}

func period(s string) (int, error) {
	n, err := number("interval", s)
	return int(min(n, 1<<20)), err
}

// readOATH reads serial,key,type[,digits[,counter or interval]], and with "# version: 2" the same
// behind user,resolver,realm.
func readOATH(br *bufio.Reader, _ Options, yield func(Row, error) bool) {
	head, _ := br.Peek(maxPeek)
	first, _, _ := strings.Cut(string(head), "\n")
	second := strings.HasPrefix(strings.ReplaceAll(strings.ToLower(first), " ", ""), "#version:2")
	eachRecord(br, func(where string, f []string, err error) bool {
		if err != nil {
			return yield(Row{}, err)
		}
		row := Row{Where: where, Kind: HOTP}
		if second {
			if len(f) < 4 {
				row.Err = fmt.Errorf("%d columns where at least five are needed", len(f))
				return yield(row, nil)
			}
			row.User, f = f[0], f[3:]
		}
		row.Err = row.oath(f)
		return yield(row, nil)
	})
}

func (r *Row) oath(f []string) (err error) {
	if len(f) < 2 {
		return fmt.Errorf("%d columns where at least two are needed", len(f))
	}
	r.Serial = f[0]
	if r.Secret, err = hexSecret(f[1]); err != nil {
		return err
	}
	r.Params = params(r.Secret)
	if len(f) > 2 && f[2] != "" {
		r.Kind = strings.ToLower(f[2])
	}
	if len(f) > 3 && f[3] != "" {
		n, err := number("number of digits", f[3])
		if err != nil {
			return err
		}
		r.Params.Digits = int(min(n, 100))
	}
	if len(f) > 4 && f[4] != "" {
		n, err := number("counter or interval", f[4])
		if err != nil {
			return err
		}
		if r.Kind == HOTP {
			r.Counter = n
		} else {
			r.Params.Period = int(min(n, 1<<20))
		}
	}
	return nil
}

// readFeitian reads serial and key; the length of the key says the hash.
func readFeitian(br *bufio.Reader, _ Options, yield func(Row, error) bool) {
	err := eachLine(br, func(n int, line string) bool {
		f := strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(",;\t ", r) })
		row := Row{Where: where(n), Kind: TOTP}
		if len(f) != 2 {
			row.Err = errors.New("not a serial number and a key")
			return yield(row, nil)
		}
		row.Serial = f[0]
		row.Secret, row.Err = hexSecret(f[1])
		row.Params = params(row.Secret)
		return yield(row, nil)
	})
	if err != nil {
		yield(Row{}, err)
	}
}

// readYubico reads the log of the personalisation tool, in its traditional form (OATH-HOTP,date,slot,
// identity,…,key,…) and in the one for servers (serial,identity,counter,key,…).
func readYubico(br *bufio.Reader, _ Options, yield func(Row, error) bool) {
	eachRecord(br, func(where string, f []string, err error) bool {
		if err != nil {
			return yield(Row{}, err)
		}
		row := Row{Where: where, Kind: HOTP}
		row.Err = row.yubico(f)
		return yield(row, nil)
	})
}

func (r *Row) yubico(f []string) (err error) {
	if strings.EqualFold(f[0], "OATH-HOTP") {
		if len(f) < 6 {
			return fmt.Errorf("%d columns where at least six are needed", len(f))
		}
		r.Serial = f[3] // the OATH token identifier, if the slot has one
		if r.Serial == "" {
			r.Serial = "yubikey-" + strings.ReplaceAll(f[1], " ", "-") + "-slot" + f[2]
		}
		for _, field := range f[4:] {
			if len(field) == 40 {
				r.Secret, err = hexSecret(field)
				break
			}
		}
		if r.Secret == nil {
			return errors.Join(errors.New("there is no key of 20 bytes in it"), err)
		}
		r.Params = otp.DefaultParams()
		if len(f) > 11 && f[11] == "8" {
			r.Params.Digits = 8
		}
		return nil
	}
	if len(f) < 4 {
		return fmt.Errorf("%d columns where at least four are needed", len(f))
	}
	r.Serial = f[0]
	if f[2] != "" {
		if r.Counter, err = number("counter", f[2]); err != nil {
			return err
		}
	}
	if r.Secret, err = hexSecret(f[3]); err != nil {
		return err
	}
	r.Params = otp.DefaultParams()
	return nil
}

// readOtpauth reads one otpauth URI a line.
func readOtpauth(br *bufio.Reader, _ Options, yield func(Row, error) bool) {
	err := eachLine(br, func(n int, line string) bool {
		row := Row{Where: where(n)}
		row.Err = row.otpauth(line)
		return yield(row, nil)
	})
	if err != nil {
		yield(Row{}, err)
	}
}

func (r *Row) otpauth(line string) (err error) {
	u, err := url.Parse(line)
	if err != nil || !strings.EqualFold(u.Scheme, "otpauth") {
		return errors.New("not an otpauth URI") // the parser's error repeats the URI, and so the secret
	}
	r.Kind = strings.ToLower(u.Host)
	r.Name = strings.TrimPrefix(u.Path, "/")
	if _, account, ok := strings.Cut(r.Name, ":"); ok {
		r.User = strings.TrimSpace(account)
	} else {
		r.User = r.Name
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return errors.New("not an otpauth URI: its query cannot be read")
	}
	r.Params = otp.DefaultParams()
	if a := q.Get("algorithm"); a != "" {
		r.Params.Algorithm = otp.Algorithm(strings.TrimPrefix(strings.ReplaceAll(strings.ToUpper(a), "-", ""), "HMAC"))
	}
	for _, p := range []struct {
		name string
		into *int
	}{{"digits", &r.Params.Digits}, {"period", &r.Params.Period}} {
		if v := q.Get(p.name); v != "" {
			n, err := number(p.name, v)
			if err != nil {
				return err
			}
			*p.into = int(min(n, 1<<20))
		}
	}
	if r.Kind == HOTP {
		if r.Counter, err = number("counter", q.Get("counter")); err != nil {
			return err
		}
	}
	r.Serial = q.Get("serial")
	r.Secret, err = otp.ParseSecret(q.Get("secret"))
	return err
}

// readGoogle reads the file that google-authenticator writes into a home folder: the secret, options
// that begin with a quotation mark, and scratch codes of eight digits.
func readGoogle(br *bufio.Reader, _ Options, yield func(Row, error) bool) {
	row := Row{Where: where(1), Kind: TOTP, Name: "google-authenticator", Params: otp.DefaultParams()}
	first := true
	err := eachLine(br, func(n int, line string) bool {
		option, isOption := strings.CutPrefix(line, "\" ")
		switch {
		case first:
			row.Secret, row.Err = otp.ParseSecret(line)
			first = false
		case isOption:
			name, value, _ := strings.Cut(option, " ")
			switch name {
			case "HOTP_COUNTER":
				row.Kind = HOTP
				if c, err := number("counter", strings.TrimSpace(value)); err != nil && row.Err == nil {
					row.Err = err
				} else {
					row.Counter = c
				}
			case "STEP_SIZE":
				if p, err := period(strings.TrimSpace(value)); err != nil && row.Err == nil {
					row.Err = err
				} else {
					row.Params.Period = p
				}
			}
		case len(line) == 8 && strings.Trim(line, "0123456789") == "":
			row.Recovery = append(row.Recovery, line)
		}
		return true
	})
	switch {
	case err != nil:
		yield(Row{}, err)
	case first:
		yield(Row{}, errors.New("reading the list: it is empty"))
	default:
		yield(row, nil)
	}
}

// readUsersOATH reads the file of pam_oath: type, user, PIN, key, and then fields that change with use.
func readUsersOATH(br *bufio.Reader, _ Options, yield func(Row, error) bool) {
	err := eachLine(br, func(n int, line string) bool {
		row := Row{Where: where(n)}
		row.Err = row.usersOATH(strings.Fields(line))
		return yield(row, nil)
	})
	if err != nil {
		yield(Row{}, err)
	}
}

func (r *Row) usersOATH(f []string) (err error) {
	if len(f) < 4 {
		return fmt.Errorf("%d fields where at least four are needed", len(f))
	}
	r.User = f[1]
	if f[2] != "-" && f[2] != "+" {
		return errors.New("it has a PIN, which is not taken over: set it to -")
	}
	r.Kind, r.Params = HOTP, otp.DefaultParams()
	for i, part := range strings.Split(f[0], "/") {
		switch {
		case i == 0 && !strings.EqualFold(part, "HOTP"):
			return fmt.Errorf("type %q is not HOTP", shorten(f[0]))
		case i == 0:
		case strings.HasPrefix(part, "T"):
			r.Kind = TOTP
			if r.Params.Period, err = period(part[1:]); err != nil {
				return err
			}
		default:
			n, err := number("number of digits", part)
			if err != nil {
				return err
			}
			r.Params.Digits = int(min(n, 100))
		}
	}
	if len(f) > 4 && r.Kind == HOTP {
		if r.Counter, err = number("counter", f[4]); err != nil {
			return err
		}
	}
	r.Secret, err = hexSecret(f[3])
	return err
}

// base64Secret reads a secret as PSKC has it.
func base64Secret(s string) (otp.Secret, error) {
	b, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		return nil, errors.New("the secret is not in base64")
	}
	return b, nil
}

// WriteOtpauth writes tokens as otpauth URIs, one a line: it must only go where it is encrypted at once. Drift is
// not part of such a URI.
func WriteOtpauth(w io.Writer, rows iter.Seq2[Row, error]) error {
	for r, err := range rows {
		if err != nil {
			return err
		}
		uri := otp.URI("", r.User, r.Secret, r.Params)
		if r.Kind == HOTP {
			uri = strings.Replace(uri, "&counter=0", "&counter="+strconv.FormatInt(r.Counter, 10), 1)
		}
		if r.Serial != "" {
			uri += "&serial=" + url.QueryEscape(r.Serial)
		}
		if _, err := io.WriteString(w, uri+"\n"); err != nil {
			return fmt.Errorf("writing tokens: %w", err)
		}
	}
	return nil
}
