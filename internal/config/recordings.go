package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// examineRecordings finds what is wrong with where recordings go.
func (c *Config) examineRecordings() error {
	s := c.Recordings.S3
	if s == nil {
		return nil
	}
	switch {
	case s.Endpoint == "":
		return c.errorAt("recordings.s3", "endpoint is missing, such as https://s3.example.org")
	case s.Endpoint.plain() && !s.InsecurePlaintext:
		return c.errorAt("recordings.s3.endpoint", "%s would carry in the clear what people did; use https://", s.Endpoint)
	case s.Bucket == "":
		return c.errorAt("recordings.s3", "bucket is missing")
	case strings.Trim(s.Prefix, "/") != s.Prefix || strings.Contains(s.Prefix, "//"):
		return c.errorAt("recordings.s3.prefix", "%q: want words with slashes between, such as bastion/prod", s.Prefix)
	case (s.AccessKeyFile == "") != (s.SecretKeyFile == ""):
		return c.errorAt("recordings.s3", "access-key-file and secret-key-file go together; name both or none")
	}
	if l := s.ObjectLock; l != nil && (l.Days < 1 || l.Days > 36500) {
		return c.errorAt("recordings.s3.object-lock.days", "%d: want 1 to 36500 days", l.Days)
	}
	return nil
}

// bucketFiles are the paths in recordings.s3.
func (c *Config) bucketFiles() []*Path {
	s := c.Recordings.S3
	if s == nil {
		return nil
	}
	return []*Path{&s.AccessKeyFile, &s.SecretKeyFile, &s.CAFile}
}

// Keep is how long something is kept: days, or for ever, which is zero.
type Keep time.Duration

func (k *Keep) set(text string) error {
	if text == "forever" {
		*k = 0
		return nil
	}
	days, err := strconv.Atoi(strings.TrimSuffix(text, "d"))
	if err != nil || !strings.HasSuffix(text, "d") || days < 1 || days > 36500 {
		return fmt.Errorf("want days such as 90d, or forever")
	}
	*k = Keep(time.Duration(days) * 24 * time.Hour)
	return nil
}

func (k Keep) String() string {
	if k == 0 {
		return "forever"
	}
	return strconv.FormatInt(int64(time.Duration(k)/(24*time.Hour)), 10) + "d"
}

// LockMode is how objects are locked.
type LockMode string

func (m *LockMode) set(text string) error {
	if text != "governance" && text != "compliance" {
		return fmt.Errorf("want governance or compliance")
	}
	*m = LockMode(text)
	return nil
}

func (m LockMode) String() string { return string(m) }
