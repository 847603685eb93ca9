package main

import (
	"context"
	"crypto/hmac"
	"crypto/md5"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2869"

	"sallyport/otp"
)

const (
	freeradius    = "freeradius" // the name of that peer
	radiusName    = "gateway"    // client of the RADIUS door
	radiusSecret  = "known-to-everybody-here"
	radiusWorkers = 8
	radiusPeople  = 3 * radiusWorkers
	radiusShare   = 20 // FreeRADIUS, which is fast, is asked so many times as often, for the sake of the clock
)

// radiusRules let the people of the RADIUS part in, beside the others.
const radiusRules = rules + `  - name: by-radius
    users: [group:radius]
    targets: [` + radiusName + `]
    channels: [radius]
`

// radiusPeer is a server that answers Access-Requests.
type radiusPeer struct {
	peer
	times    int                     // requests in a round
	password func(person int) string // that is right now; each worker has its own people
}

// radiusPeers adds the people of the RADIUS part and starts what answers for them.
func (b *bench) radiusPeers(ctx context.Context) (err error) {
	s := b.product
	if err := s.run(ctx, radiusSecret+"\n", nil, "radius", "client", "add", radiusName, "--network", "127.0.0.1", "--mode", "code", "--secret-file", "-"); err != nil {
		return err
	}
	if err := s.run(ctx, radiusRules, nil, "apply", "-f", "-"); err != nil {
		return err
	}
	var secrets [radiusPeople]otp.Secret
	var steps [radiusPeople]int64
	var users strings.Builder
	for i := range radiusPeople {
		login := radiusLogin(i)
		secrets[i] = otp.NewSecret()
		if err := s.run(ctx, "", nil, "user", "add", login, "--no-password", "--group", "radius"); err != nil {
			return err
		}
		if err := s.run(ctx, secrets[i].Base32()+"\n", nil, "token", "add", login, "--type", "hotp", "--secret-file", "-"); err != nil {
			return err
		}
		fmt.Fprintf(&users, "%s Cleartext-Password := \"%06d\"\n", login, i)
	}
	if b.freeradius, err = startFreeRADIUS(ctx, filepath.Join(b.dir, freeradius), users.String()); err != nil {
		return err
	}
	params := otp.Params{Kind: otp.HOTP, Algorithm: otp.SHA1, Digits: 6}
	b.radius = []*radiusPeer{
		{peer{name: freeradius, addr: b.freeradius.addr, proxy: &proxy{b.freeradius.server}}, radiusShare * b.requests, func(person int) string { return fmt.Sprintf("%06d", person) }},
		{peer{name: sallyport, addr: s.radius, proxy: &proxy{s.server}}, b.requests, func(person int) string {
			steps[person]++
			return params.Code(secrets[person], steps[person]-1)
		}},
	}
	return nil
}

func radiusLogin(person int) string { return fmt.Sprintf("r%d", person+1) }

// measureRADIUS asks each server in turn, and counts what a second of CPU is enough for.
func (b *bench) measureRADIUS(ctx context.Context, round int) error {
	for i := range b.radius {
		p := b.radius[(i+round)%len(b.radius)]
		b.say("RADIUS: %s", p.name)
		cpu, wall, err := p.cost(ctx, func() error { return p.ask(ctx) })
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		b.add("radius_cpu", p.name, float64(p.times)/cpu.Seconds())
		b.add("radius_wall", p.name, float64(p.times)/wall.Seconds())
	}
	return nil
}

// ask sends all requests of a round. All of them must be accepted.
func (p *radiusPeer) ask(ctx context.Context) error {
	failed := make([]error, radiusWorkers)
	var all sync.WaitGroup
	for w := range radiusWorkers {
		all.Go(func() { failed[w] = p.work(ctx, w) })
	}
	all.Wait()
	return errors.Join(failed...)
}

func (p *radiusPeer) work(ctx context.Context, worker int) error {
	conn, err := net.Dial("udp", p.addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	for i := worker; i < p.times && ctx.Err() == nil; i += radiusWorkers {
		person := i % radiusPeople
		request, err := accessRequest(radiusLogin(person), p.password(person), byte(i/radiusWorkers))
		if err != nil {
			return err
		}
		verdict, err := exchange(conn, request)
		if err != nil {
			return fmt.Errorf("request %d: %w", i+1, err)
		}
		if verdict != codec.CodeAccessAccept {
			return fmt.Errorf("request %d, of %s: %v", i+1, radiusLogin(person), verdict)
		}
	}
	return ctx.Err()
}

// accessRequest is a request by PAP with Message-Authenticator (RFC 3579, section 3.2).
func accessRequest(login, password string, id byte) ([]byte, error) {
	p := codec.New(codec.CodeAccessRequest, []byte(radiusSecret))
	p.Identifier = id
	hidden, err := codec.NewUserPassword([]byte(password), p.Secret, p.Authenticator[:])
	if err != nil {
		return nil, fmt.Errorf("hiding a password: %w", err)
	}
	p.Add(rfc2865.UserName_Type, codec.Attribute(login))
	p.Add(rfc2865.UserPassword_Type, hidden)
	p.Add(rfc2869.MessageAuthenticator_Type, make(codec.Attribute, md5.Size))
	b, err := p.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("making a request: %w", err)
	}
	h := hmac.New(md5.New, p.Secret)
	h.Write(b)
	copy(b[len(b)-md5.Size:], h.Sum(nil))
	return b, nil
}

