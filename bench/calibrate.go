package main

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/zeebo/blake3"
)

// calibratorWord as first argument makes this program the calibrator.
const calibratorWord = "calibrator"

// Forms of the calibrator. A bastion that keeps a ledger hashes what it relays, hence those with a hash.
const (
	plainForm  = "plain"
	sha256Form = "sha256"
	blake3Form = "blake3"
)

var forms = []string{plainForm, sha256Form, blake3Form}

// hashOf is the hash of a form; nil: none.
func hashOf(form string) (hash.Hash, error) {
	switch form {
	case plainForm:
		return nil, nil
	case sha256Form:
		return sha256.New(), nil
	case blake3Form:
		return blake3.New(), nil
	}
	return nil, fmt.Errorf("there is no calibrator %q", form)
}

const (
	payload    = 32 << 10 // bytes of a packet
	prefix     = 4        // its length, in the clear, as in AES-GCM of SSH (RFC 5647, section 7.3)
	packetLen  = prefix + payload + 16
	calibrated = 1 << 30 // bytes of payload in one measurement
)

// sealer is AES-128-GCM with a key that everybody knows: only its cost is of interest.
func sealer() (cipher.AEAD, error) {
	block, err := aes.NewCipher(make([]byte, 16))
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// calibrator does the least that a proxy which sees the traffic has to do: it reads packets from one socket,
// opens each, hashes the payload in the forms with a hash, seals it again and writes it to another socket.
func calibrator(form, from, to string) error {
	hashed, err := hashOf(form)
	if err != nil {
		return err
	}
	in, err := net.Dial("tcp", from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := net.Dial("tcp", to)
	if err != nil {
		return err
	}
	defer out.Close()
	aead, err := sealer()
	if err != nil {
		return err
	}
	buf := make([]byte, 16*packetLen)
	var openNonce, sealNonce [12]byte
	counter, held := uint64(0), 0
	for {
		n, err := in.Read(buf[held:])
		held += n
		whole := held / packetLen * packetLen
		for i := 0; i < whole; i += packetLen {
			body := buf[i+prefix : i+packetLen]
			plain, err := aead.Open(body[:0], openNonce[:], body, buf[i:i+prefix])
			if err != nil {
				return fmt.Errorf("opening a packet: %w", err)
			}
			if hashed != nil {
				hashed.Write(plain)
			}
			counter++
			binary.BigEndian.PutUint64(sealNonce[4:], counter)
			aead.Seal(body[:0], sealNonce[:], plain, buf[i:i+prefix])
		}
		if _, err := out.Write(buf[:whole]); err != nil {
			return fmt.Errorf("writing: %w", err)
		}
		held = copy(buf, buf[whole:held])
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading: %w", err)
		}
	}
}

// calibrate measures each form of the calibrator as the peers are measured.
func (b *bench) calibrate(ctx context.Context) error {
	for _, form := range forms {
		speed, err := calibrateOnce(ctx, form)
		if err != nil {
			return fmt.Errorf("%s: %w", form, err)
		}
		b.add(calibratorWord, form, speed)
	}
	return nil
}

// calibrateOnce is the speed of a form, in MB per CPU-second.
func calibrateOnce(ctx context.Context, form string) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	source, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer source.Close()
	sink, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer sink.Close()
	// Ends the waiting below also when the calibrator did not come.
	stop := context.AfterFunc(ctx, func() { _, _ = source.Close(), sink.Close() })
	defer stop()
	self, err := os.Executable()
	if err != nil {
		return 0, fmt.Errorf("finding this program: %w", err)
	}
	cmd := exec.CommandContext(ctx, self, calibratorWord, form, source.Addr().String(), sink.Addr().String())
	var complaint strings.Builder
	cmd.Stderr = &complaint
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	sent, arrived := make(chan error, 1), make(chan error, 1)
	go func() { sent <- feed(source, calibrated/payload) }()
	go func() { arrived <- drain(sink, calibrated/payload*packetLen) }()
	if err := cmd.Wait(); err != nil {
		return 0, fmt.Errorf("%w: %s", err, complaint.String())
	}
	if err := <-sent; err != nil {
		return 0, fmt.Errorf("sending: %w", err)
	}
	if err := <-arrived; err != nil {
		return 0, fmt.Errorf("receiving: %w", err)
	}
	cpu := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return calibrated / 1e6 / cpu.Seconds(), nil
}

// feed sends one sealed packet n times. Its nonce does not change, so that sealing it costs nothing here.
func feed(l net.Listener, n int) error {
	conn, err := l.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	aead, err := sealer()
	if err != nil {
		return err
	}
	head := binary.BigEndian.AppendUint32(nil, payload)
	packet := aead.Seal(head, make([]byte, 12), make([]byte, payload), head)
	for range n {
		if _, err := conn.Write(packet); err != nil {
			return err
		}
	}
	return nil
}

func drain(l net.Listener, want int64) error {
	conn, err := l.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	got, err := count(conn)
	if err != nil {
		return err
	}
	return sameLength(got, want)
}
