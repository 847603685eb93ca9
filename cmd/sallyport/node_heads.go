package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"sallyport/audit"
	"sallyport/internal/auditlog"
	"sallyport/recorder/blob"
)

// headsFile is where a node keeps heads of the audit chain, in its data folder.
const headsFile = "audit-heads.jsonl"

// headsPrefix is where nodes keep them in the bucket: audit-heads/NODE/DAY.jsonl.
const headsPrefix = "audit-heads/"

// headKeeper keeps signed heads of the audit chain outside of the database.
type headKeeper struct {
	file   *auditlog.Heads
	last   audit.Checkpoint // in the file at the start
	bucket blob.Store       // nil: there is none
	node   string

	mu  sync.Mutex // guards the fields below
	day string
	of  []audit.Checkpoint // of this day: one for each hour, and the last
}

func (n *node) openHeads() (err error) {
	k := &headKeeper{node: string(n.cfg.Node)}
	if k.file, k.last, err = auditlog.OpenHeads(filepath.Join(string(n.cfg.Data), headsFile)); err != nil {
		return fmt.Errorf("%w; it is evidence: move it away, do not alter it", err)
	}
	b, err := newBucket(n.cfg.Recordings.S3)
	if err != nil {
		return err
	}
	if b != nil {
		k.bucket = b
	}
	n.heads = k
	return nil
}

// away keeps a head in the bucket.
func (k *headKeeper) away(ctx context.Context, c audit.Checkpoint) error {
	if k.bucket == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	day := c.Time.UTC().Format(time.DateOnly)
	key := headsPrefix + k.node + "/" + day + ".jsonl"
	if k.day != day { // perhaps a process before this one has begun the day
		before, err := readHeads(ctx, k.bucket, key)
		if err != nil {
			return err
		}
		k.day, k.of = day, before
	}
	if n := len(k.of); n > 1 && k.of[n-1].Time.Truncate(time.Hour).Equal(k.of[n-2].Time.Truncate(time.Hour)) {
		k.of = k.of[:n-1]
	}
	k.of = append(k.of, c)
	var text bytes.Buffer
	for _, c := range k.of {
		line, err := audit.Line{Checkpoint: &c}.Encode()
		if err != nil {
			return err
		}
		text.Write(line)
	}
	return k.bucket.Put(ctx, key, text.Bytes(), true)
}

func readHeads(ctx context.Context, b blob.Store, key string) ([]audit.Checkpoint, error) {
	text, err := b.GetRange(ctx, key, 0, -1)
	if errors.Is(err, blob.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading heads of the audit chain from the bucket: %w", err)
	}
	list, err := auditlog.ReadHeads(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("reading heads of the audit chain in %s: %w", key, err)
	}
	return list, nil
}

// all are the heads that are kept: in the file of this node, and in the bucket by all nodes. With an error, those that
// could be read.
func (k *headKeeper) all(ctx context.Context) ([]audit.Checkpoint, error) {
	list, err := k.file.All()
	if err != nil || k.bucket == nil {
		return list, err
	}
	more, err := k.inBucket(ctx)
	return append(list, more...), err
}

// inBucket are the heads in the bucket. Who may write there can put less in the place of an object, or delete it, but a
// bucket with versions keeps what was.
func (k *headKeeper) inBucket(ctx context.Context) (list []audit.Checkpoint, err error) {
	past, ok := k.bucket.(interface {
		Versions(context.Context, string) ([]blob.Version, error)
		GetVersion(context.Context, blob.Version) ([]byte, error)
	})
	if !ok {
		objects, err := k.bucket.List(ctx, headsPrefix)
		if err != nil {
			return nil, fmt.Errorf("looking for heads of the audit chain in the bucket: %w", err)
		}
		for _, o := range objects {
			more, failed := readHeads(ctx, k.bucket, o.Key)
			err = errors.Join(err, failed) // one that somebody put there hides no other
			list = append(list, more...)
		}
		return list, err
	}
	versions, err := past.Versions(ctx, headsPrefix)
	if err != nil {
		return nil, fmt.Errorf("looking for heads of the audit chain in the bucket: %w", err)
	}
	for _, v := range telling(versions) {
		text, failed := past.GetVersion(ctx, v)
		if failed == nil {
			var more []audit.Checkpoint
			if more, failed = auditlog.ReadHeads(bytes.NewReader(text)); failed != nil {
				failed = fmt.Errorf("%s: %w", v.Key, failed)
			}
			list = append(list, more...)
		}
		if failed != nil {
			err = errors.Join(err, fmt.Errorf("reading heads of the audit chain from the bucket: %w", failed))
		}
	}
	return list, err
}

// telling are the versions that are worth reading, of hundreds that each object has: the newest, the largest, and the last that
// was written on its day, which nobody can be later than.
func telling(versions []blob.Version) []blob.Version {
	const late = 10 * time.Minute // for what was under way at midnight
	type choice struct{ newest, largest, last *blob.Version }
	of := map[string]*choice{}
	var names []string
	for i := range versions {
		v := &versions[i]
		c := of[v.Key]
		if c == nil {
			c = &choice{}
			of[v.Key] = c
			names = append(names, v.Key)
		}
		if c.newest == nil || v.Modified.After(c.newest.Modified) {
			c.newest = v
		}
		if c.largest == nil || v.Size > c.largest.Size {
			c.largest = v
		}
		day, err := time.Parse(time.DateOnly, strings.TrimSuffix(path.Base(v.Key), ".jsonl"))
		if err == nil && v.Modified.Before(day.AddDate(0, 0, 1).Add(late)) && (c.last == nil || v.Modified.After(c.last.Modified)) {
			c.last = v
		}
	}
	var list []blob.Version
	for _, name := range names {
		c := of[name]
		list = append(list, *c.newest)
		if c.largest != c.newest {
			list = append(list, *c.largest)
		}
		if c.last != nil && c.last != c.newest && c.last != c.largest {
			list = append(list, *c.last)
		}
	}
	return list
}
