package store

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// ms returns t as a column keeps it: milliseconds since 1970 UTC, 0 for the zero time.
func ms(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// timeColumn scans a column of milliseconds.
type timeColumn struct{ to *time.Time }

func (c timeColumn) Scan(v any) error {
	n, ok := v.(int64)
	if !ok {
		return fmt.Errorf("scanning %T as a time", v)
	}
	*c.to = time.Time{}
	if n != 0 {
		*c.to = time.UnixMilli(n).UTC()
	}
	return nil
}

// toJSON returns v, a list or map, as a column keeps it.
func toJSON(v any) (string, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("encoding a %T: %w", v, err)
	}
	return string(b), nil
}

// jsonColumn scans a column of JSON into the variable that to points to.
type jsonColumn struct{ to any }

func (c jsonColumn) Scan(v any) error {
	switch v := v.(type) {
	case string:
		return json.Unmarshal([]byte(v), c.to)
	case []byte:
		return json.Unmarshal(v, c.to)
	}
	return fmt.Errorf("scanning %T as JSON", v)
}

// list returns l as toJSON should see it: nil and empty are the same.
func list(l []string) []string {
	if l == nil {
		return []string{}
	}
	return l
}

// clean makes the strings among the arguments of a statement such as PostgreSQL accepts: what
// strangers type may hold zero bytes and invalid UTF-8, and must cause no error in one engine that it
// does not cause in the other. It alters args.
func clean(args []any) []any {
	for i, a := range args {
		if s, ok := a.(string); ok {
			args[i] = plain(s)
		}
	}
	return args
}

// plain returns s with U+FFFD in the place of zero bytes and invalid UTF-8.
func plain(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// like returns a pattern for LIKE … ESCAPE '\' that matches texts in lower case that contain part.
func like(part string) string {
	return "%" + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(strings.ToLower(part)) + "%"
}
