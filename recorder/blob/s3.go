package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// Secret is the key of an account at the store. It does not print.
type Secret string

func (Secret) String() string               { return "[secret]" }
func (Secret) GoString() string             { return "[secret]" }
func (Secret) LogValue() slog.Value         { return slog.StringValue("[secret]") }
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"[secret]"`), nil }

// S3Config says which bucket, and how to reach it.
type S3Config struct {
	Endpoint  string // https://host or http://host:port
	Bucket    string
	Prefix    string // before all names, without slashes at its ends; may be empty
	Region    string // empty: the server is asked
	PathStyle bool   // the bucket stands in the path, not in the name of the host
	CAFile    string // authorities of the certificate (PEM); empty: those of the system
	AccessKey string // empty: from the environment, the files of the AWS tools, or the machine's role
	SecretKey Secret

	LockMode string        // "GOVERNANCE" or "COMPLIANCE"; empty: objects are not locked
	LockFor  time.Duration // from the moment of writing

	Timeout time.Duration // of one request with its body; 0 = one minute
}

// How long the parts of a request may take.
const (
	s3Dial    = 5 * time.Second
	s3Headers = 20 * time.Second
	s3Request = time.Minute
)

// S3 is a bucket of an S3-compatible store. Objects are written whole: a part of a recording is far
// smaller than what needs several requests, so that nothing half-done can be left in the bucket.
type S3 struct {
	cfg    S3Config
	client *minio.Client
}

// NewS3 returns the bucket. Nothing is asked of the server yet.
func NewS3(cfg S3Config) (*S3, error) {
	u, err := url.Parse(cfg.Endpoint)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, fmt.Errorf("opening the bucket: %q is no address such as https://s3.example.org", cfg.Endpoint)
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = s3Request
	}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: s3Dial}).DialContext, TLSHandshakeTimeout: s3Dial,
		ResponseHeaderTimeout: s3Headers, IdleConnTimeout: time.Minute, MaxIdleConnsPerHost: 8, DisableCompression: true, ForceAttemptHTTP2: true,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if cfg.CAFile != "" {
		text, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("reading the authorities of the bucket's server: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("reading the authorities of the bucket's server: %s has no certificate in PEM form", cfg.CAFile)
		}
		transport.TLSClientConfig.RootCAs = pool
	}
	creds := credentials.NewStaticV4(cfg.AccessKey, string(cfg.SecretKey), "")
	if cfg.AccessKey == "" {
		creds = credentials.NewChainCredentials([]credentials.Provider{
			&credentials.EnvAWS{}, &credentials.FileAWSCredentials{},
			&credentials.IAM{Client: &http.Client{Transport: transport, Timeout: s3Dial}},
		})
	}
	lookup := minio.BucketLookupAuto
	if cfg.PathStyle {
		lookup = minio.BucketLookupPath
	}
	// Whoever calls tries again, and knows for how long.
	client, err := minio.New(u.Host, &minio.Options{
		Creds: creds, Secure: u.Scheme == "https", Transport: transport, Region: cfg.Region, BucketLookup: lookup, MaxRetries: 1,
	})
	if err != nil {
		return nil, fmt.Errorf("opening the bucket: %w", err)
	}
	return &S3{cfg: cfg, client: client}, nil
}

// String names the bucket for people.
func (s *S3) String() string { return strings.TrimSuffix(s.cfg.Endpoint, "/") + "/" + s.name("") }

func (s *S3) name(key string) string { return s.cfg.Bucket + "/" + s.key(key) }

func (s *S3) key(key string) string {
	if s.cfg.Prefix == "" {
		return key
	}
	return s.cfg.Prefix + "/" + key
}

// wrap says what was being done, and gives errors that callers tell apart their place.
func (s *S3) wrap(what, key string, err error) error {
	if err == nil {
		return nil
	}
	answer := answerOf(err)
	switch {
	case answer.Code == "NoSuchKey" || answer.Code == "NoSuchVersion":
		err = ErrNotFound
	case answer.StatusCode == http.StatusNotFound && answer.Code != "NoSuchBucket":
		err = ErrNotFound
	}
	return fmt.Errorf("%s %s in the bucket: %w", what, s.name(key), err)
}

// answerOf is the server's own error, if err is or wraps one.
func answerOf(err error) (e minio.ErrorResponse) {
	errors.As(err, &e)
	return e
}

// Put implements [Store].
func (s *S3) Put(ctx context.Context, key string, data []byte, keep bool) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	o := minio.PutObjectOptions{ContentType: "application/octet-stream", DisableMultipart: true, SendContentMd5: true}
	if keep && s.cfg.LockMode != "" {
		o.Mode, o.RetainUntilDate = minio.RetentionMode(s.cfg.LockMode), time.Now().Add(s.cfg.LockFor).UTC()
	}
	_, err := s.client.PutObject(ctx, s.cfg.Bucket, s.key(key), bytes.NewReader(data), int64(len(data)), o)
	return s.wrap("writing", key, err)
}

// GetRange implements [Store].
func (s *S3) GetRange(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	var o minio.GetObjectOptions
	if offset > 0 || length >= 0 {
		end := int64(0)
		if length >= 0 {
			end = offset + length - 1
		}
		if length == 0 {
			return nil, nil
		}
		if err := o.SetRange(offset, end); err != nil {
			return nil, s.wrap("reading", key, err)
		}
	}
	body, err := s.client.GetObject(ctx, s.cfg.Bucket, s.key(key), o)
	if err != nil {
		return nil, s.wrap("reading", key, err)
	}
	defer body.Close()
	var src io.Reader = body
	if length >= 0 { // a server may ignore ranges
		src = io.LimitReader(body, length)
	}
	data, err := io.ReadAll(src)
	if answerOf(err).Code == "InvalidRange" {
		return nil, nil
	}
	if err != nil {
		return nil, s.wrap("reading", key, err)
	}
	return data, nil
}

// Stat implements [Store].
func (s *S3) Stat(ctx context.Context, key string) (Object, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	o, err := s.client.StatObject(ctx, s.cfg.Bucket, s.key(key), minio.StatObjectOptions{})
	if err != nil {
		return Object{}, s.wrap("asking for", key, err)
	}
	return Object{Key: key, Size: o.Size, Modified: o.LastModified}, nil
}

// List implements [Store].
func (s *S3) List(ctx context.Context, prefix string) ([]Object, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	var list []Object
	for o := range s.client.ListObjects(ctx, s.cfg.Bucket, minio.ListObjectsOptions{Prefix: s.key(prefix), Recursive: true}) {
		if o.Err != nil {
			return nil, s.wrap("listing", prefix, o.Err)
		}
		list = append(list, Object{Key: strings.TrimPrefix(o.Key, s.key("")), Size: o.Size, Modified: o.LastModified})
	}
	return list, nil
}

// Delete implements [Store].
func (s *S3) Delete(ctx context.Context, key string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*s.cfg.Timeout)
	defer cancel()
	versions, err := s.versions(ctx, s.key(key))
	if err != nil {
		return s.wrap("looking for versions of", key, err)
	}
	for _, v := range versions {
		err := s.client.RemoveObject(ctx, s.cfg.Bucket, s.key(key), minio.RemoveObjectOptions{VersionID: v.VersionID})
		if err == nil {
			continue
		}
		code := answerOf(err).Code
		if code == "NoSuchKey" || code == "NoSuchVersion" {
			continue
		}
		if s.isLocked(ctx, key, v.VersionID) {
			err = ErrLocked
		}
		return s.wrap("deleting", key, err)
	}
	return nil
}

// versions lists what there is of an object, delete markers too. A bucket without versions has one.
func (s *S3) versions(ctx context.Context, key string) ([]minio.ObjectInfo, error) {
	var list []minio.ObjectInfo
	for o := range s.client.ListObjects(ctx, s.cfg.Bucket, minio.ListObjectsOptions{Prefix: key, WithVersions: true, Recursive: true}) {
		if o.Err != nil {
			switch answerOf(o.Err).Code {
			case "NotImplemented", "MethodNotAllowed":
				return []minio.ObjectInfo{{Key: key}}, nil
			}
			return nil, o.Err
		}
		if o.Key == key {
			list = append(list, o)
		}
	}
	return list, nil
}

// Version is one of the versions of an object.
type Version struct {
	Object
	id string
}

// Versions lists the versions of all objects whose names begin with prefix, those of deleted ones too, by name. Of a bucket without
// versions that is what List gives.
func (s *S3) Versions(ctx context.Context, prefix string) ([]Version, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*s.cfg.Timeout)
	defer cancel()
	var list []Version
	for o := range s.client.ListObjects(ctx, s.cfg.Bucket, minio.ListObjectsOptions{Prefix: s.key(prefix), WithVersions: true, Recursive: true}) {
		switch code := answerOf(o.Err).Code; {
		case code == "NotImplemented" || code == "MethodNotAllowed":
			objects, err := s.List(ctx, prefix)
			for _, o := range objects {
				list = append(list, Version{Object: o})
			}
			return list, err
		case o.Err != nil:
			return nil, s.wrap("listing versions of", prefix, o.Err)
		case !o.IsDeleteMarker:
			list = append(list, Version{Object{Key: strings.TrimPrefix(o.Key, s.key("")), Size: o.Size, Modified: o.LastModified}, o.VersionID})
		}
	}
	return list, nil
}

// GetVersion reads one of the versions of an object.
func (s *S3) GetVersion(ctx context.Context, v Version) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	body, err := s.client.GetObject(ctx, s.cfg.Bucket, s.key(v.Key), minio.GetObjectOptions{VersionID: v.id})
	if err != nil {
		return nil, s.wrap("reading", v.Key, err)
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	return data, s.wrap("reading", v.Key, err)
}

// isLocked tells whether a version may not be deleted yet.
func (s *S3) isLocked(ctx context.Context, key, version string) bool {
	o, err := s.client.StatObject(ctx, s.cfg.Bucket, s.key(key), minio.StatObjectOptions{VersionID: version})
	if err != nil {
		return false
	}
	until, err := time.Parse(time.RFC3339, o.Metadata.Get("X-Amz-Object-Lock-Retain-Until-Date"))
	return err == nil && until.After(time.Now()) || strings.EqualFold(o.Metadata.Get("X-Amz-Object-Lock-Legal-Hold"), "ON")
}

// Locks tells whether the bucket can lock objects.
func (s *S3) Locks(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	state, _, _, _, err := s.client.GetObjectLockConfig(ctx, s.cfg.Bucket)
	if err != nil {
		switch answerOf(err).Code {
		case "ObjectLockConfigurationNotFoundError", "NotImplemented", "InvalidRequest":
			return false, nil
		}
		return false, s.wrap("asking for locks of", "", err)
	}
	return state == "Enabled", nil
}

// Probe writes an object, reads it back and deletes it. The error is what went wrong, and fix what to
// do about it.
func (s *S3) Probe(ctx context.Context) (fix string, err error) {
	text := sha256.Sum256([]byte(time.Now().String()))
	key := fmt.Sprintf("check-%x", text[:8])
	if s.cfg.LockMode != "" {
		locks, err := s.Locks(ctx)
		if err != nil {
			return fixFor(err), err
		}
		if !locks {
			return "make a bucket with object lock (it cannot be added to most buckets later), or leave object-lock out",
				fmt.Errorf("%s cannot lock objects", s)
		}
	}
	if err := s.Put(ctx, key, text[:], false); err != nil {
		return fixFor(err), err
	}
	back, err := s.GetRange(ctx, key, 0, -1)
	if err == nil && !bytes.Equal(back, text[:]) {
		err = fmt.Errorf("%s: other bytes came back than were written", s.name(key))
	}
	if err != nil {
		return "let the account read objects (s3:GetObject)", err
	}
	if _, err := s.List(ctx, key); err != nil {
		return "let the account list the bucket (s3:ListBucket)", err
	}
	if err := s.Delete(ctx, key); errors.Is(err, ErrLocked) {
		return "", nil // a lock that the bucket sets by itself
	} else if err != nil {
		return "let the account delete objects and list their versions (s3:DeleteObject, s3:DeleteObjectVersion, s3:ListBucketVersions)", err
	}
	return "", nil
}

func fixFor(err error) string {
	var unknown x509.UnknownAuthorityError
	switch answer := answerOf(err); {
	case errors.As(err, &unknown):
		return "name the authority of the server's certificate in recordings.s3.ca-file"
	case answer.Code == "NoSuchBucket":
		return "make the bucket, or name the right one in recordings.s3.bucket"
	case answer.Code == "InvalidAccessKeyId" || answer.Code == "SignatureDoesNotMatch":
		return "set recordings.s3.access-key-file and secret-key-file right"
	case answer.Code == "AccessDenied":
		return "let the account write to the bucket (s3:PutObject, and s3:PutObjectRetention with object-lock)"
	case answer.Code == "AuthorizationHeaderMalformed":
		return "name the bucket's region in recordings.s3.region"
	}
	return "see that recordings.s3.endpoint is right and the server runs; recordings wait on this node meanwhile"
}
