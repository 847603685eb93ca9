package config

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// decoder carries a YAML tree into structs. It is stricter than yaml.Strict, which has no position for a
// value that a type of ours refuses, and which turns numbers into texts and back as it likes.
type decoder struct {
	src    *source
	places map[string]place
}

// decode reads text into cfg, which holds the defaults.
func decode(src *source, text []byte, cfg *Config) error {
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return syntaxError(src, err)
	}
	d := &decoder{src: src, places: map[string]place{}}
	cfg.places, cfg.source = d.places, src
	if len(file.Docs) > 1 {
		return src.errorf(placeOf(file.Docs[1].Body), "a second document begins here; the configuration is one document")
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		return nil
	}
	return d.value("", file.Docs[0].Body, reflect.ValueOf(cfg).Elem())
}

func syntaxError(src *source, err error) error {
	var located yaml.Error
	if !errors.As(err, &located) || located.GetToken() == nil {
		return src.errorf(place{}, "%v", err)
	}
	p := located.GetToken().Position
	return src.errorf(place{p.Line, p.Column}, "not YAML: %s", strings.TrimSpace(located.GetMessage()))
}

// placeOf finds where a node begins; that of a mapping or list is where its first entry is.
func placeOf(n ast.Node) place {
	switch v := n.(type) {
	case *ast.MappingNode:
		if !v.IsFlowStyle && len(v.Values) > 0 {
			n = v.Values[0].Key
		}
	case *ast.MappingValueNode:
		n = v.Key
	}
	if n == nil || n.GetToken() == nil {
		return place{}
	}
	p := n.GetToken().Position
	return place{p.Line, p.Column}
}

// value decodes one node into dst. path is its key with those around it, such as "ssh.listen".
func (d *decoder) value(path string, n ast.Node, dst reflect.Value) error {
	switch n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		return d.src.errorf(placeOf(n), "%s: anchors, aliases and tags are not used in the configuration; write the value out", path)
	}
	_, null := n.(*ast.NullNode)
	if s, ok := dst.Addr().Interface().(scalar); ok {
		return d.scalar(path, n, s)
	}
	switch dst.Kind() {
	case reflect.Pointer:
		if null {
			return nil
		}
		fresh := reflect.New(dst.Type().Elem())
		setDefaults(fresh.Interface())
		dst.Set(fresh)
		return d.value(path, n, fresh.Elem())
	case reflect.Struct:
		if null {
			return nil
		}
		return d.mapping(path, n, dst)
	case reflect.Slice:
		if null {
			return nil
		}
		return d.list(path, n, dst)
	case reflect.String:
		if null {
			return nil
		}
		s, ok := n.(*ast.StringNode)
		if !ok {
			return d.src.errorf(placeOf(n), "%s: %s: want a text; put it in quotes if it is one", path, textOf(n))
		}
		dst.SetString(s.Value)
	case reflect.Bool:
		b, ok := n.(*ast.BoolNode)
		if !ok {
			return d.src.errorf(placeOf(n), "%s: %s: want true or false", path, textOf(n))
		}
		dst.SetBool(b.Value)
	case reflect.Int:
		v, err := strconv.Atoi(textOf(n))
		if _, ok := n.(*ast.IntegerNode); !ok || err != nil || v < 0 {
			return d.src.errorf(placeOf(n), "%s: %s: want a whole number, such as 10", path, textOf(n))
		}
		dst.SetInt(int64(v))
	}
	return nil
}

func (d *decoder) scalar(path string, n ast.Node, s scalar) error {
	text := ""
	switch v := n.(type) {
	case *ast.NullNode:
	case *ast.StringNode:
		text = v.Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		text = textOf(n)
	default:
		return d.src.errorf(placeOf(n), "%s: want one value, not %s", path, kindOf(n))
	}
	if err := s.set(text); err != nil {
		return d.src.errorf(placeOf(n), "%s: %q: %v", path, text, err)
	}
	return nil
}

func (d *decoder) list(path string, n ast.Node, dst reflect.Value) error {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		return d.src.errorf(placeOf(n), "%s: %s: want a list, such as [%s]", path, textOf(n), textOf(n))
	}
	out := reflect.MakeSlice(dst.Type(), len(seq.Values), len(seq.Values))
	for i, v := range seq.Values {
		at := path
		if isSections(dst.Type()) {
			at = fmt.Sprintf("%s[%d]", path, i)
			setDefaults(out.Index(i).Addr().Interface())
		}
		if err := d.value(at, v, out.Index(i)); err != nil {
			return err
		}
	}
	dst.Set(out)
	return nil
}

func (d *decoder) mapping(path string, n ast.Node, dst reflect.Value) error {
	var entries []*ast.MappingValueNode
	switch v := n.(type) {
	case *ast.MappingNode:
		entries = v.Values
	case *ast.MappingValueNode:
		entries = []*ast.MappingValueNode{v}
	default:
		return d.src.errorf(placeOf(n), "%s: want keys and values (%s), not %s", orFile(path), strings.Join(keysOf(dst.Type()), ", "), kindOf(n))
	}
	for _, e := range entries {
		key := textOf(e.Key)
		field := fieldByKey(dst, key)
		if !field.IsValid() {
			return d.src.errorf(placeOf(e.Key), "unknown key %q in %s%s", key, orFile(path), suggestion(key, keysOf(dst.Type())))
		}
		full := strings.TrimPrefix(path+"."+key, ".")
		d.places[full] = placeOf(e.Value)
		if _, null := e.Value.(*ast.NullNode); null {
			d.places[full] = placeOf(e.Key)
		}
		if err := d.value(full, e.Value, field); err != nil {
			return err
		}
	}
	return nil
}

func orFile(path string) string {
	if path == "" {
		return "the configuration"
	}
	return path
}

// textOf gives a scalar as it stands in the file.
func textOf(n ast.Node) string {
	if s, ok := n.(*ast.StringNode); ok {
		return s.Value
	}
	if _, ok := n.(ast.ScalarNode); ok && n.GetToken() != nil {
		return n.GetToken().Value
	}
	return kindOf(n)
}

func kindOf(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "keys and values"
	case *ast.SequenceNode:
		return "a list"
	case *ast.LiteralNode:
		return "a block of text"
	default:
		return "one value"
	}
}

// keysOf lists the keys of a struct in their order.
func keysOf(t reflect.Type) []string {
	var keys []string
	for i := range t.NumField() {
		if key := t.Field(i).Tag.Get("yaml"); key != "" {
			keys = append(keys, key)
		}
	}
	return keys
}

func fieldByKey(v reflect.Value, key string) reflect.Value {
	for i := range v.NumField() {
		if tag := v.Type().Field(i).Tag.Get("yaml"); tag != "" && tag == key {
			return v.Field(i)
		}
	}
	return reflect.Value{}
}

// suggestion names the known key that was probably meant, or all of them if they are few.
func suggestion(key string, known []string) string {
	best, least := "", 3
	for _, k := range known {
		if n := distance(key, k); n < least {
			best, least = k, n
		}
	}
	if best != "" {
		return "; did you mean " + strconv.Quote(best) + "?"
	}
	return "; the keys are " + strings.Join(known, ", ")
}

// distance counts the letters to insert, delete or replace on the way from a to b (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j]+1, row[j+1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
