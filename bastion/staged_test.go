package bastion_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/store"
)

// staged is a target that tells of the stages that connections to it reach, in their order: "connection",
// "key exchange", "authentication". It asks its questions, or takes any key if it has none; commands print
// the answers' number.
type staged struct {
	stages chan string
	open   atomic.Int32 // connections
}

// signing is a host key that tells when it is used: at the last step of a key exchange.
type signing struct {
	ssh.Signer
	stages chan<- string
}

func (s signing) Sign(rand io.Reader, data []byte) (*ssh.Signature, error) {
	s.stages <- "key exchange"
	return s.Signer.Sign(rand, data)
}

// staged adds a target of the name. right judges the answers to questions, one round for each.
func (s *system) staged(name, credential string, questions []string, echo bool, right func(string) bool) *staged {
	s.t.Helper()
	x := &staged{stages: make(chan string, 1000)}
	key := newSigner(s.t)
	cfg := &ssh.ServerConfig{AuthLogCallback: func(ssh.ConnMetadata, string, error) { x.stages <- "authentication" }}
	cfg.AddHostKey(signing{key, x.stages})
	if len(questions) == 0 {
		cfg.PublicKeyCallback = func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil }
	} else {
		cfg.KeyboardInteractiveCallback = func(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
			var all []string
			for _, q := range questions {
				a, err := ask("", "", []string{q}, []bool{echo})
				if err != nil {
					return nil, err
				}
				all = append(all, a...)
			}
			if !right(strings.Join(all, ",")) {
				return nil, errors.New("wrong")
			}
			return nil, nil
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(s.t, err)
	s.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			x.open.Add(1)
			x.stages <- "connection"
			go func() {
				defer x.open.Add(-1)
				defer c.Close()
				_, chans, reqs, err := ssh.NewServerConn(c, cfg)
				if err != nil {
					return
				}
				go ssh.DiscardRequests(reqs)
				for nc := range chans {
					if ch, reqs, err := nc.Accept(); err == nil {
						go greet(ch, reqs)
					}
				}
			}()
		}
	}()
	_, err = s.Store.Targets.Add(context.Background(), store.Target{Name: name, Address: l.Addr().String(), Accounts: []string{"root"}, Credential: credential,
		HostKeys: []string{strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key.PublicKey())))}})
	check(s.t, err)
	return x
}

// greet answers whatever is to be started with one line.
func greet(ch ssh.Channel, reqs <-chan *ssh.Request) {
	for r := range reqs {
		starts := r.Type == "shell" || r.Type == "exec"
		if r.WantReply {
			_ = r.Reply(starts || r.Type == "pty-req", nil)
		}
		if starts {
			fmt.Fprint(ch, "hello from the target\r\n")
			_, _ = ch.SendRequest("exit-status", false, []byte{0, 0, 0, 0})
			_ = ch.Close()
		}
	}
}

// reaches waits for the next stage.
func (x *staged) reaches(t *testing.T, want string) {
	t.Helper()
	select {
	case got := <-x.stages:
		if got != want {
			t.Errorf("the target saw %q, want %q", got, want)
		}
	case <-time.After(time.Minute):
		t.Errorf("the target saw no %s", want)
	}
}
