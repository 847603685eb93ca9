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

	"sallyport/admin"
	"sallyport/otp"
)

const (
	freeradius    = "freeradius" // the name of that peer
	postgres      = "postgres"   // Sallyport with its database in PostgreSQL, beside the one with SQLite
	radiusName    = "gateway"    // client of the RADIUS door
	radiusSecret  = "known-to-everybody-here"
	radiusWorkers = 8
	radiusShare   = 20 // FreeRADIUS, which is fast, is asked so many times as often, for the sake of the clock

	// radiusWindow is how many steps of time around now a server accepts here, the most there can be: so that a person,
	// who has one code for each, can be asked for more than three times in half a minute.
	radiusWindow = 10
	radiusCodes  = 2*radiusWindow - 1 // of a person; the last step on each side is left out, since time goes on
)

// radiusRules let the people of the RADIUS part in.
const radiusRules = `version: 1
rules:
  - name: by-radius
    users: [group:radius]
    targets: [` + radiusName + `]
    channels: [radius]
`

// radiusPeer is a server that answers Access-Requests.
type radiusPeer struct {
	peer
	people   int                     // a multiple of the number of workers, each of which has its own
	times    int                     // requests in a round
	asked    int                     // requests of all rounds before
	password func(person int) string // that is right now
	database *proxy                  // a server of its own, whose CPU time is counted apart; nil: there is none
}

// radiusPeople is how many people it takes until each has used all codes, in all rounds together.
func radiusPeople(rounds, requests int) int {
	n := (rounds*requests + radiusCodes - 1) / radiusCodes
	return (n + radiusWorkers - 1) / radiusWorkers * radiusWorkers
}

// radiusPeers starts what answers, each with the same people.
func (b *bench) radiusPeers(ctx context.Context) (err error) {
	people := radiusPeople(b.rounds, b.requests)
	b.say("starting freeradius, PostgreSQL and sallyport on SQLite and on PostgreSQL, adding %d users with tokens", people)
	var users strings.Builder
	for i := range people {
		fmt.Fprintf(&users, "%s Cleartext-Password := \"%06d\"\n", radiusLogin(i), i)
	}
	if b.freeradius, err = startFreeRADIUS(ctx, filepath.Join(b.dir, freeradius), users.String()); err != nil {
		return err
	}
	b.radius = []*radiusPeer{{
		peer: peer{name: freeradius, addr: b.freeradius.addr, proxy: &proxy{b.freeradius.server}}, people: people, times: radiusShare * b.requests,
		password: func(person int) string { return fmt.Sprintf("%06d", person) },
	}}
	one, err := b.radiusProduct(ctx, sallyport, people)
	if err != nil {
		return fmt.Errorf("on SQLite: %w", err)
	}
	if b.postgres, err = startPostgres(ctx); err != nil {
		return err
	}
	other, err := b.radiusProduct(ctx, postgres, people, "--database", b.postgres.dsn())
	if err != nil {
		return fmt.Errorf("on PostgreSQL: %w", err)
	}
	other.database = &proxy{b.postgres.server}
	b.radius = append(b.radius, one, other)
	return nil
}

// radiusProduct starts a Sallyport for this part alone, and adds the people.
func (b *bench) radiusProduct(ctx context.Context, name string, people int, initialise ...string) (*radiusPeer, error) {
	s, err := startProduct(ctx, b.sallyport, filepath.Join(b.dir, "radius-"+name), []string{"window: 1", fmt.Sprint("window: ", radiusWindow)}, initialise...)
	if err != nil {
		return nil, err
	}
	b.radiusProducts = append(b.radiusProducts, s)
	if err := s.run(ctx, radiusSecret+"\n", nil, "radius", "client", "add", radiusName, "--network", "127.0.0.1", "--mode", "code", "--secret-file", "-"); err != nil {
		return nil, err
	}
	if err := s.run(ctx, radiusRules, nil, "apply", "-f", "-"); err != nil {
		return nil, err
	}
	all := make([]person, people)
	for i := range all {
		all[i] = person{login: radiusLogin(i), secret: otp.NewSecret()}
		if err := s.post(ctx, "/users", admin.NewUser{Login: all[i].login, Groups: []string{"radius"}}); err != nil {
			return nil, err
		}
		if err := s.post(ctx, "/users/"+all[i].login+"/tokens", admin.NewToken{Secret: all[i].secret.Base32()}); err != nil {
			return nil, err
		}
	}
	return &radiusPeer{
		peer: peer{name: name, addr: s.radius, proxy: &proxy{s.server}}, people: people, times: b.requests,
		password: func(i int) string { return all[i].next(time.Now()) },
	}, nil
}

