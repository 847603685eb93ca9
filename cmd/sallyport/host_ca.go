package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"sync"

	"golang.org/x/crypto/ssh"

	"sallyport/bastion"
	"sallyport/store"
	"sallyport/upstream"
)

// hostCA makes host keys in the place of targets, by the keys that all nodes share. They are read each time, so that a
// change of them holds on all nodes at once. It is safe for concurrent use.
type hostCA struct {
	store *store.Store

	mu   sync.Mutex // guards the fields below
	keys store.HostAuthorityKeys
	made *bastion.HostCA // of keys
}

// newHostCA sees to it that there are keys.
func newHostCA(ctx context.Context, st *store.Store) (*hostCA, error) {
	err := st.HostAuthority.Begin(ctx, func() ([]byte, error) { return upstream.NewKey() }, func() ([]byte, error) {
		b := make([]byte, bastion.HostSecretSize)
		rand.Read(b) // never fails
		return b, nil
	})
	if err != nil {
		return nil, fmt.Errorf("making the host CA: %w", err)
	}
	h := &hostCA{store: st}
	_, err = h.now(ctx)
	return h, err
}

// now returns what makes host keys as of now.
func (h *hostCA) now(ctx context.Context) (*bastion.HostCA, error) {
	keys, err := h.store.HostAuthority.Keys(ctx)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.made != nil && bytes.Equal(keys.Active, h.keys.Active) && bytes.Equal(keys.Hosts, h.keys.Hosts) {
		return h.made, nil // with the certificates that it has made
	}
	signer, err := ssh.ParsePrivateKey(keys.Active)
	if err != nil {
		return nil, fmt.Errorf("reading the key of the host CA: %w", err)
	}
	made, err := bastion.NewHostCA(signer, keys.Hosts)
	if err != nil {
		return nil, err
	}
	h.keys, h.made = keys, made
	return made, nil
}
