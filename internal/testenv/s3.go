package testenv

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// versitygwModule is the S3 server of the tests. It is built once into the cache folder of the user.
const versitygwModule = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"

// S3 is a running versitygw over a folder, with two buckets.
type S3 struct {
	URL       string // http://127.0.0.1:port
	Bucket    string
	Locked    string // a bucket that keeps versions and can lock objects
	AccessKey string
	SecretKey string
	Dir       string // of the bucket's objects: a file for each

	t       testing.TB
	address string
	root    string
	mu      sync.Mutex // guards the fields below
	process *os.Process
	exited  chan struct{}
}

var versitygw = sync.OnceValues(func() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	bin := filepath.Join(cache, "sallyport-test", "versitygw-v1.8.0")
	program := filepath.Join(bin, "versitygw")
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	// Several test processes may build it at once: each into its own folder, and the first to be ready
	// gives it the name.
	if err := os.MkdirAll(filepath.Dir(bin), 0o755); err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(bin), "build-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	install := exec.Command("go", "install", versitygwModule)
	install.Dir = tmp // outside of this module
	install.Env = append(os.Environ(), "GOBIN="+filepath.Join(tmp, "bin"), "GOFLAGS=")
	if out, err := install.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go install %s: %w\n%s", versitygwModule, err, out)
	}
	if err := os.Rename(filepath.Join(tmp, "bin"), bin); err != nil {
		if _, there := os.Stat(program); there != nil {
			return "", err
		}
	}
	return program, nil
})

// S3Server starts an S3 server of its own for t on a free port of the loopback. It ends with the test,
// or with the test's process.
func S3Server(t testing.TB) *S3 {
	t.Helper()
	if _, err := versitygw(); err != nil {
		t.Fatalf("this test needs versitygw: %v", err)
	}
	s := &S3{Bucket: "recordings", Locked: "locked", AccessKey: "tester", SecretKey: "not a real secret", t: t, root: t.TempDir()}
	s.Dir = filepath.Join(s.root, "data", s.Bucket)
	for _, dir := range []string{s.Dir, filepath.Join(s.root, "versions"), filepath.Join(s.root, "meta")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s.address = FreeAddr(t)
	s.URL = "http://" + s.address
	t.Cleanup(s.Stop)
	s.Start()
	client, err := minio.New(s.address, &minio.Options{Creds: credentials.NewStaticV4(s.AccessKey, s.SecretKey, "")})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.MakeBucket(t.Context(), s.Locked, minio.MakeBucketOptions{ObjectLocking: true}); err != nil {
		t.Fatalf("making the bucket that locks: %v", err)
	}
	return s
}

// Start starts the server again where it was, and returns when it answers.
func (s *S3) Start() {
	s.t.Helper()
	program, err := versitygw()
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.Command(program, "--port", s.address, "--access", s.AccessKey, "--secret", s.SecretKey, "--quiet",
		"posix", "--versioning-dir", filepath.Join(s.root, "versions"), "--sidecar", filepath.Join(s.root, "meta"), filepath.Join(s.root, "data"))
	cmd.Stderr = os.Stderr
	exited, err := startChild(cmd)
	if err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	s.process, s.exited = cmd.Process, exited
	s.mu.Unlock()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if resp, err := http.Get(s.URL); err == nil {
			resp.Body.Close()
			return
		}
		select {
		case <-exited:
			s.t.Fatal("versitygw ended at once")
		default:
		}
		if time.Now().After(deadline) {
			s.t.Fatal("versitygw does not answer after a minute")
		}
	}
}

// Stop kills the server.
func (s *S3) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil {
		_ = s.process.Kill()
		<-s.exited
		s.process = nil
	}
}
