// Package blob keeps objects in a store that several nodes reach, such as an S3 bucket. It knows
// bytes and names, never what they mean.
package blob

import (
	"context"
	"errors"
	"time"
)

// Errors a caller tells apart with errors.Is.
var (
	ErrNotFound = errors.New("there is no such object")
	ErrLocked   = errors.New("the object is locked, and cannot be deleted yet")
)

// Object is what a store says of an object.
type Object struct {
	Key      string
	Size     int64 // bytes
	Modified time.Time
}

// Store keeps objects by name. Names are slash-separated, without a slash at the beginning or end. A
// Put that returned nil can be seen by every node; one that failed has left the whole object or none.
type Store interface {
	// Put writes an object, in the place of one of the same name. keep asks for the lock that the
	// store was configured with, if any: until it ends nobody can delete these bytes.
	Put(ctx context.Context, key string, data []byte, keep bool) error
	// GetRange reads length bytes from offset, all that follow if length is negative. It returns
	// fewer only where the object ends. ErrNotFound if there is no such object.
	GetRange(ctx context.Context, key string, offset, length int64) ([]byte, error)
	// Stat tells what is known of an object, or ErrNotFound.
	Stat(ctx context.Context, key string) (Object, error)
	// List gives all objects whose names begin with prefix, by name.
	List(ctx context.Context, prefix string) ([]Object, error)
	// Delete removes an object with all its versions. One that is not there is no error; ErrLocked
	// if a lock holds it.
	Delete(ctx context.Context, key string) error
}
