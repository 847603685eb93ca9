package blob_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/internal/testenv"
	"sallyport/recorder/blob"
)

func config(s *testenv.S3, bucket string) blob.S3Config {
	return blob.S3Config{Endpoint: s.URL, Bucket: bucket, Prefix: "a/b", Region: "us-east-1", PathStyle: true, AccessKey: s.AccessKey, SecretKey: blob.Secret(s.SecretKey)}
}

func open(t *testing.T, cfg blob.S3Config) *blob.S3 {
	t.Helper()
	s, err := blob.NewS3(cfg)
	must(t, err)
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestS3(t *testing.T) {
	t.Parallel()
	server := testenv.S3Server(t)
	for _, bucket := range []string{server.Bucket, server.Locked} {
		s := open(t, config(server, bucket))
		data := bytes.Repeat([]byte("0123456789"), 200_000)
		must(t, s.Put(t.Context(), "x/y/part-1", data, false))
		must(t, s.Put(t.Context(), "x/y/part-1", data, false)) // again, as after a lost answer
		must(t, s.Put(t.Context(), "x/z", []byte("z"), false))
		if bucket == server.Bucket {
			if got, err := os.ReadFile(filepath.Join(server.Dir, "a/b/x/y/part-1")); err != nil || !bytes.Equal(got, data) {
				t.Errorf("the server has %d bytes, %v", len(got), err)
			}
		}
		for _, r := range []struct{ offset, length, want int64 }{{0, -1, 2_000_000}, {5, 10, 10}, {1_999_990, 100, 10}, {0, 2_000_001, 2_000_000}, {1, -1, 1_999_999}} {
			got, err := s.GetRange(t.Context(), "x/y/part-1", r.offset, r.length)
			if err != nil || !bytes.Equal(got, data[r.offset:r.offset+r.want]) {
				t.Errorf("range %+v: %d bytes, %v", r, len(got), err)
			}
		}
		if o, err := s.Stat(t.Context(), "x/z"); err != nil || o.Size != 1 {
			t.Errorf("stat: %+v, %v", o, err)
		}
		list, err := s.List(t.Context(), "x/")
		if err != nil || fmt.Sprint(keys(list)) != "[x/y/part-1 x/z]" {
			t.Errorf("list: %v, %v", list, err)
		}
		must(t, s.Delete(t.Context(), "x/y/part-1"))
		must(t, s.Delete(t.Context(), "x/y/part-1"))
		if _, err := s.GetRange(t.Context(), "x/y/part-1", 0, -1); !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("reading what was deleted: %v", err)
		}
		if _, err := s.Stat(t.Context(), "x/y/part-1"); !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("asking for what was deleted: %v", err)
		}
		if fix, err := s.Probe(t.Context()); err != nil {
			t.Errorf("probe: %v, %s", err, fix)
		}
	}
}

func keys(list []blob.Object) (keys []string) {
	for _, o := range list {
		keys = append(keys, o.Key)
	}
	return keys
}

// TestS3Lock writes into a bucket with object lock: what is to be kept cannot be deleted, nor can what
// is put in its place hide it.
func TestS3Lock(t *testing.T) {
	t.Parallel()
	server := testenv.S3Server(t)
	cfg := config(server, server.Locked)
	cfg.LockMode, cfg.LockFor = "COMPLIANCE", time.Hour
	s := open(t, cfg)
	must(t, s.Put(t.Context(), "kept", []byte("1"), true))
	must(t, s.Put(t.Context(), "free", []byte("1"), false))
	must(t, s.Delete(t.Context(), "free"))
	if err := s.Delete(t.Context(), "kept"); !errors.Is(err, blob.ErrLocked) {
		t.Errorf("deleting a locked object: %v", err)
	}
	if data, err := s.GetRange(t.Context(), "kept", 0, -1); err != nil || string(data) != "1" {
		t.Errorf("the locked object: %q, %v", data, err)
	}
	if fix, err := s.Probe(t.Context()); err != nil {
		t.Errorf("probe: %v, %s", err, fix)
	}
	cfg.Bucket = server.Bucket
	if fix, err := open(t, cfg).Probe(t.Context()); err == nil || !strings.Contains(fix, "object lock") {
		t.Errorf("a bucket that cannot lock: %v, %s", err, fix)
	}
}

// TestS3Wrong tells what to do about each mistake in the configuration, and how long it takes.
func TestS3Wrong(t *testing.T) {
	t.Parallel()
	server := testenv.S3Server(t)
	for what, change := range map[string]func(*blob.S3Config){
		"recordings.s3.bucket":          func(c *blob.S3Config) { c.Bucket = "nothere" },
		"recordings.s3.access-key-file": func(c *blob.S3Config) { c.SecretKey = "wrong" },
		"recordings.s3.endpoint":        func(c *blob.S3Config) { c.Endpoint = "http://127.0.0.1:1" },
	} {
		cfg := config(server, server.Bucket)
		change(&cfg)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		fix, err := open(t, cfg).Probe(ctx)
		cancel()
		if err == nil || !strings.Contains(fix, what) {
			t.Errorf("%s: %v, fix %q", what, err, fix)
		}
		if strings.Contains(err.Error(), server.SecretKey) || strings.Contains(fmt.Sprintf("%+v %#v", cfg, cfg), server.SecretKey) {
			t.Errorf("%s: the secret is printed", what)
		}
	}
}
