package web

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
)

// Assets serves static files under /static/. Each has the hash of its content in its address, so
// that browsers may keep it for good and never show an old one.
type Assets struct {
	files map[string]asset
}

type asset struct {
	data []byte
	hash string
	kind string // media type
}

// NewAssets reads the files of all dirs; a later dir wins where names are equal. Files whose names
// begin with a dot or have no ending are not for browsers and left out.
func NewAssets(dirs ...fs.FS) (*Assets, error) {
	a := &Assets{files: map[string]asset{}}
	for _, dir := range dirs {
		err := fs.WalkDir(dir, ".", func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasPrefix(d.Name(), ".") || path.Ext(name) == "" {
				return err
			}
			data, err := fs.ReadFile(dir, name)
			if err != nil {
				return err
			}
			sum := sha256.Sum256(data)
			a.files[name] = asset{data, base64.RawURLEncoding.EncodeToString(sum[:9]), mediaType(name)}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("reading static files: %w", err)
		}
	}
	return a, nil
}

// mediaTypes are those of the files we ship; the tables of the machine are not asked.
var mediaTypes = map[string]string{
	".css":   "text/css; charset=utf-8",
	".js":    "text/javascript; charset=utf-8",
	".png":   "image/png",
	".svg":   "image/svg+xml",
	".txt":   "text/plain; charset=utf-8",
	".wasm":  "application/wasm",
	".woff2": "font/woff2",
}

func mediaType(name string) string {
	if t, ok := mediaTypes[path.Ext(name)]; ok {
		return t
	}
	return "application/octet-stream"
}

// Has tells whether there is a file of that name.
func (a *Assets) Has(name string) bool {
	_, ok := a.files[name]
	return ok
}

// URL returns the address of the file called name.
func (a *Assets) URL(name string) (string, error) {
	f, ok := a.files[name]
	if !ok {
		return "", fmt.Errorf("no static file %q", name)
	}
	return "/static/" + name + "?v=" + f.hash, nil
}

// ServeHTTP answers GET and HEAD below /static/.
func (a *Assets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, ok := a.files[strings.TrimPrefix(r.URL.Path, "/static/")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", f.kind)
	h.Set("Cache-Control", "no-cache")
	if r.URL.Query().Get("v") == f.hash {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	etag := `"` + f.hash + `"`
	h.Set("ETag", etag)
	if r.Header.Get("If-None-Match") == etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Length", strconv.Itoa(len(f.data)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(f.data) // the browser went away
	}
}
