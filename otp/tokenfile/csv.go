package tokenfile

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"strings"

	"sallyport/otp"
)

// columns of our own CSV, in the order in which they are written. A reader takes any order and needs only
// type and secret.
var columns = []string{"user", "serial", "type", "name", "algorithm", "digits", "period", "counter", "drift", "secret"}

// WriteCSV writes tokens with a header line. Cells that a spreadsheet would take for formulas have an
// apostrophe before them, which [Read] takes off again. With secrets it must only go where it is encrypted
// at once; without, the column is left out.
func WriteCSV(w io.Writer, rows iter.Seq2[Row, error], secrets bool) error {
	head := columns
	if !secrets {
		head = head[:len(head)-1]
	}
	c := csv.NewWriter(w)
	if err := c.Write(head); err != nil {
		return fmt.Errorf("writing tokens: %w", err)
	}
	for r, err := range rows {
		if err != nil {
			return err
		}
		fields := []string{Cell(r.User), Cell(r.Serial), r.Kind, Cell(r.Name), string(r.Params.Algorithm), strconv.Itoa(r.Params.Digits),
			strconv.Itoa(r.Params.Period), strconv.FormatInt(r.Counter, 10), strconv.Itoa(r.Drift), r.Secret.Base32()}
		if err := c.Write(fields[:len(head)]); err != nil {
			return fmt.Errorf("writing tokens: %w", err)
		}
	}
	c.Flush()
	if err := c.Error(); err != nil {
		return fmt.Errorf("writing tokens: %w", err)
	}
	return nil
}

// formula tells whether a spreadsheet could take a cell for a formula, or for one that was escaped.
func formula(s string) bool { return s != "" && strings.ContainsRune("=+-@\t\r'", rune(s[0])) }

// Cell gives text as it may stand in a CSV file that people open in a spreadsheet.
func Cell(s string) string {
	if formula(s) {
		return "'" + s
	}
	return s
}

// FromCell takes back what [Cell] did.
func FromCell(s string) string {
	if rest, ok := strings.CutPrefix(s, "'"); ok && formula(rest) {
		return rest
	}
	return s
}

// readCSV reads our own CSV.
func readCSV(br *bufio.Reader, _ Options, yield func(Row, error) bool) {
	var at map[string]int // column by name
	eachRecord(br, func(where string, f []string, err error) bool {
		if err != nil {
			return yield(Row{}, err)
		}
		if at == nil {
			if at, err = header(f); err != nil {
				yield(Row{}, err)
				return false
			}
			return true
		}
		get := func(name string) string {
			if i, ok := at[name]; ok && i < len(f) {
				return FromCell(f[i])
			}
			return ""
		}
		row := Row{Where: where}
		row.Err = row.csv(get)
		return yield(row, nil)
	})
}

func header(f []string) (map[string]int, error) {
	at := map[string]int{}
	for i, name := range f {
		name = strings.ToLower(name)
		if !slices.Contains(columns, name) {
			return nil, fmt.Errorf("reading the list: column %q is not known; there are %s", shorten(name), strings.Join(columns, ", "))
		}
		if _, twice := at[name]; twice {
			return nil, fmt.Errorf("reading the list: column %q stands there twice", name)
		}
		at[name] = i
	}
	for _, name := range []string{"type", "secret"} {
		if _, ok := at[name]; !ok {
			return nil, fmt.Errorf("reading the list: column %q is missing", name)
		}
	}
	return at, nil
}

func (r *Row) csv(get func(string) string) (err error) {
	r.User, r.Serial, r.Name, r.Kind = get("user"), get("serial"), get("name"), strings.ToLower(get("type"))
	r.Params = otp.DefaultParams()
	if a := get("algorithm"); a != "" {
		r.Params.Algorithm = otp.Algorithm(strings.ToUpper(a))
	}
	var counter, digits, period int64
	for _, c := range []struct {
		name string
		into *int64
		def  int
	}{{"counter", &counter, 0}, {"digits", &digits, r.Params.Digits}, {"period", &period, r.Params.Period}} {
		*c.into = int64(c.def)
		if v := get(c.name); v != "" {
			if *c.into, err = number(c.name, v); err != nil {
				return err
			}
		}
	}
	r.Counter, r.Params.Digits, r.Params.Period = counter, int(min(digits, 100)), int(min(period, 1<<20))
	if v := get("drift"); v != "" {
		if r.Drift, err = strconv.Atoi(v); err != nil {
			return errors.New("the drift is not a whole number of steps")
		}
	}
	r.Secret, err = otp.ParseSecret(get("secret"))
	return err
}