// next is the code of the earliest step of the window that was not used yet.
func (p *person) next(now time.Time) string {
	params := otp.DefaultParams()
	p.last = max(p.last+1, params.StepAt(now)-radiusWindow+1)
	return params.Code(p.secret, p.last)
}

func radiusLogin(person int) string { return fmt.Sprintf("r%d", person+1) }

// measureRADIUS asks each server in turn, and counts what a second of CPU is enough for.
func (b *bench) measureRADIUS(ctx context.Context, round int) error {
	for i := range b.radius {
		p := b.radius[(i+round)%len(b.radius)]
		b.say("RADIUS: %s", p.name)
		database, err := p.databaseLoad()
		if err != nil {
			return err
		}
		cpu, wall, err := p.cost(ctx, func() error { return p.ask(ctx) })
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		b.add("radius_cpu", p.name, float64(p.times)/cpu.Seconds())
		b.add("radius_wall", p.name, float64(p.times)/wall.Seconds())
		if p.database == nil {
			continue
		}
		after, err := p.databaseLoad()
		if err != nil {
			return err
		}
		b.add("radius_both", p.name, float64(p.times)/(cpu+after-database).Seconds())
	}
	return nil
}

// databaseLoad is the CPU time of the database's server so far; 0: there is none.
func (p *radiusPeer) databaseLoad() (time.Duration, error) {
	if p.database == nil {
		return 0, nil
	}
	cpu, _, err := p.database.load()
	return cpu, err
}

// ask sends all requests of a round. All of them must be accepted.
func (p *radiusPeer) ask(ctx context.Context) error {
	failed := make([]error, radiusWorkers)
	var all sync.WaitGroup
	for w := range radiusWorkers {
		all.Go(func() { failed[w] = p.work(ctx, w) })
	}
	all.Wait()
	p.asked += p.times
	return errors.Join(failed...)
}

func (p *radiusPeer) work(ctx context.Context, worker int) error {
	conn, err := net.Dial("udp", p.addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	for i := worker; i < p.times && ctx.Err() == nil; i += radiusWorkers {
		person := (p.asked + i) % p.people
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
	Metric        string               `json:"metric"`
	Title         string               `json:"title"`
	FreeRADIUS    *float64             `json:"freeradius"`
	Sallyport     *float64             `json:"sallyport"` // on SQLite
	Postgres      *float64             `json:"postgres"`  // Sallyport on PostgreSQL
	Ratio         *float64             `json:"ratio"`     // Sallyport to FreeRADIUS
	PostgresRatio *float64             `json:"postgres_ratio"`
	Samples       map[string][]float64 `json:"samples"` // by peer, in order of rounds
}

func (r *results) radiusRows() []radiusRow {
	var rows []radiusRow
	for _, l := range []line{
		{metric: "radius_cpu", title: "Access-Requests per CPU-second ↑"},
		{metric: "radius_both", title: "… the CPU of the database's server included ↑"},
		{metric: "radius_wall", title: fmt.Sprintf("Access-Requests per second, %d at once ↑", radiusWorkers)},
	} {
		s := r.samples[l.metric]
		if s == nil {
			continue
		}
		one := radiusRow{
			Metric: l.metric, Title: l.title, Samples: s,
			FreeRADIUS: value(s[freeradius], false), Sallyport: value(s[sallyport], false), Postgres: value(s[postgres], false),
		}
		beside := one.FreeRADIUS
		if l.metric == "radius_both" {
			beside = value(r.samples["radius_cpu"][freeradius], false) // which has no such server
		}
		one.Ratio, one.PostgresRatio = ratio(one.Sallyport, beside), ratio(one.Postgres, beside)
		rows = append(rows, one)
	}
	return rows
}

// radiusTable is what is printed of them; nil: nothing was measured.
func radiusTable(rows []radiusRow) [][]string {
	if len(rows) == 0 {
		return nil
	}
	table := [][]string{{"RADIUS", freeradius, "SQLite", "PostgreSQL", "SQLite/freeradius", "PostgreSQL/freeradius"}, nil}
	for _, one := range rows {
		table = append(table, []string{
			one.Title, number(one.FreeRADIUS, 0), number(one.Sallyport, 0), number(one.Postgres, 0), number(one.Ratio, 3), number(one.PostgresRatio, 3),
		})
	}
	return table
}
