package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// Names of the peers, which are columns of the table.
const (
	direct    = "direct"
	relay     = "relay"
	sallyport = "sallyport"
	stock     = "stock"     // sallyport with the library as it is published
	off       = "off"       // sallyport by a rule that records nothing
	stockOff  = "stock off" // stock by that rule
)

const gcm = "aes128-gcm@openssh.com" // what all legs speak

// peer is one way to the target.
type peer struct {
	name  string
	addr  string // 127.0.0.1:port to connect to
	login string // SSH user name
	proxy *proxy // nil: client and target alone
}

// key is a key pair of the client, in memory and in a file.
type key struct {
	signer ssh.Signer
	file   string // of the private key; the public one is in file.pub
}

// newKey makes an Ed25519 key pair and writes it to file and file.pub.
func newKey(file string) (key, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return key{}, fmt.Errorf("making a key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		return key{}, fmt.Errorf("writing a key: %w", err)
	}
	k := key{file: file}
	if k.signer, err = ssh.NewSignerFromSigner(private); err != nil {
		return key{}, fmt.Errorf("using a key: %w", err)
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		return key{}, err
	}
	return k, os.WriteFile(file+".pub", []byte(k.line()+"\n"), 0o600)
}

// line is the public key as authorized_keys has it.
func (k key) line() string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k.signer.PublicKey())))
}

// sshOptions are the options with which OpenSSH's programs go to p, and use no file of whoever runs them.
func (b *bench) sshOptions(p *peer) []string {
	_, port, _ := net.SplitHostPort(p.addr)
	options := []string{"-F", "none", "-i", b.key.file}
	for _, o := range []string{
		"Ciphers=" + gcm, "User=" + p.login, "Port=" + port, "BatchMode=yes", "IdentitiesOnly=yes", "IdentityAgent=none", "LogLevel=ERROR",
		// All servers are children of this program, and their keys a minute old.
		"StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "GlobalKnownHostsFile=/dev/null",
	} {
		options = append(options, "-o", o)
	}
	return options
}

const dialLimit = 60 * time.Second // for a connection and its login on a busy machine

// dial logs in. The connection ends with ctx at the latest.
func dial(ctx context.Context, addr, login string, auth ...ssh.AuthMethod) (*ssh.Client, error) {
	conn, err := (&net.Dialer{Timeout: dialLimit}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	config := &ssh.ClientConfig{
		Config: ssh.Config{Ciphers: []string{gcm}}, User: login, Auth: auth,
		HostKeyCallback: ssh.InsecureIgnoreHostKey(), // as in sshOptions
	}
	_ = conn.SetDeadline(time.Now().Add(dialLimit))
	c, channels, requests, err := ssh.NewClientConn(conn, addr, config)
	if err != nil {
		stop()
		_ = conn.Close()
		return nil, fmt.Errorf("logging in as %s: %w", login, err)
	}
	_ = conn.SetDeadline(time.Time{})
	client := ssh.NewClient(c, channels, requests)
	go func() {
		_ = client.Wait()
		stop()
	}()
	return client, nil
}

// dial logs in to p with the key alone.
func (b *bench) dial(ctx context.Context, p *peer) (*ssh.Client, error) {
	return dial(ctx, p.addr, p.login, ssh.PublicKeys(b.key.signer))
}

// within calls do and closes client if that takes longer than limit, so that do returns.
func within(limit time.Duration, client *ssh.Client, do func() error) error {
	late := time.AfterFunc(limit, func() { _ = client.Close() })
	err := do()
	if !late.Stop() {
		return fmt.Errorf("no end within %s (%w)", limit, err)
	}
	return err
}

// runOnce runs a command that prints nothing, and waits for its end.
func runOnce(client *ssh.Client, command string) error {
	s, err := client.NewSession()
	if err != nil {
		return fmt.Errorf("opening a session: %w", err)
	}
	defer s.Close()
	out, err := s.CombinedOutput(command)
	if err != nil {
		return fmt.Errorf("running %s: %w (it printed %q)", command, err, out)
	}
	if len(out) > 0 {
		return fmt.Errorf("running %s: it printed %q", command, out)
	}
	return nil
}
