package config

import (
	"fmt"
	"reflect"
	"strings"
)

// Table gives all keys with default and meaning as a table in Markdown, for docs/configuration.md.
func Table() (string, error) {
	docs, err := comments()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString("| key | default | meaning |\n|---|---|---|\n")
	tableRows(&b, docs, "", reflect.ValueOf(Default()).Elem())
	return b.String(), nil
}

func tableRows(b *strings.Builder, docs map[string]string, path string, v reflect.Value) {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		key := field.Tag.Get("yaml")
		if key == "" {
			continue
		}
		key = strings.TrimPrefix(path+"."+key, ".")
		meaning := strings.ReplaceAll(docs[v.Type().Name()+"."+field.Name], "|", "\\|")
		value, section := v.Field(i), false
		initial := ""
		if value.Kind() == reflect.Pointer {
			initial = "`null`"
			value = reflect.New(field.Type.Elem()).Elem()
			setDefaults(value.Addr().Interface())
		}
		if _, ok := value.Addr().Interface().(scalar); !ok && value.Kind() == reflect.Struct {
			section = true
		}
		if isSections(value.Type()) {
			value, section, key = reflect.New(value.Type().Elem()).Elem(), true, key+"[]"
			setDefaults(value.Addr().Interface())
		}
		if !section {
			initial = "`" + valueText(value) + "`"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", key, initial, meaning)
		if section {
			tableRows(b, docs, key, value)
		}
	}
}
