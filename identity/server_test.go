package identity

import (
	"bytes"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/internal/testenv"
)

// TestTLS: where TLS is asked for and cannot be had, neither the server's own password nor a
// person's leaves this machine.
func TestTLS(t *testing.T) {
	t.Parallel()
	d := testenv.Slapd(t)
	stranger := testenv.Slapd(t)
	plain := testenv.Slapd(t, testenv.WithoutTLS())
	expired := testenv.Slapd(t, testenv.WithExpiredCertificate())

	tests := []struct {
		name   string
		d      *testenv.Directory
		ip     string // the server's address as the client sees it
		ldaps  bool
		change func(*LDAPConfig)
		want   error
	}{
		{"StartTLS", d, "127.0.0.1", false, func(*LDAPConfig) {}, nil},
		{"StartTLS refused", plain, "127.0.0.1", false, func(c *LDAPConfig) { c.CAFile = d.CAFile }, ErrUnavailable},
		{"StartTLS, wrong name", d, "127.0.0.2", false, func(*LDAPConfig) {}, ErrUnavailable},
		{"StartTLS, other name configured", d, "127.0.0.2", false, func(c *LDAPConfig) { c.ServerName = "localhost" }, nil},
		{"StartTLS, wrong name configured", d, "127.0.0.1", false, func(c *LDAPConfig) { c.ServerName = "ldap.example.org" }, ErrUnavailable},
		{"StartTLS, unknown authority", d, "127.0.0.1", false, func(c *LDAPConfig) { c.CAFile = stranger.CAFile }, ErrUnavailable},
		{"StartTLS, authorities of the system", d, "127.0.0.1", false, func(c *LDAPConfig) { c.CAFile = "" }, ErrUnavailable},
		{"StartTLS, expired", expired, "127.0.0.1", false, func(*LDAPConfig) {}, ErrUnavailable},
		{"LDAPS", d, "127.0.0.1", true, func(*LDAPConfig) {}, nil},
		{"LDAPS, wrong name", d, "127.0.0.2", true, func(*LDAPConfig) {}, ErrUnavailable},
		{"LDAPS, unknown authority", d, "127.0.0.1", true, func(c *LDAPConfig) { c.CAFile = stranger.CAFile }, ErrUnavailable},
		{"LDAPS, expired", expired, "127.0.0.1", true, func(*LDAPConfig) {}, ErrUnavailable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := configFor(tt.d)
			cfg.CAFile, cfg.StartTLS = tt.d.CAFile, true
			scheme, target := "ldap://", strings.TrimPrefix(tt.d.URL, "ldap://")
			if tt.ldaps {
				scheme, target = "ldaps://", strings.TrimPrefix(tt.d.LDAPSURL, "ldaps://")
			}
			p := newProxy(t, tt.ip, target)
			cfg.Servers = []string{scheme + p.addr}
			tt.change(&cfg)
			l := newLDAP(t, cfg)
			binds := tt.d.Binds(tt.d.BindDN) + tt.d.Binds(tt.d.UserDN("alice"))

			_, err := l.Lookup(t.Context(), "alice")
			if !errors.Is(err, tt.want) {
				t.Errorf("Lookup: %v, want %v", err, tt.want)
			}
			password := tt.d.Password("alice")
			err = l.Bind(t.Context(), Person{DN: tt.d.UserDN("alice")}, Password(password))
			if !errors.Is(err, tt.want) {
				t.Errorf("Bind: %v, want %v", err, tt.want)
			}
			if tt.want != nil {
				if got := tt.d.Binds(tt.d.BindDN) + tt.d.Binds(tt.d.UserDN("alice")); got != binds {
					t.Errorf("%d binds reached the server, want none", got-binds)
				}
			}
			sent := p.sentBytes()
			if bytes.Contains(sent, []byte(password)) || bytes.Contains(sent, []byte(tt.d.BindPassword)) {
				t.Error("a password travelled readable")
			}
		})
	}
}

// TestSilentServer: a server that takes connections and says nothing costs no more than the budget.
func TestSilentServer(t *testing.T) {
	t.Parallel()
	const base = "ou=people,dc=example,dc=org"
	servers := map[string]LDAPConfig{
		"plaintext": {Servers: []string{"ldap://" + silent(t)}},
		"StartTLS":  {Servers: []string{"ldap://" + silent(t)}, StartTLS: true},
		"LDAPS":     {Servers: []string{"ldaps://" + silent(t)}},
		"two":       {Servers: []string{"ldaps://" + silent(t), "ldap://" + silent(t)}},
	}
	var wg sync.WaitGroup
	for name, cfg := range servers {
		cfg.Base, cfg.BindDN, cfg.BindPassword = base, "cn=x", "x"
		l := newLDAP(t, cfg)
		for doing, f := range map[string]func() error{
			"Lookup": func() error { _, err := l.Lookup(t.Context(), "alice"); return err },
			"Bind":   func() error { return l.Bind(t.Context(), Person{DN: "uid=alice," + base}, "x") },
		} {
			wg.Go(func() {
				begin := time.Now()
				err := f()
				if took := time.Since(begin); !errors.Is(err, ErrUnavailable) || took > 20*time.Second {
					t.Errorf("%s, %s: %v after %v, want ErrUnavailable after 2.5 s", name, doing, err, took)
				}
			})
		}
	}
	wg.Wait()
}

