package main

import (
	"path/filepath"
	"testing"
	"time"

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
