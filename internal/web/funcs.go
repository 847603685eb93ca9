package web

import (
	"errors"
	"fmt"
	"html/template"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"sallyport/audit"
)

// funcs are what templates may call.
func (s *Site) funcs() template.FuncMap {
	return template.FuncMap{
		"asset":    s.assets.URL,
		"has":      s.assets.Has,
		"icon":     icon,
		"esc":      func(v any) string { return audit.Escape(fmt.Sprint(v)) },
		"ago":      func(t time.Time) template.HTML { return timeTag(t, Ago(t, s.cfg.Now())) },
		"moment":   func(t time.Time) template.HTML { return timeTag(t, t.UTC().Format("2006-01-02 15:04:05")) },
		"since":    func(t time.Time) string { return Span(s.cfg.Now().Sub(t)) },
		"span":     Span,
		"between":  func(from, to time.Time) string { return Span(to.Sub(from)) },
		"size":     Size,
		"plural":   Plural[int],
		"sentence": Sentence,
		"join":     strings.Join,
		"args":     args,
	}
}

// Ago tells how long before now (or after it) t is, in one unit: "3 min ago", "in 2 h".
func Ago(t, now time.Time) string {
	if t.IsZero() {
		return "never"
	}
	d := now.Sub(t)
	switch {
	case d > -time.Second && d < 5*time.Second:
		return "just now"
	case d < 0:
		return "in " + oneUnit(-d)
	case d >= 60*24*time.Hour:
		return "on " + t.UTC().Format("2 Jan 2006")
	}
	return oneUnit(d) + " ago"
}

func oneUnit(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d/time.Second))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d/time.Minute))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d/time.Hour))
	}
	return fmt.Sprintf("%d days", int(d/(24*time.Hour)))
}

// Span prints a duration in at most two units: "850 ms", "42 s", "3 min 5 s", "2 h 10 min", "4 d 3 h".
func Span(d time.Duration) string {
	d = max(d, 0)
	two := func(big, small time.Duration, bigName, smallName string) string {
		out := fmt.Sprintf("%d %s", d/big, bigName)
		if rest := d % big / small; rest > 0 {
			out += fmt.Sprintf(" %d %s", rest, smallName)
		}
		return out
	}
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d/time.Millisecond)
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return two(time.Minute, time.Second, "min", "s")
	case d < 24*time.Hour:
		return two(time.Hour, time.Minute, "h", "min")
	}
	return two(24*time.Hour, time.Hour, "d", "h")
}

// Size prints a number of bytes with a binary unit.
func Size(n int64) string {
	if n < 1024 {
		return strconv.FormatInt(n, 10) + " B"
	}
	v, units := float64(n)/1024, "KMGTPE"
	for v >= 1023.95 && len(units) > 1 {
		v, units = v/1024, units[1:]
	}
	return strconv.FormatFloat(v, 'f', 1, 64) + " " + units[:1] + "iB"
}

// timeTag marks up a moment so that machines can read it and people see it in full on hover. text
// is ours and needs no escaping.
func timeTag(t time.Time, text string) template.HTML {
	if t.IsZero() {
		return template.HTML(`<span class="muted">never</span>`)
	}
	u := t.UTC()
	return template.HTML(`<time datetime="` + u.Format(time.RFC3339) + `" title="` + u.Format("2006-01-02 15:04:05") + ` UTC">` + text + `</time>`)
}

// Plural is n with the word for one or for many: "1 recording", "2 recordings".
func Plural[N int | int64](n N, one, many string) string { return audit.Counted(n, one, many) }

// args makes a map out of pairs of key and value, for parts that need more than one.
func args(pairs ...any) (map[string]any, error) {
	if len(pairs)%2 != 0 {
		return nil, errors.New("args: a key without a value")
	}
	m := make(map[string]any, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		key, ok := pairs[i].(string)
		if !ok {
			return nil, fmt.Errorf("args: key %v is not a string", pairs[i])
		}
		m[key] = pairs[i+1]
	}
	return m, nil
}

// Sentence makes a sentence of an error's text: a capital first, a full stop last.
func Sentence(s string) string {
	if s == "" {
		return ""
	}
	first, n := utf8.DecodeRuneInString(s)
	s = string(unicode.ToUpper(first)) + s[n:]
	if !strings.HasSuffix(s, ".") && !strings.HasSuffix(s, "…") {
		s += "."
	}
	return s
}

// Groups parts s into groups of four, as people read a secret to each other.
func Groups(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i += 4 {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(s[i:min(i+4, len(s))])
	}
	return b.String()
}