// TestDrippingServer: bytes that come one by one do not stretch the budget.
func TestDrippingServer(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				tick := time.NewTicker(20 * time.Millisecond)
				defer tick.Stop()
				_, _ = c.Write([]byte{0x30, 0x84, 0x00, 0x0f, 0xff, 0xff}) // a message of a megabyte
				for range tick.C {
					if _, err := c.Write([]byte{0x04}); err != nil {
						return
					}
				}
			}()
		}
	}()
	l := newLDAP(t, LDAPConfig{Servers: []string{"ldap://" + listener.Addr().String()}, Base: "dc=x", Timeout: 500 * time.Millisecond})
	begin := time.Now()
	_, err = l.Lookup(t.Context(), "alice")
	if took := time.Since(begin); !errors.Is(err, ErrUnavailable) || took > 20*time.Second {
		t.Errorf("%v after %v, want ErrUnavailable after 0.5 s", err, took)
	}
}

func TestSecondServer(t *testing.T) {
	t.Parallel()
	d := testenv.Slapd(t)
	login := func(t *testing.T, l *LDAP) time.Duration {
		t.Helper()
		begin := time.Now()
		p, err := l.Lookup(t.Context(), "alice")
		if err == nil {
			err = l.Bind(t.Context(), p, Password(d.Password("alice")))
		}
		if err != nil {
			t.Error(err)
		}
		return time.Since(begin)
	}
	for name, first := range map[string]string{"closed": closedPort(t), "silent": silent(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := configFor(d)
			cfg.Servers = []string{"ldap://" + first, d.URL}
			cfg.Timeout = 8 * time.Second // half of it is for the first server, and spent on a silent one
			l := newLDAP(t, cfg)
			if took := login(t, l); took > cfg.Timeout {
				t.Errorf("the first login took %v of %v", took, cfg.Timeout)
			}
			// The second time it is known which server works.
			if took := login(t, l); took > cfg.Timeout/2 {
				t.Errorf("the second login took %v: was the dead server asked first again?", took)
			}
		})
	}
}

func TestOrder(t *testing.T) {
	t.Parallel()
	l := newLDAP(t, LDAPConfig{Servers: []string{"ldap://127.0.0.1:1", "ldap://127.0.0.1:2", "ldap://127.0.0.1:3"}, Base: "dc=x"})
	now := time.Now()
	check := func(when string, at time.Time, want string) {
		t.Helper()
		var got strings.Builder
		for _, s := range l.order(at) {
			got.WriteString(s.url[len(s.url)-1:])
		}
		if got.String() != want {
			t.Errorf("%s: order %s, want %s", when, got.String(), want)
		}
	}
	check("at first", now, "123")
	l.servers[0].failed(now)
	check("after the first failed", now, "231")
	l.servers[1].failed(now)
	check("after two failed", now, "312")
	check("when the rest is over, for one operation", now.Add(retryAfter), "123")
	check("and not for the next", now.Add(retryAfter), "312")
	l.servers[0].worked()
	check("after the first worked again", now.Add(retryAfter), "132")
}

// TestServerRestarts: kept connections that broke cost nobody a login.
func TestServerRestarts(t *testing.T) {
	t.Parallel()
	d := testenv.Slapd(t)
	l := newLDAP(t, configFor(d))
	lookup := func(when string, want error) {
		t.Helper()
		begin := time.Now()
		_, err := l.Lookup(t.Context(), "alice")
		if took := time.Since(begin); !errors.Is(err, want) || took > 20*time.Second {
			t.Errorf("%s: %v after %v, want %v within 6 s", when, err, took, want)
		}
	}
	lookup("at first", nil)
	d.Stop()
	lookup("stopped", ErrUnavailable)
	d.Start()
	lookup("started again", nil)
	d.Stop()
	d.Start()
	lookup("restarted between two look-ups", nil)
	d.Pause()
	lookup("paused", ErrUnavailable)
	d.Resume()
	lookup("resumed", nil)
}

// TestStaleConnection: a kept connection whose peer vanished without a word is given up in time for a new one.
func TestStaleConnection(t *testing.T) {
	t.Parallel()
	d := testenv.Slapd(t)
	cfg := configFor(d)
	cfg.Timeout = 8 * time.Second // half of it for the connection that was kept
	l := newLDAP(t, cfg)
	s := l.servers[0]
	address := s.address
	s.address = silent(t)
	stale, err := s.dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.address = address
	s.give(stale, time.Now())
	if _, err := l.Lookup(t.Context(), "alice"); err != nil {
		t.Errorf("Lookup after a stale connection: %v", err)
	}
	if len(s.idle) != 1 || s.idle[0] == stale {
		t.Errorf("%d idle connections, want the new one alone", len(s.idle))
	}
	if c := s.take(time.Now().Add(2 * idleTime)); c != nil {
		t.Error("a connection idle for two minutes was trusted")
	}
}
