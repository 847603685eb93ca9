package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"sallyport/audit"
)

// table prints rows under a head. Cells are escaped: they may hold what a stranger typed.
type table struct {
	w   *tabwriter.Writer
	err error
}

func newTable(out io.Writer, head ...string) *table {
	t := &table{w: tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)}
	t.line(head)
	return t
}

func (t *table) row(cells ...string) {
	for i, c := range cells {
		if cells[i] = audit.Escape(c); c == "" {
			cells[i] = "-"
		}
	}
	t.line(cells)
}

func (t *table) line(cells []string) {
	if t.err == nil {
		_, t.err = fmt.Fprintln(t.w, strings.Join(cells, "\t"))
	}
}

func (t *table) flush() error {
	if t.err != nil {
		return t.err
	}
	return t.w.Flush()
}

// printList prints a list as JSON or as a table; words says what to do when it is empty.
func printList[T any](g *globals, list []T, words string, head []string, row func(T) []string) error {
	if g.json() {
		if list == nil {
			list = []T{}
		}
		return g.printJSON(list)
	}
	if len(list) == 0 {
		fmt.Fprintln(g.Err, words)
		return nil
	}
	t := newTable(g.Out, head...)
	for _, x := range list {
		t.row(row(x)...)
	}
	return t.flush()
}

// printFields prints one thing as JSON, or as name and value line by line; pairs are name, value, ….
func (g *globals) printFields(v any, pairs ...string) error {
	if g.json() {
		return g.printJSON(v)
	}
	t := &table{w: tabwriter.NewWriter(g.Out, 0, 4, 2, ' ', 0)}
	for i := 0; i+1 < len(pairs); i += 2 {
		t.row(pairs[i], pairs[i+1])
	}
	return t.flush()
}

// clock prints a time for people, in their time zone.
func clock(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

// byteCount prints a size for people.
func byteCount(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n), 0
	for ; f >= 1024 && unit < 5; unit++ {
		f /= 1024
	}
	return fmt.Sprintf("%.1f %ciB", f, " KMGTP"[unit])
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// asciiControls rewrites JSON so that no character in it can move a cursor or reorder a line: those that
// JSON lets stand as they are, such as U+009B and bidirectional marks, become \u escapes.
func asciiControls(text []byte) []byte {
	if !bytes.ContainsFunc(text, hidden) {
		return text
	}
	out := make([]byte, 0, len(text)+16)
	for _, r := range string(text) {
		switch {
		case !hidden(r):
			out = utf8.AppendRune(out, r)
		case r > 0xffff:
			hi, lo := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, hi, lo)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
	}
	return out
}

func hidden(r rune) bool {
	return r != '\n' && (unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp))
}
