package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"

	"sallyport/recorder"
	"sallyport/store"
	"sallyport/upstream"
)

// Keys that all nodes share, sealed in the database.
const (
	hostKeyName     = "host-key/ed25519"
	upstreamKeyName = "upstream-key/ed25519"
)

// sharedSigner returns the SSH key of a name. Whichever node asks first makes it; all get the same.
func sharedSigner(ctx context.Context, st *store.Store, name string) (ssh.Signer, error) {
	text, err := st.Secrets.GetOrCreate(ctx, name, func() ([]byte, error) {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		block, err := ssh.MarshalPrivateKey(key, "sallyport")
		if err != nil {
			return nil, err
		}
		return pem.EncodeToMemory(block), nil
	})
	if err != nil {
		return nil, fmt.Errorf("getting key %s: %w", name, err)
	}
	signer, err := ssh.ParsePrivateKey(text)
	if err != nil {
		return nil, fmt.Errorf("reading key %s: %w", name, err)
	}
	return signer, nil
}

// beginUserCA sees to it that there is a key that signs certificates for targets: the one of before there was
// more than one, or a new one.
func beginUserCA(ctx context.Context, st *store.Store) error {
	list, err := st.CAKeys.List(ctx)
	if err != nil || len(list) > 0 {
		return err
	}
	secret, err := st.Secrets.Get(ctx, store.FirstCAKey)
	switch {
	case errors.Is(err, store.ErrNotFound):
		if secret, err = upstream.NewKey(); err != nil {
			return err
		}
	case err != nil:
		return err
	}
	public, err := upstream.PublicKeyOf(secret)
	if err != nil {
		return err
	}
	return st.CAKeys.Begin(ctx, public, secret)
}

// loadSigningKey reads the key with which this node signs recordings; if there is none, it makes one.
func loadSigningKey(file string) (ed25519.PrivateKey, error) {
	key, err := readSigningKey(file)
	if !errors.Is(err, os.ErrNotExist) {
		return key, err
	}
	_, key, err = ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making signing key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("making signing key: %w", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err := writeNew(file, text); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("keeping signing key: %w", err)
	}
	return readSigningKey(file) // if another process was faster, its key counts
}

func readSigningKey(file string) (ed25519.PrivateKey, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("reading signing key: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("signing key %s can be reached by others than its owner (mode %04o): run chmod 600 %[1]s, and remove the file for a new key if somebody may have read it", file, mode)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading signing key: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("signing key %s is not in PEM form", file)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("reading signing key %s: %w", file, err)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("signing key %s is not an Ed25519 key", file)
	}
	return key, nil
}

// writeNew writes a file of mode 0600 that must not exist yet, in one step: nobody ever sees half of it.
func writeNew(file string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err := f.Write(text); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Link(f.Name(), file)
}

// replaceFile writes a file of mode 0600 in one step, whether or not it exists.
func replaceFile(file string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err := f.Write(text); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}

// publishSigningKey adds key to those of all nodes and returns all of them.
func publishSigningKey(ctx context.Context, st *store.Store, node string, key ed25519.PublicKey) ([]recorder.Key, error) {
	if err := st.SigningKeys.Publish(ctx, base64.StdEncoding.EncodeToString(key), node); err != nil {
		return nil, err
	}
	return signingKeys(ctx, st)
}

// signingKeys are the public keys of all nodes that ever were, newest first: each node can verify what another
// has signed.
func signingKeys(ctx context.Context, st *store.Store) ([]recorder.Key, error) {
	list, err := st.SigningKeys.List(ctx)
	if err != nil {
		return nil, err
	}
	var keys []recorder.Key
	for _, k := range list {
		if public, err := base64.StdEncoding.DecodeString(k.Public); err == nil && len(public) == ed25519.PublicKeySize {
			keys = append(keys, recorder.Key{Public: public, Nodes: k.Nodes, CompromisedFrom: k.CompromisedFrom})
		}
	}
	return keys, nil
}
