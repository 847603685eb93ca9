package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"sallyport/audit"
	"sallyport/recorder"
)

// castSource is where a recording comes from: a session on the server, or a file, decrypted if need be.
type castSource struct {
	channel  int
	identity string
}

func (s *castSource) register(c *cobra.Command) {
	c.Flags().IntVar(&s.channel, "channel", 0, "number of the channel (default: the first that was recorded)")
	c.Flags().StringVar(&s.identity, "identity", "", "file with the secret key of a recipient (age-keygen), for an encrypted recording")
}

// open returns an asciicast v3. What is decrypted never reaches a disk.
func (s *castSource) open(ctx context.Context, g *globals, arg, purpose string) (io.ReadCloser, error) {
	ids, err := s.identities(g)
	if err != nil {
		return nil, err
	}
	name, remove := arg, func() {}
	if !isFile(arg) {
		api, err := g.client()
		if err != nil {
			return nil, err
		}
		format := recorder.Asciicast3
		if ids != nil {
			format = recorder.Encrypted
		}
		if name, err = fetchRecording(ctx, api, arg, s.channel, format, purpose); err != nil {
			return nil, err
		}
		remove = func() { _ = os.Remove(name) }
	}
	if ids == nil {
		f, err := os.Open(name)
		remove()
		if err != nil {
			return nil, fmt.Errorf("opening the recording: %w", err)
		}
		return f, nil
	}
	out, in := io.Pipe()
	d := &decrypting{PipeReader: out, done: make(chan struct{})}
	go func() {
		defer close(d.done)
		defer remove()
		err := recorder.Decrypt(in, name, ids...)
		if errors.Is(err, recorder.ErrEncrypted) {
			err = failed("Give the file with the key of one of its recipients: --identity FILE", "the recording is encrypted, and %s has the key of none of its recipients", audit.Escape(s.identity))
		}
		in.CloseWithError(err)
	}()
	return d, nil
}

// decrypting is a recording on its way out of a file. Close waits until the file is not needed any more.
type decrypting struct {
	*io.PipeReader
	done chan struct{}
}

func (d *decrypting) Close() error {
	err := d.PipeReader.Close()
	<-d.done
	return err
}

// identities are the keys that were given, nil if none were.
func (s *castSource) identities(g *globals) ([]age.Identity, error) {
	if s.identity == "" {
		return nil, nil
	}
	f, err := os.Open(s.identity)
	if err != nil {
		return nil, usage("Give the file that age-keygen wrote.", "reading the identity: %w", err)
	}
	defer f.Close()
	ids, err := recorder.ParseIdentities(f)
	if err != nil {
		return nil, usage("Give the file that age-keygen wrote. One with a passphrase: decrypt it first (age -d).", "%w", err)
	}
	return ids, nil
}

// fetchRecording takes a recording whole before it is played, so that a long replay does not hold a connection.
func fetchRecording(ctx context.Context, api *client, id string, channel int, format recorder.Format, purpose string) (name string, err error) {
	f, err := os.CreateTemp("", "sallyport-replay-")
	if err != nil {
		return "", fmt.Errorf("making a temporary file: %w", err)
	}
	defer f.Close()
	q := url.Values{"format": {string(format)}, "channel": {itoa(channel)}, "for": {purpose}}
	if err := api.stream(ctx, route("sessions", id, "recording"), q, f); err != nil {
		_ = os.Remove(f.Name())
		return "", err
	}
	return f.Name(), nil
}
