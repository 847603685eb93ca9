package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Format writes the document as YAML that Parse reads back to the same rules: keys in a fixed order,
// networks by name, values that are the default left out. Comments of the text it came from are lost.
func (d *Document) Format() string {
	var b strings.Builder
	b.WriteString("version: 1\n")
	if d == nil {
		return b.String() + "rules: []\n"
	}
	if len(d.Networks) > 0 {
		b.WriteString("networks:\n")
	}
	for _, name := range slices.Sorted(maps.Keys(d.Networks)) {
		fmt.Fprintf(&b, "  %s: %s\n", scalar(name), formatList(d.Networks[name], formatPrefix))
	}
	if len(d.Rules) == 0 {
		b.WriteString("rules: []\n")
		return b.String()
	}
	b.WriteString("rules:\n")
	for i := range d.Rules {
		d.Rules[i].format(&b)
	}
	return b.String()
}

func (r *Rule) format(b *strings.Builder) {
	fmt.Fprintf(b, "  - name: %s\n", scalar(r.Name))
	line := func(key, value string) {
		if value != "" {
			fmt.Fprintf(b, "    %s: %s\n", key, value)
		}
	}
	if r.Effect == Deny {
		line("deny", "true")
	}
	line("users", formatWords(r.Users))
	line("targets", formatWords(r.Targets))
	line("accounts", formatWords(r.Accounts))
	line("from", formatWords(r.From))
	line("not-from", formatWords(r.NotFrom))
	line("channels", formatList(r.Channels, formatChannel))
	line("env", formatWords(r.Env))
	if r.Silent {
		line("observed", "silent")
	}
	line("moderator", r.Moderator.format())
	line("code", r.Code.format())
	if r.TokenOnly {
		line("token-only", "true")
	}
	if r.PasswordCode {
		line("password-code", "true")
	}
	line("trust", r.Trust.format())
	if r.Recording != RecordRequired {
		line("recording", r.Recording.String())
	}
	if r.RecordLimit != 0 {
		line("record-limit", formatSize(r.RecordLimit))
	}
	if r.Unsearched {
		line("search", "off")
	}
	if r.Retention != 0 {
		line("retention", formatRetention(r.Retention))
	}
	if r.RecordInput {
		line("record-input", "true")
	}
	if r.BreakGlass {
		line("break-glass", "true")
	}
	line("sftp", r.SFTP.format())
	if r.Relay {
		line("relay", "true")
	}
	line("approval", r.Approval.format())
	line("reply", formatWords(r.Reply))
	line("limits", r.Limits.format())
	line("lockout", r.Lockout.format())
	if r.Message != "" {
		line("message", scalar(r.Message))
	}
}

// RuleHash tells by a short text whether the rule of a name is still what it was; "" if there is none.
func (d *Document) RuleHash(name string) string {
	if d == nil {
		return ""
	}
	for i := range d.Rules {
		if d.Rules[i].Name == name {
			var b strings.Builder
			d.Rules[i].format(&b)
			sum := sha256.Sum256([]byte(b.String()))
			return hex.EncodeToString(sum[:16])
		}
	}
	return ""
}

func formatRetention(d time.Duration) string {
	if d == Forever {
		return foreverWord
	}
	return formatDuration(d)
}

func (c Code) format() string {
	switch c.Kind {
	case CodeYoungerThan:
		return "{younger-than: " + formatDuration(c.YoungerThan) + "}"
	case CodeNone:
		return "none"
	}
	if c.Fresh {
		return "fresh"
	}
	return ""
}

func (t *Trust) format() string {
	if t == nil {
		return ""
	}
	parts := []string{"idle: " + formatDuration(t.Idle), "max: " + formatDuration(t.Max)}
	if t.Uses > 0 {
		parts = append(parts, fmt.Sprintf("uses: %d", t.Uses))
	}
	if t.Targets > 0 {
		parts = append(parts, fmt.Sprintf("targets: %d", t.Targets))
	}
	if t.Grow != nil {
		parts = append(parts, fmt.Sprintf("grow: {after: %d, max: %s}", t.Grow.After, formatDuration(t.Grow.Max)))
	}
	if len(t.Sources) > 0 {
		parts = append(parts, "sources: "+formatWords(t.Sources))
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

func (l Limit) format() string {
	var parts []string
	if l.Failures > 0 {
		parts = append(parts, fmt.Sprintf("failures: %d", l.Failures))
	}
	if l.Window > 0 {
		parts = append(parts, "window: "+formatDuration(l.Window))
	}
	if l.Lock > 0 {
		parts = append(parts, "lock: "+formatDuration(l.Lock))
	}
	if parts == nil {
		return ""
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

func (l Limits) format() string {
	if l == (Limits{}) {
		return ""
	}
	return "{" + l.String() + "}"
}

func formatChannel(c Channel) string {
	if len(c.To) == 0 {
		return scalar(c.Kind)
	}
	return "{" + scalar(c.Kind) + ": " + formatWords(c.To) + "}"
}

// formatPrefix writes a prefix that is one address without its length.
func formatPrefix(p netip.Prefix) string {
	if p.IsSingleIP() {
		return scalar(p.Addr().String())
	}
	return scalar(p.String())
}

func formatWords(words []string) string { return formatList(words, scalar) }

// formatList writes a list in brackets, and nothing for an empty one.
func formatList[T any](values []T, format func(T) string) string {
	if len(values) == 0 {
		return ""
	}
	words := make([]string, len(values))
	for i, v := range values {
		words[i] = format(v)
	}
	return "[" + strings.Join(words, ", ") + "]"
}

// scalar writes text plain where that is plainly text in YAML, also within brackets, and quoted otherwise.
func scalar(s string) string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digitsFirst := s != "" && '0' <= s[0] && s[0] <= '9'
	switch strings.ToLower(s) {
	case "", "y", "yes", "n", "no", "true", "false", "on", "null":
		return quoteYAML(s)
	}
	if strings.Trim(s, letters+"0123456789-_./:=") != "" || strings.HasSuffix(s, ":") ||
		!digitsFirst && !strings.ContainsAny(s[:1], letters) ||
		digitsFirst && !strings.ContainsAny(s, "/") && strings.Count(s, ".") != 3 {
		return quoteYAML(s)
	}
	return s
}

// quoteYAML quotes printable text; names and words hold nothing else.
func quoteYAML(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
