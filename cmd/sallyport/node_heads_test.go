package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"sallyport/audit"
	"sallyport/internal/auditlog"
	"sallyport/internal/testenv"
	"sallyport/recorder/blob"
)

// Heads go to the bucket too, one for each hour and the last one of each day, and another process goes on with the day.
func TestHeadsInBucket(t *testing.T) {
	t.Parallel()
	server := testenv.S3Server(t)
	bucket, err := blob.NewS3(blob.S3Config{Endpoint: server.URL, Bucket: server.Bucket, Region: "us-east-1", PathStyle: true,
		AccessKey: server.AccessKey, SecretKey: blob.Secret(server.SecretKey)})
	noError(t, err)
	keeper := func(node string) *headKeeper {
		file, _, err := auditlog.OpenHeads(filepath.Join(t.TempDir(), headsFile))
		noError(t, err)
		return &headKeeper{file: file, bucket: bucket, node: node}
	}
	day := time.Date(2026, 11, 25, 22, 0, 0, 0, time.UTC)
	head := func(position int64, after time.Duration) audit.Checkpoint {
		return audit.Checkpoint{Position: position, Time: day.Add(after), Node: "n", Key: "k", Sig: []byte("s")}
	}
	first := keeper("n1")
	for i, after := range []time.Duration{0, 5 * time.Minute, 10 * time.Minute, time.Hour, time.Hour + 5*time.Minute} {
		noError(t, first.away(t.Context(), head(int64(1+i), after)))
	}
	again := keeper("n1")
	noError(t, again.away(t.Context(), head(6, time.Hour+10*time.Minute)))
	noError(t, again.away(t.Context(), head(7, 2*time.Hour))) // the next day
	other := keeper("n2")
	noError(t, other.file.Add(head(9, 3*time.Hour)))
	got, err := other.all(t.Context())
	noError(t, err)
	var positions []int64
	for _, c := range got {
		positions = append(positions, c.Position)
	}
	// Of an hour the first and the last, so far.
	if len(positions) < 5 || positions[0] != 9 || positions[len(positions)-1] != 7 || positions[len(positions)-2] != 6 || len(positions) > 7 {
		t.Errorf("heads %v", positions)
	}
	noError(t, bucket.Put(t.Context(), headsPrefix+"n1/2026-11-24.jsonl", []byte("no head\n"), false))
	if got, err := other.all(t.Context()); err == nil || len(got) != len(positions) {
		t.Errorf("altered: %d heads, %v", len(got), err)
	}
}

// Whoever has the keys of the bucket, and of the database, put an older object in the place of the heads, or deleted it, and cut off the
// end of the log: only the newest version was read. A bucket with versions keeps what was, and the proof asks for it.
func TestHeadsInBucketWithVersions(t *testing.T) {
	t.Parallel()
	server := testenv.S3Server(t)
	bucket, err := blob.NewS3(blob.S3Config{Endpoint: server.URL, Bucket: server.Locked, Region: "us-east-1", PathStyle: true,
		AccessKey: server.AccessKey, SecretKey: blob.Secret(server.SecretKey)})
	noError(t, err)
	file, _, err := auditlog.OpenHeads(filepath.Join(t.TempDir(), headsFile))
	noError(t, err)
	k := &headKeeper{file: file, bucket: bucket, node: "n1"}
	day := time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC)
	const key = headsPrefix + "n1/2026-11-25.jsonl"
	var first []byte
	for i := range 3 {
		noError(t, k.away(t.Context(), audit.Checkpoint{Position: int64(i + 1), Time: day.Add(time.Duration(i) * time.Hour), Node: "n1", Key: "k", Sig: []byte("s")}))
		if i == 0 {
			first, err = bucket.GetRange(t.Context(), key, 0, -1)
			noError(t, err)
		}
	}
	there := func(what string) {
		t.Helper()
		list, err := k.all(t.Context())
		noError(t, err)
		if !slices.ContainsFunc(list, func(c audit.Checkpoint) bool { return c.Position == 3 }) {
			t.Errorf("%s: the heads are %+v", what, list)
		}
	}
	there("as they were")
	noError(t, bucket.Put(t.Context(), key, first, false))
	there("an older one in its place")
	client, err := minio.New(strings.TrimPrefix(server.URL, "http://"), &minio.Options{Creds: credentials.NewStaticV4(server.AccessKey, server.SecretKey, "")})
	noError(t, err)
	noError(t, client.RemoveObject(t.Context(), server.Locked, key, minio.RemoveObjectOptions{}))
	if list, err := bucket.List(t.Context(), headsPrefix); err != nil || len(list) != 0 {
		t.Fatalf("not deleted: %+v, %v", list, err)
	}
	there("deleted")
}

// Of all versions those are read that a thief cannot have made to hide the others.
func TestTellingVersions(t *testing.T) {
	t.Parallel()
	at := func(hour int, size int64) blob.Version {
		return blob.Version{Object: blob.Object{Key: "audit-heads/n1/2026-11-25.jsonl", Size: size, Modified: time.Date(2026, 11, 25, hour, 0, 0, 0, time.UTC)}}
	}
	genuine := []blob.Version{at(8, 100), at(9, 200), at(23, 900)}
	stuffed := append(genuine, at(30, 5000), at(31, 10)) // on the day after
	var sizes []int64
	for _, v := range telling(stuffed) {
		sizes = append(sizes, v.Size)
	}
	if !slices.Equal(sizes, []int64{10, 5000, 900}) {
		t.Errorf("read are %v", sizes)
	}
	if got := telling(genuine); len(got) != 1 || got[0].Size != 900 {
		t.Errorf("read are %+v", got)
	}
}