// exchange sends a request, again if need be, and returns the verdict of the answer.
func exchange(conn net.Conn, request []byte) (codec.Code, error) {
	answer := make([]byte, codec.MaxPacketLength)
	for range 5 {
		if _, err := conn.Write(request); err != nil {
			return 0, err
		}
		_ = conn.SetReadDeadline(time.Now().Add(2 * time.Second))
		for {
			n, err := conn.Read(answer)
			if err != nil {
				break
			}
			if n > 1 && answer[1] == request[1] && codec.IsAuthenticResponse(answer[:n], request, []byte(radiusSecret)) {
				return codec.Code(answer[0]), nil
			}
		}
	}
	return 0, errors.New("no answer")
}

// freeRADIUS is FreeRADIUS with a file of passwords, and nothing else to do.
type freeRADIUS struct {
	addr   string
	server *process
}

const freeRADIUSConfig = `prefix = /usr
logdir = %[1]s
run_dir = %[1]s
raddbdir = %[1]s
libdir = /usr/lib/freeradius
max_requests = 16384
proxy_requests = no
security {
	max_attributes = 200
	reject_delay = 0
	status_server = no
}
log {
	auth = no
}
thread pool {
	start_servers = 4
	max_servers = 8
	min_spare_servers = 1
	max_spare_servers = 8
	max_requests_per_server = 0
}
modules {
	files {
		filename = %[1]s/users
	}
	pap {
	}
}
client bench {
	ipaddr = 127.0.0.1
	secret = %[3]s
	require_message_authenticator = yes
}
server default {
	listen {
		type = auth
		ipaddr = 127.0.0.1
		port = %[2]s
	}
	authorize {
		files
		pap
	}
	authenticate {
		Auth-Type PAP {
			pap
		}
	}
}
`

// startFreeRADIUS starts the server in a new folder with the lines of its users file.
func startFreeRADIUS(ctx context.Context, dir, users string) (*freeRADIUS, error) {
	program, err := exec.LookPath("freeradius")
	if err != nil {
		program = "/usr/sbin/freeradius" // not in everybody's PATH
	}
	addr, err := freeUDPAddr()
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(addr)
	err = errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, "users"), []byte(users), 0o600),
		os.WriteFile(filepath.Join(dir, "radiusd.conf"), fmt.Appendf(nil, freeRADIUSConfig, dir, port, radiusSecret), 0o600))
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(program, "-f", "-l", "stdout", "-d", dir)
	cmd.Stdout, cmd.Stderr = log, log
	server, err := start(cmd)
	if err != nil {
		return nil, fmt.Errorf("%w; is freeradius installed?", err)
	}
	err = poll("freeradius to answer", 20*time.Second, func() (bool, error) {
		text, err := os.ReadFile(log.Name())
		select {
		case <-server.exited:
			return false, fmt.Errorf("freeradius ended at once: %s", text)
		default:
			return strings.Contains(string(text), "Ready to process requests"), errors.Join(err, ctx.Err())
		}
	})
	if err != nil {
		server.stop(0)
		return nil, err
	}
	return &freeRADIUS{addr: addr, server: server}, nil
}

func (f *freeRADIUS) stop() {
	if f != nil {
		f.server.stop(5 * time.Second)
	}
}

func freeUDPAddr() (string, error) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("finding a free port: %w", err)
	}
	return conn.LocalAddr().String(), conn.Close()
}

// radiusRow is a line of the table about RADIUS.
type radiusRow struct {
	Metric     string               `json:"metric"`
	Title      string               `json:"title"`
	FreeRADIUS *float64             `json:"freeradius"`
	Sallyport  *float64             `json:"sallyport"`
	Ratio      *float64             `json:"ratio"`   // Sallyport to FreeRADIUS
	Samples    map[string][]float64 `json:"samples"` // by peer, in order of rounds
}

func (r *results) radiusRows() []radiusRow {
	var rows []radiusRow
	for _, l := range []line{
		{metric: "radius_cpu", title: "Access-Requests per CPU-second ↑"},
		{metric: "radius_wall", title: fmt.Sprintf("Access-Requests per second, %d at once ↑", radiusWorkers)},
	} {
		s := r.samples[l.metric]
		if s == nil {
			continue
		}
		one := radiusRow{Metric: l.metric, Title: l.title, FreeRADIUS: value(s[freeradius], false), Sallyport: value(s[sallyport], false), Samples: s}
		one.Ratio = ratio(one.Sallyport, one.FreeRADIUS)
		rows = append(rows, one)
	}
	return rows
}

// radiusTable is what is printed of them; nil: nothing was measured.
func radiusTable(rows []radiusRow) [][]string {
	if len(rows) == 0 {
		return nil
	}
	table := [][]string{{"RADIUS", freeradius, sallyport, "sallyport/freeradius"}, nil}
	for _, one := range rows {
		table = append(table, []string{one.Title, number(one.FreeRADIUS, 0), number(one.Sallyport, 0), number(one.Ratio, 3)})
	}
	return table
}
