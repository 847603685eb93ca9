package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const transferLimit = 3 * time.Minute

// transfer moves b.size bytes through a peer with OpenSSH's programs, and checks that all arrived.
type transfer struct {
	part, metric string
	run          func(ctx context.Context, p *peer) error
}

func (b *bench) transfers() []transfer {
	return []transfer{
		{"exec", "bulk_down", b.down},
		{"exec", "bulk_up", b.up},
		{"print", "print", b.print},
		{"sftp", "sftp_get", b.get},
		{"sftp", "sftp_put", b.put},
	}
}

// printShare is how much less a terminal prints than a transfer moves: all of it is kept.
const printShare = 8

// transfer measures one transfer.
func (b *bench) transfer(ctx context.Context, p *peer, t transfer) error {
	ctx, cancel := context.WithTimeout(ctx, transferLimit)
	defer cancel()
	cpu, wall, err := p.cost(ctx, func() error { return t.run(ctx, p) })
	if err != nil {
		return err
	}
	megabytes := float64(b.size) / 1e6
	if t.part == "print" {
		megabytes /= printShare
	}
	b.add(t.metric+"_wall", p.name, megabytes/wall.Seconds())
	if p.proxy != nil {
		b.add(t.metric+"_cpu", p.name, megabytes/cpu.Seconds())
	}
	return nil
}

// makeSource writes a file of random bytes, the same in each run.
func makeSource(file string, size int64) (string, error) {
	f, err := os.Create(file)
	if err != nil {
		return "", err
	}
	if _, err = io.CopyN(f, rand.NewChaCha8([32]byte{}), size); err == nil {
		// Written back now rather than in the middle of a measurement.
		err = f.Sync()
	}
	if err != nil {
		_ = f.Close()
		return "", fmt.Errorf("writing %s: %w", file, err)
	}
	return file, f.Close()
}

// ssh is the command `ssh … p command`.
func (b *bench) ssh(ctx context.Context, p *peer, command string) (*exec.Cmd, *strings.Builder) {
	cmd := exec.CommandContext(ctx, "ssh", append(b.sshOptions(p), "127.0.0.1", command)...)
	return cmd, hear(cmd)
}

// hear collects what the program complains about.
func hear(cmd *exec.Cmd) *strings.Builder {
	var complaint strings.Builder
	cmd.Stderr = &complaint
	cmd.WaitDelay = 5 * time.Second
	return &complaint
}

func (b *bench) down(ctx context.Context, p *peer) error {
	cmd, complaint := b.ssh(ctx, p, "head -c "+strconv.FormatInt(int64(b.size), 10)+" /dev/zero")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	got, readErr := count(out)
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("ssh: %w: %s", err, complaint)
	}
	if readErr != nil {
		return fmt.Errorf("reading from ssh: %w", readErr)
	}
	return sameLength(got, int64(b.size))
}

// print has a program print without end on a terminal.
func (b *bench) print(ctx context.Context, p *peer) error {
	want := int64(b.size) / printShare
	const listing = `drwxr-xr-x  2 alice staff   4096 Nov 23 01:02 projects`
	cmd := exec.CommandContext(ctx, "ssh", append(append([]string{"-tt"}, b.sshOptions(p)...), "127.0.0.1",
		"stty raw; yes '"+listing+"' | head -c "+strconv.FormatInt(want, 10))...)
	complaint := hear(cmd)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	got, readErr := count(out)
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("ssh: %w: %s", err, complaint)
	}
	if readErr != nil {
		return fmt.Errorf("reading from ssh: %w", readErr)
	}
	return sameLength(got, want)
}

// count reads r to its end.
func count(r io.Reader) (n int64, err error) {
	buf := make([]byte, 256<<10)
	for {
		k, err := r.Read(buf)
		n += int64(k)
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

func sameLength(got, want int64) error {
	if got != want {
		return fmt.Errorf("%d bytes arrived, want %d", got, want)
	}
	return nil
}

func (b *bench) up(ctx context.Context, p *peer) error {
	cmd, complaint := b.ssh(ctx, p, "wc -c")
	in, err := os.Open(b.source)
	if err != nil {
		return err
	}
	defer in.Close()
	cmd.Stdin = in
	var out strings.Builder
	cmd.Stdout = &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("ssh: %w: %s", err, complaint)
	}
	got, err := strconv.ParseInt(strings.TrimSpace(out.String()), 10, 64)
	if err != nil {
		return fmt.Errorf("reading what wc printed: %w", err)
	}
	return sameLength(got, int64(b.size))
}

func (b *bench) get(ctx context.Context, p *peer) error { return b.sftp(ctx, p, "get") }
func (b *bench) put(ctx context.Context, p *peer) error { return b.sftp(ctx, p, "put") }

// sftp copies the source and compares the copy. Both ends are files of this machine.
func (b *bench) sftp(ctx context.Context, p *peer, verb string) error {
	copied := filepath.Join(b.dir, "copy")
	defer os.Remove(copied)
	cmd := exec.CommandContext(ctx, "sftp", append(append([]string{"-q", "-b", "-"}, b.sshOptions(p)...), "127.0.0.1")...)
	cmd.Stdin = strings.NewReader(fmt.Sprintf("%s %q %q\n", verb, b.source, copied))
	complaint := hear(cmd)
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("sftp: %w: %s", err, complaint)
	}
	want, err := digest(b.source)
	if err != nil {
		return err
	}
	got, err := digest(copied)
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("what sftp %s wrote differs from what it read", verb)
	}
	return nil
}

func digest(file string) (sum [sha256.Size]byte, err error) {
	f, err := os.Open(file)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return sum, fmt.Errorf("reading %s: %w", file, err)
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}
