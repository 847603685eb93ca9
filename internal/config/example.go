package config

import (
	_ "embed"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"strconv"
	"strings"
)

// structs is the source of the structs, whose comments explain the keys.
//
//go:embed config.go
var structs string

// lineWidth is where comments of the example break.
const lineWidth = 100

// comments gives the comment of each field, by "Type.Field".
func comments() (map[string]string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), "config.go", structs, parser.ParseComments)
	if err != nil {
		return nil, fmt.Errorf("reading the comments of the configuration: %w", err)
	}
	out := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		fields, ok := spec.Type.(*ast.StructType)
		if !ok {
			return true
		}
		for _, f := range fields.Fields.List {
			for _, name := range f.Names {
				out[spec.Name.Name+"."+name.Name] = strings.Join(strings.Fields(f.Doc.Text()), " ")
			}
		}
		return false
	})
	return out, nil
}

// Render writes the configuration as an annotated file. Sections that cfg does not have appear commented
// out, filled with what everything says.
func Render(cfg *Config) (string, error) {
	docs, err := comments()
	if err != nil {
		return "", err
	}
	r := &renderer{docs: docs}
	r.line("# Configuration of a Sallyport node; read at start. Unknown keys are errors.")
	r.line("# What operators change while it runs (users, targets, rules) is in the database.")
	r.line("# Examine it with: sallyport check -c FILE")
	r.fields(reflect.ValueOf(cfg).Elem(), reflect.ValueOf(everything()).Elem(), 0, true)
	return r.out.String(), nil
}

type renderer struct {
	out  strings.Builder
	docs map[string]string
	off  bool // lines are commented out
}

func (r *renderer) line(text string) {
	if r.off && text != "" {
		text = "# " + text
	}
	r.out.WriteString(text + "\n")
}

// fields writes the keys of a struct; sample has the values for sections that v lacks. Keys of the
// outermost struct stand apart by an empty line.
func (r *renderer) fields(v, sample reflect.Value, depth int, outermost bool) {
	indent := strings.Repeat("  ", depth)
	for i := range v.NumField() {
		field := v.Type().Field(i)
		key := field.Tag.Get("yaml")
		if key == "" {
			continue
		}
		if outermost {
			r.line("")
		}
		for _, text := range wrap(r.docs[v.Type().Name()+"."+field.Name], lineWidth-len(indent)-2) {
			r.line(indent + "# " + text)
		}
		r.field(key, v.Field(i), sample.Field(i), depth)
	}
}

func (r *renderer) field(key string, v, sample reflect.Value, depth int) {
	indent := strings.Repeat("  ", depth)
	if v.Kind() == reflect.Pointer {
		switch {
		case !v.IsNil():
			v = v.Elem()
			sample = v
		case sample.IsNil():
			r.line(indent + key + ": null")
			return
		default:
			r.off = true
			defer func() { r.off = false }()
			v = sample.Elem()
			sample = v
		}
	}
	if _, ok := v.Addr().Interface().(scalar); !ok && v.Kind() == reflect.Struct {
		r.line(indent + key + ":")
		r.fields(v, sample, depth+1, false)
		return
	}
	if isSections(v.Type()) && v.Len() > 0 {
		r.line(indent + key + ":")
		for i := range v.Len() {
			item := &renderer{docs: r.docs}
			item.fields(v.Index(i), v.Index(i), depth+2, false)
			first, rest, _ := strings.Cut(item.out.String(), "\n")
			r.line(indent + "  - " + strings.TrimSpace(first))
			for text := range strings.Lines(rest) {
				r.line(strings.TrimSuffix(text, "\n"))
			}
		}
		return
	}
	r.line(indent + key + ": " + valueText(v))
}

// isSections tells whether t is a list of sections.
func isSections(t reflect.Type) bool {
	if t.Kind() != reflect.Slice || t.Elem().Kind() != reflect.Struct {
		return false
	}
	_, single := reflect.New(t.Elem()).Interface().(scalar)
	return !single
}

// valueText gives a value that is no section, as YAML.
func valueText(v reflect.Value) string {
	if s, ok := v.Addr().Interface().(scalar); ok {
		return quote(s.String())
	}
	switch v.Kind() {
	case reflect.Slice:
		parts := make([]string, v.Len())
		for i := range parts {
			parts[i] = valueText(v.Index(i))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case reflect.String:
		return quote(v.String())
	default:
		return fmt.Sprint(v.Interface())
	}
}

// quote puts a text in quotes unless YAML reads it as that very text without.
func quote(text string) string {
	switch text {
	case "true", "false", "null", "yes", "no", "on", "off":
		return strconv.Quote(text)
	}
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789./-_"
	if text == "" || text[0] == '-' || strings.Trim(text, plain) != "" {
		return strconv.Quote(text)
	}
	return text
}

// wrap breaks a text into lines of at most width bytes.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}
