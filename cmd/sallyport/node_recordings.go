package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"sallyport/internal/config"
	"sallyport/internal/custody"
	"sallyport/recorder"
	"sallyport/recorder/blob"
	"sallyport/store"
)

// When a node that says nothing is taken for lost, and how often one says that it lives. Variables for tests
// that cannot wait so long.
var (
	lostAfter  = store.LostAfter
	aliveEvery = time.Duration(0)
)

// newBucket opens the bucket that the configuration names, nil if it names none. The store is not asked for
// anything yet: a node starts without it.
func newBucket(s *config.S3) (*blob.S3, error) {
	if s == nil {
		return nil, nil
	}
	cfg := blob.S3Config{
		Endpoint: string(s.Endpoint), Bucket: string(s.Bucket), Prefix: s.Prefix, Region: s.Region, PathStyle: s.PathStyle, CAFile: string(s.CAFile),
	}
	if s.AccessKeyFile != "" {
		access, err := config.ReadSecret(string(s.AccessKeyFile))
		if err != nil {
			return nil, &exitError{Code: exitUsage, Err: fmt.Errorf("recordings.s3.access-key-file: %w", err)}
		}
		secret, err := config.ReadSecret(string(s.SecretKeyFile))
		if err != nil {
			return nil, &exitError{Code: exitUsage, Err: fmt.Errorf("recordings.s3.secret-key-file: %w", err)}
		}
		cfg.AccessKey, cfg.SecretKey = string(access), blob.Secret(secret)
	}
	if s.ObjectLock != nil {
		cfg.LockMode, cfg.LockFor = strings.ToUpper(string(s.ObjectLock.Mode)), time.Duration(s.ObjectLock.Days)*24*time.Hour
	}
	bucket, err := blob.NewS3(cfg)
	if err != nil {
		return nil, &exitError{Code: exitUsage, Err: fmt.Errorf("recordings.s3: %w", err)}
	}
	return bucket, nil
}

// newKeeper returns what looks after recordings.
func (n *node) newKeeper() *custody.Keeper {
	return custody.New(custody.Config{
		Store: n.Store, Recorder: n.Recorder, Audit: n.Audit, Node: string(n.cfg.Node), Quota: int64(n.cfg.Recordings.Quota), Silence: lostAfter, Log: n.log,
		Keys: func(ctx context.Context) ([]recorder.Key, error) { return signingKeys(ctx, n.Store) },
	})
}

// bucket looks whether the bucket of recordings can be used.
func (c *checker) bucket(ctx context.Context) {
	const id = "storage/s3"
	if c.cfg.Recordings.S3 == nil {
		return
	}
	b, err := newBucket(c.cfg.Recordings.S3)
	if err != nil {
		c.fail(id, "set recordings.s3 right", "%v", err)
		return
	}
	begun := time.Now()
	if fix, err := b.Probe(ctx); err != nil {
		c.fail(id, fix, "%v", err)
		return
	}
	c.ok(id, "%s: written, read and deleted in %s", b, time.Since(begun).Round(time.Millisecond))
}
