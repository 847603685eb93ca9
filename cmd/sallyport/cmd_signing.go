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
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/audit"
	"sallyport/recorder"
	"sallyport/store"
)

func keysSigningCommand(g *globals) *cobra.Command {
	return withKeys(g, "signing", "List the keys with which nodes sign recordings and the audit log", cobra.NoArgs,
		func(ctx context.Context, w keyWork, _ []string) error {
			list, err := w.store.SigningKeys.List(ctx)
			if err != nil {
				return err
			}
			own := ""
			if key, err := readSigningKey(string(w.cfg.Keys.Signing)); err == nil {
				own = recorder.KeyID(publicKey(key))
			}
			keys := []signingKey{}
			for _, k := range list {
				if one, err := signingKeyOf(k); err == nil {
					keys = append(keys, one)
				}
			}
			return printList(g, keys, "No keys: no node has started yet.", []string{"ID", "NODE", "SINCE", "STATE"}, func(k signingKey) []string {
				state := "trusted"
				if k.ID == own {
					state = "signs here"
				}
				if k.CompromisedFrom != nil {
					state = "compromised from " + clock(k.CompromisedFrom) + " on"
				}
				return []string{k.ID, k.Node, clock(k.Added), state}
			})
		})
}

func signingKeyOf(k store.SigningKey) (signingKey, error) {
	public, err := base64.StdEncoding.DecodeString(k.Public)
	if err != nil || len(public) != ed25519.PublicKeySize {
		return signingKey{}, errors.New("not a public key")
	}
	key := recorder.Key{Public: public, Nodes: k.Nodes, CompromisedFrom: k.CompromisedFrom}
	text, err := key.MarshalPEM()
	one := signingKey{ID: key.ID(), Node: strings.Join(k.Nodes, ", "), Added: timeOrNil(k.Added), CompromisedFrom: timeOrNil(k.CompromisedFrom), PEM: string(text)}
	return one, err
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func keysRotateSigningCommand(g *globals) *cobra.Command {
	c := withKeys(g, "rotate-signing", "Make a new key with which this node signs recordings and the audit log", cobra.NoArgs,
		func(ctx context.Context, w keyWork, _ []string) error { return w.rotateSigning(ctx) })
	c.Long = c.Short + ".\nA server that runs takes it within seconds. The secret half of the key before is gone then; its public half stays trusted,\nso that what it signed stays proved. If somebody may have read it: sallyport keys compromised ID --since TIME"
	return c
}

func (w keyWork) rotateSigning(ctx context.Context) error {
	file := string(w.cfg.Keys.Signing)
	before, err := loadSigningKey(file)
	if err != nil {
		return err
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("making signing key: %w", err)
	}
	// The public halves first: nothing must ever be signed with a key that nobody knows. The new one is good for all
	// that the one before is good for: what was begun under an earlier name of the node is completed with it.
	was := base64.StdEncoding.EncodeToString(publicKey(before))
	if err := w.store.SigningKeys.Publish(ctx, was, string(w.cfg.Node)); err != nil {
		return err
	}
	if err := w.store.SigningKeys.Succeed(ctx, base64.StdEncoding.EncodeToString(public), was); err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return fmt.Errorf("making signing key: %w", err)
	}
	if err := replaceFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})); err != nil {
		return fmt.Errorf("keeping signing key: %w", err)
	}
	id := recorder.KeyID(public)
	if err := w.record(ctx, "keys.rotate-signing", map[string]string{"key": id, "was": recorder.KeyID(publicKey(before))}); err != nil {
		return err
	}
	w.g.say("Hand the new list of keys to whoever verifies recordings without this server: sallyport session keys")
	return w.g.done(signingKey{ID: id, Node: string(w.cfg.Node)}, "%s signs with key %s from now on", audit.Escape(string(w.cfg.Node)), id)
}

func keysCompromisedCommand(g *globals) *cobra.Command {
	var since string
	c := withKeys(g, "compromised ID", "Note from when on somebody else may have signed with a key", cobra.ExactArgs(1),
		func(ctx context.Context, w keyWork, args []string) error {
			if since == "" {
				return usage("Give the first moment at which somebody may have had it: --since 2026-01-31T15:04:05Z, or --since 2d", "--since is missing")
			}
			from, err := parseTime(since, time.Now())
			if err != nil {
				return err
			}
			return w.compromised(ctx, args[0], from)
		})
	c.Flags().StringVar(&since, "since", "", "a time, or a time ago such as 2d: what the key signed from then on proves nothing")
	c.Long = c.Short + ".\nRecordings and stretches of the audit log that it signed from then on do not verify any more; what it signed before does. A\nthief can put an earlier time into a signature: 'session verify ID' finds that, because the audit log has no such recording."
	return c
}

func (w keyWork) compromised(ctx context.Context, id string, from time.Time) error {
	list, err := w.store.SigningKeys.List(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(list, func(k store.SigningKey) bool { one, err := signingKeyOf(k); return err == nil && one.ID == id })
	if i < 0 {
		return failed("See: sallyport keys signing", "there is no signing key %s", audit.Escape(id))
	}
	if key, err := readSigningKey(string(w.cfg.Keys.Signing)); err == nil && recorder.KeyID(publicKey(key)) == id {
		return failed("Make another one first: sallyport keys rotate-signing", "this node signs with key %s", id)
	}
	if err := w.store.SigningKeys.Compromise(ctx, list[i].Public, from); err != nil {
		return err
	}
	if err := w.record(ctx, "keys.compromised", map[string]string{"key": id, "from": from.UTC().Format(time.RFC3339)}); err != nil {
		return err
	}
	list[i].CompromisedFrom = from
	one, err := signingKeyOf(list[i])
	if err != nil {
		return err
	}
	return w.g.done(one, "what key %s signed from %s on proves nothing any more", id, clock(&from))
}

// signingEvery is how often a node looks whether the keys that sign have changed.
const signingEvery = time.Second

// watchSigning takes over this node's signing key when its file has changed, and what the database says of
// the keys of all nodes.
func (n *node) watchSigning(ctx context.Context) {
	tick := time.NewTicker(signingEvery)
	defer tick.Stop()
	var read time.Time // change time of the file
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := n.readSigning(ctx, &read)
		if err != nil && !failing && ctx.Err() == nil {
			n.log.Error("reading the keys that sign; the ones before are used on", "error", err)
		}
		failing = err != nil
	}
}

func (n *node) readSigning(ctx context.Context, read *time.Time) error {
	file := string(n.cfg.Keys.Signing)
	info, err := os.Stat(file)
	if err != nil {
		return fmt.Errorf("looking at the signing key: %w", err)
	}
	if !read.Equal(info.ModTime()) {
		key, err := readSigningKey(file)
		if err != nil {
			return err
		}
		// Nothing may be signed with a key that nobody knows.
		keys, err := publishSigningKey(ctx, n.Store, string(n.cfg.Node), publicKey(key))
		if err != nil {
			return err
		}
		if !publicKey(key).Equal(n.Recorder.PublicKey()) {
			n.log.Info("another signing key was taken", "key", recorder.KeyID(publicKey(key)))
		}
		if err := n.Recorder.SetKeys(key, keys); err != nil {
			return err
		}
		*read = info.ModTime()
		return nil
	}
	keys, err := signingKeys(ctx, n.Store)
	if err != nil {
		return err
	}
	n.Recorder.Trust(keys)
	return nil
}
