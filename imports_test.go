// Package sallyport_test holds what concerns the module as a whole.
package sallyport_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// graph is the law on imports: each line is a package and all that it may import of this module.
// Arrows point down. Facts at the bottom have neither I/O nor clock; sources know nobody above them;
// engines use the store as it is; doors never import each other; only auth asks policy to decide.
const graph = `
audit:                 -
otp:                   -
otp/tokenfile:         otp
policy:                -
ledger:                -
migrations:            -
screen:                -

identity:              -
recorder/blob:         -
recorder:              recorder/blob
internal/seal:         -
internal/readahead:    -
internal/tcpend:       -
internal/shift:        -
internal/web:          audit
internal/config:       -
internal/auditlog:     audit

replay:                recorder screen
store:                 audit internal/seal internal/tcpend migrations

internal/notify:       audit store

auth:                  audit identity internal/auditlog internal/notify otp policy store
search:                recorder screen store
internal/custody:      audit internal/auditlog recorder store
session:               audit internal/auditlog internal/readahead internal/shift ledger recorder screen store
upstream:              audit internal/auditlog internal/readahead internal/shift internal/tcpend store
internal/metrics:      audit identity internal/auditlog recorder session store

radius:               audit auth identity internal/auditlog policy store
bastion:               audit auth identity internal/auditlog internal/readahead internal/shift internal/tcpend ledger policy replay session store upstream
signin:                audit auth identity internal/auditlog internal/web otp store
portal:                audit auth identity internal/auditlog internal/web otp session signin store
admin:                 audit auth identity internal/auditlog internal/notify internal/web ledger otp otp/tokenfile policy recorder replay session signin store upstream

bench:                 *
hack/patchssh:         -
cmd/sallyport:         *
internal/testenv:      -
store/storetest:       internal/seal internal/testenv store
`

func TestImports(t *testing.T) {
	allowed := map[string][]string{}
	for _, line := range strings.Split(graph, "\n") {
		name, imports, ok := strings.Cut(line, ":")
		if ok {
			allowed[name] = strings.Fields(imports)
		}
	}
	seen := map[string]bool{}
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && file != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules" || file == "build" || d.Name() == "testdata") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		pkg := path.Dir(filepath.ToSlash(file))
		seen[pkg] = true
		list, known := allowed[pkg]
		if !known {
			t.Errorf("package %s is not in the table of imports_test.go", pkg)
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range f.Imports {
			name, _ := strconv.Unquote(spec.Path.Value)
			ours, ok := strings.CutPrefix(name, "sallyport/")
			if ok && !slices.Contains(list, "*") && !slices.Contains(list, ours) {
				t.Errorf("%s imports %s, which the table of imports_test.go does not allow", file, ours)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for pkg := range allowed {
		if !seen[pkg] {
			t.Errorf("the table of imports_test.go names %s, which does not exist", pkg)
		}
	}
}
