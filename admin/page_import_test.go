package admin

import (
	"bytes"
	"mime/multipart"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"sallyport/store"
)

// upload sends a file by a form of the page.
func (b *browser) upload(path, text string, pairs ...string) (status int, body string) {
	b.w.t.Helper()
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	for i := 0; i+1 < len(pairs); i += 2 {
		must(b.w.t, w.WriteField(pairs[i], pairs[i+1]))
	}
	part, err := w.CreateFormFile("file", "list")
	must(b.w.t, err)
	_, err = part.Write([]byte(text))
	must(b.w.t, err)
	must(b.w.t, w.Close())
	r, err := http.NewRequest(http.MethodPost, b.w.URL+path, &form)
	must(b.w.t, err)
	r.Header.Set("Content-Type", w.FormDataContentType())
	r.Header.Set("Origin", b.w.URL)
	status, body, _ = b.do(r)
	return status, body
}

// The report comes first; what it offers is written when its button is pressed, once, by who sent the file.
func TestImportPage(t *testing.T) {
	t.Parallel()
	w := newPageWorld(t)
	w.person("root", store.RoleAdmin)
	w.person("other", store.RoleAdmin)
	w.person("eyes", store.RoleAuditor)
	b, other, eyes := w.signedIn("root"), w.signedIn("other"), w.signedIn("eyes")
	b.shows("/import", "List of tokens", "List of users")
	if status, _, _ := eyes.get("/import"); status != http.StatusForbidden {
		t.Errorf("an auditor opens the page: %d", status)
	}
	list := "user,serial,type,secret\nroot,<b>1,totp,GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\n,BOX,totp,GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\n"
	if status, _ := eyes.upload("/import/tokens", list); status != http.StatusForbidden {
		t.Errorf("an auditor imports: %d", status)
	}
	status, body := b.upload("/import/tokens", list+"nobody,X,totp,GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\n")
	if status != http.StatusOK || !strings.Contains(body, "1 of 3 rows is refused") || strings.Contains(body, "/import/commit") {
		t.Errorf("a bad row: %d\n%s", status, body)
	}
	status, body = b.upload("/import/tokens", list, "format", "", "map_users", "login", "password", "")
	id := regexp.MustCompile(`name="import" value="([^"]+)"`).FindStringSubmatch(body)
	if status != http.StatusOK || id == nil || strings.Contains(body, "<b>1") || strings.Contains(body, "GEZDGNBV") {
		t.Fatalf("the report: %d\n%s", status, body)
	}
	if list, err := w.Store.Stock.List(t.Context(), 0); err != nil || len(list) != 0 {
		t.Errorf("the report wrote %d tokens, %v", len(list), err)
	}
	if status, _, _ := other.post("/import/commit", "import", id[1]); status != http.StatusNotFound {
		t.Errorf("somebody else's import: %d", status)
	}
	if status, _, _ := b.post("/import/commit", "import", id[1]); status != http.StatusSeeOther {
		t.Errorf("the import: %d", status)
	}
	if list, err := w.Store.Stock.List(t.Context(), 0); err != nil || len(list) != 1 {
		t.Errorf("%d tokens in stock, %v", len(list), err)
	}
	if status, _, _ := b.post("/import/commit", "import", id[1]); status != http.StatusNotFound {
		t.Errorf("the same once more: %d", status)
	}
	// A file may be larger than a form.
	status, body = b.upload("/import/users", "login,name\n"+strings.Repeat("root,"+strings.Repeat("x", 200)+"\n", 10_000))
	if status != http.StatusOK || !strings.Contains(body, "10000 of 10000 rows are refused") {
		t.Errorf("a large file: %d\n%.2000s", status, body)
	}
	status, body = b.upload("/import/users", "login,groups\nnew,ops\n")
	id = regexp.MustCompile(`name="import" value="([^"]+)"`).FindStringSubmatch(body)
	if status != http.StatusOK || id == nil {
		t.Fatalf("users: %d\n%s", status, body)
	}
	b.post("/import/commit", "import", id[1])
	b.shows("/users/new", "New user")
	b.shows("/users?q=new", "ops")
}
