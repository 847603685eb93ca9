// Package docs_test keeps what the documentation says of the code true.
package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sallyport/policy"
)

// pages are the documents of this folder and those at the root.
func pages(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for _, f := range append(files, "../NEWS.md") {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		texts[f] = string(b)
	}
	return texts
}

// Ensure the examples of the guide to the rules are documents that are accepted.
func TestExamplesOfRules(t *testing.T) {
	t.Parallel()
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(pages(t)["rules.md"], -1)
	if len(blocks) < 5 {
		t.Fatalf("%d examples found", len(blocks))
	}
	for _, b := range blocks {
		if _, err := policy.Parse([]byte(b[1])); err != nil {
			t.Errorf("%v\nin\n%s", err, b[1])
		}
	}
}

// Ensure every field and every channel word of the rules is explained.
func TestRulesAreExplainedWhole(t *testing.T) {
	t.Parallel()
	text := pages(t)["rules.md"]
	_, err := policy.Parse([]byte("version: 1\nrules:\n  - {nothing: 1}\n"))
	if err == nil {
		t.Fatal("an unknown key is accepted")
	}
	_, list, ok := strings.Cut(strings.SplitN(err.Error(), "\n", 2)[0], "may have: ")
	if !ok {
		t.Fatalf("the error lists no keys: %v", err)
	}
	for _, key := range strings.Split(list, ", ") {
		if !strings.Contains(text, "| `"+key+"` |") {
			t.Errorf("field %s is not explained", key)
		}
	}
	for _, kind := range policy.Kinds() {
		if !strings.Contains(text, "`"+kind+"`") {
			t.Errorf("channel word %s is not explained", kind)
		}
	}
}

// Ensure the tests that documents name exist in the package they name.
func TestNamedTestsExist(t *testing.T) {
	t.Parallel()
	name := regexp.MustCompile("`([a-z/]+)\\.((?:Test|Fuzz)[A-Za-z0-9]+)`")
	found := 0
	for page, text := range pages(t) {
		for _, m := range name.FindAllStringSubmatch(text, -1) {
			found++
			if !hasTest(t, m[1], m[2]) {
				t.Errorf("%s names %s.%s, which does not exist", page, m[1], m[2])
			}
		}
	}
	if found == 0 {
		t.Error("no document names a test")
	}
}

func hasTest(t *testing.T, pkg, test string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", filepath.FromSlash(pkg), "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), "\nfunc "+test+"(") {
			return true
		}
	}
	return false
}

// Ensure every type of event, and every change by operators, is explained.
func TestEventsAreExplained(t *testing.T) {
	t.Parallel()
	text := pages(t)["audit.md"]
	for file, pattern := range map[string]string{
		"../audit/audit.go": `= "([a-z]+\.[a-z]+)"`,
		"../admin/ops_*.go": `s\.changed\(ctx, by, "([a-z.-]+)"`,
		"../signin/*.go":    `"change": "([a-z.-]+)"`,
	} {
		files, err := filepath.Glob(file)
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(b), -1) {
				found++
				if !strings.Contains(text, m[1]) {
					t.Errorf("%s of %s is not explained", m[1], f)
				}
			}
		}
		if found == 0 {
			t.Errorf("nothing like %s in %s", pattern, file)
		}
	}
}

// Ensure links between documents lead somewhere.
func TestLinks(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)
	for page, text := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s: %v", page, err)
			}
		}
	}
}
